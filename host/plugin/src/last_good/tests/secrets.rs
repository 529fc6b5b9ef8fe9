//! Values of Secrets stay off the disk.

use penstock_core::plugin::SecretPlace;

use super::*;

const VALUE: &str = "s3cr3t-0f-th3-t3st";

fn place(pointer: &str) -> SecretPlace {
    SecretPlace { pointer: pointer.into(), secret: "login".into(), key: "token".into() }
}

fn with_secret(pointer: &str, config: Value) -> PluginSpec {
    PluginSpec { secrets: vec![place(pointer)], ..spec("a", config) }
}

fn record(spec: &PluginSpec) -> (TempDir, Record) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = LastGood::open(directory.path()).unwrap();
    let keepable = Arc::new(Keepable::new(spec, &module("a", 1)));
    let name = keepable.record_name().clone();
    store.keep(&set(vec![Good { plugin: id("a"), generation: 1, artifact: None, keepable }])).unwrap();
    let record = Record::parse(&store.blobs().get(&name).unwrap()).unwrap();
    (directory, record)
}

#[test]
fn no_file_holds_the_value_of_a_secret() {
    let spec = with_secret("/auth/token", json!({ "auth": { "token": VALUE, "user": "me" } }));
    let (directory, record) = record(&spec);
    for file in files(&directory) {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains(VALUE), "{} holds it", file.display());
    }
    // The resource provides it again, and maybe elsewhere and changed: the Secret decides.
    let restored = record.spec(&id("a"), 1, Bytes::new(), Some(&spec)).unwrap();
    assert_eq!(restored.config, spec.config);
    let now = with_secret("/moved", json!({ "moved": "another" }));
    let restored = record.spec(&id("a"), 1, Bytes::new(), Some(&now)).unwrap();
    assert_eq!(*restored.config, json!({ "auth": { "token": "another", "user": "me" } }));
}

#[test]
fn without_the_secret_it_cannot_be_restored_and_says_so() {
    let (_directory, record) = record(&with_secret("/token", json!({ "token": VALUE })));
    for provider in [None, Some(spec("a", json!({})))] {
        let error = record.spec(&id("a"), 1, Bytes::new(), provider.as_ref()).unwrap_err();
        assert!(error.to_string().starts_with("it needs `token` of Secret `login`"), "{error}");
    }
}
