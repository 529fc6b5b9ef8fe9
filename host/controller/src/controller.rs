//! The loop: one batch of events, one translation, one publication.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use penstock_core::{ResourceRef, Snapshot, fact::SocketState};
use penstock_translate::{Needs, Resources, Settings, Statuses, Translation, Translator, Upkeep};

use crate::{
    event::SourceId,
    inbox::{Batch, Inbox},
    metrics::ControllerMetrics,
    readiness,
    sources::files::Problem,
    status::{Owner, StatusBoard},
};

/// Where the results of a translation go. Both calls hand over a complete desired state and return at once; what came of it returns as
/// facts.
pub trait Outputs {
    /// This configuration is in effect from now on.
    fn publish(&mut self, snapshot: &Arc<Snapshot>);

    /// The plugins of `needs` should run, and no others.
    fn require(&mut self, needs: &Needs);

    /// These Secrets and ConfigMaps should be read, and no others. Whether what has become of them is told by
    /// [`Event::Answered`](crate::Event::Answered).
    fn ask(&mut self, _: &Arc<BTreeSet<ResourceRef>>) -> bool {
        false // a source that reports everything by itself
    }

    /// This is to be done in the cluster for Gateways and plugins.
    fn keep_up(&mut self, _: &Arc<Upkeep>) {}

    /// This should be said about resources.
    fn say(&mut self, _: &Arc<Statuses>, _: &Reserve) {}
}

/// What is left as it is in the statuses of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Entries about these are another installation's.
    pub others: Arc<BTreeSet<ResourceRef>>,
    /// What an earlier process said about these stays, until this one knows better.
    pub undecided: Arc<BTreeSet<ResourceRef>>,
    /// A socket that nobody wants any more is still open: nobody is told yet that it is gone.
    pub closing: bool,
}

/// The one owner of the world.
pub struct Controller<O> {
    resources: Resources,
    translator: Translator,
    settings: Settings,
    problems: BTreeMap<SourceId, Vec<Problem>>,
    /// Of the Secrets and ConfigMaps that were asked for, those that are in `resources`, or are known not to be there.
    answered: Arc<BTreeSet<ResourceRef>>,
    /// Sources that have not said everything yet.
    incomplete: BTreeSet<SourceId>,
    published: Option<Arc<Snapshot>>,
    /// The statuses that were last counted.
    counted: Option<Arc<Statuses>>,
    /// Whether the sockets of a publication were all bound or refused for once.
    settled: bool,
    /// Plugins of which there has been no verdict since the start; none before the first publication.
    undecided: Option<Arc<BTreeSet<ResourceRef>>>,
    outputs: O,
    board: Arc<StatusBoard>,
    metrics: ControllerMetrics,
    _alive: Arc<Owner>,
}

impl<O: Outputs> Controller<O> {
    /// A controller that waits for `sources` before it publishes anything.
    pub fn new(
        settings: Settings,
        sources: impl IntoIterator<Item = SourceId>,
        outputs: O,
        board: Arc<StatusBoard>,
        metrics: ControllerMetrics,
    ) -> Self {
        let incomplete: BTreeSet<_> = sources.into_iter().collect();
        board.wait_for(readiness::Unready::Sources(incomplete.iter().cloned().collect()));
        Self {
            resources: Resources::default(),
            translator: Translator::default(),
            settings,
            problems: BTreeMap::new(),
            answered: Arc::default(),
            incomplete,
            published: None,
            counted: None,
            settled: false,
            undecided: None,
            outputs,
            _alive: board.attach(),
            board,
            metrics,
        }
    }

    /// Handle batches until the inbox is closed.
    pub fn run(mut self, inbox: &Inbox) {
        while let Some(batch) = inbox.next() {
            self.handle(batch);
        }
    }

    /// Apply a batch; translate and publish if that made a difference.
    pub fn handle(&mut self, mut batch: Batch) {
        let mut changed = false;
        for change in batch.take_changes() {
            let matters = self.translator.concerns(&change, &self.resources, &self.settings);
            changed |= self.resources.apply(change) && matters;
        }
        let answered = batch.answered.take().map(|objects| self.answered = objects).is_some();
        let problems_changed = self.take_problems(&mut batch);
        let was_incomplete = !self.incomplete.is_empty();
        self.incomplete.retain(|source| !batch.complete.contains(source));
        if !self.incomplete.is_empty() {
            self.board.wait_for(readiness::Unready::Sources(self.incomplete.iter().cloned().collect()));
            return;
        }
        if changed || was_incomplete || problems_changed || answered {
            self.translate();
        }
        if batch.retry {
            self.retry();
        }
    }

    /// Publish the same snapshot again if one of its sockets could not be bound. Only the loop may do so: anyone else might bring back an
    /// older one.
    fn retry(&mut self) {
        let failed = |state: &SocketState| matches!(state, SocketState::Failed(_));
        if let Some(snapshot) = &self.published
            && self.resources.facts.sockets.values().any(failed)
        {
            self.outputs.publish(snapshot);
        }
    }

    fn take_problems(&mut self, batch: &mut Batch) -> bool {
        let mut changed = false;
        for (source, problems) in std::mem::take(&mut batch.problems) {
            changed |= self.problems.get(&source).map_or(!problems.is_empty(), |known| *known != problems);
            self.problems.insert(source, problems);
        }
        changed
    }

    fn translate(&mut self) {
        let began = Instant::now();
        let translation = self.translator.translate(&self.resources, &self.settings);
        self.metrics.translated(began.elapsed(), &self.resources);
        self.count(&translation.statuses);
        let wanted = &translation.needs.objects;
        if self.outputs.ask(wanted) && !wanted.is_subset(&self.answered) {
            // A certificate that is on its way must not look as if it were missing. Everything stays as it is until it is here, or is known not to
            // come: that takes one read.
            if self.published.is_none() {
                let objects = wanted.iter().map(ToString::to_string).collect();
                self.board.wait_for(readiness::Unready::Objects(objects));
            }
            return;
        }
        self.publish(&translation);
        let problems = self.problems.values().flatten().cloned().collect();
        let unready = readiness::unready(&translation.needs, &self.resources.facts);
        self.outputs.keep_up(&translation.upkeep);
        // After a restart everything says what it said before, so nothing is said until the sockets are bound again.
        self.settled |= !matches!(unready, Some(readiness::Unready::Sockets(_)));
        let undecided = self.undecided(&translation);
        if self.settled {
            let is_over = |(address, state): (&SocketAddr, &SocketState)| {
                *state == SocketState::Bound && !translation.needs.sockets.contains(address)
            };
            let closing = self.resources.facts.sockets.iter().any(is_over);
            let reserve = Reserve { others: Arc::clone(&translation.others), undecided, closing };
            self.outputs.say(&translation.statuses, &reserve);
        }
        self.board.publish(&translation.statuses, &self.resources.facts.sockets, problems, unready);
    }

    /// Most changes leave all statuses as they are.
    fn count(&mut self, statuses: &Arc<Statuses>) {
        if self.counted.as_ref().is_none_or(|counted| !Arc::ptr_eq(counted, statuses)) {
            self.metrics.owned(statuses);
            self.counted = Some(Arc::clone(statuses));
        }
    }

    /// Plugins that were there at the start and are still on their way, and what they have a say in. That they are is no news to anybody: they served
    /// before, or were refused.
    fn undecided(&mut self, translation: &Translation) -> Arc<BTreeSet<ResourceRef>> {
        let now = || readiness::undecided(&translation.needs, &self.resources.facts);
        let left = match &self.undecided {
            None => Arc::new(now().collect()),
            Some(before) if before.is_empty() => Arc::clone(before),
            Some(before) => Arc::new(now().filter(|plugin| before.contains(plugin)).collect()),
        };
        self.undecided = Some(Arc::clone(&left));
        if left.is_empty() { left } else { Arc::new(left.union(&translation.awaiting).cloned().collect()) }
    }

    /// Endpoints before the snapshot: a backend that is new in the snapshot has its endpoints from the first request on. Needs after it: a
    /// plugin that nobody calls any more is given up only then.
    fn publish(&mut self, translation: &Translation) {
        for (cell, endpoints) in &translation.endpoints {
            if !Arc::ptr_eq(&cell.load(), endpoints) {
                cell.store(Arc::clone(endpoints));
            }
        }
        if self.published.as_ref().is_none_or(|published| !Arc::ptr_eq(published, &translation.snapshot)) {
            self.outputs.publish(&translation.snapshot);
            self.metrics.published();
            self.published = Some(Arc::clone(&translation.snapshot));
        }
        self.outputs.require(&translation.needs);
    }
}

#[cfg(test)]
mod tests;
