//! What the machine must have, and what to do where it has not.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

/// Programs that the cluster takes from the system, and Debian's packages with them.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    // kube-proxy's way to Services, and hostPort.
    ("iptables", "iptables"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    // With seccomp, which needs a C library: a runc built here would be without.
    ("runc", "runc"),
    ("unshare", "util-linux"),
];

/// How to go on without this cluster.
const ELSEWHERE: &str = "\
With a cluster of your own (any with Kubernetes 1.33 or newer, for instance `kind create cluster`):
  cargo xtask cluster crds | kubectl apply --server-side -f -
  cargo xtask conformance --kubeconfig ~/.kube/config";

/// Check, and install what a package manager has.
pub(super) fn ensure() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "The test cluster needs Linux.\n{ELSEWHERE}");
    let missing = missing();
    if !rustix::process::geteuid().is_root() {
        let packages = if missing.is_empty() {
            String::new()
        } else {
            format!(" Also missing, by Debian's package names: {}.", missing.join(" "))
        };
        bail!(
            "The test cluster makes network, mount and process namespaces and runs containers in them: only root may.\
             {packages}\nTry `sudo -E env PATH=\"$PATH\" cargo xtask cluster up`.\n{ELSEWHERE}"
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)?;
    let missing = self::missing();
    ensure!(missing.is_empty(), "still missing after their packages were installed: {}", missing.join(" "));
    Ok(())
}

/// Packages whose program is not found.
fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !is_found(program)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

fn is_found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The last two are not in everybody's PATH, but in that of the cluster's processes.
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("missing, by Debian's package names: {list}. Install what your system calls them.\n{ELSEWHERE}");
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
