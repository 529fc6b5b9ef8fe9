//! `cargo xtask image`: the gateway as a container image, without Docker.
//!
//! ```text
//! cargo rustc (static) ──────────────► penstock ─┐
//! or with --debug, what tests use, and libraries ─┤
//! CA certificates, names by DNS ──────────────────┴─► one layer ─► an OCI layout in a tar file ─► `cluster load-image`, skopeo, ctr, podman
//! ```
//!
//! The program is linked statically with glibc, and not compiled for musl, for three reasons: only its last step differs from the program
//! that tests and benches run, so what was measured is what is shipped; the allocator gives memory back in the background, which it
//! cannot do on musl; and a second compilation of everything costs minutes. Names are resolved through `files` and `dns`, which are a
//! part of glibc itself. Other modules of the machine where it runs (`nss-*`) are not, and an image has none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cluster::archive::Image;
use crate::packages;
use crate::workspace::Workspace;

/// Options of `cargo xtask image`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Take the gateway that tests use, with the shared libraries of this machine: soon built and slow to run
    #[arg(long)]
    debug: bool,

    /// Name of the image, such as registry.example.org/penstock:1; repeat it for several [default: penstock:VERSION]
    #[arg(long = "tag", value_name = "NAME")]
    tags: Vec<String>,

    /// The archive to write [default: image/penstock.tar in the target directory]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Whom the gateway trusts when it fetches plugins, or talks to backends whose policy says `System`.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Build the image, and print where it is.
///
/// # Errors
/// When the gateway does not compile, or the archive cannot be written.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let output = match &arguments.output {
        Some(file) => file.clone(),
        None => workspace.target().join("image").join("penstock.tar"),
    };
    let tags = match arguments.tags.as_slice() {
        [] => vec![default_name()],
        tags => tags.iter().map(|tag| full_name(tag)).collect(),
    };
    build(workspace, arguments.debug, &tags, &output)?;
    eprintln!("image {}; try: cargo xtask cluster load-image {}", tags.join(", "), output.display());
    println!("{}", output.display());
    Ok(())
}

/// The name that the manifests in `host/deploy` use.
#[must_use]
pub fn default_name() -> String {
    full_name(concat!("penstock:", env!("CARGO_PKG_VERSION")))
}

/// Build the image under these names.
///
/// # Errors
/// When the gateway does not compile, or the archive cannot be written.
pub fn build(workspace: &Workspace, debug: bool, names: &[String], output: &Path) -> Result<()> {
    let image = match debug {
        true => of_tests(workspace)?,
        false => Image::of(&compile(workspace)?)?,
    };
    let image = image
        .with_file(AUTHORITIES.trim_start_matches('/'), &authorities()?)
        .with_file("etc/nsswitch.conf", b"hosts: files dns\n")
        .with_label("org.opencontainers.image.title", "penstock")
        .with_label("org.opencontainers.image.version", env!("CARGO_PKG_VERSION"))
        .with_label("org.opencontainers.image.licenses", "Apache-2.0");
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    image.write(&names.iter().map(String::as_str).collect::<Vec<_>>(), output)
}

/// The gateway as a static program, in a place of its own: the usual one belongs to `cargo build`.
fn compile(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("Building the gateway. The first time this compiles some 300 crates and takes minutes.");
    let mut cargo = workspace.cargo();
    cargo.args(["rustc", "--package", "penstock", "--bin", "penstock", "--release", "--"]);
    // What debuggers need is half of the size.
    cargo.args(["-Ctarget-feature=+crt-static", "-Cstrip=debuginfo"]);
    ensure!(cargo.status()?.success(), "the gateway does not compile: cargo's messages are above");
    let program = place(workspace, "release")?;
    fs::copy(workspace.gateway("release"), &program).context("cannot copy the gateway")?;
    ensure!(is_static(&fs::read(&program)?), "the gateway needs shared libraries, and an image has none");
    Ok(program)
}

/// The gateway of the tests: linked as usual it is there already, where a static one would have all of its dependencies compiled once more.
fn of_tests(workspace: &Workspace) -> Result<Image> {
    let (built, program) = (workspace.build_gateway(false)?, place(workspace, "dev")?);
    // What debuggers need is most of it. Linkers come with `strip`; where there is none the image is bigger.
    let stripped = Command::new("strip").args(["--strip-debug", "-o"]).arg(&program).arg(&built).status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(&built, &program).context("cannot copy the gateway")?;
    }
    Image::of(&program)?.with_libraries_of(&program)
}

/// Where the program of an image is kept.
fn place(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    let folder = workspace.target().join("image").join(profile);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join("penstock"))
}

fn authorities() -> Result<Vec<u8>> {
    if !Path::new(AUTHORITIES).exists() {
        packages::install(&["ca-certificates"])?;
    }
    fs::read(AUTHORITIES).with_context(|| format!("cannot read {AUTHORITIES}, which goes into the image"))
}

/// Whether a 64-bit ELF program asks for no dynamic linker.
fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, length: usize| {
        let bytes = program.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    let segments = || Some((number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?));
    let Some((table, size, count)) = segments().filter(|_| program.starts_with(b"\x7fELF\x02\x01")) else {
        return false;
    };
    (0..count).all(|index| number(table + index * size, 4) != Some(INTERPRETER as usize))
}

/// The name as container runtimes keep it: with registry and tag.
fn full_name(name: &str) -> String {
    let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let path = match name.split_once('/') {
        Some((first, _)) if is_registry(first) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    let last = path.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { path } else { format!("{path}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_container_runtimes() {
        #[track_caller]
        fn check(name: &str, full: &str) {
            assert_eq!(full_name(name), full);
        }
        check("penstock", "docker.io/library/penstock:latest");
        check("penstock:1", "docker.io/library/penstock:1");
        check("team/penstock", "docker.io/team/penstock:latest");
        check("localhost/penstock:1", "localhost/penstock:1");
        check("registry:5000/penstock", "registry:5000/penstock:latest");
    }

    #[test]
    fn this_test_needs_shared_libraries() {
        let test = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&test));
        assert!(!is_static(b"#!/bin/sh\n"));
    }

    #[test]
    fn manifests_name_the_image_that_is_built() {
        let workspace = Workspace::load().unwrap();
        let deployment = fs::read_to_string(workspace.root().join("host/deploy/deployment.yaml")).unwrap();
        let image = deployment.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
        assert_eq!(full_name(image), default_name());
    }
}
