//! `cargo xtask scale`: thousands of routes on a real API server, and what the gateway makes of them; among them a BackendTLSPolicy that goes, comes back
//! and is replaced under load.
//!
//! ```text
//! outside  build the gateway ─► enter the cluster ─► the same command again
//! inside   kubectl proxy ◄── Gateways, HTTPRoutes, changes        gateway ─► metrics, /proc        API server ─► audit log
//! ```
//!
//! Everything stands in a namespace of its own that is deleted in the end. Writes are counted by the API server, and beside it by the gateway. The figures
//! are printed beside their bars, and the command fails when one is missed. Of a build without optimisations nothing is asked that only one with
//! them can do.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::audit::AuditLog;
use self::http::Client;
use self::policy::Backend;
use self::report::{Report, Writes};
use self::world::World;
use crate::bench::{free_port, usage};
use crate::cluster;
use crate::process::{self, Running};
use crate::workspace::Workspace;

mod audit;
mod http;
mod policy;
mod report;
mod world;

/// Options of `cargo xtask scale`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Which of the clusters that run here
    #[arg(long, env = "PENSTOCK_CLUSTER", default_value = cluster::DEFAULT_NAME)]
    cluster: String,

    /// HTTPRoutes, each with a host of its own
    #[arg(long, default_value_t = 5000)]
    routes: usize,

    /// Gateways over which they are spread
    #[arg(long, default_value_t = 50)]
    gateways: usize,

    /// Changes of one route that are timed
    #[arg(long, default_value_t = 200)]
    changes: usize,

    /// Seconds for which nothing changes
    #[arg(long, default_value_t = 300)]
    rest: u64,

    /// Build the gateway without optimisations: quicker to build, and slower
    #[arg(long)]
    debug: bool,

    /// Measure this program, and build none; with --debug it is one without optimisations
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,

    /// The program is given, and this process is in the cluster; this command calls itself so
    #[arg(long, hide = true, requires_all = ["gateway", "example"])]
    inside: bool,

    /// Where a world with TLS is, for a backend; this command calls itself so
    #[arg(long, hide = true)]
    example: Option<PathBuf>,
}

/// How long the gateway may take to become ready, or to write what it has to.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often something is looked at that is waited for.
const PULSE: Duration = Duration::from_millis(100);

/// Nothing was written for so long: everything is. Longer than counts of routes wait.
const QUIET: Duration = Duration::from_secs(5);

/// Measure.
///
/// # Errors
/// When the gateway does not build, there is no cluster, something does not become as it should, or a bar is missed.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let gateway = match &arguments.gateway {
        Some(gateway) if arguments.inside => return measure(arguments, gateway),
        Some(gateway) => gateway.canonicalize().with_context(|| format!("no program {}", gateway.display()))?,
        None => workspace.build_gateway(!arguments.debug)?,
    };
    let mut command = cluster::enter(workspace, &arguments.cluster)?;
    command.arg(process::own_program()?).args(["scale", "--inside", "--gateway"]).arg(gateway);
    command.arg("--example").arg(workspace.root().join("examples/tls"));
    command.args(arguments.debug.then_some("--debug"));
    for (flag, number) in [
        ("--routes", arguments.routes),
        ("--gateways", arguments.gateways),
        ("--changes", arguments.changes),
        ("--rest", usize::try_from(arguments.rest)?),
    ] {
        command.args([flag, &number.to_string()]);
    }
    ensure!(command.status()?.success(), "a bar was missed, or nothing could be measured: see above");
    Ok(())
}

fn measure(arguments: &Arguments, program: &Path) -> Result<()> {
    let port = free_port()?;
    let proxy = process::start(Command::new("kubectl").args(["proxy", "--port", &port.to_string()]))?;
    let origin = process::start(Command::new(program).args(["echo", "--listen", "10.240.0.1:3000"]))?;
    let world = World::create((Ipv4Addr::LOCALHOST, port).into(), arguments.routes, arguments.gateways)?;
    let outcome = figures(arguments, program, &world);
    world.delete()?;
    origin.stop()?;
    proxy.stop()?;
    let report = outcome?;
    print!("{report}");
    let missed = report.missed();
    ensure!(missed.is_empty(), "missed: {}", missed.join(", "));
    Ok(())
}

fn figures(arguments: &Arguments, program: &Path, world: &World) -> Result<Report> {
    let mut report = Report::new(arguments.routes, arguments.gateways, !arguments.debug);
    let gateway = Gateway::start(program)?;
    let recorder = gateway.recorder()?;
    let began = Instant::now();
    eprintln!("  creating {} routes", arguments.routes);
    world.create_routes()?;
    report.created = began.elapsed();
    report.creation_writes = gateway.settled(recorder, arguments.routes)?;
    report.programmed = began.elapsed().saturating_sub(QUIET);
    report.creation_cpu = usage::cpu(gateway.id());
    world.ensure_programmed()?;

    eprintln!("  deleting, creating and replacing a BackendTLSPolicy");
    let backend = Backend::start(program, &arguments.example_of_tls()?)?;
    let policy = world.time_policy(&backend);
    backend.stop()?;
    report.policy = policy?;

    eprintln!("  changing one route {} times", arguments.changes);
    let recorder = gateway.recorder()?;
    report.changes = (0..arguments.changes).map(|number| world.time_change(number)).collect::<Result<_>>()?;
    gateway.settled(recorder, 0)?;

    eprintln!("  resting for {} s", arguments.rest);
    let (recorder, cpu, began) = (gateway.recorder()?, usage::cpu(gateway.id()), Instant::now());
    process::pause(Duration::from_secs(arguments.rest));
    ensure!(!process::interrupted(), "stopped");
    report.rest = began.elapsed();
    report.rest_writes = gateway.written(recorder)?;
    report.rest_cpu = (usage::cpu(gateway.id()) - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    report.resident = usage::resident(gateway.id());
    gateway.stop()?;

    eprintln!("  starting anew");
    let audit = AuditLog::from_now_on()?;
    let gateway = Gateway::start(program)?;
    (report.restart_read, report.restart) = (gateway.read, gateway.ready);
    process::pause(4 * QUIET);
    report.restart_writes = gateway.written(Recorder { audit, counted: 0 })?;
    report.restart_resident = usage::resident(gateway.id());
    gateway.stop()?;
    Ok(report)
}

impl Arguments {
    /// The world of the backend that speaks TLS.
    fn example_of_tls(&self) -> Result<PathBuf> {
        self.example.clone().context("this command calls itself with --example")
    }
}

/// Counts what is written from some moment on.
struct Recorder {
    audit: AuditLog,
    /// By the gateway's own counter, until that moment.
    counted: usize,
}

/// The gateway as a process.
struct Gateway {
    process: Running,
    admin: SocketAddr,
    /// From its beginning until it had read the whole cluster, and until it was ready.
    read: Duration,
    ready: Duration,
}

impl Gateway {
    /// Start it, and wait until it is ready.
    fn start(program: &Path) -> Result<Self> {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let kubeconfig = std::env::var("KUBECONFIG").context("inside the cluster KUBECONFIG is set")?;
        let mut command = Command::new(program);
        command.args(["run", "--kubeconfig", &kubeconfig, "--admin", &admin.to_string()]);
        command.args(["--address-pool", "10.250.0.0/16", "--lease-namespace", "default"]).env("RUST_LOG", "warn");
        let began = Instant::now();
        let process = process::start(&mut command)?;
        let mut gateway = Self { process, admin, read: Duration::ZERO, ready: Duration::ZERO };
        loop {
            let answer = gateway.ask("/readyz").ok();
            if answer.as_ref().is_some_and(|answer| answer.status == 200) {
                gateway.ready = began.elapsed();
                return Ok(gateway);
            }
            // Until it answers, and for as long as it says so, it reads.
            if answer.is_none_or(|answer| ["starting", "reading"].iter().any(|what| answer.text().contains(what))) {
                gateway.read = began.elapsed();
            }
            if let Some(status) = gateway.process.exited()? {
                anyhow::bail!("the gateway ended with {status}: its log is above");
            }
            ensure!(began.elapsed() < PATIENCE && !process::interrupted(), "the gateway does not become ready");
            std::thread::sleep(PULSE / 10);
        }
    }

    fn id(&self) -> u32 {
        self.process.id()
    }

    fn ask(&self, path: &str) -> Result<http::Answer> {
        Client::connect(self.admin, "admin")?.get(path)
    }

    /// Statuses written since it started, as it counts them itself.
    fn counted(&self) -> Result<usize> {
        let metrics = self.ask("/metrics")?.text();
        let lines = metrics.lines().filter(|line| line.starts_with("penstock_status_writes_total{"));
        lines
            .map(|line| line.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok()).context("a counter"))
            .sum()
    }

    /// Begin to count.
    fn recorder(&self) -> Result<Recorder> {
        Ok(Recorder { audit: AuditLog::from_now_on()?, counted: self.counted()? })
    }

    /// What was written meanwhile.
    fn written(&self, mut recorder: Recorder) -> Result<Writes> {
        Ok(Writes { audited: recorder.audit.writes()?.to_vec(), counted: self.counted()? - recorder.counted })
    }

    /// Wait until so much has been written and no more follows. Answers what.
    fn settled(&self, mut recorder: Recorder, least: usize) -> Result<Writes> {
        let began = Instant::now();
        let (mut known, mut since) = (0, Instant::now());
        while known < least || since.elapsed() < QUIET {
            ensure!(
                began.elapsed() < PATIENCE && !process::interrupted(),
                "{known} statuses written, {least} expected"
            );
            std::thread::sleep(PULSE);
            let now = recorder.audit.writes()?.len();
            if now != known {
                (known, since) = (now, Instant::now());
            }
        }
        self.written(recorder)
    }

    fn stop(self) -> Result<()> {
        self.process.stop().map(drop)
    }
}
