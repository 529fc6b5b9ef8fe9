//! `cargo xtask cluster`: a real Kubernetes on this machine, for tests and for trying things out.
//!
//! ```text
//! up ─► build what is missing ─► unshare ─► supervisor ─► etcd, API server, controllers, scheduler, kubelet, kube-proxy, containerd
//!       (Go modules, cached)     (own network, mounts, processes; all of it in memory, gone with the supervisor)
//! ```
//!
//! Several clusters may run side by side: each has its own namespaces, so they use the same addresses and never meet.
//! How each piece is started and why stands in `host/testing/cluster/README.md`.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use self::processes::PROCESSES;
use self::programs::{CONFORMANCE, Programs};
use self::state::Cluster;
pub(crate) use self::suite::{Suite, addresses as suite_addresses};
use self::up::{Channel, Up};
use crate::workspace::Workspace;

pub mod archive;
mod processes;
mod programs;
mod requirements;
mod state;
mod suite;
mod supervisor;
mod toolchain;
pub(crate) mod trial;
mod up;

/// The cluster that is meant when none is named.
pub(crate) const DEFAULT_NAME: &str = "penstock";

/// Options of `cargo xtask cluster`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Which cluster: several may run side by side
    #[arg(long, env = "PENSTOCK_CLUSTER", default_value = DEFAULT_NAME)]
    name: String,

    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Start it, and wait until it is ready
    Up {
        /// Which CRDs of the Gateway API to install
        #[arg(long, value_enum, default_value_t = Channel::Standard)]
        crds: Channel,
    },
    /// End it: no process, mount or namespace remains
    Down,
    /// What runs, and how it is
    Status,
    /// kubectl, as administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a command in the cluster's network, mounts and processes, with KUBECONFIG set
    Exec {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Make images known to the node, from archives (OCI layout or `docker save`)
    LoadImage {
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// End one process of it as if it had crashed, and keep it away
    Stop {
        #[arg(value_parser = process_names())]
        process: String,
    },
    /// Let a stopped process run again
    Start {
        #[arg(value_parser = process_names())]
        process: String,
    },
    /// Print the Gateway API's CRDs, for a cluster of your own
    Crds {
        /// Which of them
        #[arg(long, value_enum, default_value_t = Channel::Standard)]
        channel: Channel,
    },
    /// The first process of the cluster's namespaces; `up` starts it
    #[command(hide = true)]
    Supervise(supervisor::Arguments),
}

fn process_names() -> clap::builder::PossibleValuesParser {
    PROCESSES.iter().map(|process| process.name).collect::<Vec<_>>().into()
}

/// Do what the command line says.
///
/// # Errors
/// When something cannot be built or started, or the cluster does not run that a command wants to enter.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let cluster = Cluster::new(workspace, &arguments.name)?;
    let programs = Programs::new(workspace)?;
    let up = |channel| Up { workspace, cluster: &cluster, programs: &programs, channel };
    match &arguments.action {
        Action::Up { crds } => {
            let up = up(*crds);
            up.run()?;
            up.announce();
            Ok(())
        }
        Action::Down => cluster.down(),
        Action::Status => status(workspace, &cluster, &programs),
        Action::Kubectl { arguments } => replace(cluster.enter(&programs, workspace)?.arg("kubectl").args(arguments)),
        Action::Exec { command } => replace(cluster.enter(&programs, workspace)?.args(command)),
        Action::LoadImage { archives } => archives.iter().try_for_each(|archive| {
            let archive = archive.canonicalize().with_context(|| format!("no file {}", archive.display()))?;
            up(Channel::Standard).load(&archive)
        }),
        Action::Stop { process } => {
            cluster.must_run()?;
            std::fs::write(cluster.stopped().join(process), "").context("cannot say that it should stop")
        }
        Action::Start { process } => {
            cluster.must_run()?;
            std::fs::remove_file(cluster.stopped().join(process)).with_context(|| format!("{process} was not stopped"))
        }
        Action::Crds { channel } => print_crds(&programs, *channel),
        Action::Supervise(arguments) => supervisor::run(&cluster, arguments),
    }
}

/// A command inside a cluster that runs, to be completed.
pub(crate) fn enter(workspace: &Workspace, name: &str) -> Result<Command> {
    Cluster::new(workspace, name)?.enter(&Programs::new(workspace)?, workspace)
}

/// Become this command: signals, the terminal and the exit code are then its own.
fn replace(command: &mut Command) -> Result<()> {
    Err(command.exec()).with_context(|| format!("cannot start {command:?}"))
}

fn status(workspace: &Workspace, cluster: &Cluster, programs: &Programs) -> Result<()> {
    let pid = cluster.must_run()?;
    println!("cluster {}, process {}, logs in {}", cluster.name, pid.as_raw_nonzero(), cluster.logs().display());
    println!("{:<26}{:<9}{:>6}{:>9}", "process", "", "id", "starts");
    for line in std::fs::read_to_string(cluster.processes()).context("cannot read the file `processes`")?.lines() {
        let [name, state, id, starts] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        println!("{name:<26}{state:<9}{id:>6}{starts:>9}");
    }
    for what in [&["nodes"][..], &["pods", "--all-namespaces"], &["gateways,httproutes", "--all-namespaces"]] {
        println!();
        let mut kubectl = cluster.enter(programs, workspace)?;
        kubectl.args(["kubectl", "--request-timeout=5s", "get"]).args(what).stdin(Stdio::null());
        ensure!(kubectl.status()?.success(), "the API server does not answer: kubectl's message is above");
    }
    Ok(())
}

fn print_crds(programs: &Programs, channel: Channel) -> Result<()> {
    let folder = channel.folder(&programs.ensure_only(&CONFORMANCE, &["crds"])?);
    let mut output = std::io::stdout().lock();
    for file in crd_files(&folder)? {
        writeln!(output, "---\n{}", std::fs::read_to_string(&file)?.trim_start_matches("---\n"))?;
    }
    Ok(())
}

fn crd_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name != "kustomization.yaml"));
    files.sort();
    Ok(files)
}
