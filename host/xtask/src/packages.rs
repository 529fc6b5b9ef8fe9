//! Programs that the system's package manager has.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

/// Whether a program is installed.
pub(crate) fn is_found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The last two are not in everybody's PATH, but in that of the processes that are started here.
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

/// Install packages by Debian's names.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("missing, by Debian's package names: {list}. Install what your system calls them");
    }
    eprintln!("  installing what is missing: apt-get install --no-install-recommends {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "Dpkg::Use-Pty=0"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    // The list of packages may be older than the packages that it names.
    ensure!(apt(&install) || (apt(&["update"]) && apt(&install)), "apt-get failed: its messages are above");
    Ok(())
}
