//! Objects that are read only because somebody refers to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use penstock_core::{Kind, ResourceRef};
use penstock_translate::{Change, resources::Object};
use tokio::{sync::watch, time::Instant};

use super::{Context, RETRY, watch::fetch};
use crate::{event::Event, inbox::GRACE, timer::sleep_until};

/// Reads at a time.
const MAX_READS: usize = 16;

/// Where to ask for objects: the controller's side.
#[derive(Debug)]
pub(crate) struct Wanted(watch::Sender<Arc<BTreeSet<ResourceRef>>>);

impl Wanted {
    /// Ask for these objects and no others.
    pub(crate) fn ask(&self, objects: &Arc<BTreeSet<ResourceRef>>) {
        self.0.send_if_modified(|before| {
            let differs = **before != **objects;
            if differs {
                *before = Arc::clone(objects);
            }
            differs
        });
    }
}

/// After so many failures an object counts as answered, and is missing.
const MAX_FAILURES: u32 = 3;

type Reading = BoxFuture<'static, (ResourceRef, Result<Option<(Arc<str>, Object)>, kube::Error>)>;

/// Reads what is asked for, and again when it changed.
pub(crate) struct References {
    wanted: watch::Receiver<Arc<BTreeSet<ResourceRef>>>,
    /// Those that have been read, or are known not to be there, as far as anybody was told.
    answered: Arc<BTreeSet<ResourceRef>>,
    /// The versions that the watches have seen, of all objects.
    versions: BTreeMap<ResourceRef, Arc<str>>,
    /// Gone, unless they are back by then: who replaces an object by force deletes and creates it.
    leaving: BTreeMap<ResourceRef, Instant>,
    /// Kinds of which every name is known.
    complete: BTreeSet<Kind>,
    /// The versions that were read.
    read: BTreeMap<ResourceRef, Arc<str>>,
    reading: FuturesUnordered<Reading>,
    /// Those that could not be read, until it is time to try again. They take nobody's turn.
    resting: FuturesUnordered<BoxFuture<'static, ResourceRef>>,
    /// In one of the two.
    busy: BTreeSet<ResourceRef>,
    /// How often these could not be read, in a row.
    failures: BTreeMap<ResourceRef, u32>,
}

impl References {
    /// Both ends.
    pub(crate) fn new() -> (Wanted, Self) {
        let (sender, wanted) = watch::channel(Arc::default());
        let references = Self {
            wanted,
            answered: Arc::default(),
            versions: BTreeMap::new(),
            leaving: BTreeMap::new(),
            complete: BTreeSet::new(),
            read: BTreeMap::new(),
            reading: FuturesUnordered::new(),
            resting: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            failures: BTreeMap::new(),
        };
        (Wanted(sender), references)
    }

    /// All names of a kind are known.
    pub(super) fn complete(&mut self, kind: Kind) {
        self.complete.insert(kind);
    }

    /// An object is there in this version, or gone.
    pub(super) fn seen(&mut self, id: ResourceRef, version: Option<Arc<str>>) {
        match version {
            Some(version) => {
                self.leaving.remove(&id);
                self.versions.insert(id, version);
            }
            None => self.leave(id),
        }
    }

    /// It is not there any more. What was read of it stays in effect for a moment.
    fn leave(&mut self, id: ResourceRef) {
        if self.versions.contains_key(&id) {
            self.leaving.entry(id).or_insert_with(|| Instant::now() + GRACE);
        }
    }

    /// What has not come back by now is gone.
    fn let_go(&mut self, now: Instant) {
        for (id, _) in self.leaving.extract_if(.., |_, due| *due <= now) {
            self.versions.remove(&id);
        }
    }

    /// Wait until something was read, is gone, or something else is asked for.
    pub(super) async fn turn(&mut self, context: &Context) {
        let due = self.leaving.values().min().copied();
        tokio::select! {
            Ok(()) = self.wanted.changed() => {}
            Some((id, outcome)) = self.reading.next() => self.settle(context, id, outcome),
            Some(id) = self.resting.next() => drop(self.busy.remove(&id)),
            () = sleep_until(due) => {}
        }
    }

    fn settle(&mut self, context: &Context, id: ResourceRef, outcome: Result<Option<(Arc<str>, Object)>, kube::Error>) {
        self.busy.remove(&id);
        let failures = self.failures.remove(&id).unwrap_or_default();
        match outcome {
            Ok(Some((version, object))) => {
                // One that is gone by now is gone, whatever was read of it: if it is back, its watch will say so.
                if let Some(seen) = self.versions.get_mut(&id) {
                    // It may be a later version than the watch has seen; then there is nothing to read again when the watch sees it too.
                    *seen = Arc::clone(&version);
                    self.read.insert(id, version);
                    context.inbox.send([Event::Changed(vec![Change::Upsert(object)])]);
                }
            }
            Ok(None) => self.leave(id),
            Err(error) => {
                context.metrics.watch_failed(id.kind);
                tracing::warn!(object = %id, error = &error as &dyn std::error::Error, "cannot read an object; trying again");
                // An API server that says no will say it again; one that says nothing may be back in a moment.
                let failures = if matches!(error, kube::Error::Api(_)) { MAX_FAILURES } else { failures + 1 };
                self.failures.insert(id.clone(), failures);
                self.busy.insert(id.clone());
                self.resting.push(Box::pin(tokio::time::sleep(RETRY).map(|()| id)));
            }
        }
    }

    /// Begin what is due, and say what is answered by now.
    pub(super) fn report(&mut self, context: &Context) {
        self.let_go(Instant::now());
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let stale: Vec<_> =
            self.read.keys().filter(|id| !wanted.contains(*id) || !self.versions.contains_key(*id)).cloned().collect();
        if let Some(events) = self.forget(&stale) {
            context.inbox.send(events);
        }
        for id in wanted.iter() {
            if self.is_due(id) && self.reading.len() < MAX_READS && self.busy.insert(id.clone()) {
                self.begin(context, id.clone());
            }
        }
        let is_answered = |id: &&ResourceRef| match self.versions.get(*id) {
            // Nobody else waits for long for what cannot be had.
            Some(_) => self.read.contains_key(*id) || self.failures.get(*id).is_some_and(|it| *it >= MAX_FAILURES),
            None => self.complete.contains(&id.kind),
        };
        let now: BTreeSet<ResourceRef> = wanted.iter().filter(is_answered).cloned().collect();
        if *self.answered != now {
            self.answered = Arc::new(now);
            context.inbox.send([Event::Answered(Arc::clone(&self.answered))]);
        }
    }

    /// Nobody asks for these any more. They are not at hand any more in the same moment in which they are gone: whoever asks for one of them again must
    /// not find it missing.
    fn forget(&mut self, stale: &[ResourceRef]) -> Option<[Event; 2]> {
        if stale.is_empty() {
            return None;
        }
        stale.iter().for_each(|id| drop(self.read.remove(id)));
        self.answered = Arc::new(self.answered.iter().filter(|id| !stale.contains(id)).cloned().collect());
        let gone = stale.iter().cloned().map(Change::Delete).collect();
        Some([Event::Answered(Arc::clone(&self.answered)), Event::Changed(gone)])
    }

    /// Whether it is there in another version than the one that was read.
    fn is_due(&self, id: &ResourceRef) -> bool {
        let is_new = |version| self.read.get(id) != Some(version);
        self.versions.get(id).is_some_and(is_new) && !self.leaving.contains_key(id)
    }

    fn begin(&mut self, context: &Context, id: ResourceRef) {
        let Some(resource) = context.live.served(id.kind) else { return };
        let client = context.client.clone();
        self.reading.push(Box::pin(async move {
            let outcome = fetch(&client, &id, &resource).await;
            (id, outcome)
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Inbox;

    #[test]
    fn what_is_back_in_a_moment_was_never_away() {
        let (_wanted, mut references) = References::new();
        let [back, gone, unread] =
            ["back", "gone", "unread"].map(|name| ResourceRef::new(Kind::Secret, "default", name));
        for id in [&back, &gone] {
            references.seen(id.clone(), Some("1".into()));
            references.read.insert(id.clone(), "1".into());
        }
        references.seen(unread.clone(), Some("1".into()));
        let before = Instant::now();
        for id in [&back, &gone, &unread] {
            references.seen(id.clone(), None);
        }
        assert!(references.leaving.values().all(|due| *due >= before + GRACE));
        references.let_go(before);
        assert_eq!(references.versions.len(), 3, "what was read is still in effect");
        assert!(!references.is_due(&unread), "nobody reads what is not there");
        references.seen(back.clone(), Some("2".into()));
        assert!(references.is_due(&back), "it is another one");
        references.let_go(Instant::now() + GRACE);
        assert_eq!(references.versions.keys().collect::<Vec<_>>(), [&back]);
        assert!(references.leaving.is_empty());
        references.seen(gone, None);
        assert!(references.leaving.is_empty(), "what is gone does not go again");
    }

    #[test]
    fn what_goes_is_not_at_hand_any_more_in_the_same_moment() {
        let (_wanted, mut references) = References::new();
        let id = |name: &str| ResourceRef::new(Kind::ConfigMap, "default", name);
        references.answered = Arc::new(BTreeSet::from([id("ca"), id("stays")]));
        assert!(references.forget(&[]).is_none());
        let inbox = Inbox::new();
        inbox.send(references.forget(&[id("ca")]).unwrap());
        let mut batch = inbox.next().unwrap();
        assert_eq!(*batch.answered.take().unwrap(), BTreeSet::from([id("stays")]));
        assert_eq!(batch.take_changes().collect::<Vec<_>>(), [Change::Delete(id("ca"))]);
    }
}
