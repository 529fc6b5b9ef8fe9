//! Guests: crates that become WebAssembly components.
//!
//! ```text
//! plugins/*, host/testing/guests/*  ──cargo build──►  <target>/guests-build/…/x.wasm  ──encode──►  <target>/guests/x.wasm
//!                                                          (core module)                             (component)
//! ```
//!
//! Guests have a target directory of their own: a build script may build them while the outer Cargo holds the lock of the
//! usual one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{CrateType, Package};

use crate::workspace::Workspace;

pub use penstock_component::TARGET;

/// Folders whose members are guests.
const FOLDERS: [&str; 2] = ["plugins/", "host/testing/guests/"];

/// A guest crate and where its component lands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The package name, which is also the component's file name.
    pub name: String,
    /// The component.
    pub component: PathBuf,
    /// What `cargo build` makes of it.
    module: PathBuf,
}

/// The guests of the workspace, by name.
#[must_use]
pub fn list(workspace: &Workspace) -> Vec<Guest> {
    let modules = workspace.target().join("guests-build").join(TARGET).join("guest");
    let components = workspace.target().join("guests");
    let mut guests: Vec<_> = workspace
        .packages()
        .iter()
        .filter(|package| FOLDERS.iter().any(|folder| workspace.folder(package).starts_with(folder)))
        .filter_map(|package| Some((package, module_name(package)?)))
        .map(|(package, module)| Guest {
            name: package.name.to_string(),
            component: components.join(format!("{}.wasm", package.name)),
            module: modules.join(format!("{module}.wasm")),
        })
        .collect();
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    guests
}

fn module_name(package: &Package) -> Option<&str> {
    let library = package.targets.iter().find(|target| target.crate_types.contains(&CrateType::CDyLib))?;
    Some(library.name.as_str())
}

/// Build every guest that is not fresh, and answer all of them. Cargo knows what is fresh; encoding takes milliseconds.
/// Progress goes to stderr.
///
/// # Errors
/// When the target cannot be installed, a guest does not compile, or its module is no component.
pub fn build(workspace: &Workspace) -> Result<Vec<Guest>> {
    ensure_target()?;
    let guests = list(workspace);
    compile(workspace, &guests)?;
    for guest in &guests {
        let bytes = encode(&guest.module).with_context(|| format!("guest {}", guest.name))?;
        // Contents are compared, not times: several checkouts may share this directory, and what Cargo puts there on a
        // switch between them is older than what was made from it before.
        if fs::read(&guest.component).is_ok_and(|existing| existing == bytes) {
            continue;
        }
        write_atomically(&guest.component, &bytes)?;
        eprintln!("  guest {} ({} KiB)", workspace.relative(&guest.component).display(), bytes.len().div_ceil(1024));
    }
    publish(workspace, &guests)?;
    Ok(guests)
}

/// Examples name plugins by the usual place, `target/guests/x.wasm`: they must be there too when Cargo's target directory is
/// another one.
fn publish(workspace: &Workspace, guests: &[Guest]) -> Result<()> {
    let usual = workspace.root().join("target");
    for guest in guests.iter().filter(|_| workspace.target() != usual) {
        let copy = usual.join("guests").join(format!("{}.wasm", guest.name));
        let bytes = fs::read(&guest.component)?;
        if !fs::read(&copy).is_ok_and(|existing| existing == bytes) {
            write_atomically(&copy, &bytes)?;
        }
    }
    Ok(())
}

fn compile(workspace: &Workspace, guests: &[Guest]) -> Result<()> {
    if guests.is_empty() {
        return Ok(());
    }
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--lib", "--target", TARGET, "--profile", "guest", "--target-dir"]);
    cargo.arg(workspace.target().join("guests-build"));
    for guest in guests {
        cargo.args(["--package", &guest.name]);
    }
    // Standard output belongs to the caller: a build script speaks to Cargo through it.
    let status = cargo.stdout(Stdio::null()).status().context("cannot start cargo")?;
    ensure!(status.success(), "the guests do not compile: cargo's messages are above");
    Ok(())
}

fn encode(module: &Path) -> Result<Vec<u8>> {
    let module = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    Ok(penstock_component::encode(&module)?.bytes)
}

/// Two builds may run at once, and a test may be reading: nobody must see half a file.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file without folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut temporary = OsString::from(path);
    temporary.push(format!(".{}", std::process::id()));
    fs::write(&temporary, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

fn ensure_target() -> Result<()> {
    penstock_component::ensure_target(|| {
        eprintln!("  installing the Rust target {TARGET}: rustup target add {TARGET}");
    })?;
    Ok(())
}
