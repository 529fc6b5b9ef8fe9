//! `penstock run`: put the parts together and wait for signals.
//!
//! ```text
//! files or cluster ──► inbox ──► controller ──► outputs ──┬──► proxy (workers)
//!            ▲            └──► status board    ├──► plugin host
//!            │                                 └──► statuses in the cluster
//!            └───────────── facts ◄────────────────────┘
//! admin server: reads board, snapshot, metrics
//! ```

mod limits;
mod sources;

use std::{
    num::{NonZeroU8, NonZeroUsize},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use penstock_controller::{Cluster, Controller, ControllerMetrics, Event, Inbox, StatusBoard};
use penstock_core::{
    client_address::{ForwardingHeader, Network, Trusted, TrustedProxies},
    fact::FactSink,
};
use penstock_plugin_host::{PluginHost, PluginSettings};
use penstock_proxy::{AccessLog, Proxy, ProxySettings};
use prometheus_client::{metrics::info::Info, registry::Registry};

use self::{
    limits::TrafficLimits,
    sources::{Running, Sources},
};
use crate::{
    admin::{AdminServer, AdminView},
    descriptors, logging, machine,
    outputs::GatewayOutputs,
    signals::{Request, Signals},
};

/// Serve traffic as resource files or a cluster say, and follow their changes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Files are watched: a change takes effect at once, and loses no request. A document that is broken
harms no other one: its last good version stays in effect, and `penstock status` says what is wrong.

Signals:
  SIGHUP             read all files again
  SIGTERM, SIGINT    finish what is in flight, then end; a second one ends at once

Examples:
  penstock run -f examples/quickstart
  penstock run -f gateway.yaml -f routes/ --workers 2 --access-log json
  penstock run --kubeconfig ~/.kube/config --address-pool 10.0.0.0/24")]
pub(crate) struct Args {
    #[command(flatten)]
    sources: Sources,

    #[command(flatten)]
    admin: super::Admin,

    /// Worker threads; one for each core unless said otherwise
    #[arg(long, value_name = "NUMBER")]
    workers: Option<NonZeroUsize>,

    /// Directory of this gateway alone: compiled plugins, and the last good revision of each, with which the next start serves at once
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,

    /// Memory that all plugins may have together, in MiB, with what their stores hold; a namespace may have half of what others leave, and a
    /// plugin half of that. Unless said otherwise it is half of what the machine or the container has
    #[arg(long, value_name = "MIB")]
    plugin_memory: Option<u32>,

    /// How long a start waits for plugins that are being fetched or validated when everything else is ready; after it their failurePolicy
    /// answers until they are there
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    plugin_wait: Duration,

    /// One line for each request on standard output
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    access_log: AccessLogFormat,

    /// With each of these lines, which headers each plugin changed, by name: an audit of plugins
    #[arg(long, requires = "access_log")]
    access_log_edits: bool,

    /// A network of proxies whose X-Forwarded-* headers are believed, such as 10.0.0.0/8; repeat it for several
    #[arg(long, value_name = "NETWORK", conflicts_with = "trusted_hops")]
    trusted_proxy: Vec<Network>,

    /// How many proxies stand in front, whatever their addresses; their X-Forwarded-* headers are believed
    #[arg(long, value_name = "NUMBER")]
    trusted_hops: Option<NonZeroU8>,

    /// Where proxies in front write the addresses of clients. `forwarded` is told to endpoints too, beside X-Forwarded-*
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    forwarding_header: ForwardingHeaderName,

    /// How long to go on as before when the end is asked for, except that /readyz says no: whoever sends traffic here needs time to notice
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    drain_delay: Duration,

    /// How long requests in flight may take to finish at the end
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    drain_timeout: Duration,

    #[command(flatten)]
    limits: TrafficLimits,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum AccessLogFormat {
    #[default]
    Off,
    Json,
    Text,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum ForwardingHeaderName {
    #[default]
    XForwardedFor,
    Forwarded,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

impl Args {
    fn proxy_settings(&self) -> ProxySettings {
        let mut settings = ProxySettings {
            limits: self.limits.limits(),
            timeouts: self.limits.timeouts(),
            ..ProxySettings::default()
        };
        if let Some(workers) = self.workers {
            settings.workers = workers;
        }
        settings.access_log = match self.access_log {
            AccessLogFormat::Off => AccessLog::Off,
            AccessLogFormat::Json => AccessLog::Json,
            AccessLogFormat::Text => AccessLog::Text,
        };
        settings.access_log_edits = self.access_log_edits;
        let trusted = match self.trusted_hops {
            Some(hops) => Trusted::Hops(hops),
            None if self.trusted_proxy.is_empty() => Trusted::Nobody,
            None => Trusted::Networks(self.trusted_proxy.clone()),
        };
        let header = match self.forwarding_header {
            ForwardingHeaderName::XForwardedFor => ForwardingHeader::XForwardedFor,
            ForwardingHeaderName::Forwarded => ForwardingHeader::Forwarded,
        };
        settings.forwarding.trusted_proxies = TrustedProxies { trusted, header };
        settings
    }

    fn plugin_settings(&self) -> PluginSettings {
        let directory = |name| self.data_dir.as_ref().map(|directory| directory.join(name));
        let (cache, downloads, last_good) = (directory("modules"), directory("downloads"), directory("last-good"));
        let memory = self.plugin_memory.map(|mebibytes| u64::from(mebibytes) << 20).or_else(machine::half_of_memory);
        PluginSettings {
            cache,
            downloads,
            last_good,
            memory,
            sources: self.sources.addresses(),
            ..PluginSettings::default()
        }
    }
}

/// Serve until a signal ends it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.sources.check()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    runtime.block_on(async {
        // Before anything else: a signal that comes while the gateway starts must not be lost.
        let mut signals = Signals::listen().context("cannot listen to signals")?;
        let gateway = Gateway::start(args)?;
        gateway.serve(&mut signals).await;
        gateway.end(args, &mut signals).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// How often a socket whose address was taken is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Everything that runs. The controller's thread owns the world and the plugin host; it ends with the process.
struct Gateway {
    source: Running,
    inbox: Inbox,
    board: Arc<StatusBoard>,
    proxy: Arc<Proxy>,
}

impl Gateway {
    fn start(args: &Args) -> anyhow::Result<Self> {
        if let Err(error) = descriptors::raise() {
            tracing::warn!(%error, "the limit of open files cannot be raised; each connection needs one");
        }
        let admin = args.admin.admin;
        let server = AdminServer::bind(admin).with_context(|| format!("the admin server cannot listen on {admin}"))?;
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("penstock_build", "The version that runs", build);
        registry.register(
            "penstock_log_lines_dropped",
            "Lines of the log for which there was no room, because nobody read them",
            logging::dropped(),
        );
        let metrics = ControllerMetrics::new(&mut registry);
        let inbox = Inbox::new();
        let facts: Arc<dyn FactSink> = Arc::new(inbox.clone());
        let cluster = args.sources.cluster(&inbox, &mut registry)?;
        let plugins = PluginHost::start(args.plugin_settings(), Arc::clone(&facts), &mut registry)
            .context("the plugin host cannot start")?;
        let proxy = Proxy::start(args.proxy_settings(), plugins.runtime(), facts, &mut registry)
            .context("the proxy cannot start")?;
        let proxy = Arc::new(proxy);

        let board = Arc::new(StatusBoard::new(Timestamp::now).waiting_for_plugins(args.plugin_wait));
        let outputs = GatewayOutputs::new(Arc::clone(&proxy), plugins, cluster.clone());
        let (settings, sources) = (args.sources.settings(), [args.sources.id()]);
        let controller = Controller::new(settings, sources, outputs, Arc::clone(&board), metrics.clone());
        let events = inbox.clone();
        let owner = thread::Builder::new().name("controller".into());
        owner.spawn(move || controller.run(&events)).context("the controller cannot start")?;
        let source = args.sources.run(cluster, inbox.clone(), metrics)?;

        let address = server.address()?;
        let config = Arc::clone(&proxy);
        let snapshot = Box::new(move || config.snapshot());
        let view = AdminView { board: Arc::clone(&board), snapshot, metrics: registry };
        server.serve(view).context("the admin server cannot start")?;
        tracing::info!(admin = %address, version = env!("CARGO_PKG_VERSION"), "penstock started");
        Ok(Self { source, inbox, board, proxy })
    }

    /// Until a signal asks for the end.
    async fn serve(&self, signals: &mut Signals) {
        let mut retry = tokio::time::interval(RETRY);
        loop {
            tokio::select! {
                _ = retry.tick() => if self.board.has_failed_sockets() {
                    self.inbox.send([Event::Retry]);
                },
                request = signals.next() => match request {
                    Request::Reload => match &self.source {
                        Running::Files(files) => {
                            tracing::info!("SIGHUP: reading all files");
                            files.reload();
                        }
                        Running::Cluster(_) => tracing::info!("SIGHUP: a cluster is followed; there is nothing to read again"),
                    },
                    Request::End => return,
                },
            }
        }
    }

    /// Wait until nothing new comes, and finish what is in flight; at once if asked a second time.
    async fn end(self, args: &Args, signals: &mut Signals) {
        let (delay, timeout) = (args.drain_delay, args.drain_timeout);
        tracing::info!(delay_seconds = delay.as_secs(), timeout_seconds = timeout.as_secs(), "draining");
        self.board.drain();
        let resigned = match self.source {
            Running::Cluster(cluster) => Some(tokio::task::spawn_blocking(move || Cluster::end(&cluster))),
            Running::Files(_) => None,
        };
        let drained = async {
            tokio::time::sleep(delay).await;
            self.proxy.drain(timeout).await
        };
        tokio::select! {
            report = drained => {
                tracing::info!(finished = report.finished, cut = report.cut, "drained");
            }
            () = signals.end() => tracing::warn!("ending at once: requests in flight are cut"),
        }
        if let Some(resigned) = resigned {
            let _ = resigned.await; // a panic in it is in the log
        }
    }
}
