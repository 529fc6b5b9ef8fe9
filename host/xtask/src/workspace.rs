//! What Cargo knows about this workspace, and how commands start Cargo again.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package};

/// Arguments for Cargo that build the gateway as tests use it. Built alone, its dependencies have fewer features, and all of them would be
/// compiled again.
pub(crate) const GATEWAY_OF_TESTS: [&str; 5] = ["test", "--workspace", "--test", "end_to_end", "--no-run"];

/// The workspace that this crate belongs to.
#[derive(Debug)]
pub struct Workspace {
    metadata: Metadata,
}

impl Workspace {
    /// Ask `cargo metadata`, members only.
    ///
    /// # Errors
    /// When Cargo cannot read the workspace.
    pub fn load() -> Result<Self> {
        // The manifest directory is fixed at compile time, so commands work from every current directory.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().context("cargo metadata")?;
        Ok(Self { metadata })
    }

    /// The directory of the workspace's `Cargo.toml`.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// Cargo's target directory; `CARGO_TARGET_DIR` is honoured.
    #[must_use]
    pub fn target(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// All members, in Cargo's order.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        &self.metadata.packages
    }

    /// The folder of a member, relative to the root, with `/` between its parts.
    #[must_use]
    pub fn folder<'p>(&self, package: &'p Package) -> &'p str {
        let folder = package.manifest_path.parent().map_or("", |folder| folder.as_str());
        folder.strip_prefix(self.metadata.workspace_root.as_str()).unwrap_or(folder).trim_start_matches('/')
    }

    /// `path` without the root, for messages.
    #[must_use]
    pub fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(self.root()).unwrap_or(path)
    }

    /// The binary `penstock` as the given profile builds it.
    #[must_use]
    pub fn gateway(&self, profile: &str) -> PathBuf {
        let folder = if profile == "dev" { "debug" } else { profile };
        self.target().join(folder).join("penstock")
    }

    /// Build `penstock`, and say where it is.
    ///
    /// # Errors
    /// When Cargo cannot be started, or something does not compile.
    pub fn build_gateway(&self, release: bool) -> Result<PathBuf> {
        let (arguments, profile): (&[&str], _) = if release {
            (&["build", "--package", "penstock", "--release"], "release")
        } else {
            (&GATEWAY_OF_TESTS, "dev")
        };
        let status = self.cargo().args(arguments).status().context("cannot start cargo")?;
        ensure!(status.success(), "the gateway does not compile: cargo's messages are above");
        Ok(self.gateway(profile))
    }

    /// The folders under `examples/`, by name: each is a world that runs as it is.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn examples(&self) -> Result<Vec<PathBuf>> {
        let folder = self.root().join("examples");
        let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
        let mut worlds: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        worlds.sort();
        Ok(worlds)
    }

    /// A `cargo` command at the root.
    ///
    /// What an outer Cargo has set for *its* build is taken away: `cargo clippy` would otherwise lint guests in place of
    /// building them, and flags for the host would reach WebAssembly.
    #[must_use]
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(self.root());
        for name in OUTER_BUILD {
            command.env_remove(name);
        }
        // Build scripts of dependencies look at these too, and would run again whenever a build begins elsewhere.
        let of_package = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"));
        for name in env::vars_os().map(|(name, _)| name).filter(of_package) {
            command.env_remove(name);
        }
        command
    }
}

/// Variables that describe the build of the caller, not of what it starts.
const OUTER_BUILD: [&str; 9] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CLIPPY_ARGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "TARGET",
];
