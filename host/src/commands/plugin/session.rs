//! A plugin host with one plugin in it: revisions become active as in a gateway, and hooks are called as the proxy calls them.

mod stand_in;

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

pub(super) use self::stand_in::{Answer, StandIns};

/// After so many attempts to fetch or validate a module it is said what is wrong.
const MOST_ATTEMPTS: u32 = 2;

/// A host, and the thread's own worker in it.
pub(super) struct Session {
    host: PluginHost,
    facts: Arc<Facts>,
    worker: Box<dyn PolicyWorker>,
    stand_ins: StandIns,
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
        let (worker, stand_ins) = (host.runtime().worker(), StandIns::default());
        worker.connect(Arc::new(stand_ins.clone()));
        Ok(Self { host, facts, worker, stand_ins, generation: 0 })
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

    /// What stands in for the backends that the plugin may call.
    pub(super) fn stand_ins(&self) -> &StandIns {
        &self.stand_ins
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
        // A gateway tries again for ever. Whoever waits for a command would rather know.
        Phase::Retrying { rejection, attempts, .. } if *attempts >= MOST_ATTEMPTS => Some(Err(rejection.clone())),
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
        outbound: stand_in::backends(&spec.capabilities.outbound),
        // Without a gateway there is nobody to share counts with.
        redis: Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use penstock_core::plugin::Candidate;

    use super::*;

    #[test]
    fn what_cannot_be_fetched_ends_after_the_second_attempt() {
        let state = |attempts| {
            let rejection = Rejection { reason: "FetchFailed", message: "gone".into() };
            let phase = Phase::Retrying { rejection, attempts, pause: Duration::from_secs(1) };
            let candidate = Some(Candidate { generation: 1, digest: None, artifact: None, phase });
            PluginState { candidate, ..PluginState::default() }
        };
        assert!(decided(&state(1), 1).is_none() && decided(&state(2), 2).is_none());
        assert!(matches!(decided(&state(2), 1), Some(Err(rejection)) if rejection.reason == "FetchFailed"));
    }
}
