//! `cargo xtask scale`: thousands of routes on a real API server, and what the gateway makes of them.
//!
//! ```text
//! outside  build the gateway ─► enter the cluster ─► the same command again
//! inside   kubectl proxy ◄── Gateways, HTTPRoutes, changes        gateway ─► metrics, /proc
//! ```
//!
//! Everything stands in a namespace of its own that is deleted in the end. The figures are printed beside their bars; a build without
//! optimisations misses some of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::http::Client;
use self::report::Report;
use self::world::World;
use crate::bench::{free_port, usage};
use crate::cluster;
use crate::process::{self, Running};
use crate::workspace::Workspace;

mod http;
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
    #[arg(long, default_value_t = 60)]
    rest: u64,

    /// Build the gateway without optimisations: quicker to build, and slower
    #[arg(long)]
    debug: bool,

    /// The gateway, from inside the cluster; this command calls itself so
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
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
/// When the gateway does not build, there is no cluster, or something does not become as it should.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if let Some(gateway) = &arguments.inside {
        return measure(arguments, gateway);
    }
    let gateway = workspace.build_gateway(!arguments.debug)?;
    let mut command = cluster::enter(workspace, &arguments.cluster)?;
    command.arg(process::own_program()?).arg("scale").arg("--inside").arg(gateway);
    for (flag, number) in [
        ("--routes", arguments.routes),
        ("--gateways", arguments.gateways),
        ("--changes", arguments.changes),
        ("--rest", usize::try_from(arguments.rest)?),
    ] {
        command.args([flag, &number.to_string()]);
    }
    ensure!(command.status()?.success(), "the measurement failed: its message is above");
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
    print!("{}", outcome?);
    Ok(())
}

fn figures(arguments: &Arguments, program: &Path, world: &World) -> Result<Report> {
    let mut report = Report::new(arguments.routes, arguments.gateways);
    let (gateway, _) = Gateway::start(program)?;
    let before = gateway.writes()?;
    let began = Instant::now();
    eprintln!("  creating {} routes", arguments.routes);
    world.create_routes()?;
    report.created = began.elapsed();
    report.creation_writes = gateway.settled(before + arguments.routes)? - before;
    report.programmed = began.elapsed().saturating_sub(QUIET);
    report.creation_cpu = usage::cpu(gateway.id());
    world.ensure_programmed()?;

    eprintln!("  changing one route {} times", arguments.changes);
    report.changes = (0..arguments.changes).map(|number| world.time_change(number)).collect::<Result<_>>()?;
    gateway.settled(0)?;

    eprintln!("  resting for {} s", arguments.rest);
    let (writes, cpu, began) = (gateway.writes()?, usage::cpu(gateway.id()), Instant::now());
    process::pause(Duration::from_secs(arguments.rest));
    report.rest_writes = gateway.writes()? - writes;
    report.rest_cpu = (usage::cpu(gateway.id()) - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    report.resident = usage::resident(gateway.id());
    gateway.stop()?;

    eprintln!("  starting anew");
    let (gateway, ready) = Gateway::start(program)?;
    report.restart = ready;
    process::pause(4 * QUIET);
    report.restart_writes = gateway.writes()?;
    report.restart_resident = usage::resident(gateway.id());
    gateway.stop()?;
    Ok(report)
}

/// The gateway as a process.
struct Gateway {
    process: Running,
    admin: SocketAddr,
}

impl Gateway {
    /// Start it, and say how long it took to be ready.
    fn start(program: &Path) -> Result<(Self, Duration)> {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let kubeconfig = std::env::var("KUBECONFIG").context("inside the cluster KUBECONFIG is set")?;
        let mut command = Command::new(program);
        command.args(["run", "--kubeconfig", &kubeconfig, "--admin", &admin.to_string()]);
        command.args(["--address-pool", "10.250.0.0/16", "--lease-namespace", "default"]).env("RUST_LOG", "warn");
        let began = Instant::now();
        let mut gateway = Self { process: process::start(&mut command)?, admin };
        while !gateway.ask("/readyz").is_ok_and(|answer| answer.status == 200) {
            if let Some(status) = gateway.process.exited()? {
                anyhow::bail!("the gateway ended with {status}: its log is above");
            }
            ensure!(began.elapsed() < PATIENCE && !process::interrupted(), "the gateway does not become ready");
            std::thread::sleep(PULSE / 10);
        }
        Ok((gateway, began.elapsed()))
    }

    fn id(&self) -> u32 {
        self.process.id()
    }

    fn ask(&self, path: &str) -> Result<http::Answer> {
        Client::connect(self.admin, "admin")?.get(path)
    }

    /// Statuses written since it started.
    fn writes(&self) -> Result<usize> {
        let metrics = self.ask("/metrics")?.text();
        let lines = metrics.lines().filter(|line| line.starts_with("penstock_status_writes_total{"));
        lines
            .map(|line| line.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok()).context("a counter"))
            .sum()
    }

    /// Wait until so many have been written and no more follow. Answers how many.
    fn settled(&self, least: usize) -> Result<usize> {
        let began = Instant::now();
        let (mut known, mut since) = (self.writes()?, Instant::now());
        while known < least || since.elapsed() < QUIET {
            ensure!(
                began.elapsed() < PATIENCE && !process::interrupted(),
                "{known} statuses written, {least} expected"
            );
            std::thread::sleep(PULSE);
            let now = self.writes()?;
            if now != known {
                (known, since) = (now, Instant::now());
            }
        }
        Ok(known)
    }

    fn stop(self) -> Result<()> {
        self.process.stop().map(drop)
    }
}
