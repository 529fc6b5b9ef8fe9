//! Files that are damaged, missing or cannot be written.

use std::{env, process::Command};

use super::*;

/// Two plugins with two revisions each, and nothing open.
fn prepared() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut store = LastGood::open(directory.path()).unwrap();
    store.keep(&set(vec![good("a", 1), good("b", 1)])).unwrap();
    store.keep(&set(vec![good("a", 2), good("b", 2)])).unwrap();
    check(&store, &[("a", &[2, 1]), ("b", &[2, 1])]);
    directory
}

/// A plugin always has a revision; damage to one file costs one revision of one plugin, or the newest commit.
#[track_caller]
fn usable(directory: &TempDir, what: &str) -> BTreeMap<String, Vec<i64>> {
    let store = LastGood::open(directory.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let readable = readable(&store);
    assert_eq!(readable.len(), 2, "{what}: {readable:?}");
    assert!(readable.values().all(|generations| !generations.is_empty()), "{what}: {readable:?}");
    readable
}

/// For every file: do something to it, and see what is left. Then the same set again heals it.
fn each_file(harm: impl Fn(&Path)) {
    let count = files(&prepared()).len();
    assert_eq!(count, 1 + 2 + 2 * 2 * 2, "lock, indexes, and two blobs for each revision");
    for index in 0..count {
        let directory = prepared();
        let path = files(&directory)[index].clone();
        harm(&path);
        let what = path.display().to_string();
        let left = usable(&directory, &what);
        let newest = left.values().filter(|generations| generations[0] == 2).count();
        match path.file_name().unwrap().to_str().unwrap() {
            "lock" => assert_eq!(newest, 2, "{what}"),
            "index.0" | "index.1" => {
                assert!(newest == 2 || newest == 0, "{what}: one commit or the other, not half of each");
            }
            _ => assert!(newest >= 1, "{what}: the other plugin is as it was"),
        }
        let mut store = LastGood::open(directory.path()).unwrap();
        let _ = readable(&store); // Finds the damage, as restoring does.
        store.keep(&set(vec![good("a", 2), good("b", 2)])).unwrap();
        drop(store);
        let healed = usable(&directory, &what);
        assert!(healed.values().all(|generations| generations[0] == 2), "{what}: {healed:?}");
    }
}

#[test]
fn flipped_bits_are_found_in_every_file() {
    for position in [0.0, 0.5, 0.999] {
        each_file(|path| {
            let mut bytes = fs::read(path).unwrap();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "small"
            )]
            let at = (bytes.len() as f64 * position) as usize;
            bytes[at] ^= 0x10;
            fs::write(path, bytes).unwrap();
        });
    }
}

#[test]
fn files_that_are_cut_off_empty_or_missing_are_found() {
    each_file(|path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    each_file(|path| fs::write(path, "").unwrap());
    each_file(|path| fs::remove_file(path).unwrap());
}

#[test]
fn a_damaged_index_is_reported() {
    let directory = prepared();
    for name in ["index.0", "index.1"] {
        fs::write(directory.path().join(name), "garbage").unwrap();
    }
    let mut store = LastGood::open(directory.path()).unwrap();
    assert_eq!(store.damage().len(), 2, "{:?}", store.damage());
    assert!(store.damage()[0].ends_with("index.0 is damaged"), "{:?}", store.damage());
    // Nothing is left, and that is where it goes on from.
    assert_eq!(store.plugins().count(), 0);
    store.keep(&set(vec![good("a", 3)])).unwrap();
    drop(store);
    check(&LastGood::open(directory.path()).unwrap(), &[("a", &[3])]);
}

/// A small file system of its own, gone with this.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where this user may not mount.
    fn mount(kibibytes: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={kibibytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_costs_the_new_set_and_nothing_of_the_old_one() {
    let Some(disk) = SmallDisk::mount(256) else {
        assert!(env::var_os("CI").is_none(), "this user may not mount");
        eprintln!("not run: this user may not mount a small file system to fill");
        return;
    };
    let path = disk.0.path().join("last-good");
    let mut store = LastGood::open(&path).unwrap();
    store.keep(&set(vec![good("a", 1)])).unwrap();
    // Leaves less than a module needs.
    let filler = disk.0.path().join("filler");
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    let next = set(vec![good("a", 2)]);
    let error = store.keep(&next).unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(store.missing(&next).collect::<Vec<_>>(), [&id("a")]);
    check(&store, &[("a", &[1])]);
    drop(store);
    let mut store = LastGood::open(&path).unwrap();
    check(&store, &[("a", &[1])]);
    // Room again: the same set again, and it is kept.
    fs::remove_file(filler).unwrap();
    assert!(store.keep(&next).unwrap());
    check(&store, &[("a", &[2, 1])]);
}
