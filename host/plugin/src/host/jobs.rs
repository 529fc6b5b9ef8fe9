//! Threads that do what takes time: examining candidates, and keeping instances spare.

mod queue;

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
    time::Instant,
};

use penstock_core::plugin::{PluginSpec, Rejection, Sha256};

use self::queue::Queue;
use super::{
    JobId, Message, PlanReport, Validated,
    restore::{Attempt, Restore, Restored},
    spawn_nice,
};
use crate::{
    capability::{Nanos, Registry},
    examine::{Errand, Examine, Examined},
    fetch::{Fetch, FetchError, Fetcher, Resolve},
    last_good::{Blobs, Keepable},
    metrics::PluginMetrics,
    module::{Digest, Module, is_local},
    reason::{self, Step, faulted, rejection},
    revision::{Loaded, RevisionKey, RevisionTable},
    validator::PROCESSES,
};

/// Candidates that are examined at the same time, one for each process that validates. One of them is free for whoever is not the namespace
/// with most.
const EXAMINERS: usize = PROCESSES;

/// What the threads of the host share.
pub(super) struct Shared {
    pub(super) examiner: Box<dyn Examine>,
    pub(super) fetcher: Fetcher,
    pub(super) metrics: Arc<PluginMetrics>,
    pub(super) revisions: Mutex<RevisionTable>,
    /// Outlives the revisions.
    pub(super) stores: Registry,
    /// Where last good revisions are; none if nothing is kept on disk.
    pub(super) blobs: Option<Arc<Blobs>>,
    pub(super) unloaded: Arc<AtomicU64>,
    /// How many workers were started.
    pub(super) workers: AtomicUsize,
}

/// Something to do for one plugin.
struct Job {
    id: JobId,
    task: Task,
    /// The latest job for this plugin: this one is skipped if it was superseded while it waited.
    latest: Arc<AtomicU64>,
}

/// Which module a candidate is of.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// `sha256:…` of its bytes.
    pub(super) digest: Arc<str>,
    /// The artifact in a registry that it came from, by digest.
    pub(super) artifact: Option<Arc<str>>,
}

/// What to do.
pub(super) enum Task {
    /// Make a revision of what is wanted.
    Examine(Examination),
    /// Make one of what is on disk.
    Restore(Restore),
}

/// What an examination is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run what is wanted.
    Candidate,
    /// To run what is on record, if its module is still the one with this digest.
    Recall(Sha256),
}

/// One candidate to examine.
pub(super) struct Examination {
    pub(super) spec: Arc<PluginSpec>,
    /// What was fetched; none yet, or never for a source that is read where it is examined.
    pub(super) module: Option<Result<Module, FetchError>>,
    pub(super) resolve: Resolve,
    pub(super) purpose: Purpose,
}

/// What became of a candidate.
pub(crate) struct Finished {
    pub(super) job: JobId,
    /// Once the bytes are known.
    pub(super) identity: Option<Identity>,
    pub(super) result: Result<Arc<Loaded>, Refused>,
}

/// A candidate that was refused.
pub(super) struct Refused {
    pub(super) rejection: Rejection,
    /// The same spec may pass later.
    pub(super) retry: bool,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { retry: reason::is_passing(rejection.reason), rejection }
    }
}

impl From<FetchError> for Refused {
    fn from(error: FetchError) -> Self {
        Self { rejection: rejection(error.reason(), error.to_string()), retry: error.may_pass_later() }
    }
}

/// Where candidates go.
pub(super) struct Jobs {
    shared: Arc<Shared>,
    queue: Arc<Queue<Job>>,
    /// Zero is nobody's.
    last: u64,
}

impl Jobs {
    /// Fetch the module if need be, then do it. Of all jobs with this `latest` it is the one whose result counts from now on. Dropping what
    /// this answers ends a fetch that is still under way.
    pub(super) fn begin(&mut self, task: Task, latest: &Arc<AtomicU64>) -> Option<Fetch> {
        self.last += 1;
        let (id, latest, queue) = (JobId(self.last), Arc::clone(latest), Arc::clone(&self.queue));
        let namespace = task.namespace();
        latest.store(id.0, Ordering::Release);
        match task {
            Task::Examine(candidate) if !is_local(&candidate.spec.source) => {
                let (source, resolve) = (Arc::clone(&candidate.spec), candidate.resolve);
                Some(self.shared.fetcher.begin(source, resolve, move |module| {
                    let task = Task::Examine(Examination { module: Some(module), ..candidate });
                    queue.push(&namespace, Job { id, task, latest });
                }))
            }
            task => {
                queue.push(&namespace, Job { id, task, latest });
                None
            }
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Task {
    /// Whose plugin it is.
    fn namespace(&self) -> Arc<str> {
        match self {
            Self::Examine(candidate) => Arc::clone(&candidate.spec.plugin.namespace),
            Self::Restore(wanted) => Arc::clone(&wanted.plugin.namespace),
        }
    }
}

/// Start the threads that examine. They end when the jobs are dropped.
pub(super) fn start(shared: &Arc<Shared>, owner: &Sender<Message>) -> io::Result<Jobs> {
    let queue = Arc::new(Queue::<Job>::new(EXAMINERS - 1));
    for index in 0..EXAMINERS {
        let (shared, owner, queue) = (Arc::clone(shared), owner.clone(), Arc::clone(&queue));
        spawn_nice(&format!("plugin-examine-{index}"), move || {
            while let Some(mut turn) = queue.next() {
                let Some(job) = turn.item.take() else { continue };
                if job.latest.load(Ordering::Acquire) == job.id.0 && owner.send(run(&shared, &owner, job)).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(Jobs { shared: Arc::clone(shared), queue, last: 0 })
}

fn run(shared: &Shared, owner: &Sender<Message>, job: Job) -> Message {
    let Job { id, task, latest } = job;
    // Nobody else has it once the plugin is gone.
    let is_wanted = || latest.load(Ordering::Acquire) == id.0 && Arc::strong_count(&latest) > 1;
    match task {
        Task::Examine(candidate) => {
            examine(shared, owner, id, candidate, Errand { has_served: false, is_wanted: &is_wanted })
        }
        Task::Restore(wanted) => {
            let errand = Errand { has_served: true, is_wanted: &is_wanted };
            let plugin = wanted.plugin.clone();
            let attempt = shared.blobs.as_deref().map(|blobs| {
                catch_unwind(AssertUnwindSafe(|| shared.restore(blobs, wanted, errand))).unwrap_or_else(|_| {
                    tracing::error!(%plugin, "a defect of the gateway: restoring the plugin panicked");
                    Attempt::Done(Restored::failed("restoring it failed by a defect of the gateway; see its log"))
                })
            });
            match attempt.unwrap_or_else(|| Attempt::Done(Restored::default())) {
                Attempt::Done(restored) => Message::Restored { job: id, restored },
                Attempt::Again(pause, restore) => {
                    Message::RestoreAgain { job: id, at: Instant::now() + pause, restore }
                }
            }
        }
    }
}

fn examine(
    shared: &Shared,
    owner: &Sender<Message>,
    job: JobId,
    candidate: Examination,
    errand: Errand<'_>,
) -> Message {
    let Examination { spec, module, purpose, .. } = candidate;
    let mut known = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let module = module.unwrap_or_else(|| Module::read(&spec.source, spec.limits.module_size))?;
        let identity = Identity { digest: module.digest.label(), artifact: module.artifact.clone() };
        known = Some(identity.clone());
        match purpose {
            Purpose::Candidate => {
                shared.load(&spec, &module, errand, || drop(owner.send(Message::Validating { job, identity })))
            }
            Purpose::Recall(digest) if digest == module.digest.into() => shared.load(&spec, &module, errand, || {}),
            Purpose::Recall(digest) => Err(is_another(&spec, &module, digest).into()),
        }
    }));
    let result = result.unwrap_or_else(|_| {
        tracing::error!(plugin = %spec.plugin, "a defect of the gateway: validating the plugin panicked");
        Err(rejection(reason::INTERNAL, "validating the plugin failed by a defect of the gateway; see its log").into())
    });
    let finished = Finished { job, identity: known, result };
    match purpose {
        Purpose::Candidate => Message::Finished(finished),
        Purpose::Recall(_) => Message::Recalled(finished),
    }
}

fn is_another(spec: &PluginSpec, module: &Module, wanted: Sha256) -> Rejection {
    let (source, digest) = (&spec.source, module.digest);
    let message = format!("its module was {wanted}, and where it came from ({source}) is {digest} by now");
    rejection(reason::DIGEST_MISMATCH, message)
}

impl Shared {
    /// The revision of a spec: the one that is loaded already, or a new one.
    pub(super) fn load(
        &self,
        spec: &PluginSpec,
        module: &Module,
        errand: Errand<'_>,
        examining: impl FnOnce(),
    ) -> Result<Arc<Loaded>, Refused> {
        let (key, checks) = (RevisionKey::new(spec, module.digest), &spec.rollout.checks);
        let known = self.revisions().find(&key);
        if let Some(keepable) = known.as_ref().and_then(|known| known.keepable.as_ref()) {
            keepable.remember_module(module);
        }
        if let Some(loaded) = known.as_ref().filter(|known| known.has_passed(checks)) {
            self.stock(loaded)?;
            return Ok(Arc::clone(loaded));
        }
        examining();
        let start = Instant::now();
        let examined = self.examiner.examine(module, spec, errand)?;
        let (plugin, digest, seconds) = (&spec.plugin, module.digest, start.elapsed().as_secs_f64());
        tracing::info!(%plugin, %digest, seconds, "a candidate passed validation");
        if let Some(loaded) = known {
            // Only the checks are others.
            loaded.pass(checks);
            self.stock(&loaded)?;
            return Ok(loaded);
        }
        let metrics = self.metrics.plugin(&spec.plugin);
        let stores = self.stores.open(spec, &examined.manifest.name, Nanos::now());
        let keepable = self.blobs.as_ref().map(|_| Arc::new(Keepable::new(spec, module)));
        let loaded = Loaded::new(key, examined, metrics, stores, Arc::clone(&self.unloaded), keepable);
        self.stock(&loaded)?;
        loaded.pass(checks);
        Ok(self.revisions().insert(loaded))
    }

    /// One instance for each worker that will need one, and one for the first that loses its own.
    fn stock(&self, loaded: &Loaded) -> Result<(), Rejection> {
        loaded.stock(self.wanted_spares()).map_err(|fault| faulted(Step::Configure, &fault))
    }

    pub(super) fn wanted_spares(&self) -> usize {
        self.workers.load(Ordering::Acquire) + 1
    }

    pub(super) fn revisions(&self) -> std::sync::MutexGuard<'_, RevisionTable> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn validate(&self, spec: &PluginSpec) -> Result<Validated, Rejection> {
        let module = self.fetcher.fetch(spec).map_err(|error| Refused::from(error).rejection)?;
        let Examined { manifest, plan, .. } = self.examiner.examine(&module, spec, Errand::CANDIDATE)?;
        Ok(Validated {
            digest: Digest::label(&module.digest),
            name: manifest.name.into(),
            version: manifest.version.into(),
            description: manifest.description.into(),
            hooks: plan.hooks(),
            plan: PlanReport::of(plan.raw()),
            artifact: module.artifact,
        })
    }
}

/// Make `spares` instances of a revision be there.
pub(super) struct Restock {
    pub(super) revision: std::sync::Weak<Loaded>,
    pub(super) spares: usize,
}

/// Make one instance. Answers what is still to do.
fn restock(wanted: Restock) -> Option<Restock> {
    // Whoever is not called now asks again when it is.
    let revision = wanted.revision.upgrade().filter(|revision| !revision.breaker.is_open(Instant::now()))?;
    match revision.stock_one(wanted.spares) {
        Ok(more) => more.then_some(wanted),
        Err(fault) => {
            // The worker that finds no spare makes its own, and reports what goes wrong.
            revision.complain(None, &fault);
            None
        }
    }
}

/// Where instances are asked for.
pub(super) struct Restocking {
    quick: Sender<Restock>,
    slow: Sender<Restock>,
}

impl Restocking {
    pub(super) fn ask(&self, wanted: Restock) {
        let is_slow = wanted.revision.upgrade().is_some_and(|revision| revision.is_slow());
        let lane = if is_slow { &self.slow } else { &self.quick };
        // Without its thread nothing is kept spare, and workers make their own.
        let _ = lane.send(wanted);
    }
}

/// Start the threads that keep instances spare: threads of their own, so that workers need not wait until candidates are examined, and one
/// for those that take long to configure, so that nobody else waits for them. Revisions take turns, one instance each.
pub(super) fn start_restocking() -> io::Result<Restocking> {
    let start = |name: &str| -> io::Result<_> {
        let (sender, receiver) = mpsc::channel::<Restock>();
        spawn_nice(name, move || {
            let mut turns = VecDeque::new();
            while let Some(wanted) = turns.pop_front().or_else(|| receiver.recv().ok()) {
                turns.extend(restock(wanted));
                turns.extend(receiver.try_iter());
            }
        })?;
        Ok(sender)
    };
    Ok(Restocking { quick: start("plugin-restock")?, slow: start("plugin-slow")? })
}
