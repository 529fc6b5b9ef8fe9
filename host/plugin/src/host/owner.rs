//! The one thread that owns the state of all plugins.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Instant,
};

use penstock_core::{
    ResourceRef,
    fact::{Fact, FactSink},
    plugin::{ActiveRevision, Candidate, Phase, PluginSpec, PluginState, Rejection},
};

use super::{
    JobId, Message,
    jobs::{Finished, Identity, Job, Jobs, Refused, Restock, Shared},
    retry::Retry,
};
use crate::{
    fetch::{Fetch, Resolve},
    metrics::{CallMetrics, Outcome},
    revision::Loaded,
};

/// All plugins.
pub(super) struct Owner {
    desired: Arc<Mutex<Option<Vec<Arc<PluginSpec>>>>>,
    shared: Arc<Shared>,
    facts: Arc<dyn FactSink>,
    jobs: Jobs,
    restock: Sender<Restock>,
    plugins: HashMap<ResourceRef, Entry>,
    next_job: u64,
}

/// One plugin.
struct Entry {
    spec: Arc<PluginSpec>,
    state: PluginState,
    reported: Option<Arc<PluginState>>,
    /// The job whose result counts.
    job: Arc<AtomicU64>,
    /// Ends the fetch of that job when it is replaced or dropped.
    fetch: Option<Fetch>,
    retry: Option<Retry>,
    /// How that job took tags, and when to look again what they mean.
    resolve: Resolve,
    poll: Option<Instant>,
    metrics: Arc<CallMetrics>,
}

impl Owner {
    pub(super) fn new(
        desired: Arc<Mutex<Option<Vec<Arc<PluginSpec>>>>>,
        shared: Arc<Shared>,
        facts: Arc<dyn FactSink>,
        jobs: Jobs,
        restock: Sender<Restock>,
    ) -> Self {
        Self { desired, shared, facts, jobs, restock, plugins: HashMap::new(), next_job: 1 }
    }

    /// Until the host is dropped.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            match self.wait(inbox) {
                Ok(Message::Applied) => self.apply(),
                Ok(Message::Validating { job, identity }) => self.validating(job, identity),
                Ok(Message::Finished(finished)) => self.finished(finished),
                Ok(Message::WorkerStarted) => self.worker_started(),
                Ok(Message::Restock(revision)) => drop(self.restock.send(Restock { revision, spares: 1 })),
                Err(RecvTimeoutError::Timeout) => self.retry(Instant::now()),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn wait(&self, inbox: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        match self.plugins.values().filter_map(Entry::next).min() {
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn apply(&mut self) {
        let Some(desired) = self.desired.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let wanted: HashMap<&ResourceRef, &Arc<PluginSpec>> = desired.iter().map(|spec| (&spec.plugin, spec)).collect();
        let gone: Vec<ResourceRef> =
            self.plugins.keys().filter(|plugin| !wanted.contains_key(plugin)).cloned().collect();
        for plugin in gone {
            self.plugins.remove(&plugin);
            self.shared.fetcher.forget(&plugin);
            self.facts.report(Fact::Plugin(plugin, Arc::default()));
        }
        for spec in wanted.into_values() {
            self.want(spec);
        }
    }

    fn want(&mut self, spec: &Arc<PluginSpec>) {
        let Some(entry) = self.plugins.get_mut(&spec.plugin) else {
            self.plugins
                .insert(spec.plugin.clone(), Entry::new(Arc::clone(spec), self.shared.metrics.plugin(&spec.plugin)));
            return self.start(&spec.plugin, Some(Phase::Fetching), Resolve::Known);
        };
        if entry.spec == *spec {
            return;
        }
        let same = entry.is_same_revision(spec);
        entry.spec = Arc::clone(spec);
        if same {
            entry.move_to(spec.generation);
            self.report(&spec.plugin);
        } else {
            self.start(&spec.plugin, Some(Phase::Fetching), Resolve::Known);
        }
    }

    /// Begin an attempt; `phase` is what the status says meanwhile, or nothing new.
    fn start(&mut self, plugin: &ResourceRef, phase: Option<Phase>, resolve: Resolve) {
        let Some(entry) = self.plugins.get_mut(plugin) else { return };
        let id = self.next_job;
        self.next_job += 1;
        entry.job.store(id, Ordering::Release);
        if let Some(phase) = phase {
            entry.retry = None;
            entry.state.candidate = Some(entry.candidate(None, phase));
        }
        (entry.resolve, entry.poll) = (resolve, None);
        let (spec, latest) = (Arc::clone(&entry.spec), Arc::clone(&entry.job));
        entry.fetch = self.jobs.begin(Job { id: JobId(id), spec, latest, module: None, resolve });
        self.report(plugin);
    }

    fn validating(&mut self, job: JobId, identity: Identity) {
        let Some(plugin) = self.plugin_of(job) else { return };
        let Some(entry) = self.plugins.get_mut(&plugin) else { return };
        // Looking again at what was refused is no news.
        if !entry.has_refused(Some(&identity)) {
            entry.state.candidate = Some(entry.candidate(Some(identity), Phase::Validating));
            self.report(&plugin);
        }
    }

    fn finished(&mut self, finished: Finished) {
        let Some(plugin) = self.plugin_of(finished.job) else { return };
        let Some(entry) = self.plugins.get_mut(&plugin) else { return };
        match finished.result {
            Ok(loaded) => {
                if !entry.runs(&loaded) {
                    entry.metrics.candidate(Outcome::Ready);
                    let (name, version) = (&*loaded.name, &*loaded.version);
                    tracing::info!(%plugin, name, version, digest = %loaded.digest(), "a plugin is ready");
                }
                entry.activate(&loaded, finished.identity);
            }
            Err(Refused { rejection, .. }) if entry.resolve == Resolve::Anew && finished.identity.is_none() => {
                let Rejection { reason, message } = &rejection;
                tracing::warn!(%plugin, reason, message, "cannot look what the tag of a plugin means by now; what serves stays");
            }
            Err(refused) => {
                // Another attempt at the same candidate is not another candidate.
                if entry.retry.is_none() && !entry.has_refused(finished.identity.as_ref()) {
                    entry.metrics.candidate(Outcome::Rejected);
                    let Rejection { reason, message } = &refused.rejection;
                    let serving = entry.state.active.as_ref().map(|active| tracing::field::display(&active.digest));
                    tracing::warn!(%plugin, reason, message, serving, "a plugin was refused; what serves stays");
                }
                entry.reject(finished.identity, refused);
            }
        }
        entry.poll = entry.spec.source.poll_interval().map(|interval| Instant::now() + interval);
        self.report(&plugin);
    }

    fn worker_started(&self) {
        self.shared.workers.fetch_add(1, Ordering::AcqRel);
        let spares = self.shared.wanted_spares();
        for revision in self.shared.revisions().all() {
            let _ = self.restock.send(Restock { revision: Arc::downgrade(&revision), spares });
        }
    }

    fn retry(&mut self, now: Instant) {
        let due = |(_, entry): &(&ResourceRef, &mut Entry)| entry.next().is_some_and(|at| at <= now);
        let plugins: Vec<(ResourceRef, Resolve)> = self
            .plugins
            .iter_mut()
            .filter(due)
            .map(|(plugin, entry)| match &mut entry.retry {
                Some(retry) => {
                    retry.begin();
                    (plugin.clone(), entry.resolve)
                }
                None => (plugin.clone(), Resolve::Anew),
            })
            .collect();
        for (plugin, resolve) in plugins {
            self.start(&plugin, None, resolve);
        }
    }

    /// The plugin whose current attempt this is.
    fn plugin_of(&self, job: JobId) -> Option<ResourceRef> {
        let current = |entry: &Entry| entry.job.load(Ordering::Acquire) == job.0;
        self.plugins.iter().find(|(_, entry)| current(entry)).map(|(plugin, _)| plugin.clone())
    }

    /// Tell what has changed, if anything.
    fn report(&mut self, plugin: &ResourceRef) {
        let Some(entry) = self.plugins.get_mut(plugin) else { return };
        if entry.reported.as_deref() == Some(&entry.state) {
            return;
        }
        let state = Arc::new(entry.state.clone());
        entry.reported = Some(Arc::clone(&state));
        self.facts.report(Fact::Plugin(plugin.clone(), state));
    }
}

impl Entry {
    fn new(spec: Arc<PluginSpec>, metrics: Arc<CallMetrics>) -> Self {
        Self {
            spec,
            state: PluginState::default(),
            reported: None,
            job: Arc::default(),
            fetch: None,
            retry: None,
            resolve: Resolve::Known,
            poll: None,
            metrics,
        }
    }

    /// When there is something to do without being told.
    fn next(&self) -> Option<Instant> {
        match self.retry {
            Some(retry) => retry.at(),
            None => self.poll,
        }
    }

    /// Whether that is what runs already.
    fn runs(&self, loaded: &Arc<Loaded>) -> bool {
        let is_it =
            |active: &ActiveRevision| active.revision == loaded.revision() && active.generation == self.spec.generation;
        self.state.active.as_ref().is_some_and(is_it)
    }

    /// Whether that module was refused already, for this generation.
    fn has_refused(&self, identity: Option<&Identity>) -> bool {
        let Some((candidate, identity)) = self.state.candidate.as_ref().zip(identity) else { return false };
        let is_it = candidate.digest.as_ref() == Some(&identity.digest) && candidate.generation == self.spec.generation;
        is_it && matches!(candidate.phase, Phase::Rejected(_))
    }

    /// Whether only the generation differs, and the outcome is known: then it is known for the new generation too.
    fn is_same_revision(&self, spec: &PluginSpec) -> bool {
        let pending = self.state.candidate.as_ref().is_some_and(|candidate| candidate.phase.rejection().is_none());
        let generation = self.spec.generation;
        !pending && *self.spec == PluginSpec { generation, ..spec.clone() }
    }

    fn move_to(&mut self, generation: i64) {
        match (&mut self.state.candidate, &mut self.state.active) {
            (Some(candidate), _) => candidate.generation = generation,
            (None, Some(active)) => active.generation = generation,
            (None, None) => {}
        }
    }

    fn candidate(&self, identity: Option<Identity>, phase: Phase) -> Candidate {
        let (digest, artifact) = identity.map_or((None, None), |it| (Some(it.digest), it.artifact));
        Candidate { generation: self.spec.generation, digest, artifact, phase }
    }

    fn activate(&mut self, loaded: &Arc<Loaded>, identity: Option<Identity>) {
        self.retry = None;
        self.state = PluginState {
            active: Some(ActiveRevision {
                revision: loaded.revision(),
                generation: self.spec.generation,
                digest: loaded.digest().label(),
                name: Arc::clone(&loaded.name),
                version: Arc::clone(&loaded.version),
                hooks: loaded.plan.hooks(),
                artifact: identity.and_then(|identity| identity.artifact),
            }),
            candidate: None,
        };
    }

    fn reject(&mut self, identity: Option<Identity>, refused: Refused) {
        let Refused { rejection, retry } = refused;
        self.retry = retry.then(|| Retry::after(self.retry, &self.spec.source));
        let phase = match self.retry {
            Some(retry) => retry.phase(rejection),
            None => Phase::Rejected(rejection),
        };
        self.state.candidate = Some(self.candidate(identity, phase));
    }
}
