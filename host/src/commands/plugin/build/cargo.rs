//! Running Cargo, and reading what it says it made.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use penstock_component::TARGET;
use serde_json::Value;

use super::Args;

/// A core module that Cargo made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Artifact {
    /// Name of the package.
    pub(super) package: String,
    /// Where its Cargo.toml is.
    pub(super) folder: PathBuf,
    pub(super) module: PathBuf,
}

/// Compile. What Cargo has to say goes to standard error as usual.
pub(super) fn build(manifest: &Path, args: &Args) -> anyhow::Result<Artifact> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.args(["build", "--lib", "--target", TARGET, "--profile", &args.profile]);
    cargo.args(["--message-format", "json-render-diagnostics"]).arg("--manifest-path").arg(manifest);
    if let Some(package) = &args.package {
        cargo.args(["--package", package]);
    }
    let mut child = cargo
        .args(&args.cargo)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo; install Rust: https://rustup.rs")?;
    let mut artifacts = Vec::new();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line.context("cannot read what cargo says")?;
        artifacts.extend(artifact(&line));
    }
    if !child.wait().context("cargo is gone")?.success() {
        bail!("the crate does not compile: cargo's messages are above");
    }
    Artifact::only(artifacts, manifest)
}

/// A line of Cargo's, if it tells of a module of a crate on this machine (dependencies from a registry are no plugins).
fn artifact(line: &str) -> Option<Artifact> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || !message["package_id"].as_str()?.starts_with("path+") {
        return None;
    }
    let is_cdylib = message["target"]["crate_types"].as_array()?.iter().any(|kind| kind == "cdylib");
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    let module = files.filter(|_| is_cdylib).find(|file| file.ends_with(".wasm"))?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let package = package_name(message["package_id"].as_str()?)?.to_owned();
    Some(Artifact { package, folder: folder.to_owned(), module: module.into() })
}

/// From a package id: `path+file:///a/my-plugin#0.1.0`, or `path+file:///a/folder#my-plugin@0.1.0`.
fn package_name(id: &str) -> Option<&str> {
    let (path, fragment) = id.rsplit_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => path.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(id: &str, kinds: &[&str], files: &[&str]) -> String {
        json!({
            "reason": "compiler-artifact", "package_id": id, "manifest_path": "/a/folder/Cargo.toml",
            "target": { "crate_types": kinds }, "filenames": files,
        })
        .to_string()
    }

    #[test]
    fn modules_are_found_among_what_cargo_says() {
        let found =
            artifact(&line("path+file:///a/folder#my-plugin@0.1.0", &["cdylib", "rlib"], &["/t/x.rlib", "/t/x.wasm"]));
        let expected = Artifact { package: "my-plugin".into(), folder: "/a/folder".into(), module: "/t/x.wasm".into() };
        assert_eq!(found, Some(expected));
        assert_eq!(artifact(&line("path+file:///a/p#0.1.0", &["cdylib"], &["/t/p.wasm"])).unwrap().package, "p");
        assert_eq!(artifact(&line("path+file:///a/p#0.1.0", &["lib"], &["/t/p.rlib"])), None);
        assert_eq!(artifact(&line("registry+https://x#p@0.1.0", &["cdylib"], &["/t/p.wasm"])), None);
        for other in ["", "not json", r#"{"reason":"build-finished","success":true}"#] {
            assert_eq!(artifact(other), None);
        }
    }

    #[test]
    fn none_and_several_are_explained() {
        let artifact = |package: &str| Artifact { package: package.into(), folder: "/".into(), module: "/".into() };
        let manifest = Path::new("x/Cargo.toml");
        assert_eq!(Artifact::only(vec![artifact("a")], manifest).unwrap().package, "a");
        assert!(
            Artifact::only(vec![], manifest).unwrap_err().to_string().contains("crate-type = [\"cdylib\", \"rlib\"]")
        );
        let several = Artifact::only(vec![artifact("a"), artifact("b")], manifest).unwrap_err().to_string();
        assert!(several.contains("a, b") && several.contains("--package"), "{several}");
    }
}
