//! The store alone: commits, and everything that may happen to its files.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod damage;
mod kill;
mod secrets;

use std::{collections::BTreeMap, fs, path::PathBuf};

use bytes::Bytes;
use penstock_core::{
    Kind,
    plugin::{Capabilities, ModuleSource, PluginLimits, PluginSpec},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::module::Module;

fn id(name: &str) -> ResourceRef {
    ResourceRef::new(Kind::WasmPlugin, "default", name)
}

fn spec(name: &str, config: Value) -> PluginSpec {
    PluginSpec {
        plugin: id(name),
        generation: 1,
        source: ModuleSource::Inline(Bytes::new()),
        config: Arc::new(config),
        secrets: vec![],
        capabilities: Capabilities { clock: true, ..Capabilities::default() },
        limits: PluginLimits::default(),
        rollout: Default::default(),
    }
}

/// The module of generation `n` of a plugin.
fn module(name: &str, n: i64) -> Module {
    let bytes = Bytes::from(format!("module of {name} {n}").repeat(100));
    Module::new(bytes, u64::MAX).unwrap()
}

/// Generation `n` of a plugin, as if it had just been loaded.
fn good(name: &str, n: i64) -> Good {
    let keepable = Keepable::new(&spec(name, json!({ "n": n })), &module(name, n));
    Good { plugin: id(name), generation: n, artifact: None, keepable: Arc::new(keepable) }
}

fn set(good: Vec<Good>) -> GoodSet {
    GoodSet { plugins: good.iter().map(|good| good.plugin.clone()).collect(), good, condemned: vec![] }
}

/// Generations of each plugin that can be read whole, newest first; what cannot is left out.
fn readable(store: &LastGood) -> BTreeMap<String, Vec<i64>> {
    let generations =
        |kept: &Kept| kept.slots().filter(|slot| whole(store, slot)).map(|slot| slot.generation).collect();
    store.plugins().map(|(plugin, kept)| (plugin.name.to_string(), generations(&kept))).collect()
}

fn whole(store: &LastGood, slot: &Slot) -> bool {
    let record = store.blobs().get(&slot.record).ok().and_then(|bytes| Record::parse(&bytes).ok());
    record.is_some() && store.blobs().get(&slot.module).is_ok()
}

fn files(directory: &TempDir) -> Vec<PathBuf> {
    let list = |path: PathBuf| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut files = list(directory.path().join("blobs"));
    files.extend(list(directory.path().into()).into_iter().filter(|path| path.is_file()));
    files.sort();
    files
}

#[track_caller]
fn check(store: &LastGood, expected: &[(&str, &[i64])]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|(name, all)| ((*name).to_owned(), all.to_vec())).collect();
    assert_eq!(readable(store), expected);
}

#[test]
fn what_was_kept_is_there_when_the_directory_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = LastGood::open(directory.path()).unwrap();
    assert!(store.keep(&set(vec![good("a", 1), good("b", 1)])).unwrap());
    assert!(store.keep(&set(vec![good("a", 2), good("b", 1)])).unwrap());
    assert!(!store.keep(&set(vec![good("a", 2), good("b", 1)])).unwrap(), "nothing new, nothing written");
    drop(store);
    let store = LastGood::open(directory.path()).unwrap();
    check(&store, &[("a", &[2, 1]), ("b", &[1])]);
    let (_, kept) = store.plugins().next().unwrap();
    let slot = kept.current.unwrap();
    let record = Record::parse(&store.blobs().get(&slot.record).unwrap()).unwrap();
    let restored = record.spec(&id("a"), slot.generation, Bytes::new(), None).unwrap();
    assert_eq!(restored, PluginSpec { generation: 2, ..spec("a", json!({ "n": 2 })) });
    assert_eq!(store.blobs().get(&slot.module).unwrap(), module("a", 2).bytes);
}

#[test]
fn a_deleted_plugin_is_forgotten_and_its_files_go() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = LastGood::open(directory.path()).unwrap();
    store.keep(&set(vec![good("a", 1), good("b", 1)])).unwrap();
    let before = files(&directory).len();
    store.keep(&set(vec![good("a", 1)])).unwrap();
    check(&store, &[("a", &[1])]);
    // The older index may still be needed; the next commit writes over it.
    store.keep(&set(vec![good("a", 2)])).unwrap();
    check(&store, &[("a", &[2, 1])]);
    assert_eq!(files(&directory).len(), before + 1, "one more index: two revisions each of a module and a record");
    drop(store);
    check(&LastGood::open(directory.path()).unwrap(), &[("a", &[2, 1])]);
}

#[test]
fn a_plugin_of_which_nothing_new_is_known_keeps_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = LastGood::open(directory.path()).unwrap();
    store.keep(&set(vec![good("a", 1), good("b", 1)])).unwrap();
    let both = [id("a"), id("b")].into_iter().collect();
    store.keep(&GoodSet { plugins: both, good: vec![good("b", 2)], condemned: vec![] }).unwrap();
    check(&store, &[("a", &[1]), ("b", &[2, 1])]);
}

#[test]
fn garbage_does_not_grow() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = LastGood::open(directory.path()).unwrap();
    for n in 1..=20 {
        store.keep(&set(vec![good("a", n)])).unwrap();
        assert!(files(&directory).len() <= 3 + 3 * 2, "three revisions, two indexes and the lock at most");
    }
    fs::write(directory.path().join("index.0.new"), "half").unwrap();
    fs::write(directory.path().join("blobs").join(format!("{}.new", "0".repeat(64))), "half").unwrap();
    fs::write(directory.path().join("blobs").join("0".repeat(64)), "an orphan").unwrap();
    drop(store);
    let store = LastGood::open(directory.path()).unwrap();
    check(&store, &[("a", &[20, 19])]);
    assert!(files(&directory).iter().all(|path| !path.to_string_lossy().ends_with(".new")));
    assert_eq!(files(&directory).len(), 3 + 3 * 2);
}

#[test]
fn what_was_rolled_back_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = LastGood::open(directory.path()).unwrap();
    let condemned = Condemned { record: BlobName::of(b"bad"), message: "it faulted".into() };
    let with = |condemned| GoodSet { condemned, ..set(vec![good("a", 1)]) };
    store.keep(&with(vec![(id("a"), condemned.clone())])).unwrap();
    drop(store);
    let mut store = LastGood::open(directory.path()).unwrap();
    assert_eq!(store.plugins().next().unwrap().1.condemned, Some(condemned));
    store.keep(&with(vec![])).unwrap();
    assert_eq!(store.plugins().next().unwrap().1.condemned, None);
}

#[test]
fn whoever_takes_most_gives_up_its_next_best_first() {
    // The module of a plugin is as large as its name is long.
    let large = "with-a-module-that-takes-the-place-of-several-others";
    let both = |n: i64| set(vec![good("small", n), good(large, n)]);
    let bytes = {
        let probe = tempfile::tempdir().unwrap();
        let mut store = LastGood::open(probe.path()).unwrap();
        store.keep(&both(1)).unwrap();
        store.keep(&both(2)).unwrap();
        store.bytes()
    };
    let directory = tempfile::tempdir().unwrap();
    let mut store = LastGood::open_with(directory.path(), 2 * (bytes - 1)).unwrap();
    store.keep(&both(1)).unwrap();
    store.keep(&both(2)).unwrap();
    check(&store, &[("small", &[2, 1]), (large, &[2])]);
}

#[test]
fn what_is_too_large_costs_the_next_best_first_and_then_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let one = {
        let probe = tempfile::tempdir().unwrap();
        let mut store = LastGood::open(probe.path()).unwrap();
        store.keep(&set(vec![good("a", 1)])).unwrap();
        store.bytes()
    };
    let mut store = LastGood::open_with(directory.path(), 2 * (2 * one + one / 2)).unwrap();
    store.keep(&set(vec![good("a", 1)])).unwrap();
    store.keep(&set(vec![good("a", 2)])).unwrap();
    check(&store, &[("a", &[2, 1])]);
    store.keep(&set(vec![good("a", 2), good("b", 1)])).unwrap();
    check(&store, &[("a", &[2]), ("b", &[1])]);
    let three = set(vec![good("a", 2), good("b", 1), good("c", 1)]);
    let error = store.keep(&three).unwrap_err();
    assert!(matches!(error, KeepError::TooLarge { limit, .. } if limit == 2 * one + one / 2), "{error}");
    assert_eq!(store.missing(&three).collect::<Vec<_>>(), [&id("c")]);
    check(&store, &[("a", &[2]), ("b", &[1])]);
    // What has its place keeps it, also for what comes after.
    let next = set(vec![good("a", 3), good("b", 1), good("c", 1)]);
    store.keep(&next).unwrap_err();
    assert_eq!(store.missing(&next).collect::<Vec<_>>(), [&id("c")]);
    check(&store, &[("a", &[3]), ("b", &[1])]);
}

#[test]
fn a_namespace_leaves_room_for_others() {
    let in_namespace = |namespace: &str, name: &str| {
        let plugin = ResourceRef::new(Kind::WasmPlugin, namespace, name);
        let spec = PluginSpec { plugin: plugin.clone(), ..spec(name, json!({})) };
        let keepable = Arc::new(Keepable::new(&spec, &module(name, 1)));
        Good { plugin, generation: 1, artifact: None, keepable }
    };
    let one = {
        let probe = tempfile::tempdir().unwrap();
        let mut store = LastGood::open(probe.path()).unwrap();
        store.keep(&set(vec![in_namespace("x", "a")])).unwrap();
        store.bytes()
    };
    let directory = tempfile::tempdir().unwrap();
    // Two for the first namespace, then one for the second.
    let mut store = LastGood::open_with(directory.path(), 4 * one + one / 2).unwrap();
    let greedy = ["a", "b", "c", "d"].map(|name| in_namespace("x", name)).to_vec();
    let error = store.keep(&set(greedy.clone())).unwrap_err();
    assert!(matches!(&error, KeepError::TooLarge { namespace, .. } if **namespace == *"x"), "{error}");
    assert_eq!(store.plugins().count(), 2);
    let with_another = set(greedy.into_iter().chain([in_namespace("y", "a")]).collect());
    store.keep(&with_another).unwrap_err();
    assert!(store.plugins().any(|(plugin, _)| *plugin.namespace == *"y"));
    assert_eq!(store.missing(&with_another).filter(|plugin| *plugin.namespace == *"x").count(), 2);
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let store = LastGood::open(directory.path()).unwrap();
    let Err(error) = LastGood::open(directory.path()) else { panic!("opened twice") };
    let expected = format!(
        "{} is used by another gateway (process {}); every gateway needs a data directory of its own",
        directory.path().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    drop(store);
    LastGood::open(directory.path()).unwrap();
}
