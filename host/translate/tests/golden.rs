//! Golden worlds: `golden/<name>.in.yaml` is a world, `golden/<name>.out.yaml` what follows from it.
//!
//! A world is a file of documents as users write them. One document of kind `World` may set what is no resource:
//!
//! ```yaml
//! kind: World
//! settings: { impliedClass: null, controllerName: example.com/other, classSelector: "lb=internal", addresses: ["127.0.0.1"] }   # or pool: ["10.0.0.0/24"]
//! sockets: { "0.0.0.0:80": address in use, "0.0.0.0:81": pending }   # all others are bound
//! plugins:
//!   default/headers:
//!     active: { generation: 1, digest: sha256:aa, hooks: [request, response] }
//!     candidate: { generation: 2, phase: Rejected, reason: ConfigureTrapped, message: … }
//! files: { /plugins/headers.wasm: stamp }
//! ```
//!
//! `@a.crt` as a value of `stringData` or `data` stands for the content of `golden/pki/a.crt`. `UPDATE_GOLDEN=1` writes what came out.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use common::{Loaded, render};
use penstock_translate::{Translator, translate};
use similar::TextDiff;

#[test]
fn golden_worlds() {
    let mut golden = Golden::default();
    for input in common::worlds(&directory()) {
        let output = input.with_file_name(input.file_name().unwrap().to_str().unwrap().replace(".in.", ".out."));
        golden.check(&output, &outcome(common::load(&input)));
    }
    assert!(golden.worlds >= 60, "{} worlds", golden.worlds);
    golden.finish();
}

/// What users find under `examples/` means what its README says. Plugins count as ready: building them is not this test's matter.
#[test]
fn examples() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut golden = Golden::default();
    for example in common::sorted(&examples) {
        let mut files = common::sorted(&example);
        files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        let mut loaded = common::load_all(&files);
        common::run_all_plugins(&mut loaded.resources);
        let name = example.file_name().unwrap().to_str().unwrap();
        golden.check(&directory().join(format!("example-{name}.out.yaml")), &outcome(loaded));
    }
    assert!(golden.worlds >= 5, "{} examples", golden.worlds);
    golden.finish();
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares with the files, or writes them.
#[derive(Default)]
struct Golden {
    worlds: usize,
    failures: String,
}

impl Golden {
    fn check(&mut self, output: &Path, actual: &str) {
        self.worlds += 1;
        let expected = std::fs::read_to_string(output).unwrap_or_default();
        if actual == expected {
            return;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(output, actual).unwrap();
            return;
        }
        let diff = TextDiff::from_lines(&*expected, actual);
        let header = output.display().to_string();
        write!(self.failures, "{}", diff.unified_diff().header(&header, "actual")).unwrap();
    }

    fn finish(self) {
        assert!(self.failures.is_empty(), "run with UPDATE_GOLDEN=1 if this is right:\n{}", self.failures);
    }
}

/// What follows from a world, once its sockets are bound. The second step is incremental, and must equal a fresh translation.
fn outcome(world: Loaded) -> String {
    let Loaded { mut resources, settings, sockets } = world;
    let mut translator = Translator::default();
    let first = translator.translate(&resources, &settings);
    common::bind(&mut resources, &first, &sockets);
    let second = translator.translate(&resources, &settings);
    let rendered = render(&second);
    assert_eq!(rendered, render(&translate(&resources, &settings)), "incremental and fresh differ");
    rendered
}
