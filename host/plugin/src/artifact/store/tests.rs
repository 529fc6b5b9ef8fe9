use prometheus_client::registry::Registry;

use super::*;
use crate::{
    artifact::ArtifactCache,
    engine::{compiling_engine, running_engine},
    metrics::PluginMetrics,
    module::Module,
};

fn module(text: &str) -> Module {
    let bytes = wat::parse_str(text).unwrap();
    Module { digest: Digest::of(&bytes), bytes: bytes.into(), artifact: None }
}

fn a() -> Module {
    module("(component (core module (func (export \"a\"))))")
}

fn engine() -> Engine {
    running_engine().unwrap()
}

/// How often a new cache on `directory` had to compile for `module`.
fn compilations(directory: &Path, module: &Module) -> usize {
    let metrics = PluginMetrics::register(&mut Registry::default());
    let cache = ArtifactCache::open(engine(), Some(directory), metrics).unwrap();
    let mut compilations = 0;
    for _ in 0..2 {
        let compile = || {
            compilations += 1;
            Ok(compiling_engine().unwrap().precompile_component(&module.bytes).unwrap())
        };
        cache.component(module.digest, compile).unwrap();
    }
    compilations
}

/// The one artifact in the directory.
fn artifact(directory: &Path) -> PathBuf {
    let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == SUFFIX)).unwrap()
}

#[test]
fn what_was_compiled_once_is_loaded_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(compilations(directory.path(), &a()), 1);
    assert_eq!(compilations(directory.path(), &a()), 0);
    assert_eq!(compilations(directory.path(), &module("(component)")), 1);
}

#[test]
fn everything_in_the_directory_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("plugins/compiled");
    compilations(&directory, &a());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join(KEY_FILE)), 0o600);
    assert_eq!(mode(&artifact(&directory)), 0o600);
}

#[test]
fn damaged_and_foreign_artifacts_are_compiled_again() {
    let directory = tempfile::tempdir().unwrap();
    compilations(directory.path(), &a());
    let path = artifact(directory.path());
    let good = fs::read(&path).unwrap();
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let signed = MAGIC.len() + SIGNATURE;
    let unsigned = good[signed + ORIGIN..].to_vec();
    for (what, bytes) in [
        ("empty", vec![]),
        ("cut off in the header", good[..MAGIC.len()].to_vec()),
        ("cut off in the signature", good[..signed - 1].to_vec()),
        ("cut off at the end", good[..good.len() - 1].to_vec()),
        ("longer", [&good[..], b"\0"].concat()),
        ("another magic", flip(0)),
        ("another signature", flip(MAGIC.len())),
        ("another module", flip(signed)),
        ("another engine", flip(signed + 32)),
        ("another byte of code", flip(good.len() - 1)),
        ("what wasmtime itself would load", unsigned),
    ] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(compilations(directory.path(), &a()), 1, "{what}");
        assert_eq!(compilations(directory.path(), &a()), 0, "{what}: repaired");
    }
}

#[test]
fn an_artifact_of_another_module_is_not_taken_for_this_one() {
    let directory = tempfile::tempdir().unwrap();
    compilations(directory.path(), &a());
    let other = module("(component)");
    let path = artifact(directory.path());
    let name = path.file_name().unwrap().to_str().unwrap().replace(&a().digest.hex(), &other.digest.hex());
    fs::copy(&path, directory.path().join(name)).unwrap();
    assert_eq!(compilations(directory.path(), &other), 1);
}

#[test]
fn a_key_that_others_can_read_is_worth_nothing() {
    let directory = tempfile::tempdir().unwrap();
    compilations(directory.path(), &a());
    let key = directory.path().join(KEY_FILE);
    let old = fs::read(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(compilations(directory.path(), &a()), 1);
    assert_ne!(fs::read(&key).unwrap(), old);
    fs::write(&key, b"short").unwrap();
    assert_eq!(compilations(directory.path(), &a()), 1);
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = ArtifactStore::open(&engine(), file.path()).err().unwrap();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
}

#[test]
fn a_full_cache_drops_the_oldest() {
    let directory = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(&engine(), directory.path()).unwrap();
    for (name, age) in [("old", 2), ("young", 1)] {
        let path = directory.path().join(name).with_extension(SUFFIX);
        let file = File::create(&path).unwrap();
        // Sparse: it only looks large.
        file.set_len(MOST_BYTES / 2).unwrap();
        file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
    }
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let none = HashSet::new();
    store.make_room(0, &none).unwrap();
    assert_eq!(names(), ["key", "old.artifact", "young.artifact"]);
    let all = ["old", "young"].map(|name| directory.path().join(name).with_extension(SUFFIX)).into();
    store.make_room(1, &all).unwrap_err();
    assert_eq!(names(), ["key", "old.artifact", "young.artifact"], "what is in use gives its place to nobody");
    store.make_room(1, &none).unwrap();
    assert_eq!(names(), ["key", "young.artifact"]);
}

#[test]
fn what_was_used_last_goes_last() {
    let directory = tempfile::tempdir().unwrap();
    compilations(directory.path(), &a());
    let long_ago = SystemTime::UNIX_EPOCH;
    let path = artifact(directory.path());
    File::open(&path).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(compilations(directory.path(), &a()), 0);
    assert!(fs::metadata(&path).unwrap().modified().unwrap() > long_ago);
}

#[test]
fn what_is_in_use_is_never_compiled_again_however_many_there_are() {
    let metrics = PluginMetrics::register(&mut Registry::default());
    let cache = ArtifactCache::open(engine(), None, metrics).unwrap();
    let compiling = compiling_engine().unwrap();
    let component = |index: usize| {
        let module = module(&format!("(component (core module (func (export \"{index}\"))))"));
        let mut compiled = false;
        let component = cache.component(module.digest, || {
            compiled = true;
            Ok(compiling.precompile_component(&module.bytes).unwrap())
        });
        (component.unwrap(), compiled)
    };
    let held: Vec<_> = (0..100).map(component).collect();
    assert!(held.iter().all(|(_, compiled)| *compiled));
    assert!((0..100).map(component).all(|(_, compiled)| !compiled));
    assert_eq!(cache.memory().in_use().len(), 100);
    drop(held);
    assert_eq!(cache.memory().in_use().len(), 0, "the last ones are kept, and not in use");
    assert!(component(0).1 && !component(99).1);
}
