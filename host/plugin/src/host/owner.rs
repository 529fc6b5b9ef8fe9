//! The one thread that owns the state of all plugins.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use penstock_core::{
    ResourceRef,
    fact::{Fact, FactSink},
    plugin::{ActiveRevision, Candidate, Phase, PluginSpec, PluginState, Rejection},
};

use super::{
    JobId, Message,
    jobs::{Finished, Job, Refused, Restock, Shared},
};
use crate::{metrics::Outcome, revision::Loaded};

/// After a failed fetch the host tries again: soon at first, then less and less often.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// All plugins.
pub(super) struct Owner {
    desired: Arc<Mutex<Option<Vec<Arc<PluginSpec>>>>>,
    shared: Arc<Shared>,
    facts: Arc<dyn FactSink>,
    jobs: Sender<Job>,
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
    retry: Option<Retry>,
}

#[derive(Clone, Copy)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Owner {
    pub(super) fn new(
        desired: Arc<Mutex<Option<Vec<Arc<PluginSpec>>>>>,
        shared: Arc<Shared>,
        facts: Arc<dyn FactSink>,
        jobs: Sender<Job>,
        restock: Sender<Restock>,
    ) -> Self {
        Self { desired, shared, facts, jobs, restock, plugins: HashMap::new(), next_job: 1 }
    }

    /// Until the host is dropped.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            match self.wait(inbox) {
                Ok(Message::Applied) => self.apply(),
                Ok(Message::Validating { job, digest }) => self.validating(job, digest),
                Ok(Message::Finished(finished)) => self.finished(finished),
                Ok(Message::WorkerStarted) => self.worker_started(),
                Ok(Message::Restock(revision)) => drop(self.restock.send(Restock { revision, spares: 1 })),
                Err(RecvTimeoutError::Timeout) => self.retry(Instant::now()),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn wait(&self, inbox: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        match self.plugins.values().filter_map(|entry| entry.retry).map(|retry| retry.at).min() {
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
            self.facts.report(Fact::Plugin(plugin, Arc::default()));
        }
        for spec in wanted.into_values() {
            self.want(spec);
        }
    }

    fn want(&mut self, spec: &Arc<PluginSpec>) {
        let Some(entry) = self.plugins.get_mut(&spec.plugin) else {
            self.plugins.insert(spec.plugin.clone(), Entry::new(Arc::clone(spec)));
            return self.start(&spec.plugin, Some(Phase::Fetching));
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
            self.start(&spec.plugin, Some(Phase::Fetching));
        }
    }

    /// Begin an attempt; `phase` is what the status says meanwhile, or nothing new.
    fn start(&mut self, plugin: &ResourceRef, phase: Option<Phase>) {
        let Some(entry) = self.plugins.get_mut(plugin) else { return };
        let id = self.next_job;
        self.next_job += 1;
        entry.job.store(id, Ordering::Release);
        if let Some(phase) = phase {
            entry.retry = None;
            entry.state.candidate = Some(Candidate { generation: entry.spec.generation, digest: None, phase });
        }
        let job = Job { id: JobId(id), spec: Arc::clone(&entry.spec), latest: Arc::clone(&entry.job) };
        let _ = self.jobs.send(job);
        self.report(plugin);
    }

    fn validating(&mut self, job: JobId, digest: Arc<str>) {
        let Some(plugin) = self.plugin_of(job) else { return };
        let Some(entry) = self.plugins.get_mut(&plugin) else { return };
        let candidate = Candidate { generation: entry.spec.generation, digest: Some(digest), phase: Phase::Validating };
        entry.state.candidate = Some(candidate);
        self.report(&plugin);
    }

    fn finished(&mut self, finished: Finished) {
        let Some(plugin) = self.plugin_of(finished.job) else { return };
        let Some(entry) = self.plugins.get_mut(&plugin) else { return };
        let metrics = self.shared.metrics.plugin(&plugin);
        match finished.result {
            Ok(loaded) => {
                metrics.candidate(Outcome::Ready);
                let (name, version) = (&*loaded.name, &*loaded.version);
                tracing::info!(%plugin, name, version, digest = %loaded.digest(), "a plugin is ready");
                entry.activate(&loaded);
            }
            Err(refused) => {
                // Another attempt at the same candidate is not another candidate.
                if entry.retry.is_none() {
                    metrics.candidate(Outcome::Rejected);
                    let Rejection { reason, message } = &refused.rejection;
                    let serving = entry.state.active.as_ref().map(|active| tracing::field::display(&active.digest));
                    tracing::warn!(%plugin, reason, message, serving, "a plugin was refused; what serves stays");
                }
                entry.reject(finished.digest, refused);
            }
        }
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
        let due = |entry: &Entry| entry.retry.is_some_and(|retry| retry.at <= now);
        let plugins: Vec<ResourceRef> =
            self.plugins.iter().filter(|(_, entry)| due(entry)).map(|(plugin, _)| plugin.clone()).collect();
        for plugin in plugins {
            if let Some(retry) = self.plugins.get_mut(&plugin).and_then(|entry| entry.retry.as_mut()) {
                // Not due again before this attempt has had its time; its result sets the real pause.
                retry.at = now + LAST_RETRY;
            }
            self.start(&plugin, None);
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
    fn new(spec: Arc<PluginSpec>) -> Self {
        Self { spec, state: PluginState::default(), reported: None, job: Arc::default(), retry: None }
    }

    /// Whether only the generation differs, and the outcome is known: then it is known for the new generation too.
    fn is_same_revision(&self, spec: &PluginSpec) -> bool {
        let pending =
            self.state.candidate.as_ref().is_some_and(|candidate| !matches!(candidate.phase, Phase::Rejected(_)));
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

    fn activate(&mut self, loaded: &Arc<Loaded>) {
        self.retry = None;
        self.state = PluginState {
            active: Some(ActiveRevision {
                revision: loaded.revision(),
                generation: self.spec.generation,
                digest: loaded.digest().label(),
                name: Arc::clone(&loaded.name),
                version: Arc::clone(&loaded.version),
                hooks: loaded.plan.hooks(),
            }),
            candidate: None,
        };
    }

    fn reject(&mut self, digest: Option<Arc<str>>, refused: Refused) {
        self.retry = refused.retry.then(|| {
            let pause = self.retry.map_or(FIRST_RETRY, |retry| (retry.pause * 2).min(LAST_RETRY));
            Retry { at: Instant::now() + pause, pause }
        });
        let phase = Phase::Rejected(refused.rejection);
        self.state.candidate = Some(Candidate { generation: self.spec.generation, digest, phase });
    }
}
