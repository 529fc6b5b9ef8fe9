//! `cargo xtask bench`: what a request costs, beside other proxies on the same machine in the same run.
//!
//! ```text
//! core 1: wrk or h2load ──►  core 0: one proxy at a time  ──►  core 1: nginx, 1 KiB of text
//! ```
//!
//! The figure to quote is CPU microseconds per request of the proxy's whole process tree: it holds where requests per second
//! depend on who else uses the machine. Rounds interleave the proxies, and the table shows medians.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::process;
use crate::workspace::Workspace;

mod load;
mod proxy;
mod server;
mod table;
pub(crate) mod usage;

use load::Load;
use proxy::{Edits, Launch};
use server::Server;
pub(crate) use server::free_port;
use table::{Row, Table};

/// Options of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// What to measure; may be given several times (all)
    #[arg(long, value_name = "SCENARIO")]
    scenario: Vec<Scenario>,

    /// The protocol of the client's side; may be given several times (both)
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Vec<Protocol>,

    /// Which proxies; may be given several times (all that are installed)
    #[arg(long, value_name = "PROXY")]
    proxy: Vec<Proxy>,

    /// Length of one measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,

    /// Measurements of each kind; their median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Connections of the load generator
    #[arg(long, default_value_t = 64)]
    connections: usize,

    /// Peers as they come: without the headers about the client that the gateway adds to every request
    #[arg(long)]
    bare: bool,

    /// Measure this binary, and build none
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,

    /// Print the medians as JSON
    #[arg(long)]
    json: bool,

    /// Run the criterion benches of the crates (one plugin call, matching among many routes) and nothing else
    #[arg(long)]
    criterion: bool,
}

/// What the proxy does with each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Pass it on
    Plain,
    /// Set a header in both directions and remove one, natively
    Native,
    /// The same by one plugin
    Plugin1,
    /// The same by three plugins
    Plugin3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// HTTP/1.1, by wrk
    H1,
    /// HTTP/2 with prior knowledge, by h2load
    H2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Proxy {
    /// No proxy: what origin and load generator can do
    Direct,
    Penstock,
    Nginx,
    Haproxy,
    Envoy,
}

/// The core of the proxy, and that of everything else.
const PROXY_CORE: &str = "0";
const OTHER_CORE: &str = "1";

/// Load before each measurement: connections are open, pools and caches warm.
const WARM_UP: Duration = Duration::from_secs(1);

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measurement {
    /// CPU time of the proxy's process tree for one request, in microseconds.
    cpu_per_request: f64,
    load: Load,
    /// Resident memory before any request, and after the measurement.
    rss_idle: usize,
    rss_loaded: usize,
}

/// Measure and print.
///
/// # Errors
/// When a tool is missing, a proxy does not start or does not do what it should, or the user stops it.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.criterion {
        return criterion(workspace);
    }
    for tool in ["taskset", "nginx", "wrk", "h2load"] {
        ensure!(find(tool).is_some(), "{tool} is missing: apt-get install util-linux nginx wrk nghttp2-client haproxy");
    }
    let cores = std::thread::available_parallelism()?;
    ensure!(cores.get() >= 2, "the proxy and its load need a core each; this machine shows {cores}");
    let bench = Bench::new(workspace, arguments)?;
    let table = bench.measure_all()?;
    if arguments.json {
        println!("{}", table.json());
    } else {
        print!("{table}");
    }
    Ok(())
}

/// All in one command: built alone, crates have other features, and their dependencies are compiled once more.
fn criterion(workspace: &Workspace) -> Result<()> {
    let targets = workspace.packages().iter().flat_map(|package| &package.targets);
    let mut cargo = workspace.cargo();
    cargo.args(["bench", "--workspace"]);
    for bench in targets.filter(|target| target.is_bench()) {
        cargo.args(["--bench", &bench.name]);
    }
    ensure!(cargo.status()?.success(), "the benches failed");
    Ok(())
}

/// Everything that stays the same during a run.
struct Bench<'a> {
    arguments: &'a Arguments,
    proxies: Vec<Proxy>,
    /// Configurations and logs.
    folder: PathBuf,
    gateway: PathBuf,
    plugin: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(workspace: &Workspace, arguments: &'a Arguments) -> Result<Self> {
        let folder = workspace.target().join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut proxies = arguments.proxy.clone();
        if proxies.is_empty() {
            proxies.extend(Proxy::value_variants().iter().filter(|proxy| proxy.is_installed()));
        }
        let wants_gateway = proxies.contains(&Proxy::Penstock);
        let gateway = match &arguments.gateway {
            Some(gateway) => gateway.clone(),
            None if wants_gateway => {
                eprintln!("Building the gateway with optimisations: this takes minutes.");
                workspace.build_gateway(true)?
            }
            None => PathBuf::new(),
        };
        let guests = if wants_gateway { crate::guests::build(workspace)? } else { Vec::new() };
        let plugin = guests.into_iter().find(|guest| guest.name == "header-rules").map(|guest| guest.component);
        Ok(Self { arguments, proxies, folder, gateway, plugin: plugin.unwrap_or_default() })
    }

    fn measure_all(&self) -> Result<Table> {
        let origin_port = free_port()?;
        let origin = Server::start(&proxy::origin(&self.folder, origin_port)?, OTHER_CORE, &self.folder)?;
        let mut table = Table::default();
        // What was measured before a failure is worth showing: a run takes minutes.
        self.measure_into(&mut table, origin_port).inspect_err(|_| eprint!("{table}"))?;
        origin.stop()?;
        Ok(table)
    }

    fn measure_into(&self, table: &mut Table, origin: u16) -> Result<()> {
        for round in 1..=self.arguments.rounds {
            for (protocol, scenario, proxy) in self.plan() {
                eprintln!("round {round}: {protocol:?} {scenario:?} {proxy:?}");
                let measurement = self
                    .measure(protocol, scenario, proxy, origin)
                    .with_context(|| format!("{proxy:?} (its log: {})", self.folder.display()))?;
                table.add(Row { protocol, scenario, proxy }, measurement);
                if process::interrupted() {
                    bail!("stopped");
                }
            }
        }
        Ok(())
    }

    fn plan(&self) -> Vec<(Protocol, Scenario, Proxy)> {
        let mut plan = Vec::new();
        for protocol in chosen(&self.arguments.protocol) {
            for scenario in chosen(&self.arguments.scenario) {
                let able = self.proxies.iter().filter(|proxy| proxy.can(protocol, scenario));
                plan.extend(able.map(|proxy| (protocol, scenario, *proxy)));
            }
        }
        plan
    }

    fn measure(&self, protocol: Protocol, scenario: Scenario, proxy: Proxy, origin: u16) -> Result<Measurement> {
        let load = |port, duration| load::run(protocol, port, self.arguments.connections, duration);
        let measured = Duration::from_secs(self.arguments.seconds);
        let Some(launch) = self.launch(protocol, scenario, proxy, origin)? else {
            load(origin, WARM_UP)?;
            let load = load(origin, measured)?;
            return Ok(Measurement { cpu_per_request: 0.0, load, rss_idle: 0, rss_loaded: 0 });
        };
        let server = Server::start(&launch, PROXY_CORE, &self.folder)?;
        if proxy.speaks_h1(protocol) {
            server.expect_headers(scenario.headers())?;
        }
        let rss_idle = usage::resident(server.id());
        load(launch.port, WARM_UP)?;
        let before = usage::cpu(server.id());
        let load = load(launch.port, measured)?;
        let spent = usage::cpu(server.id()).saturating_sub(before);
        let rss_loaded = usage::resident(server.id());
        server.stop()?;
        let cpu_per_request = spent.as_secs_f64() * 1e6 / load.requests.max(1) as f64;
        Ok(Measurement { cpu_per_request, load, rss_idle, rss_loaded })
    }

    fn launch(&self, protocol: Protocol, scenario: Scenario, proxy: Proxy, origin: u16) -> Result<Option<Launch>> {
        let port = free_port()?;
        let folder = &self.folder;
        let edits = Edits { forwarded: !self.arguments.bare, native: scenario == Scenario::Native };
        Ok(Some(match proxy {
            Proxy::Direct => return Ok(None),
            Proxy::Nginx => proxy::nginx(folder, port, origin, protocol, edits)?,
            Proxy::Haproxy => proxy::haproxy(folder, port, origin, protocol, edits)?,
            Proxy::Envoy => proxy::envoy(folder, port, origin, edits)?,
            Proxy::Penstock => proxy::penstock(folder, port, origin, scenario, &self.gateway, &self.plugin)?,
        }))
    }
}

impl Scenario {
    /// Response headers that prove that the proxy did its work.
    fn headers(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Native | Self::Plugin1 => &["x-bench-1"],
            Self::Plugin3 => &["x-bench-1", "x-bench-2", "x-bench-3"],
        }
    }

    fn plugins(self) -> usize {
        match self {
            Self::Plain | Self::Native => 0,
            Self::Plugin1 => 1,
            Self::Plugin3 => 3,
        }
    }
}

impl Proxy {
    fn is_installed(self) -> bool {
        match self {
            Self::Direct | Self::Penstock => true,
            Self::Nginx => find("nginx").is_some(),
            Self::Haproxy => find("haproxy").is_some(),
            Self::Envoy => proxy::envoy_binary().is_some(),
        }
    }

    /// Whether the port of this protocol can be asked over HTTP/1.1 too. The others have answered in their HTTP/1.1 turn.
    fn speaks_h1(self, protocol: Protocol) -> bool {
        protocol == Protocol::H1 || matches!(self, Self::Penstock | Self::Envoy)
    }

    fn can(self, protocol: Protocol, scenario: Scenario) -> bool {
        match self {
            Self::Penstock => true,
            // The origin speaks HTTP/1.1, and there is nothing to configure.
            Self::Direct => protocol == Protocol::H1 && scenario == Scenario::Plain,
            _ => scenario.plugins() == 0,
        }
    }
}

fn chosen<T: ValueEnum + Copy>(arguments: &[T]) -> Vec<T> {
    if arguments.is_empty() { T::value_variants().to_vec() } else { arguments.to_vec() }
}

/// A program on the path, or where Debian puts servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// A command that runs on one core only.
fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}
