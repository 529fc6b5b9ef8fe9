//! The manifests that users apply are those that the types say. `UPDATE_GOLDEN=1` writes them.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

#[test]
fn the_applied_definitions_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    for definition in penstock_translate::crd::definitions() {
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap();
        let (file, text) = (folder.join(format!("{plural}.yaml")), serde_yaml_ng::to_string(&definition).unwrap());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(there, text, "{} is not what `penstock crds` prints; run with UPDATE_GOLDEN=1", file.display());
    }
}
