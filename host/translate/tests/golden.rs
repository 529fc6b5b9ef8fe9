//! Golden worlds: `golden/<name>.in.yaml` is a world, `golden/<name>.out.yaml` what follows from it.
//!
//! A world is a file of documents as users write them. One document of kind `World` may set what is no resource:
//!
//! ```yaml
//! kind: World
//! settings: { impliedClass: null, controllerName: example.com/other, addresses: ["127.0.0.1"] }
//! sockets: { "0.0.0.0:80": address in use, "0.0.0.0:81": pending }   # all others are bound
//! plugins:
//!   default/headers:
//!     active: { generation: 1, digest: sha256:aa, hooks: [request, response] }
//!     candidate: { generation: 2, phase: Rejected, reason: ConfigureTrapped, message: … }
//! files: { /plugins/headers.wasm: stamp }
//! ```
//!
//! `@a.crt` as a value of `stringData` stands for the content of `golden/pki/a.crt`. `UPDATE_GOLDEN=1` writes what came out.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{fmt::Write, path::Path};

use common::{Loaded, render};
use penstock_translate::{Translator, translate};
use similar::TextDiff;

#[test]
fn golden_worlds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut failures = String::new();
    let mut worlds = 0;
    for input in common::worlds(&directory) {
        worlds += 1;
        let output = input.with_file_name(input.file_name().unwrap().to_str().unwrap().replace(".in.", ".out."));
        let actual = outcome(&input);
        let expected = std::fs::read_to_string(&output).unwrap_or_default();
        if actual == expected {
            continue;
        }
        if update {
            std::fs::write(&output, actual).unwrap();
            continue;
        }
        let diff = TextDiff::from_lines(&expected, &actual);
        write!(failures, "{}", diff.unified_diff().header(&output.display().to_string(), "actual")).unwrap();
    }
    assert!(failures.is_empty(), "run with UPDATE_GOLDEN=1 if this is right:\n{failures}");
    assert!(worlds >= 60, "{worlds} worlds");
}

/// What follows from a world, once its sockets are bound. The second step is incremental, and must equal a fresh translation.
fn outcome(input: &Path) -> String {
    let Loaded { mut resources, settings, sockets } = common::load(input);
    let mut translator = Translator::default();
    let first = translator.translate(&resources, &settings);
    common::bind(&mut resources, &first, &sockets);
    let second = translator.translate(&resources, &settings);
    let rendered = render(&second);
    assert_eq!(
        rendered,
        render(&translate(&resources, &settings)),
        "{}: incremental and fresh differ",
        input.display()
    );
    rendered
}
