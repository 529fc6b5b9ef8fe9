//! A cluster as a whole: where resources come from, and where statuses go.
//!
//! Everything about it runs on one thread of its own, with its own runtime: however busy it is, no request waits for it.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, mpsc::sync_channel},
    thread,
};

use kube::Client;
use penstock_core::ResourceRef;
use penstock_translate::{Statuses, Upkeep};
use tokio::sync::{mpsc, watch};

use crate::{
    controller::Reserve,
    event::SourceId,
    events::Reporter,
    inbox::Inbox,
    lease::Candidate,
    metrics::ClusterMetrics,
    sources::cluster::{
        self, ClusterAccess, ConnectFailed, Context, LiveObjects, Namespaces, References, Source, Wanted,
        WatchedNamespaces,
    },
    status::Clock,
    upkeep::Keeper,
    writer::{Desired, Sources, Writer},
};

/// What an installation decides about its cluster.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// How to reach it.
    pub access: ClusterAccess,
    /// Entries with this name are ours.
    pub controller_name: Arc<str>,
    /// What is in other namespaces does not exist; all of them if not given.
    pub namespaces: Option<WatchedNamespaces>,
    /// Under which name statuses are written, another one for each installation: of some statuses nothing else tells whose they are.
    pub manager: Arc<str>,
    /// By which labels the records of this installation are found: [`penstock_translate::record_selector`].
    pub records: Arc<str>,
    /// The Lease by which instances agree who writes: namespace and name. The namespace of the credentials if not given.
    pub lease: (Option<String>, String),
    /// Names this instance in the Lease; no other one may have the same.
    pub identity: String,
    /// Status writes a second at most, if there is a limit.
    pub status_writes: Option<NonZeroU32>,
    /// Tells the time.
    pub clock: Clock,
}

/// A cluster that is followed, as the controller sees it.
#[derive(Debug)]
pub struct Cluster {
    wanted: Wanted,
    desired: watch::Sender<Option<Desired>>,
    upkeep: watch::Sender<Arc<Upkeep>>,
    end: watch::Sender<bool>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Cluster {
    /// The name of the source in logs and in `/readyz`.
    pub fn id() -> SourceId {
        cluster::id()
    }

    /// Follow a cluster. What is found goes to `inbox`.
    ///
    /// # Errors
    /// When the configuration cannot lead to any cluster. A cluster that does not answer is no error: it is waited for.
    pub fn start(settings: ClusterSettings, inbox: Inbox, metrics: ClusterMetrics) -> Result<Self, ConnectFailed> {
        let (wanted, references) = References::new();
        let (desired, desired_receiver) = watch::channel(None);
        let (upkeep, upkeep_receiver) = watch::channel(Arc::default());
        let (end, ending) = watch::channel(false);
        let (report, connected) = sync_channel(1);
        let thread = thread::Builder::new().name("cluster".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(ConnectFailed::Thread(error)))),
            };
            runtime.block_on(async move {
                let client = match cluster::connect(&settings.access).await {
                    Ok(client) => client,
                    Err(error) => return drop(report.send(Err(error))),
                };
                let _ = report.send(Ok(()));
                let outgoing = Outgoing { desired: desired_receiver, upkeep: upkeep_receiver };
                follow(client, settings, inbox, metrics, references, outgoing, ending).await;
            });
        });
        let thread = thread.map_err(ConnectFailed::Thread)?;
        // A thread that ended without a word has panicked, which the log says.
        connected.recv().unwrap_or(Ok(()))?;
        Ok(Self { wanted, desired, upkeep, end, thread: Mutex::new(Some(thread)) })
    }

    /// Ask for these objects and no others. What has become of them is told by [`Event::Answered`](crate::Event::Answered).
    pub fn ask(&self, objects: &Arc<BTreeSet<ResourceRef>>) {
        self.wanted.ask(objects);
    }

    /// What should be said: complete, in place of what was given before.
    pub fn write(&self, statuses: &Arc<Statuses>, reserve: &Reserve) {
        let desired = Desired { statuses: Arc::clone(statuses), reserve: reserve.clone() };
        self.desired.send_replace(Some(desired));
    }

    /// What is to be done for Gateways and plugins: complete, in place of what was given before.
    pub fn keep_up(&self, upkeep: &Arc<Upkeep>) {
        self.upkeep.send_if_modified(|before| {
            let changed = !Arc::ptr_eq(before, upkeep);
            before.clone_from(upkeep);
            changed
        });
    }

    /// Write and follow no more, and give the Lease back, so that another instance writes at once. Blocks for as long as the API server takes.
    pub fn end(&self) {
        self.end.send_replace(true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Only a panic makes it fail, and the log has it.
            let _ = thread.join();
        }
    }
}

/// What the controller says, on its way to the cluster.
struct Outgoing {
    desired: watch::Receiver<Option<Desired>>,
    upkeep: watch::Receiver<Arc<Upkeep>>,
}

async fn follow(
    client: Client,
    settings: ClusterSettings,
    inbox: Inbox,
    metrics: ClusterMetrics,
    references: References,
    outgoing: Outgoing,
    ending: watch::Receiver<bool>,
) {
    let (touched, touches) = mpsc::unbounded_channel();
    let (leading, leads) = watch::channel(false);
    let (contested, contests) = mpsc::unbounded_channel();
    let live = Arc::<LiveObjects>::default();
    let namespaces = Namespaces::new(settings.namespaces);
    let context = Context {
        client: client.clone(),
        inbox,
        live: Arc::clone(&live),
        touched,
        metrics: metrics.clone(),
        records: settings.records,
        namespaces: namespaces.clone(),
        manager: Arc::clone(&settings.manager),
    };
    let (namespace, name) = settings.lease;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let writer = Writer {
        client: client.clone(),
        live: Arc::clone(&live),
        namespaces,
        manager: settings.manager,
        controller: Arc::clone(&settings.controller_name),
        clock: settings.clock,
        metrics: metrics.clone(),
        per_second: settings.status_writes,
        contested,
    };
    let reporter = Reporter {
        client: client.clone(),
        live,
        controller: settings.controller_name,
        identity: settings.identity.clone(),
        clock: settings.clock,
        metrics: metrics.clone(),
    };
    let candidate =
        Candidate::new(client.clone(), (namespace, name), settings.identity, settings.clock, leading, metrics.clone());
    let keeper = Keeper { client, metrics };
    let keeper = tokio::spawn(keeper.run(outgoing.upkeep, leads.clone()));
    let desired = outgoing.desired;
    let reporter = tokio::spawn(reporter.run(desired.clone(), leads.clone(), contests));
    let source = tokio::spawn(Source::run(context, references));
    let writer = tokio::spawn(writer.run(Sources { desired, touched: touches, leading: leads }));
    // Ends when it is time to end, after the lease was given back.
    candidate.run(ending).await;
    source.abort();
    writer.abort();
    keeper.abort();
    reporter.abort();
}
