//! A plugin host with one plugin in it: revisions become active as in a gateway, and hooks are called as the proxy calls them.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use penstock_core::{
    fact::{Fact, FactSink},
    plugin::{
        ActiveRevision, BodyOverflow, FailurePolicy, Phase, PluginSpec, PluginState, PolicyCall, PolicyWorker,
        Rejection,
    },
};
use penstock_plugin_host::{InstanceCost, PluginHost, PluginSettings};
use prometheus_client::registry::Registry;

/// A host, and the thread's own worker in it.
pub(super) struct Session {
    host: PluginHost,
    facts: Arc<Facts>,
    worker: Box<dyn PolicyWorker>,
    generation: i64,
}

/// The latest state of the one plugin.
#[derive(Default)]
struct Facts {
    state: Mutex<Option<Arc<PluginState>>>,
    changed: Condvar,
}

impl FactSink for Facts {
    fn report(&self, fact: Fact) {
        if let Fact::Plugin(_, state) = fact {
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
            self.changed.notify_all();
        }
    }
}

impl Session {
    /// Start a host. With a directory it keeps compiled modules there.
    pub(super) fn start(cache: Option<PathBuf>) -> anyhow::Result<Self> {
        let facts = Arc::<Facts>::default();
        let settings = PluginSettings { cache, ..PluginSettings::default() };
        let host = PluginHost::start(settings, Arc::clone(&facts) as Arc<dyn FactSink>, &mut Registry::default())?;
        let worker = host.runtime().worker();
        Ok(Self { host, facts, worker, generation: 0 })
    }

    /// Bring a revision into service, or find out why it is refused.
    pub(super) fn activate(&mut self, spec: &PluginSpec) -> Result<ActiveRevision, Rejection> {
        self.generation += 1;
        let generation = self.generation;
        self.host.apply(vec![Arc::new(PluginSpec { generation, ..spec.clone() })]);
        let mut state = self.facts.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(decided) = state.as_ref().and_then(|state| decided(state, generation)) {
                return decided;
            }
            state = self.facts.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For calls of hooks.
    pub(super) fn worker(&self) -> &dyn PolicyWorker {
        &*self.worker
    }

    /// Make one more instance of a revision, and drop it.
    pub(super) fn try_instance(&self, active: &ActiveRevision) -> anyhow::Result<InstanceCost> {
        Ok(self.host.try_instance(&active.revision)?)
    }
}

/// What became of this generation; none if that is not known yet.
fn decided(state: &PluginState, generation: i64) -> Option<Result<ActiveRevision, Rejection>> {
    let active = state.active.as_ref().filter(|active| active.generation == generation);
    if let Some(active) = active {
        return Some(Ok(active.clone()));
    }
    let candidate = state.candidate.as_ref().filter(|candidate| candidate.generation == generation)?;
    match &candidate.phase {
        Phase::Rejected(rejection) => Some(Err(rejection.clone())),
        _ => None,
    }
}

/// How the proxy would call it.
pub(super) fn call(spec: &PluginSpec, active: &ActiveRevision, body_overflow: BodyOverflow) -> PolicyCall {
    PolicyCall {
        plugin: spec.plugin.clone(),
        revision: active.revision.clone(),
        failure_policy: FailurePolicy::Closed,
        body_overflow,
        hooks: active.hooks,
        // Without a gateway there is no backend to call.
        outbound: Arc::default(),
        redis: Arc::default(),
    }
}
