//! What the machine must have, and what to do where it has not.

use anyhow::{Context as _, Result, bail, ensure};

use crate::packages;

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
    packages::install(&missing).context(ELSEWHERE)?;
    let missing = self::missing();
    ensure!(missing.is_empty(), "still missing after their packages were installed: {}", missing.join(" "));
    Ok(())
}

/// Packages whose program is not found.
fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !packages::is_found(program)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}
