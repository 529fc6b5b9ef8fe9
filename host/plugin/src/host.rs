//! The plugin host: what should run goes in, facts about what does run come out.
//!
//! ```text
//! apply(desired) ──► owner thread ──jobs──► examiners (own threads) ──results──► owner thread ──► Fact::Plugin
//!                         │  │ ▲                                                      ▲
//!                         │  ▼ └── keeper (own thread): the last good set on disk     │
//!                         │  ▲                                                        ▲
//!                         ▼  └── worker started, spare taken ──── workers             │
//!                    restocking threads (spare instances) ────────────────────────────┘ share the revisions
//! ```
//!
//! One thread owns all state of all plugins; the others do work for it and answer with messages. `apply` leaves the complete desired set
//! where the owner finds it, so it never waits, and of several sets only the latest counts.

mod authoring;
mod counts;
mod entry;
mod group;
mod jobs;
mod keeper;
mod owner;
mod recall;
mod restore;
mod retry;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::AtomicU64,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use penstock_core::{
    ResourceRef,
    fact::FactSink,
    plugin::{Hooks, PluginSpec, PolicyRuntime, RecordedRevision, Rejection},
};
use prometheus_client::registry::Registry;

pub use self::authoring::{Described, InstanceCost, Outline, PlanReport};
use self::{
    counts::{LifeCounts, StoreCounts},
    jobs::{Finished, Identity, Shared},
    keeper::{Keeper, Unkept},
    owner::{Owner, Parts},
    restore::{Restore, Restored},
};
use crate::{
    artifact::{ArtifactCache, StoreError},
    budget::Budget,
    capability,
    engine::{EngineError, TickingEngine},
    examine::OutOfProcess,
    fetch::{FetchMetrics, Fetcher, SourceAddresses},
    last_good::{Blobs, LastGood, OpenError},
    metrics::PluginMetrics,
    revision::{Loaded, RevisionTable},
    validator::{Validator, ValidatorSettings},
    worker::Runtime,
};

/// How the host is set up.
#[derive(Debug, Clone, Default)]
pub struct PluginSettings {
    /// Directory for compiled modules, private to the host. None: they are compiled anew at each start.
    pub cache: Option<PathBuf>,
    /// Directory for modules that were downloaded, private to the host. None: they are downloaded anew at each start.
    pub downloads: Option<PathBuf>,
    /// From which addresses modules are fetched.
    pub sources: SourceAddresses,
    /// Directory for the last good revision of each plugin, used by this host alone. None: after a restart every plugin begins anew.
    pub last_good: Option<PathBuf>,
    /// The process that validates candidates.
    pub validator: ValidatorSettings,
    /// Bytes that all plugins may have together: linear memory of their instances, and what their stores hold. None: as many as there are.
    pub memory: Option<u64>,
}

/// What should run, complete.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// These, as they say.
    pub plugins: Vec<Arc<PluginSpec>>,
    /// Whatever runs of these: their resources exist, and do not say now what to run.
    pub kept: Vec<ResourceRef>,
    /// What the cluster has on record of some of either, for where nothing better can serve.
    pub recorded: Vec<Arc<RecordedRevision>>,
}

impl From<Vec<Arc<PluginSpec>>> for Desired {
    fn from(plugins: Vec<Arc<PluginSpec>>) -> Self {
        Self { plugins, ..Self::default() }
    }
}

/// Why the host did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The cache directory cannot be used.
    #[error(transparent)]
    Cache(#[from] StoreError),
    /// The directory for downloads cannot be used.
    #[error("cannot fetch plugins, or keep them in {}", .directory.as_deref().unwrap_or(Path::new("memory")).display())]
    Fetcher {
        /// The directory, if there is one.
        directory: Option<PathBuf>,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory of last good revisions cannot be used.
    #[error(transparent)]
    LastGood(#[from] OpenError),
    /// A thread was refused.
    #[error("the threads of the plugin host cannot be started")]
    Thread(#[source] io::Error),
}

/// What a plugin is, found out without running it on traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validated {
    /// `sha256:…` of the module.
    pub digest: Arc<str>,
    /// From the manifest.
    pub name: Arc<str>,
    /// From the manifest.
    pub version: Arc<str>,
    /// From the manifest.
    pub description: Arc<str>,
    /// What the plan asks for with this configuration.
    pub hooks: Hooks,
    /// The whole plan.
    pub plan: PlanReport,
    /// The artifact in a registry that the module came from, by digest.
    pub artifact: Option<Arc<str>>,
}

/// What the owner thread is told.
pub(crate) enum Message {
    /// A desired set waits.
    Applied,
    /// A candidate's module is known, and is being examined.
    Validating { job: JobId, identity: Identity },
    /// A candidate was examined.
    Finished(Finished),
    /// What is on record of a plugin was.
    Recalled(Finished),
    /// A worker will need instances of its own.
    WorkerStarted,
    /// What is on disk of a plugin was restored, or not.
    Restored { job: JobId, restored: Restored },
    /// Restoring one could not be done now.
    RestoreAgain { job: JobId, at: Instant, restore: Restore },
    /// The revision with this number faulted more often than its probation accepts.
    TooManyFaults(u64),
    /// The last good set is on disk; or why a part of it is not.
    Kept(Option<Unkept>),
    /// A worker took a spare instance.
    Restock(Weak<Loaded>),
    /// The host is gone.
    Stop,
}

/// One attempt to make a revision of a spec. Results of older attempts are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JobId(u64);

/// Runs plugins. Dropping it ends its threads; revisions that snapshots hold go on serving.
pub struct PluginHost {
    desired: Arc<Mutex<Option<Desired>>>,
    owner: Sender<Message>,
    shared: Arc<Shared>,
    unloaded: Arc<AtomicU64>,
    /// The owner, then the keeper, which ends when the owner has.
    threads: Vec<JoinHandle<()>>,
}

impl PluginHost {
    /// Start the threads of the host. Facts are sent from one of them.
    ///
    /// # Errors
    /// When this machine cannot run WebAssembly, the cache directory cannot be used, or threads are refused.
    pub fn start(
        settings: PluginSettings,
        facts: Arc<dyn FactSink>,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let (owner, inbox) = mpsc::channel();
        let stores = capability::Registry::new(Budget::new(settings.memory));
        registry.register_collector(Box::new(stores.exporter()));
        let fetcher = start_fetcher(&settings, registry)?;
        let store = settings.last_good.as_deref().map(LastGood::open).transpose()?;
        let kept = store.iter().flat_map(LastGood::plugins).collect();
        let blobs = store.as_ref().map(|store| Arc::clone(store.blobs()));
        let metrics = PluginMetrics::register(registry);
        let shared = Arc::new(Shared::new(settings, fetcher, metrics, stores, blobs)?);
        let (desired, unloaded) = (Arc::new(Mutex::new(None)), Arc::clone(&shared.unloaded));
        let keeping = store.map(|store| Keeper::start(store, StoreCounts::register(registry), owner.clone()));
        let (keeper, writer) = keeping.transpose().map_err(StartError::Thread)?.unzip();
        let state = Owner::new(Parts {
            desired: Arc::clone(&desired),
            jobs: jobs::start(&shared, &owner).map_err(StartError::Thread)?,
            restock: jobs::start_restocking().map_err(StartError::Thread)?,
            counts: LifeCounts::register(registry),
            shared: Arc::clone(&shared),
            facts,
            keeper,
            kept,
        });
        let run = thread::Builder::new().name("plugin-host".into()).spawn(move || state.run(&inbox));
        let threads = [run.map_err(StartError::Thread)?].into_iter().chain(writer).collect();
        Ok(Self { desired, owner, shared, unloaded, threads })
    }

    /// This is what should run, and nothing else. Never waits; of several sets the latest counts. The first one ends what was kept of plugins
    /// that are not in it.
    pub fn apply(&self, desired: impl Into<Desired>) {
        let earlier = self.desired.lock().unwrap_or_else(PoisonError::into_inner).replace(desired.into());
        if earlier.is_none() {
            let _ = self.owner.send(Message::Applied);
        }
    }

    /// For the proxy.
    #[must_use]
    pub fn runtime(&self) -> Arc<dyn PolicyRuntime> {
        Arc::new(Runtime { host: self.owner.clone(), unloaded: Arc::clone(&self.unloaded) })
    }

    /// Put a plugin through everything that `apply` would, in the same processes with the same limits, without running it on traffic. Waits for
    /// them. What `check` and the tools of authors say comes from here, so they cannot disagree with the gateway.
    ///
    /// # Errors
    /// The very rejection that would become the status of the resource.
    pub fn validate(&self, spec: &PluginSpec) -> Result<Validated, Rejection> {
        self.shared.validate(spec)
    }
}

/// Waits until the last good set is written and its directory free for others.
impl Drop for PluginHost {
    fn drop(&mut self) {
        let _ = self.owner.send(Message::Stop);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(
        settings: PluginSettings,
        fetcher: Fetcher,
        metrics: Arc<PluginMetrics>,
        stores: capability::Registry,
        blobs: Option<Arc<Blobs>>,
    ) -> Result<Self, StartError> {
        let PluginSettings { cache, validator, memory: _, downloads: _, sources: _, last_good: _ } = settings;
        let engine = TickingEngine::start()?;
        let artifacts = ArtifactCache::open(engine.engine().clone(), cache.as_deref(), Arc::clone(&metrics))?;
        let validator = Validator::new(validator);
        Ok(Self {
            examiner: Box::new(OutOfProcess { engine, artifacts, validator, metrics: Arc::clone(&metrics) }),
            fetcher,
            metrics,
            revisions: Mutex::new(RevisionTable::default()),
            stores,
            blobs,
            unloaded: Arc::default(),
            workers: Default::default(),
        })
    }
}

fn start_fetcher(settings: &PluginSettings, registry: &mut Registry) -> Result<Fetcher, StartError> {
    let directory = settings.downloads.clone();
    Fetcher::start(directory.as_deref(), settings.sources.clone(), FetchMetrics::register(registry))
        .map_err(|source| StartError::Fetcher { directory, source })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// For threads that run code of plugins, or copy their modules: traffic goes first.
fn spawn_nice(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawn(name, || {
        // Of the thread alone, on Linux. Without it everything works as well.
        let _ = rustix::process::nice(NICENESS);
        run();
    })
}

/// Enough to give way, little enough to get on beside a busy machine.
const NICENESS: i32 = 5;
