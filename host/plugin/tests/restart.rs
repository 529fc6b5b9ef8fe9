//! The last good set: what a host restores when it starts with the directory of one before it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use penstock_core::plugin::{ActiveRevision, ModuleSource, PluginSpec, PluginState, Probation, Rollout, SecretPlace};
use penstock_plugin_host::{PluginHost, PluginSettings, StartError};
use serde_json::json;
use support::{
    exchange::{triggered_request, works},
    facts::{Facts, Host, plugin, settings, spec},
    guest::Guest,
};
use tempfile::TempDir;

/// A directory that outlives hosts.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn settings(&self) -> PluginSettings {
        let cache = Some(self.0.path().join("compiled"));
        PluginSettings { cache, last_good: Some(self.last_good()), ..settings() }
    }

    fn start(&self) -> Host {
        Host::with(self.settings())
    }

    fn last_good(&self) -> PathBuf {
        self.0.path().join("last-good")
    }

    fn module(&self) -> PathBuf {
        self.0.path().join("plugin.wasm")
    }
}

/// Generation `n` of a plugin whose module is a file.
fn from_file(path: &Path, n: i64) -> PluginSpec {
    let source = ModuleSource::File { path: path.into(), stamp: n.to_string().into() };
    PluginSpec { generation: n, source, config: Arc::new(json!({ "n": n })), ..spec("a", vec![]) }
}

/// Write the module and run generations `1..=last` one after the other; then end.
fn prepared(last: i64) -> (Disk, ActiveRevision) {
    let disk = Disk::new();
    fs::write(disk.module(), Guest::faulty_code("unreachable").build()).unwrap();
    let host = disk.start();
    let mut generations = (1..=last).map(|n| host.activate(&from_file(&disk.module(), n)));
    let first = generations.next().expect("there is a first");
    let active = generations.fold(first, |_, newer| newer);
    drop(host);
    (disk, active)
}

fn serving(state: &PluginState) -> Option<i64> {
    state.active.as_ref().map(|active| active.generation)
}

fn restored(host: &Host) -> ActiveRevision {
    let active =
        host.facts.until(&plugin("a"), |state| state.active.clone().filter(|_| state.last_good.restored.is_some()));
    works(&*host.host.runtime().worker(), &active);
    active
}

#[test]
fn without_its_source_the_last_good_revision_serves() {
    let (disk, before) = prepared(2);
    fs::remove_file(disk.module()).unwrap();
    let host = disk.start();
    let wanted = from_file(&disk.module(), 3);
    host.apply(&[&wanted]);
    let active = restored(&host);
    assert_eq!((active.generation, &active.digest), (2, &before.digest));
    let (rejection, beside) = host.rejected(&wanted);
    assert_eq!((rejection.reason, beside), ("FetchFailed", Some(active)), "status tells both");
    assert_eq!(host.metric(r#"penstock_plugin_restores_total{result="newest"}"#), 1.0);
    // It comes back, and takes over.
    fs::write(disk.0.path().join("new"), Guest::default().build()).unwrap();
    fs::rename(disk.0.path().join("new"), disk.module()).unwrap();
    host.facts.until(&plugin("a"), |state| {
        (serving(state) == Some(3) && state.candidate.is_none() && state.last_good.restored.is_none()).then_some(())
    });
}

#[test]
fn a_bad_newest_revision_does_not_take_its_place() {
    let (disk, _) = prepared(1);
    fs::write(disk.module(), "garbage").unwrap();
    let host = disk.start();
    let wanted = from_file(&disk.module(), 2);
    host.apply(&[&wanted]);
    let (rejection, serving) = host.rejected(&wanted);
    assert_eq!((rejection.reason, serving.map(|active| active.generation)), ("InvalidModule", Some(1)));
}

#[test]
fn what_did_not_change_is_restored_and_nothing_is_written() {
    let (disk, before) = prepared(1);
    let host = disk.start();
    let wanted = from_file(&disk.module(), 1);
    host.apply(&[&wanted]);
    let active = host.active(&wanted);
    assert_eq!(active.digest, before.digest);
    let state = host.facts.state(&plugin("a"));
    assert_eq!((state.probation, state.last_good.restored), (None, None), "it is what the resource wants");
    drop(host);
    let again = disk.start();
    again.apply(&[&wanted]);
    again.active(&wanted);
    assert_eq!(again.metric(r#"penstock_plugin_last_good_commits_total{result="ok"}"#), 0.0);
}

#[test]
fn a_deleted_plugin_stays_deleted() {
    let (disk, _) = prepared(1);
    // Deleted while the host runs, and while it does not.
    for applied_before in [true, false] {
        let host = disk.start();
        if applied_before {
            host.activate(&from_file(&disk.module(), 1));
        }
        host.apply(&[]);
        let last = spec("last", Guest::default().build());
        host.apply(&[&last]);
        host.active(&last);
        drop(host);
        let host = disk.start();
        let recreated = PluginSpec { generation: 7, ..spec("a", b"garbage".to_vec()) };
        host.apply(&[&recreated]);
        assert_eq!(host.rejected(&recreated).1, None);
        let good = PluginSpec { generation: 8, ..from_file(&disk.module(), 1) };
        host.activate(&good);
    }
}

#[test]
fn a_plugin_whose_resource_does_not_say_what_to_run_is_restored() {
    let (disk, _) = prepared(1);
    let host = disk.start();
    host.apply_keeping(&[], &[plugin("a")]);
    assert_eq!(restored(&host).generation, 1);
    assert_eq!(host.facts.state(&plugin("a")).candidate, None);
    // And its next start too.
    drop(host);
    let host = disk.start();
    host.apply_keeping(&[], &[plugin("a")]);
    restored(&host);
}

fn with_secret(n: i64) -> PluginSpec {
    let place = SecretPlace { pointer: "/token".into(), secret: "login".into(), key: "token".into() };
    let config = Arc::new(json!({ "token": "s3cr3t", "n": n }));
    PluginSpec { generation: n, config, secrets: vec![place], ..spec("a", Guest::default().build()) }
}

#[test]
fn secrets_come_from_the_resource_or_the_revision_is_not_restored() {
    let disk = Disk::new();
    disk.start().activate(&with_secret(1));
    let bad =
        |spec: PluginSpec| PluginSpec { generation: 2, source: ModuleSource::Inline(b"garbage"[..].into()), ..spec };
    let host = disk.start();
    host.apply(&[&bad(with_secret(1))]);
    restored(&host);
    drop(host);
    // The resource names the Secret no more.
    let host = disk.start();
    let wanted = bad(spec("a", vec![]));
    host.apply(&[&wanted]);
    assert_eq!(host.rejected(&wanted).1, None);
    let state = host.facts.state(&plugin("a"));
    let why = state.last_good.not_restored.unwrap();
    assert!(why.starts_with("generation 1: it needs `token` of Secret `login`"), "{why}");
    assert_eq!(host.metric(r#"penstock_plugin_restores_total{result="failed"}"#), 1.0);
    // Still there for when it does.
    drop(host);
    let host = disk.start();
    host.apply(&[&bad(with_secret(1))]);
    restored(&host);
}

#[test]
fn a_damaged_revision_gives_way_to_the_one_before_it() {
    let disk = Disk::new();
    let host = disk.start();
    let modules = [Guest::default(), Guest { version: "2.0.0".into(), ..Guest::default() }].map(|guest| guest.build());
    for (n, module) in (1..).zip(&modules) {
        host.activate(&PluginSpec { generation: n, ..spec("a", module.clone()) });
    }
    drop(host);
    for blob in fs::read_dir(disk.last_good().join("blobs")).unwrap().map(|entry| entry.unwrap().path()) {
        let mut bytes = fs::read(&blob).unwrap();
        if bytes == modules[1] {
            bytes[100] ^= 1;
            fs::write(&blob, bytes).unwrap();
        }
    }
    let host = disk.start();
    host.apply_keeping(&[], &[plugin("a")]);
    assert_eq!(restored(&host).generation, 1);
    let why = host.facts.state(&plugin("a")).last_good.not_restored.unwrap();
    assert!(why.starts_with("generation 2: the file") && why.ends_with("its content is not what was written"), "{why}");
    assert_eq!(host.metric(r#"penstock_plugin_restores_total{result="previous"}"#), 1.0);
}

fn watched(n: i64) -> PluginSpec {
    let probation = Probation { period: Duration::from_secs(3600), max_faults: 0 };
    let guest = Guest::faulty_code("unreachable").build();
    let config = Arc::new(json!({ "n": n }));
    PluginSpec { generation: n, config, rollout: Rollout { probation, ..Rollout::default() }, ..spec("a", guest) }
}

#[test]
fn what_was_on_probation_is_not_the_last_good_one() {
    let disk = Disk::new();
    let host = disk.start();
    host.activate(&watched(1));
    host.activate(&watched(2));
    drop(host);
    let host = disk.start();
    host.apply_keeping(&[], &[plugin("a")]);
    assert_eq!(restored(&host).generation, 1);
    // With its spec it is tried again, and watched again.
    host.activate(&watched(2));
    assert_eq!(host.facts.state(&plugin("a")).probation.unwrap().fallback.generation, 1);
}

#[test]
fn what_was_rolled_back_is_not_tried_again_after_a_restart() {
    let disk = Disk::new();
    let host = disk.start();
    host.activate(&watched(1));
    let faulty = host.activate(&watched(2));
    triggered_request(&*host.host.runtime().worker(), &faulty).unwrap_err();
    host.rejected(&watched(2));
    drop(host);
    let host = disk.start();
    host.apply(&[&watched(2)]);
    let (rejection, active) = host.rejected(&watched(2));
    assert_eq!((rejection.reason, active.unwrap().generation), ("FaultsInProbation", 1));
    assert!(rejection.message.contains("more faults (trap) than"), "{rejection:?}");
    host.activate(&watched(3));
}

#[test]
fn what_cannot_be_kept_serves_and_says_so() {
    let disk = Disk::new();
    let host = disk.start();
    host.activate(&from_bytes(1));
    // Stands for a disk that takes nothing any more; that of the store's own tests is a full one.
    let blobs = disk.last_good().join("blobs");
    fs::rename(&blobs, disk.0.path().join("away")).unwrap();
    fs::write(&blobs, "no directory").unwrap();
    let second = from_bytes(2);
    host.apply(&[&second]);
    let (why, active) = host.facts.until(&plugin("a"), |state| {
        Some((state.last_good.not_kept.clone()?, state.active.clone().filter(|active| active.generation == 2)?))
    });
    assert!(why.contains("cannot write to"), "{why}");
    works(&*host.host.runtime().worker(), &active);
    assert!(host.metric(r#"penstock_plugin_last_good_commits_total{result="failed"}"#) >= 1.0);
    // Mended: the next change brings both to disk.
    fs::remove_file(&blobs).unwrap();
    fs::rename(disk.0.path().join("away"), &blobs).unwrap();
    host.activate(&from_bytes(3));
    host.facts.until(&plugin("a"), |state| state.last_good.not_kept.is_none().then_some(()));
    drop(host);
    let host = disk.start();
    host.apply_keeping(&[], &[plugin("a")]);
    assert_eq!(restored(&host).generation, 3);
}

fn from_bytes(n: i64) -> PluginSpec {
    PluginSpec { generation: n, config: Arc::new(json!({ "n": n })), ..spec("a", Guest::default().build()) }
}

#[test]
fn the_directory_belongs_to_one_host() {
    let disk = Disk::new();
    let host = disk.start();
    let second = PluginHost::start(disk.settings(), Arc::<Facts>::default(), &mut Default::default());
    let Err(StartError::LastGood(error)) = second else { panic!("it started") };
    assert!(error.to_string().contains("is used by another gateway"), "{error}");
    drop(host);
    disk.start();
}

/// On a machine that is short of everything while it starts, the process that recognises what is on disk may not come up at once.
#[test]
fn a_validator_that_cannot_work_at_first_is_asked_again() {
    let (disk, good) = prepared(1);
    fs::write(disk.module(), b"no plugin any more").unwrap();
    let mut settings = disk.settings();
    let (real, marks) = (settings.validator.program.clone(), disk.0.path().join("marks"));
    let (real, marks) = (real.display(), marks.display());
    let script = format!("mkdir {marks} && exit 3; mkdir {marks}/again && exit 3; exec {real}");
    settings.validator.program = "/bin/sh".into();
    settings.validator.arguments = vec!["-c".into(), script.into()];
    let host = Host::with(settings);
    host.apply(&[&from_file(&disk.module(), 2)]);
    let active = host.facts.until(&plugin("a"), |state| state.active.clone());
    assert_eq!((active.generation, &active.digest), (1, &good.digest));
}
