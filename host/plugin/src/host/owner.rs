//! The one thread that owns the state of all plugins.
//!
//! Each message is handled in three steps: entries change, circles of plugins that may have become ready switch, and what has changed is
//! told. All facts of one message are told together, so a group of plugins that switch is in one snapshot.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Instant,
};

use penstock_core::{
    ResourceRef,
    fact::{Fact, FactSink},
    plugin::{Awaited, Hold, PluginSpec, RecordedRevision, Rejection},
};

use super::{
    Desired, JobId, Message,
    counts::LifeCounts,
    entry::{Entry, Settlement},
    group::{self, Circle, Standing},
    jobs::{Examination, Finished, Identity, Jobs, Purpose, Refused, Restock, Restocking, Shared, Task},
    keeper::{Keeper, Unkept},
    recall::Recall,
    restore::{Restore, Restored},
};
use crate::{
    fetch::Resolve,
    last_good::{GoodSet, Kept},
    metrics::Outcome,
};

/// All plugins.
pub(super) struct Owner {
    desired: Arc<Mutex<Option<Desired>>>,
    shared: Arc<Shared>,
    facts: Arc<dyn FactSink>,
    jobs: Jobs,
    restock: Restocking,
    counts: LifeCounts,
    /// None: nothing is kept on disk.
    keeper: Option<Keeper>,
    /// What was kept by the process before this one, until the plugin is applied.
    kept: HashMap<ResourceRef, Kept>,
    /// What the cluster has on record.
    recorded: HashMap<ResourceRef, Arc<RecordedRevision>>,
    plugins: HashMap<ResourceRef, Entry>,
    pending: Work,
}

/// What the current message made necessary.
#[derive(Default)]
struct Work {
    /// Whose members may be ready to switch.
    circles: BTreeSet<Circle>,
    /// Whose state may be another one.
    touched: BTreeSet<ResourceRef>,
    gone: Vec<ResourceRef>,
    /// The last good set may be another one.
    good: bool,
}

/// What the owner works with.
pub(super) struct Parts {
    pub(super) desired: Arc<Mutex<Option<Desired>>>,
    pub(super) shared: Arc<Shared>,
    pub(super) facts: Arc<dyn FactSink>,
    pub(super) jobs: Jobs,
    pub(super) restock: Restocking,
    pub(super) counts: LifeCounts,
    pub(super) keeper: Option<Keeper>,
    pub(super) kept: HashMap<ResourceRef, Kept>,
}

impl Owner {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { desired, shared, facts, jobs, restock, counts, keeper, kept } = parts;
        let (plugins, pending) = (HashMap::new(), Work::default());
        let recorded = HashMap::new();
        Self { desired, shared, facts, jobs, restock, counts, keeper, kept, recorded, plugins, pending }
    }

    /// Until the host is dropped.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            match self.wait(inbox) {
                Ok(Message::Applied) => self.apply(),
                Ok(Message::Validating { job, identity }) => self.validating(job, identity),
                Ok(Message::Finished(finished)) => self.finished(finished),
                Ok(Message::Recalled(finished)) => self.recalled(finished),
                Ok(Message::Restored { job, restored }) => self.restored(job, restored),
                Ok(Message::RestoreAgain { job, at, restore }) => self.restore_again(job, at, restore),
                Ok(Message::TooManyFaults(revision)) => self.roll_back(revision, Instant::now()),
                Ok(Message::Kept(unkept)) => self.unkept(unkept.as_ref()),
                Ok(Message::WorkerStarted) => self.worker_started(),
                Ok(Message::Restock(revision)) => self.restock.ask(Restock { revision, spares: 1 }),
                Err(RecvTimeoutError::Timeout) => self.elapsed(Instant::now()),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.settle(Instant::now());
            self.recall_in_need(Instant::now());
            self.tell();
        }
    }

    fn wait(&self, inbox: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        match self.plugins.values().filter_map(Entry::due).min() {
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn apply(&mut self) {
        let Some(desired) = self.desired.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let specs = desired.plugins.iter().map(|spec| &spec.plugin);
        let exist: HashSet<&ResourceRef> = specs.chain(&desired.kept).collect();
        let gone: Vec<ResourceRef> = self.plugins.keys().filter(|plugin| !exist.contains(plugin)).cloned().collect();
        gone.into_iter().for_each(|plugin| self.remove(plugin));
        self.take_records(&desired.recorded);
        // Later for what was there before and is not any more: a deleted plugin is not restored.
        self.pending.good = true;
        for spec in &desired.plugins {
            self.want(spec);
        }
        for plugin in &desired.kept {
            if !self.plugins.contains_key(plugin) {
                self.add(plugin, None);
            }
        }
        self.kept.clear();
    }

    fn take_records(&mut self, recorded: &[Arc<RecordedRevision>]) {
        self.recorded = recorded.iter().map(|recorded| (recorded.spec.plugin.clone(), Arc::clone(recorded))).collect();
        for (plugin, entry) in &mut self.plugins {
            if entry.recall.set(self.recorded.get(plugin)) {
                self.pending.touched.insert(plugin.clone());
            }
        }
    }

    fn remove(&mut self, plugin: ResourceRef) {
        if let Some(entry) = self.plugins.remove(&plugin) {
            let group = entry.wanted.as_ref().and_then(|spec| spec.rollout.group.as_ref());
            self.pending.circles.insert(Circle::of(&plugin, group));
        }
        self.shared.fetcher.forget(&plugin);
        self.counts.forget(&plugin);
        self.pending.gone.push(plugin);
    }

    fn want(&mut self, spec: &Arc<PluginSpec>) {
        let plugin = &spec.plugin;
        let Some(entry) = self.plugins.get_mut(plugin) else {
            return self.add(plugin, Some(Arc::clone(spec)));
        };
        if entry.wanted.as_ref().is_some_and(|wanted| wanted == spec) {
            return;
        }
        let left = entry.wanted.as_ref().map(|spec| Circle::of(plugin, spec.rollout.group.as_ref()));
        let other = entry.want(spec);
        if other {
            entry.begin();
        }
        // The attempt of one that is being restored begins when that is done.
        let start = other && !entry.restoring && !entry.recall.is_holding();
        self.pending.circles.extend(left);
        self.pending.good = true;
        self.touch(plugin);
        if start {
            self.start(plugin, true, Resolve::Known);
        }
    }

    /// A plugin that was not there. What the process before this one kept of it serves first.
    fn add(&mut self, plugin: &ResourceRef, wanted: Option<Arc<PluginSpec>>) {
        let kept = self.kept.remove(plugin);
        let slots: Vec<_> = kept.iter().flat_map(Kept::slots).cloned().collect();
        let recall = Recall::new(self.recorded.get(plugin).cloned());
        let mut entry = Entry::new(wanted.clone(), kept.as_ref(), recall, self.shared.metrics.plugin(plugin));
        entry.begin();
        entry.restoring = !slots.is_empty();
        self.plugins.insert(plugin.clone(), entry);
        if slots.is_empty() {
            return self.first_attempt(plugin);
        }
        let restore = Restore { plugin: plugin.clone(), slots, provider: wanted, attempts: 0 };
        self.send(plugin, Task::Restore(restore));
        self.touch(plugin);
    }

    /// Nothing is on disk (any more): what is on record comes before what is wanted, if that is something else.
    fn first_attempt(&mut self, plugin: &ResourceRef) {
        let Some(entry) = self.plugins.get_mut(plugin) else { return };
        if entry.recalls_first() {
            entry.recall.hold(Instant::now());
            self.recall(plugin);
        } else {
            self.start(plugin, true, Resolve::Known);
        }
        self.touch(plugin);
    }

    /// Begin to bring back what is on record.
    fn recall(&mut self, plugin: &ResourceRef) {
        let Some(entry) = self.plugins.get_mut(plugin) else { return };
        let Some(recorded) = entry.recall.begin() else { return };
        let (spec, purpose) = (Arc::clone(&recorded.spec), Purpose::Recall(recorded.digest));
        let task = Task::Examine(Examination { spec, module: None, resolve: Resolve::Known, purpose });
        entry.recall.fetch = self.jobs.begin(task, &entry.recall.job);
        self.pending.touched.insert(plugin.clone());
    }

    /// Bring back what is on record where nothing that is wanted can serve.
    fn recall_in_need(&mut self, now: Instant) {
        let in_need = |plugin: &&ResourceRef| self.plugins.get(*plugin).is_some_and(|entry| entry.needs_recall(now));
        let in_need: Vec<ResourceRef> = self.pending.touched.iter().filter(in_need).cloned().collect();
        in_need.iter().for_each(|plugin| self.recall(plugin));
    }

    /// Begin an attempt; only a new candidate shows in the status.
    fn start(&mut self, plugin: &ResourceRef, new: bool, resolve: Resolve) {
        let Some(entry) = self.plugins.get_mut(plugin) else { return };
        let Some(spec) = entry.wanted.clone() else { return };
        if new {
            entry.begin();
        }
        (entry.resolve, entry.poll) = (resolve, None);
        self.send(plugin, Task::Examine(Examination { spec, module: None, resolve, purpose: Purpose::Candidate }));
        self.touch(plugin);
    }

    /// Hand out a job. Its result is the one that counts from now on.
    fn send(&mut self, plugin: &ResourceRef, task: Task) {
        let Some(entry) = self.plugins.get_mut(plugin) else { return };
        entry.fetch = self.jobs.begin(task, &entry.job);
    }

    fn validating(&mut self, job: JobId, identity: Identity) {
        let Some(plugin) = self.plugin_of(job) else { return };
        let Some(entry) = self.plugins.get_mut(&plugin) else { return };
        entry.validating(identity);
        self.touch(&plugin);
    }

    fn finished(&mut self, finished: Finished) {
        let Some(plugin) = self.plugin_of(finished.job) else { return };
        let Some(entry) = self.plugins.get_mut(&plugin) else { return };
        match finished.result {
            Ok(loaded) => {
                let (name, version, digest) = (loaded.name.clone(), loaded.version.clone(), loaded.digest());
                match entry.ready(loaded, finished.identity) {
                    Settlement::Same => {}
                    Settlement::Condemned => {
                        tracing::warn!(%plugin, %digest, "a plugin that was rolled back is not tried again");
                    }
                    Settlement::Ready => {
                        entry.metrics.candidate(Outcome::Ready);
                        tracing::info!(%plugin, name = &*name, version = &*version, %digest, "a plugin is ready");
                    }
                }
                self.pending.good = true;
            }
            Err(Refused { rejection, .. }) if entry.resolve == Resolve::Anew && finished.identity.is_none() => {
                let Rejection { reason, message } = &rejection;
                tracing::warn!(%plugin, reason, message, "cannot look what the tag of a plugin means by now; what serves stays");
            }
            Err(refused) => {
                let Rejection { reason, message } = refused.rejection.clone();
                // Another attempt at the same candidate is not another candidate.
                if entry.reject(finished.identity, refused) {
                    entry.metrics.candidate(Outcome::Rejected);
                    let serving =
                        entry.serving.as_ref().map(|serving| tracing::field::display(serving.loaded.digest()));
                    tracing::warn!(%plugin, reason, message, serving, "a plugin was refused; what serves stays");
                }
            }
        }
        let interval = entry.wanted.as_ref().and_then(|spec| spec.source.poll_interval());
        entry.poll = interval.map(|interval| Instant::now() + interval);
        self.touch(&plugin);
    }

    fn restored(&mut self, job: JobId, restored: Restored) {
        let Some(plugin) = self.plugin_of(job) else { return };
        let Some(entry) = self.plugins.get_mut(&plugin) else { return };
        self.counts.restored(&restored);
        if let Some((loaded, slot)) = &restored.revision {
            tracing::info!(%plugin, generation = slot.generation, digest = %loaded.digest(), "a last good plugin was restored");
        }
        entry.restored(restored);
        self.pending.good = true;
        self.first_attempt(&plugin);
    }

    fn restore_again(&mut self, job: JobId, at: Instant, restore: Restore) {
        if let Some(entry) = self.plugin_of(job).and_then(|plugin| self.plugins.get_mut(&plugin)) {
            entry.again = Some((at, restore));
        }
    }

    fn recalled(&mut self, finished: Finished) {
        let is_current = |(_, entry): &(&ResourceRef, &Entry)| entry.recall.is_current(finished.job);
        let Some(plugin) = self.plugins.iter().find(is_current).map(|(plugin, _)| plugin.clone()) else { return };
        let Some(entry) = self.plugins.get_mut(&plugin) else { return };
        self.counts.recalled(finished.result.is_ok());
        match finished.result {
            Ok(loaded) => {
                let digest = loaded.digest();
                if entry.recalled(loaded, finished.identity) {
                    tracing::info!(%plugin, %digest, "a last good plugin was restored from its record in the cluster");
                }
                self.pending.good = true;
            }
            Err(refused) => {
                let Rejection { reason, message } = &refused.rejection;
                tracing::warn!(%plugin, reason, message, "a last good plugin cannot be restored from its record in the cluster");
                entry.recall.failed(&refused);
            }
        }
        if entry.recall.release() {
            self.start(&plugin, true, Resolve::Known);
        }
        self.touch(&plugin);
    }

    /// A revision on probation had too many faults. It goes, and with it what switched together with it.
    fn roll_back(&mut self, revision: u64, now: Instant) {
        let faulty = self.plugins.iter().find(|(_, entry)| entry.has_too_many_faults(revision));
        let Some(faulty) = faulty.map(|(plugin, _)| plugin.clone()) else { return };
        for plugin in self.members(&self.circle(&faulty)) {
            let Some(entry) = self.plugins.get_mut(&plugin).filter(|entry| entry.is_on_probation()) else { continue };
            if plugin == faulty {
                let why = entry.condemn(now).unwrap_or_default();
                self.counts.rolled_back(&plugin);
                tracing::error!(%plugin, why, "a plugin was rolled back to its last good revision");
            } else {
                entry.step_back();
                tracing::warn!(%plugin, because = %faulty, "a plugin went back with another one of its activation group");
            }
            self.counts.on_probation(&plugin, false);
            self.pending.good = true;
            self.touch(&plugin);
        }
    }

    fn unkept(&mut self, unkept: Option<&Unkept>) {
        for (plugin, entry) in &mut self.plugins {
            let why = unkept.filter(|unkept| unkept.plugins.contains(plugin)).map(|unkept| Arc::clone(&unkept.why));
            if entry.set_not_kept(why) {
                self.pending.touched.insert(plugin.clone());
            }
        }
    }

    fn worker_started(&self) {
        self.shared.workers.fetch_add(1, Ordering::AcqRel);
        let spares = self.shared.wanted_spares();
        for revision in self.shared.revisions().all() {
            self.restock.ask(Restock { revision: Arc::downgrade(&revision), spares });
        }
    }

    /// Something was due.
    fn elapsed(&mut self, now: Instant) {
        let (mut again, mut late, mut restores) = (Vec::new(), Vec::new(), Vec::new());
        for (plugin, entry) in &mut self.plugins {
            if entry.recall.is_late(now) && entry.recall.release() {
                late.push(plugin.clone());
            }
            if entry.needs_recall(now) {
                self.pending.touched.insert(plugin.clone());
            }
            if entry.pass(now) {
                tracing::info!(%plugin, "a plugin passed its probation");
                self.counts.on_probation(plugin, false);
                self.pending.good = true;
                self.pending.touched.insert(plugin.clone());
            }
            again.extend(entry.retries(now).map(|resolve| (plugin.clone(), resolve)));
            restores.extend(entry.again.take_if(|(at, _)| *at <= now).map(|(_, restore)| (plugin.clone(), restore)));
        }
        for (plugin, restore) in restores {
            self.send(&plugin, Task::Restore(restore));
        }
        late.iter().for_each(|plugin| self.start(plugin, true, Resolve::Known));
        for (plugin, resolve) in again {
            self.start(&plugin, false, resolve);
        }
    }

    /// Switch what is ready, or say for whom it waits.
    fn settle(&mut self, now: Instant) {
        for circle in std::mem::take(&mut self.pending.circles) {
            let members = self.members(&circle);
            if members.iter().all(|plugin| self.plugins[plugin].candidate().is_none()) {
                continue;
            }
            let awaited = self.awaited(&members);
            if awaited.is_empty() {
                self.switch(&members, now);
            } else {
                for plugin in members {
                    self.plugins.entry(plugin.clone()).and_modify(|entry| entry.hold(&awaited));
                    self.pending.touched.insert(plugin);
                }
            }
        }
    }

    fn switch(&mut self, members: &[ResourceRef], now: Instant) {
        let ready = |plugin: &&ResourceRef| self.plugins[*plugin].candidate().is_some();
        let ready: Vec<ResourceRef> = members.iter().filter(ready).cloned().collect();
        // They go back together, so they are watched together.
        let period = ready.iter().map(|plugin| self.plugins[plugin].probation()).max().unwrap_or_default();
        for plugin in ready {
            let Some(entry) = self.plugins.get_mut(&plugin) else { continue };
            entry.switch(period, now);
            self.counts.on_probation(&plugin, entry.is_on_probation());
            self.pending.good = true;
            self.pending.touched.insert(plugin);
        }
    }

    fn awaited(&self, members: &[ResourceRef]) -> Vec<Awaited> {
        let standing = members.iter().map(|plugin| (plugin, self.plugins[plugin].standing()));
        let groups = members.iter().filter_map(|plugin| self.plugins[plugin].wanted.as_ref()?.rollout.group.as_ref());
        let unspecified = groups.flat_map(|group| &group.unspecified);
        group::awaited(standing.chain(unspecified.map(|plugin| (plugin, Standing::Held(Hold::Unspecified)))))
    }

    fn circle(&self, plugin: &ResourceRef) -> Circle {
        let wanted = self.plugins.get(plugin).and_then(|entry| entry.wanted.as_ref());
        Circle::of(plugin, wanted.and_then(|spec| spec.rollout.group.as_ref()))
    }

    fn members(&self, circle: &Circle) -> Vec<ResourceRef> {
        match circle {
            Circle::Alone(plugin) => self.plugins.contains_key(plugin).then(|| plugin.clone()).into_iter().collect(),
            Circle::Group(..) => self.plugins.keys().filter(|plugin| self.circle(plugin) == *circle).cloned().collect(),
        }
    }

    fn touch(&mut self, plugin: &ResourceRef) {
        let circle = self.circle(plugin);
        self.pending.circles.insert(circle);
        self.pending.touched.insert(plugin.clone());
    }

    /// The plugin whose current attempt this is.
    fn plugin_of(&self, job: JobId) -> Option<ResourceRef> {
        self.plugins.iter().find(|(_, entry)| entry.is_current(job)).map(|(plugin, _)| plugin.clone())
    }

    /// Tell what has changed, if anything, and keep what is good.
    fn tell(&mut self) {
        let Work { touched, gone, good, .. } = std::mem::take(&mut self.pending);
        let mut facts: Vec<Fact> = gone.into_iter().map(|plugin| Fact::Plugin(plugin, Arc::default())).collect();
        for plugin in touched {
            let Some(entry) = self.plugins.get_mut(&plugin) else { continue };
            let state = Arc::new(entry.state());
            if entry.reported.as_ref() != Some(&state) {
                entry.reported = Some(Arc::clone(&state));
                facts.push(Fact::Plugin(plugin, state));
            }
        }
        if !facts.is_empty() {
            self.facts.report_all(facts);
        }
        if let Some(keeper) = self.keeper.as_ref().filter(|_| good) {
            keeper.keep(self.good_set());
        }
    }

    fn good_set(&self) -> GoodSet {
        let condemned = |(plugin, entry): (&ResourceRef, &Entry)| Some((plugin.clone(), entry.condemned()?));
        GoodSet {
            plugins: self.plugins.keys().cloned().collect(),
            good: self.plugins.values().filter_map(|entry| entry.good()?.to_keep()).collect(),
            condemned: self.plugins.iter().filter_map(condemned).collect(),
        }
    }
}
