//! `cargo xtask cluster up`: from nothing, or from a cluster that runs already, to one that is ready for pods and Gateways.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Pid;

use super::processes::{GATEWAY_POOL, NODE};
use super::programs::{self, CONFORMANCE, CONTAINERD, DNS, KUBERNETES, OF_CONFORMANCE, Programs, RIG};
use super::state::Cluster;
use super::{requirements, supervisor};
use crate::process;
use crate::workspace::Workspace;

/// How long each thing that is waited for may take on a machine that compiles something else at the same time.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often it is asked for.
const PULSE: Duration = Duration::from_millis(100);

/// Which of the Gateway API's CRDs are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Channel {
    /// What is stable
    Standard,
    /// Everything
    Experimental,
}

impl Channel {
    /// The folder with its CRDs.
    pub(super) fn folder(self, conformance: &Path) -> PathBuf {
        conformance.join("crds").join(match self {
            Self::Standard => "standard",
            Self::Experimental => "experimental",
        })
    }
}

/// Everything that bringing a cluster up needs to know.
#[derive(Debug)]
pub(super) struct Up<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) cluster: &'a Cluster,
    pub(super) programs: &'a Programs,
    pub(super) channel: Channel,
}

impl Up<'_> {
    /// Start what does not run, and wait until everything is ready. What was started ends again when that fails.
    pub(super) fn run(&self) -> Result<()> {
        requirements::ensure()?;
        let rig = self.programs.ensure(&RIG)?;
        let containerd = self.programs.ensure(&CONTAINERD)?;
        let kubernetes = self.programs.ensure(&KUBERNETES)?;
        let dns = self.programs.ensure(&DNS)?;
        let conformance = self.programs.ensure_only(&CONFORMANCE, &OF_CONFORMANCE)?;

        let _starting = self.cluster.lock_for_starting()?;
        let started = Instant::now();
        let progress = |what: &str| eprintln!("  {:5.1} s  {what}", started.elapsed().as_secs_f64());
        let is_new = self.cluster.running()?.is_none();
        if is_new {
            let config = programs::sources(self.workspace).join("config");
            self.start(&supervisor::Arguments { kubernetes, containerd, dns, rig: rig.clone(), config })?;
            progress("namespaces, network, keys");
        } else {
            progress("it runs already");
        }
        let ready = self.await_ready(&rig, &conformance, &progress);
        if is_new && (ready.is_err() || process::interrupted()) {
            self.cluster.down()?;
        }
        ready
    }

    fn await_ready(&self, rig: &Path, conformance: &Path, progress: &dyn Fn(&str)) -> Result<()> {
        self.await_success("containerd", &["ctr", "version"])?;
        self.load(&rig.join("pause.tar"))?;
        self.load(&conformance.join("echo-basic.tar"))?;
        progress("containerd, with the images");
        self.await_success("kube-apiserver", &["kubectl", "get", "--raw=/readyz"])?;
        progress("etcd, API server");
        let mut apply = vec!["kubectl".to_owned(), "apply".into(), "--server-side".into(), "--force-conflicts".into()];
        apply.extend(
            super::crd_files(&self.channel.folder(conformance))?
                .iter()
                .map(|file| format!("--filename={}", file.display())),
        );
        self.succeed(&apply.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.succeed(&["kubectl", "wait", "crd", "--all", "--for=condition=Established", "--timeout=180s"])?;
        // It says so a moment before it takes any.
        let kinds = "gateways.gateway.networking.k8s.io,httproutes.gateway.networking.k8s.io";
        self.await_success("kube-apiserver", &["kubectl", "get", "--all-namespaces", kinds])?;
        progress("Gateway API");
        // Into a namespace that the API server makes a moment after it is ready.
        self.await_success("kube-apiserver", &["kubectl", "apply", "--filename=/run/penstock/config/dns.yaml"])?;
        // Pods need the account, and it comes from the controller manager.
        self.await_success("kube-controller-manager", &["kubectl", "get", "serviceaccount", "default"])?;
        let node = format!("node/{NODE}");
        self.await_success("kubelet", &["kubectl", "get", &node])?;
        self.await_success("kubelet", &["kubectl", "wait", &node, "--for=condition=Ready", "--timeout=30s"])?;
        progress("controllers, node");
        Ok(())
    }

    /// Make the namespaces, and leave their first process running behind.
    fn start(&self, arguments: &supervisor::Arguments) -> Result<()> {
        self.cluster.remove_control_groups()?;
        let folder = self.cluster.folder();
        let _ = fs::remove_dir_all(self.cluster.logs());
        let _ = fs::remove_dir_all(self.cluster.stopped());
        for folder in [self.cluster.logs(), self.cluster.stopped()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let path = self.cluster.logs().join("supervisor.log");
        let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(process::own_program()?).args(["cluster", "--name", &self.cluster.name, "supervise"]);
        command.args(arguments.to_flags());
        // A group of its own: Ctrl-C in this terminal, later, is not meant for the cluster.
        command.process_group(0).current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut unshare = command.spawn().context("cannot start unshare")?;
        let started = self.await_supervisor(&mut unshare, &path);
        if started.is_err() {
            let _ = unshare.kill();
            let _ = unshare.wait();
        }
        started
    }

    fn await_supervisor(&self, unshare: &mut Child, log: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = unshare.try_wait()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("the cluster's first process ended ({status}):\n{said}");
            }
            if let Some(child) = only_child(unshare.id())? {
                self.cluster.write_pid(child)?;
                if self.cluster.running()?.is_some() && self.cluster.processes().exists() {
                    return Ok(());
                }
            }
            ensure!(
                Instant::now() < deadline,
                "the namespaces were not ready after {PATIENCE:?}: see {}",
                log.display()
            );
            wait()?;
        }
    }

    /// Import an image archive.
    pub(super) fn load(&self, archive: &Path) -> Result<()> {
        let archive = archive.to_str().context("the archive's name is no UTF-8")?;
        self.succeed(&["ctr", "images", "import", archive])
    }

    /// Run a command inside, without its output. When it fails, the output is in the error.
    fn succeed(&self, command: &[&str]) -> Result<()> {
        let output = self.cluster.enter(self.programs, self.workspace)?.args(command).stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "`{}` failed:\n{}", command.join(" "), String::from_utf8_lossy(&said));
        Ok(())
    }

    /// Run a command inside again and again until it succeeds.
    fn await_success(&self, process: &str, command: &[&str]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.succeed(command) {
            if Instant::now() > deadline {
                let log = self.cluster.logs().join(format!("{process}.log"));
                return Err(error.context(format!(
                    "{process} was not ready after {PATIENCE:?}. The end of {}:\n{}",
                    log.display(),
                    last_lines(&log, 15)
                )));
            }
            wait()?;
        }
        Ok(())
    }

    /// What to do next.
    pub(super) fn announce(&self) {
        let Cluster { name, .. } = self.cluster;
        let other = if name == super::DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
        println!("The cluster runs until `cargo xtask cluster{other} down`.");
        println!("  cargo xtask cluster{other} kubectl get pods -A     kubectl in it");
        println!(
            "  cargo xtask cluster{other} exec -- COMMAND         anything in it; addresses of {GATEWAY_POOL} are local there"
        );
        println!("  {:<48} logs", self.workspace.relative(&self.cluster.logs()).display());
    }
}

/// Wait a moment, and stop when the user wants to.
fn wait() -> Result<()> {
    process::pause(PULSE);
    ensure!(!process::interrupted(), "interrupted");
    Ok(())
}

/// The process that `unshare` started, by the id that this namespace knows it by.
fn only_child(parent: u32) -> Result<Option<Pid>> {
    let wanted = format!("PPid:\t{parent}");
    for entry in Path::new("/proc").read_dir()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Those that end meanwhile are not the one.
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == wanted) {
            return Ok(Pid::from_raw(pid));
        }
    }
    Ok(None)
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
