//! Clusters for as long as one program runs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::programs::Programs;
use super::requirements;
use super::state::Cluster;
use super::up::{Channel, Up};
use crate::process::{self, Outcome};
use crate::workspace::Workspace;

/// Its name: one run at a time.
const NAME: &str = "tests";

/// Whether a cluster can be had here; if not, the error says why.
pub(crate) fn is_possible(workspace: &Workspace) -> Result<()> {
    requirements::ensure()?;
    // Root of a container may be root of little.
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "true"]);
    let allowed = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(allowed.is_ok_and(|status| status.success()), "no network, mount and process namespaces may be made here");
    Programs::new(workspace)?.ensure_cluster().context("the cluster's programs cannot be built here")
}

/// A program to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) environment: &'a [(&'a str, &'a str)],
    pub(crate) deadline: Duration,
}

/// A way to run it.
pub(crate) type Run = fn(&Workspace, Call<'_>) -> Result<Outcome>;

/// Run a program that starts clusters by itself, and end those that it leaves behind. Their names end with its process id.
pub(crate) fn run_with_own(workspace: &Workspace, call: Call<'_>) -> Result<Outcome> {
    let environment = call.environment.iter().copied();
    let running = process::start(Command::new(call.program).args(call.arguments).envs(environment))?;
    let mark = format!("-{}", running.id());
    let outcome = running.wait(call.deadline);
    for name in Cluster::names(workspace)?.iter().filter(|name| name.ends_with(&mark)) {
        Cluster::new(workspace, name)?.down()?;
    }
    outcome
}

/// Start a cluster, run the program in its namespaces, and end the cluster whatever comes of it.
pub(crate) fn run(workspace: &Workspace, call: Call<'_>) -> Result<Outcome> {
    let (cluster, programs) = (Cluster::new(workspace, NAME)?, Programs::new(workspace)?);
    let up = Up { workspace, cluster: &cluster, programs: &programs, channel: Channel::Standard };
    up.run()?;
    let mut command = cluster.enter(&programs, workspace)?;
    command.arg(call.program).args(call.arguments).envs(call.environment.iter().copied());
    let outcome = process::start(&mut command).and_then(|running| running.wait(call.deadline));
    cluster.down()?;
    outcome
}
