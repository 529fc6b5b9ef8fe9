//! Objects that are read only because somebody refers to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use penstock_core::{Kind, ResourceRef};
use penstock_translate::{Change, resources::Object};
use tokio::sync::watch;

use super::{Context, RETRY, watch::fetch};
use crate::event::Event;

/// Reads at a time.
const MAX_READS: usize = 16;

/// What was asked for, and whether it is answered: shared with the controller's side.
#[derive(Debug)]
pub(crate) struct Wanted {
    sender: watch::Sender<Arc<BTreeSet<ResourceRef>>>,
    answered: Arc<Mutex<BTreeSet<ResourceRef>>>,
}

impl Wanted {
    /// Ask for these objects and no others. Whether all of them have been read, or are known not to be there.
    pub(crate) fn ask(&self, objects: &Arc<BTreeSet<ResourceRef>>) -> bool {
        self.sender.send_if_modified(|before| {
            let differs = **before != **objects;
            if differs {
                *before = Arc::clone(objects);
            }
            differs
        });
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        objects.iter().all(|object| answered.contains(object))
    }
}

/// After so many failures an object counts as answered, and is missing.
const MAX_FAILURES: u32 = 3;

type Reading = BoxFuture<'static, (ResourceRef, Result<Option<(Arc<str>, Object)>, kube::Error>)>;

/// Reads what is asked for, and again when it changed.
pub(crate) struct References {
    wanted: watch::Receiver<Arc<BTreeSet<ResourceRef>>>,
    answered: Arc<Mutex<BTreeSet<ResourceRef>>>,
    /// The versions that the watches have seen, of all objects.
    versions: BTreeMap<ResourceRef, Arc<str>>,
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
        let answered = Arc::<Mutex<_>>::default();
        let references = Self {
            wanted,
            answered: Arc::clone(&answered),
            versions: BTreeMap::new(),
            complete: BTreeSet::new(),
            read: BTreeMap::new(),
            reading: FuturesUnordered::new(),
            resting: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            failures: BTreeMap::new(),
        };
        (Wanted { sender, answered }, references)
    }

    /// All names of a kind are known.
    pub(super) fn complete(&mut self, kind: Kind) {
        self.complete.insert(kind);
    }

    /// An object is there in this version, or gone.
    pub(super) fn seen(&mut self, id: ResourceRef, version: Option<Arc<str>>) {
        match version {
            Some(version) => drop(self.versions.insert(id, version)),
            None => drop(self.versions.remove(&id)),
        }
    }

    /// Wait until something was read, or something else is asked for.
    pub(super) async fn turn(&mut self, context: &Context) {
        tokio::select! {
            Ok(()) = self.wanted.changed() => {}
            Some((id, outcome)) = self.reading.next() => self.settle(context, id, outcome),
            Some(id) = self.resting.next() => drop(self.busy.remove(&id)),
            else => std::future::pending().await,
        }
    }

    fn settle(&mut self, context: &Context, id: ResourceRef, outcome: Result<Option<(Arc<str>, Object)>, kube::Error>) {
        self.busy.remove(&id);
        let failures = self.failures.remove(&id).unwrap_or_default();
        match outcome {
            Ok(Some((version, object))) => {
                self.read.insert(id.clone(), Arc::clone(&version));
                // It may be a later version than the watch has seen; then there is nothing to read again when the watch sees it too.
                self.versions.insert(id, version);
                context.inbox.send([Event::Changed(vec![Change::Upsert(object)])]);
            }
            Ok(None) => drop(self.versions.remove(&id)),
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
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let stale: Vec<_> =
            self.read.keys().filter(|id| !wanted.contains(*id) || !self.versions.contains_key(*id)).cloned().collect();
        self.forget(stale, |id| context.inbox.send([Event::Changed(vec![Change::Delete(id)])]));
        for id in wanted.iter() {
            let due = self.versions.get(id).is_some_and(|version| self.read.get(id) != Some(version));
            if due && self.reading.len() < MAX_READS && self.busy.insert(id.clone()) {
                self.begin(context, id.clone());
            }
        }
        let is_answered = |id: &&ResourceRef| match self.versions.get(*id) {
            // Nobody else waits for long for what cannot be had.
            Some(_) => self.read.contains_key(*id) || self.failures.get(*id).is_some_and(|it| *it >= MAX_FAILURES),
            None => self.complete.contains(&id.kind),
        };
        let now: BTreeSet<ResourceRef> = wanted.iter().filter(is_answered).cloned().collect();
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if *answered != now {
            let done = now.len() == wanted.len();
            *answered = now;
            drop(answered);
            if done {
                context.inbox.send([Event::Fetched]);
            }
        }
    }

    /// Whoever asks for one of these meanwhile must not be told that it is at hand, and then find it missing: it is not at hand any more
    /// before it is gone.
    fn forget(&mut self, stale: Vec<ResourceRef>, mut tell: impl FnMut(ResourceRef)) {
        if stale.is_empty() {
            return;
        }
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| !stale.contains(id));
        for id in stale {
            self.read.remove(&id);
            tell(id);
        }
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

    #[test]
    fn what_is_about_to_go_is_not_at_hand() {
        let (wanted, mut references) = References::new();
        let id = ResourceRef::new(Kind::ConfigMap, "default", "ca");
        let objects = Arc::new(BTreeSet::from([id.clone()]));
        references.answered.lock().unwrap().insert(id.clone());
        assert!(wanted.ask(&objects));
        let mut told = Vec::new();
        references.forget(vec![id.clone()], |id| told.push((id, wanted.ask(&objects))));
        assert_eq!(told, [(id, false)]);
    }
}
