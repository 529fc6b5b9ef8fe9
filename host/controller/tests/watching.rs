//! Files that change while they are watched: however they are replaced, what they say arrives. Real files, real watches; each test waits for
//! the event itself, and a deadline only turns a hang into a failure.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use penstock_controller::{
    ControllerMetrics, Inbox,
    sources::files::{FileSource, RunningFiles},
};
use penstock_translate::Change;
use prometheus_client::registry::Registry;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A source that follows paths, and what it says.
struct Followed {
    source: RunningFiles,
    said: Receiver<Vec<String>>,
}

impl Followed {
    fn start(paths: &[PathBuf]) -> Self {
        let inbox = Inbox::new();
        let (sender, said) = mpsc::channel();
        let events = inbox.clone();
        thread::spawn(move || {
            while let Some(mut batch) = events.next() {
                let changes: Vec<_> = batch.take_changes().map(|change| describe(&change)).collect();
                if sender.send(changes).is_err() {
                    return;
                }
            }
        });
        let metrics = ControllerMetrics::new(&mut Registry::default());
        let source = FileSource::new(paths.iter().cloned()).run(inbox, metrics).unwrap();
        Self { source, said }
    }

    /// The next changes; batches without any (problems, completeness) are passed over.
    fn next(&self) -> Vec<String> {
        loop {
            let changes = self.said.recv_timeout(PATIENCE).expect("the change arrives");
            if !changes.is_empty() {
                return changes;
            }
        }
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Upsert(object) => {
            format!(
                "{} {}",
                object.metadata().name.as_deref().unwrap_or_default(),
                object.metadata().generation.unwrap()
            )
        }
        Change::Delete(reference) => format!("{} deleted", reference.name),
        Change::File(path, _) => path.file_name().unwrap().display().to_string(),
        Change::Observe(_) | Change::Bundle(..) => "fact".to_owned(),
    }
}

fn service(name: &str, port: u16) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n")
}

/// As editors save: a new file takes the name of the old one.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("tmp");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

#[test]
fn a_file_is_followed_through_renames_and_writes() {
    let (_folder, path) = folder();
    let file = path.join("r.yaml");
    fs::write(&file, service("web", 1)).unwrap();
    let followed = Followed::start(std::slice::from_ref(&file));
    assert_eq!(followed.next(), ["web 1"]);
    for generation in 2..6 {
        replace(&file, &service("web", generation));
        assert_eq!(followed.next(), [format!("web {generation}")], "renamed over");
    }
    fs::write(&file, service("web", 6)).unwrap();
    assert_eq!(followed.next(), ["web 6"], "written in place");
}

#[test]
fn files_come_and_go_in_a_directory() {
    let (_folder, path) = folder();
    fs::write(path.join("a.yaml"), service("a", 1)).unwrap();
    let followed = Followed::start(std::slice::from_ref(&path));
    assert_eq!(followed.next(), ["a 1"]);
    replace(&path.join("b.yaml"), &service("b", 1));
    assert_eq!(followed.next(), ["b 1"]);
    fs::remove_file(path.join("a.yaml")).unwrap();
    assert_eq!(followed.next(), ["a deleted"]);
}

#[test]
fn a_mounted_config_map_is_followed_through_its_swaps() {
    let (_folder, path) = folder();
    // As the kubelet does it: ..data leads to a directory of this version, and is renamed over.
    let publish = |version: u16| {
        let directory = path.join(format!("..v{version}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("r.yaml"), service("web", version)).unwrap();
        symlink(format!("..v{version}"), path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
        if version > 1 {
            fs::remove_dir_all(path.join(format!("..v{}", version - 1))).unwrap();
        }
    };
    publish(1);
    symlink("..data/r.yaml", path.join("r.yaml")).unwrap();
    let followed = Followed::start(&[path.join("r.yaml")]);
    assert_eq!(followed.next(), ["web 1"]);
    for version in 2..5 {
        publish(version);
        assert_eq!(followed.next(), [format!("web {version}")]);
    }
}

#[test]
fn a_directory_behind_a_link_is_followed_when_the_link_is_swapped() {
    let (_folder, path) = folder();
    for (name, port) in [("blue", 1), ("green", 2)] {
        fs::create_dir(path.join(name)).unwrap();
        fs::write(path.join(name).join("r.yaml"), service("web", port)).unwrap();
    }
    symlink("blue", path.join("current")).unwrap();
    let followed = Followed::start(&[path.join("current")]);
    assert_eq!(followed.next(), ["web 1"]);
    symlink("green", path.join("next")).unwrap();
    fs::rename(path.join("next"), path.join("current")).unwrap();
    assert_eq!(followed.next(), ["web 2"]);
    replace(&path.join("green/r.yaml"), &service("web", 3));
    assert_eq!(followed.next(), ["web 3"], "the new directory is watched");
}

#[test]
fn a_directory_that_is_removed_and_made_again_is_followed() {
    let (_folder, path) = folder();
    let directory = path.join("conf");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("r.yaml"), service("web", 1)).unwrap();
    let followed = Followed::start(std::slice::from_ref(&directory));
    assert_eq!(followed.next(), ["web 1"]);
    let made = path.join("made");
    fs::create_dir(&made).unwrap();
    fs::write(made.join("r.yaml"), service("web", 2)).unwrap();
    fs::rename(&directory, path.join("old")).unwrap();
    fs::rename(&made, &directory).unwrap();
    assert_eq!(followed.next(), ["web 2"]);
    replace(&directory.join("r.yaml"), &service("web", 3));
    assert_eq!(followed.next(), ["web 3"]);
}

#[test]
fn a_module_is_followed_wherever_it_is() {
    let (_folder, path) = folder();
    for name in ["conf", "modules"] {
        fs::create_dir(path.join(name)).unwrap();
    }
    let module = path.join("modules/p.wasm");
    fs::write(&module, "one").unwrap();
    let plugin = "apiVersion: penstock.dev/v1alpha1\nkind: WasmPlugin\nmetadata: {name: p}\nspec: {source: {file: {path: ../modules/p.wasm}}}\n";
    fs::write(path.join("conf/r.yaml"), plugin).unwrap();
    let followed = Followed::start(&[path.join("conf")]);
    assert_eq!(followed.next(), ["p 1", "p.wasm"]);
    replace(&module, "two");
    assert_eq!(followed.next(), ["p 2", "p.wasm"]);
}

#[test]
fn a_reload_is_answered_even_if_nothing_changed() {
    let (_folder, path) = folder();
    let followed = Followed::start(std::slice::from_ref(&path));
    followed.said.recv_timeout(PATIENCE).expect("the source is complete");
    followed.source.reload();
    assert_eq!(followed.said.recv_timeout(PATIENCE).expect("the reading is reported"), Vec::<String>::new());
}
