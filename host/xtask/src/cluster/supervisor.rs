//! The first process of the cluster's namespaces. It prepares them, starts the processes, starts again what ends, and takes
//! everything with it when it is killed.
//!
//! ```text
//! /run                        empty at the start, in memory, seen by the cluster only
//! /run/penstock/kubernetes             ─► built programs, in the cache
//! /run/penstock/containerd-programs    ─► built programs, in the cache
//! /run/penstock/dns, /run/penstock/rig ─► built programs, in the cache
//! /run/penstock/config                 ─► host/testing/cluster/config
//! /run/penstock/logs                   ─► where they can be read after the end
//! /run/penstock/keys                   made at each start
//! ```
//!
//! Programs that insist on a place elsewhere find it in memory too (see [`IN_MEMORY`]).

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process};

use super::processes::{API_SERVER, GATEWAY_POOL, LOAD_BALANCERS, NODE_ADDRESS, PROCESSES, Process, SERVICES};
use super::state::Cluster;

/// What the cluster sees at the paths that are built into its programs.
const ROOT: &str = "/run/penstock";

/// Folders that exist on every machine and that the cluster's programs write to by built-in paths: here, they see the machine's
/// files, and what they write is kept in memory.
const IN_MEMORY: [&str; 2] = ["/var/lib", "/var/log"];

/// How long a process that ended stays away: long enough to keep a broken one from eating a core.
const REST: Duration = Duration::from_secs(1);

/// How often everything is looked at.
const PULSE: Duration = Duration::from_millis(50);

/// Where the built programs are.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[arg(long)]
    pub(super) kubernetes: PathBuf,
    #[arg(long)]
    pub(super) containerd: PathBuf,
    #[arg(long)]
    pub(super) dns: PathBuf,
    #[arg(long)]
    pub(super) rig: PathBuf,
    #[arg(long)]
    pub(super) config: PathBuf,
}

impl Arguments {
    /// The command line that says the same.
    pub(super) fn to_flags(&self) -> Vec<String> {
        let flags = [
            ("kubernetes", &self.kubernetes),
            ("containerd", &self.containerd),
            ("dns", &self.dns),
            ("rig", &self.rig),
            ("config", &self.config),
        ];
        flags.iter().map(|(name, path)| format!("--{name}={}", path.display())).collect()
    }
}

/// Run until killed.
///
/// # Errors
/// When the namespaces cannot be prepared.
pub(super) fn run(cluster: &Cluster, arguments: &Arguments) -> Result<()> {
    ensure!(
        std::process::id() == 1,
        "the supervisor belongs into a process namespace of its own: cargo xtask cluster up"
    );
    let lock = cluster.lock()?;
    lock.lock().context("cannot lock")?;
    cluster.make_control_groups()?;
    mounts(cluster, arguments)?;
    network()?;
    keys(cluster, arguments)?;
    let mut slots: Vec<_> = PROCESSES.iter().map(Slot::new).collect();
    let mut told = String::new();
    loop {
        reap(&mut slots);
        for slot in &mut slots {
            slot.advance(cluster)?;
        }
        let state: String = slots.iter().map(Slot::describe).collect();
        if state != told {
            fs::write(cluster.processes(), &state).context("cannot write the file `processes`")?;
            told = state;
        }
        // Not `process::pause`: whoever signals this process is told by its end.
        std::thread::sleep(PULSE);
    }
}

fn mounts(cluster: &Cluster, arguments: &Arguments) -> Result<()> {
    // Where it really is, which may be in the folder that vanishes next.
    let resolver = fs::canonicalize("/etc/resolv.conf");
    mount(&["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])?;
    // What is written to the target directory must stay, wherever it is.
    let (target, kept) = (cluster.target().to_string_lossy().into_owned(), format!("{ROOT}/target"));
    fs::create_dir_all(&kept)?;
    mount(&["--bind", &target, &kept])?;
    for folder in IN_MEMORY {
        let memory = format!("{ROOT}/in-memory{folder}");
        let (upper, work) = (format!("{memory}/upper"), format!("{memory}/work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let layers = format!("lowerdir={folder},upperdir={upper},workdir={work}");
        mount(&["-t", "overlay", "-o", &layers, "overlay", folder])?;
    }
    mount(&["--bind", &kept, &target])?;
    // Volumes that a container mounts may be seen by others.
    mount(&["--make-rshared", "/"])?;
    let root = Path::new(ROOT);
    let links = [
        ("kubernetes", arguments.kubernetes.as_path()),
        ("containerd-programs", &arguments.containerd),
        ("dns", &arguments.dns),
        ("rig", &arguments.rig),
        ("config", &arguments.config),
        ("logs", &cluster.logs()),
    ];
    for (name, target) in links {
        symlink(target, root.join(name)).with_context(|| format!("cannot link {name}"))?;
    }
    resolver.map_or(Ok(()), |path| replace_resolver(&path, &arguments.config.join("resolv.conf")))
}

/// Programs in these namespaces know the names of Services, and no others could be reached.
fn replace_resolver(path: &Path, ours: &Path) -> Result<()> {
    if !path.exists() {
        let folder = path.parent().context("a file without a folder")?;
        fs::create_dir_all(folder).and_then(|()| fs::write(path, "")).context("cannot make a resolv.conf")?;
    }
    succeed(Command::new("mount").arg("--bind").arg(ours).arg(path))
}

fn mount(arguments: &[&str]) -> Result<()> {
    succeed(Command::new("mount").args(arguments))
}

/// A node address, and routes that make Services and Gateways reachable from this very namespace.
fn network() -> Result<()> {
    let node = format!("{NODE_ADDRESS}/24");
    let commands: [&[&str]; 7] = [
        &["link", "set", "lo", "up"],
        // A bridge without ports stands in for a network card: not every kernel has the device `dummy`.
        &["link", "add", "br0", "type", "bridge"],
        &["address", "add", &node, "dev", "br0"],
        &["link", "set", "br0", "up"],
        // kube-proxy's rules replace the destination, but first there must be a way to it.
        &["route", "add", SERVICES, "dev", "br0"],
        &["route", "add", LOAD_BALANCERS, "dev", "br0"],
        &["route", "add", "local", GATEWAY_POOL, "dev", "lo"],
    ];
    for command in commands {
        succeed(Command::new("ip").args(command))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot switch on forwarding between pods")
}

fn keys(cluster: &Cluster, arguments: &Arguments) -> Result<()> {
    let folder = Path::new(ROOT).join("keys");
    let server = format!("https://{API_SERVER}");
    succeed(Command::new(arguments.rig.join("certificates")).arg(&folder).arg(server))?;
    fs::copy(folder.join("admin.kubeconfig"), cluster.kubeconfig()).context("cannot write the kubeconfig")?;
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}

/// A process and how it is.
#[derive(Debug)]
struct Slot {
    process: &'static Process,
    state: SlotState,
    /// How often it was started.
    starts: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum SlotState {
    Running(Pid),
    /// Not before this time.
    Resting(Instant),
}

impl Slot {
    fn new(process: &'static Process) -> Self {
        Self { process, state: SlotState::Resting(Instant::now()), starts: 0 }
    }

    /// Do what is due.
    fn advance(&mut self, cluster: &Cluster) -> Result<()> {
        let is_wanted = !cluster.stopped().join(self.process.name).exists();
        match self.state {
            // As if it had crashed: that is what stopping is for.
            SlotState::Running(pid) if !is_wanted => {
                let _ = kill_process(pid, Signal::KILL); // An error means that it is gone: it will be reaped.
            }
            SlotState::Resting(until) if is_wanted && Instant::now() >= until => {
                if self.process.after.iter().all(super::processes::Answer::is_there) {
                    self.start(cluster)?;
                }
            }
            SlotState::Running(_) | SlotState::Resting(_) => {}
        }
        Ok(())
    }

    fn start(&mut self, cluster: &Cluster) -> Result<()> {
        let name = self.process.name;
        let path = cluster.logs().join(format!("{name}.log"));
        let log = File::options().append(true).create(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        let programs = Path::new(ROOT).join(self.process.folder);
        let mut command = Command::new(programs.join(name));
        command.args(self.process.flags);
        if name == "kubelet" {
            command.arg(format!("--cgroup-root=/{}", cluster.control_group()));
        }
        // containerd looks for its shim and for runc, kube-proxy for iptables.
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
        command.env("PATH", path).current_dir("/").process_group(0);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {name}"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        self.state = SlotState::Running(pid);
        self.starts += 1;
        Ok(())
    }

    /// One line of the file `processes`.
    fn describe(&self) -> String {
        let name = self.process.name;
        match self.state {
            SlotState::Running(pid) => format!("{name} running {} {}\n", pid.as_raw_nonzero(), self.starts),
            SlotState::Resting(_) => format!("{name} waiting - {}\n", self.starts),
        }
    }
}

/// Take leave of every process that has ended: of those in slots, and of orphans, whose parent is process 1.
fn reap(slots: &mut [Slot]) {
    while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
        if let Some(slot) = slots.iter_mut().find(|slot| slot.state == SlotState::Running(pid)) {
            slot.state = SlotState::Resting(Instant::now() + REST);
        }
    }
}
