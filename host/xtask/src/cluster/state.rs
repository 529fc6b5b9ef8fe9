//! One cluster, as seen from outside its namespaces: where its files are, whether it runs, how to get in.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::programs::{CONTAINERD, KUBERNETES, Programs};
use crate::process;
use crate::workspace::Workspace;

/// How long the kernel may take to end every process of the cluster.
const ENDING: Duration = Duration::from_secs(30);

/// A cluster by name, running or not.
///
/// Its files outlive it, so that logs can be read after the end; everything else is in memory inside its namespaces.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) name: String,
    target: PathBuf,
    folder: PathBuf,
}

impl Cluster {
    pub(super) fn new(workspace: &Workspace, name: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(!name.is_empty() && name.chars().all(plain), "a cluster's name is lower-case letters, digits and `-`");
        let target = workspace.target().to_owned();
        Ok(Self { name: name.to_owned(), folder: folder_of_all(workspace).join(name), target })
    }

    /// All that left anything here, running or not.
    pub(super) fn names(workspace: &Workspace) -> Result<Vec<String>> {
        let folder = folder_of_all(workspace);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Cargo's target directory, which holds the files of all clusters.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// One log for each process, and the API server's audit log.
    pub(super) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// For use inside the namespaces: the server's address exists nowhere else.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// What the supervisor says about its processes.
    pub(super) fn processes(&self) -> PathBuf {
        self.folder.join("processes")
    }

    /// A file with the name of a process in here keeps it from running.
    pub(super) fn stopped(&self) -> PathBuf {
        self.folder.join("stopped")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    /// Only one `up` at a time: a second one waits here, and then finds the cluster running.
    pub(super) fn lock_for_starting(&self) -> Result<File> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot create {}", self.folder.display()))?;
        let file = File::create(self.folder.join("starting")).context("cannot create a lock")?;
        file.lock().context("cannot lock")?;
        Ok(file)
    }

    /// Locked by the supervisor for as long as it lives. A process id alone may be somebody else's by now.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.folder.join("lock");
        let options = File::options().read(true).append(true).create(true).open(&path);
        options.with_context(|| format!("cannot open {}", path.display()))
    }

    /// Where its containers' control groups are. They are no namespace's and must be removed by name.
    pub(super) fn control_group(&self) -> String {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        self.folder.hash(&mut hasher);
        format!("penstock-cluster-{:08x}", hasher.finish() & 0xffff_ffff)
    }

    /// The process that all others of the cluster end with, if it runs.
    pub(super) fn running(&self) -> Result<Option<Pid>> {
        if !self.folder.is_dir() {
            return Ok(None);
        }
        match self.lock()?.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error).context("cannot ask for the lock"),
        }
        let path = self.pid_file();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(text.trim().parse().ok().and_then(Pid::from_raw).context("the file `pid` holds no process id")?))
    }

    pub(super) fn must_run(&self) -> Result<Pid> {
        let missing = || {
            let own = "A cluster of your own will do too, for instance one of kind: \
                       `kind create cluster`, then `cargo xtask conformance --kubeconfig ~/.kube/config`";
            format!("no cluster `{}` is running: `cargo xtask cluster up`, as root. {own}", self.name)
        };
        self.running()?.with_context(missing)
    }

    pub(super) fn write_pid(&self, pid: Pid) -> Result<()> {
        fs::write(self.pid_file(), pid.as_raw_nonzero().to_string()).context("cannot write the file `pid`")
    }

    /// A command inside the namespaces, in the current directory, with `kubectl`, `ctr` and the gateway in its PATH.
    pub(super) fn enter(&self, programs: &Programs, workspace: &Workspace) -> Result<Command> {
        let pid = self.must_run()?;
        let ours = [programs.ensure_only(&KUBERNETES, &["kubectl"])?, programs.ensure_only(&CONTAINERD, &["ctr"])?];
        let gateway = workspace.gateway("dev").parent().map(Path::to_owned);
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(ours.into_iter().chain(gateway).chain(std::env::split_paths(&usual)))?;
        let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let mut command = Command::new("nsenter");
        // `ip netns exec` would mount /sys anew and hide the control groups.
        command.args(["--target", &pid.as_raw_nonzero().to_string(), "--net", "--mount", "--pid", "--", "env"]);
        // Entering a mount namespace leads to its root.
        command.arg("--chdir").arg(here);
        command.arg(["PATH=", &path.to_string_lossy()].concat());
        command.arg(["KUBECONFIG=", &self.kubeconfig().to_string_lossy()].concat());
        command.arg("CONTAINERD_ADDRESS=/run/penstock/containerd.sock").arg("CONTAINERD_NAMESPACE=k8s.io");
        Ok(command)
    }

    /// End every process of the cluster; with them go its mounts, its network and what it kept in memory.
    pub(super) fn down(&self) -> Result<()> {
        if let Some(pid) = self.running()? {
            // The first process of a process namespace takes all others with it, and is gone only after them.
            kill_process(pid, Signal::KILL).context("cannot end the supervisor")?;
            let deadline = Instant::now() + ENDING;
            while is_alive(pid) {
                ensure!(Instant::now() < deadline, "process {} has not ended after {ENDING:?}", pid.as_raw_nonzero());
                process::pause(Duration::from_millis(20));
            }
        }
        self.remove_control_groups()
    }

    /// Make the groups that the kubelet makes its own in. It expects them.
    pub(super) fn make_control_groups(&self) -> Result<()> {
        for group in self.control_groups() {
            fs::create_dir_all(&group).with_context(|| format!("cannot make the control group {}", group.display()))?;
        }
        Ok(())
    }

    /// Remove what containers left.
    pub(super) fn remove_control_groups(&self) -> Result<()> {
        self.control_groups().iter().try_for_each(|group| remove_tree(group))
    }

    /// The cluster's group in each hierarchy: one in all, or, in the first version of control groups, one a controller.
    fn control_groups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let is_hierarchy = |path: &PathBuf| path.join("cgroup.procs").exists();
        if is_hierarchy(&root.to_owned()) {
            return vec![root.join(self.control_group())];
        }
        let entries = root.read_dir().map(|entries| entries.flatten().map(|entry| entry.path()));
        let hierarchies = entries.into_iter().flatten().filter(is_hierarchy);
        hierarchies.map(|hierarchy| hierarchy.join(self.control_group())).collect()
    }
}

fn folder_of_all(workspace: &Workspace) -> PathBuf {
    workspace.target().join("cluster")
}

/// Whether the process is there. A zombie is not: it holds nothing.
fn is_alive(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    status.is_ok_and(|status| !status.lines().any(|line| line.starts_with("State:\tZ")))
}

/// Remove a control group with those below it. Its files are not there to be removed.
fn remove_tree(group: &Path) -> Result<()> {
    let Ok(entries) = group.read_dir() else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path())?;
    }
    // The kernel takes a moment to notice that the last process of a group is gone.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                bail!("cannot remove the control group {}: {error}", group.display())
            }
            Err(_) => process::pause(Duration::from_millis(20)),
        }
    }
}
