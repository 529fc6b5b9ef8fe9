//! Revisions: a module with its configuration, limits and capabilities, loaded and ready to make instances.
//!
//! A revision is known by value. Applying the same thing again, even after it was deleted, finds the revision that is loaded already,
//! with its warm instances: [`RevisionTable`] keeps the last few that nobody wants any more.
//!
//! The plugin's own name belongs to that value: two resources with the same module and configuration share compiled code, but no
//! instance, because they may belong to two teams, and an instance's memory would be a channel between them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use penstock_core::{
    ResourceRef,
    check::Checks,
    plugin::{Capabilities, FaultKind, Isolation, PluginFault, PluginLimits, PluginSpec, Revision},
};

use crate::{
    breaker::Breaker,
    capability::{Nanos, Stores, log::LogRate},
    engine::TICK,
    examine::Examined,
    instance::{Instance, InstanceState, InstantiateError, Template},
    last_good::Keepable,
    metrics::{CallMetrics, Counted, Hook},
    module::Digest,
    plan::Plan,
    static_check::Imports,
    tally::FaultTally,
};

/// Revisions that nobody wants are kept up to this number, so that a plugin that was deleted by mistake comes back at once. They keep their
/// code, and no instances: memory is for those who serve.
const KEPT: usize = 16;

/// Spare instances that a revision has at most beside the usual ones, because workers missed them.
const MISSED: usize = 32;

/// What makes two revisions the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RevisionKey {
    plugin: ResourceRef,
    digest: Digest,
    config: Arc<str>,
    limits: PluginLimits,
    capabilities: Capabilities,
}

impl RevisionKey {
    pub(crate) fn new(spec: &PluginSpec, digest: Digest) -> Self {
        Self::with_config(spec, digest, config_text(&spec.config).into())
    }

    /// With the text of the configuration, where that is known already.
    pub(crate) fn with_config(spec: &PluginSpec, digest: Digest, config: Arc<str>) -> Self {
        Self {
            plugin: spec.plugin.clone(),
            digest,
            config,
            limits: spec.limits.clone(),
            capabilities: spec.capabilities.clone(),
        }
    }
}

/// The configuration as `configure` gets it. No configuration counts as an empty object.
pub(crate) fn config_text(config: &serde_json::Value) -> String {
    if config.is_null() { "{}".into() } else { config.to_string() }
}

/// A revision that can make instances.
pub(crate) struct Loaded {
    id: u64,
    key: RevisionKey,
    /// Name and version of the plugin, from its manifest.
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) plan: Plan,
    pub(crate) imports: Imports,
    pub(crate) breaker: Breaker,
    pub(crate) metrics: Arc<CallMetrics>,
    pub(crate) faults: FaultTally,
    complaints: LogRate,
    /// What is written when the revision turns out to be good; none if nothing is kept on disk.
    pub(crate) keepable: Option<Arc<Keepable>>,
    template: Template,
    stores: Arc<Stores>,
    spares: Mutex<Vec<Warm>>,
    /// What it passed last: no part of its value, because checks change nothing of what it does.
    checks: Mutex<Checks>,
    unloaded: Arc<AtomicU64>,
    is_parked: AtomicBool,
    /// Making an instance has taken longer than two ticks. It is no matter of one of them: then it would be a way to make others wait.
    is_slow: AtomicBool,
    /// How often a worker needed an instance and could not make it in time.
    missed: AtomicUsize,
}

/// Tells workers that it is time to look for instances that nobody wants.
impl Drop for Loaded {
    fn drop(&mut self) {
        self.unloaded.fetch_add(1, Ordering::Relaxed);
    }
}

/// An instance that was configured.
pub(crate) struct Warm {
    pub(crate) instance: Instance,
    _counted: Counted,
}

impl Loaded {
    pub(crate) fn new(
        key: RevisionKey,
        examined: Examined,
        metrics: Arc<CallMetrics>,
        stores: Stores,
        unloaded: Arc<AtomicU64>,
        keepable: Option<Arc<Keepable>>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let breaker = Breaker::new(Instant::now(), key.limits.hook_time);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            key,
            name: examined.manifest.name.into(),
            version: examined.manifest.version.into(),
            plan: examined.plan,
            imports: examined.imports,
            breaker,
            metrics,
            faults: FaultTally::default(),
            complaints: LogRate::default(),
            keepable,
            template: examined.template,
            stores: Arc::new(stores),
            spares: Mutex::default(),
            checks: Mutex::default(),
            unloaded,
            is_parked: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            missed: AtomicUsize::new(0),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The WasmPlugin that it belongs to.
    pub(crate) fn plugin(&self) -> &ResourceRef {
        &self.key.plugin
    }

    pub(crate) fn digest(&self) -> Digest {
        self.key.digest
    }

    /// The limits of its instances.
    pub(crate) fn limits(&self) -> &PluginLimits {
        &self.key.limits
    }

    /// Whether its instances may wait in an imported call.
    pub(crate) fn waits(&self) -> bool {
        self.template.waits()
    }

    /// Whether no two exchanges may meet in an instance.
    pub(crate) fn is_isolated(&self) -> bool {
        self.key.limits.isolation == Isolation::Exchange
    }

    /// Whether each call, or each exchange with state, has an instance for itself.
    pub(crate) fn is_apart(&self) -> bool {
        self.waits() || self.is_isolated()
    }

    /// Say in the log what goes wrong with it, unless that was done within the last second.
    pub(crate) fn complain(&self, hook: Option<Hook>, fault: &PluginFault) {
        let Some(unsaid) = self.complaints.admit(1, Nanos::now()) else { return };
        let (plugin, hook, kind) = (self.metrics.label(), hook.map(Hook::label), fault.kind);
        tracing::warn!(%plugin, hook, %kind, unsaid, error = fault.message, "a plugin faults");
    }

    /// What it was granted.
    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.key.capabilities
    }

    /// Whether it has passed these checks.
    pub(crate) fn has_passed(&self, checks: &Checks) -> bool {
        checks.is_empty() || *self.passed_checks() == *checks
    }

    /// It passed these checks.
    pub(crate) fn pass(&self, checks: &Checks) {
        self.passed_checks().clone_from(checks);
    }

    fn passed_checks(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For snapshots.
    pub(crate) fn revision(self: &Arc<Self>) -> Revision {
        Revision::new(self.id, Arc::clone(self) as Arc<dyn std::any::Any + Send + Sync>)
    }

    /// An instance for a worker: a spare one if there is, or else a new one.
    pub(crate) fn take(&self) -> Result<Warm, PluginFault> {
        let spare = self.spares().pop();
        spare.map_or_else(|| self.make_on_worker(), Ok)
    }

    /// Whether making an instance takes long.
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    /// Whether [`take`](Self::take) takes no time to speak of.
    pub(crate) fn is_at_hand(&self) -> bool {
        !self.is_slow() || !self.spares().is_empty()
    }

    /// A new instance where exchanges of others wait for it: all of it may take what a hook may. Whoever needs longer is not broken: from now
    /// on it has more spare ones.
    fn make_on_worker(&self) -> Result<Warm, PluginFault> {
        let limit = self.key.limits.hook_time;
        self.make(limit, |used| limit.saturating_sub(used)).map_err(|fault| match fault.kind {
            FaultKind::Deadline => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                let message =
                    format!("no instance is spare, and making one takes longer than limits.hookTime ({limit:?})");
                PluginFault { kind: FaultKind::Overloaded, message }
            }
            _ => unmade(&fault),
        })
    }

    /// Nobody wants it now: it gives up its instances, here and on the workers.
    fn park(&self) {
        let mut spares = self.spares();
        if !self.is_parked.swap(true, Ordering::Relaxed) {
            spares.clear();
            self.unloaded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether nobody wants it, as far as is known.
    pub(crate) fn is_parked(&self) -> bool {
        self.is_parked.load(Ordering::Relaxed)
    }

    /// Make instances until `target` are spare. Not on a worker: `configure` may take its time.
    pub(crate) fn stock(&self, target: usize) -> Result<(), PluginFault> {
        while self.stock_one(target)? {}
        Ok(())
    }

    /// Make one instance, unless `target` are spare, and some for those that were missed. Answers whether there are fewer still.
    pub(crate) fn stock_one(&self, target: usize) -> Result<bool, PluginFault> {
        let target = target + self.missed.load(Ordering::Relaxed).min(MISSED);
        if self.spares().len() >= target {
            return Ok(false);
        }
        let instance = self.make_in_time()?;
        let mut spares = self.spares();
        // With the lock, so that none stays behind in one that is parked meanwhile.
        if self.is_parked() {
            return Ok(false);
        }
        spares.push(instance);
        Ok(spares.len() < target)
    }

    fn make_in_time(&self) -> Result<Warm, PluginFault> {
        let limit = self.key.limits.configure_time;
        self.make(limit, |_| limit).map_err(|fault| unmade(&fault))
    }

    /// Make an instance and drop it: how long that takes, and how much memory it has when it is ready.
    pub(crate) fn try_instance(&self) -> Result<(Duration, u64), PluginFault> {
        let start = Instant::now();
        let mut warm = self.make_in_time()?;
        Ok((start.elapsed(), warm.instance.state().memory_used()))
    }

    /// `rest`: what there is for `configure`, of which the start code has used a part.
    fn make(&self, limit: Duration, rest: impl Fn(Duration) -> Duration) -> Result<Warm, PluginFault> {
        let RevisionKey { capabilities, limits, .. } = &self.key;
        let label = Arc::clone(self.metrics.label());
        let state = InstanceState::new(label, capabilities, limits, Arc::clone(&self.stores));
        let mut instance = self.template.instantiate(state, limit).map_err(|error| match error {
            InstantiateError::Fault(fault) => fault,
            InstantiateError::Export(error) => unavailable(error.to_string()),
        })?;
        let used = instance.state().cpu_time();
        let configured = instance.configure(&self.key.config, rest(used));
        if used + instance.state().cpu_time() > 2 * TICK {
            self.is_slow.store(true, Ordering::Relaxed);
        }
        match configured {
            Ok(Ok(plan)) if self.plan.is(&plan) => Ok(Warm { instance, _counted: self.metrics.instance() }),
            Ok(Ok(_)) => Err(unavailable("configure answered another plan than before for the same configuration")),
            Ok(Err(_)) => Err(unavailable("configure refused a configuration that it accepted before")),
            Err(fault) => Err(PluginFault { message: format!("configure: {}", fault.message), ..fault }),
        }
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Warm>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it means for a call that its instance was not made.
fn unmade(fault: &PluginFault) -> PluginFault {
    let kind = if fault.kind == FaultKind::Overloaded { fault.kind } else { FaultKind::Unavailable };
    PluginFault { kind, message: format!("no instance could be made: {}", fault.message) }
}

fn unavailable(why: impl Into<String>) -> PluginFault {
    PluginFault { kind: FaultKind::Unavailable, message: why.into() }
}

/// All revisions that are loaded, by value.
#[derive(Default)]
pub(crate) struct RevisionTable {
    by_key: HashMap<RevisionKey, Weak<Loaded>>,
    /// The last ones that were looked up or inserted, oldest first.
    kept: VecDeque<Arc<Loaded>>,
}

impl RevisionTable {
    /// The revision of this value, if it is still loaded, with the instances that it has. Others that nobody wants give theirs up, for what
    /// is made if it is not.
    pub(crate) fn find(&mut self, key: &RevisionKey) -> Option<Arc<Loaded>> {
        let found = self.by_key.get(key).and_then(Weak::upgrade);
        if let Some(loaded) = &found {
            loaded.is_parked.store(false, Ordering::Relaxed);
            self.keep(loaded);
        }
        // Whoever wants one holds it, and new users come from this table alone.
        self.kept.iter().filter(|kept| Arc::strong_count(kept) == 1).for_each(|kept| kept.park());
        found
    }

    /// Remember a revision. When two were made of the same value, the first one stays.
    pub(crate) fn insert(&mut self, loaded: Loaded) -> Arc<Loaded> {
        if let Some(existing) = self.find(&loaded.key) {
            return existing;
        }
        let loaded = Arc::new(loaded);
        self.by_key.retain(|_, known| known.strong_count() > 0);
        self.by_key.insert(loaded.key.clone(), Arc::downgrade(&loaded));
        self.keep(&loaded);
        loaded
    }

    /// Every revision that is loaded.
    pub(crate) fn all(&self) -> Vec<Arc<Loaded>> {
        self.by_key.values().filter_map(Weak::upgrade).collect()
    }

    fn keep(&mut self, loaded: &Arc<Loaded>) {
        self.kept.retain(|kept| !Arc::ptr_eq(kept, loaded));
        self.kept.push_back(Arc::clone(loaded));
        while self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }
}
