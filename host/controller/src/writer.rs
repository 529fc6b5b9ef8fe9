//! The one who writes statuses: what is wanted comes in as a whole, what is there is compared with it, and only a difference is written.
//!
//! ```text
//! controller ──► desired (latest wins) ──┐                    ┌─► PATCH …/status, with the version that was compared
//! watches    ──► touched objects ────────┼─► dirty ─► merge ──┤
//! lease      ──► who leads ──────────────┘      ▲             └─► conflict, failure, somebody else's hand: later, and later each time
//!                                               └──────────────────────────┘
//! ```
//!
//! Invariants:
//! * Nothing is queued but names: an object that changed ten times meanwhile is written once, as it should be then.
//! * One write per object at a time, a bounded number altogether, and a bounded number a second if the operator says so.
//! * What says nothing new but a count of routes waits for more; so does what keeps changing. Nothing else does.
//! * Only the leader writes. Who does not lead keeps comparing nothing, and begins with everything when it does.
//! * What is not ours any more loses what this installation wrote in it, and nothing else; what stood for a listener goes after the listener.
//! * Somebody who keeps undoing what is written here is answered more and more slowly: no war of writes.

mod merge;
mod pace;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use penstock_core::{Kind, ResourceRef};
use penstock_translate::{Status, Statuses};
use serde_json::{Value, json};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        watch,
    },
    time::Instant,
};

use self::{
    merge::Merge,
    pace::{Pace, Throttle},
};
use crate::{
    controller::Reserve,
    metrics::{ClusterMetrics, WriteReason},
    sources::cluster::{Bounded, LiveObject, LiveObjects, Namespaces, signature},
    status::Clock,
    timer::sleep_until,
};

/// Writes at a time: enough to keep one connection busy, and no load that an API server would notice.
const MAX_WRITES: usize = 16;

/// How long the writer waits for more after something changed.
const SETTLING: Duration = Duration::from_millis(25);

/// The name under which the API server notes what we write beside statuses.
pub(crate) const FIELD_MANAGER: &str = "penstock";

/// What should be said, complete.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desired {
    pub(crate) statuses: Arc<Statuses>,
    pub(crate) reserve: Reserve,
}

/// From whom the writer hears.
pub(crate) struct Sources {
    /// None until the first translation: before it, nothing is known to be wrong.
    pub(crate) desired: watch::Receiver<Option<Desired>>,
    /// Objects whose status is another one than before, by whoever's hand.
    pub(crate) touched: UnboundedReceiver<ResourceRef>,
    /// Whether this instance leads.
    pub(crate) leading: watch::Receiver<bool>,
}

/// Writes statuses.
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) live: Arc<LiveObjects>,
    pub(crate) namespaces: Namespaces,
    /// Under which name statuses are written.
    pub(crate) manager: Arc<str>,
    pub(crate) controller: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) metrics: ClusterMetrics,
    /// Writes a second, if there is a limit.
    pub(crate) per_second: Option<NonZeroU32>,
    /// Told of objects whose status somebody else keeps changing.
    pub(crate) contested: UnboundedSender<ResourceRef>,
}

/// What mends a status.
struct Difference {
    patch: Value,
    /// It says nothing new but how many of something there are.
    counts_alone: bool,
}

/// What came of a write.
struct Written {
    id: ResourceRef,
    reason: WriteReason,
    outcome: Result<LiveObject, WriteFailed>,
}

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
enum WriteFailed {
    /// Its CustomResourceDefinition is not there any more.
    #[error("the cluster has no such kind")]
    NotServed,
    #[error("the API server refuses")]
    Refused(#[from] kube::Error),
}

/// What is on the writer's desk.
#[derive(Default)]
struct Desk {
    desired: Desired,
    dirty: BTreeSet<ResourceRef>,
    busy: BTreeSet<ResourceRef>,
    pace: Pace,
    throttle: Throttle,
    /// These are to be withdrawn once nothing listens for them any more.
    held: BTreeSet<ResourceRef>,
    /// What is to be written of these are counts, or they change all the time: not before.
    resting: BTreeMap<ResourceRef, Instant>,
    /// What was last written for an object, by its `uid`: the same again means that somebody undid it.
    last: BTreeMap<ResourceRef, (Arc<str>, Option<Arc<Status>>)>,
}

impl Writer {
    /// Write until the controller is gone.
    pub(crate) async fn run(self, mut sources: Sources) {
        let mut desk = Desk { throttle: Throttle::new(self.per_second), ..Desk::default() };
        let mut writes = FuturesUnordered::new();
        loop {
            let known = sources.desired.borrow().is_some();
            let works = known && *sources.leading.borrow();
            if works {
                while writes.len() < MAX_WRITES
                    && desk.throttle.next(Instant::now()).is_none()
                    && let Some((id, patch, reason)) = self.next(&mut desk, Instant::now())
                {
                    desk.throttle.take();
                    desk.busy.insert(id.clone());
                    writes.push(self.write(id, patch, reason));
                }
            }
            let pause = desk.due_at(works && writes.len() < MAX_WRITES);
            tokio::select! {
                changed = sources.desired.changed() => match changed {
                    Ok(()) => {
                        // What follows from one change comes within milliseconds: it is written as one.
                        tokio::time::sleep(SETTLING).await;
                        desk.receive(sources.desired.borrow_and_update().clone().unwrap_or_default());
                    }
                    Err(_) => return,
                },
                Some(id) = sources.touched.recv() => drop(desk.dirty.insert(id)),
                Ok(()) = sources.leading.changed() => desk.dirty.extend(self.live.ids()),
                Some(written) = writes.next() => self.settle(&mut desk, written),
                () = sleep_until(pause) => {}
            }
        }
    }

    /// The next object whose status differs from what it should be, with the patch that mends it.
    fn next(&self, desk: &mut Desk, now: Instant) -> Option<(ResourceRef, Value, WriteReason)> {
        desk.rouse(now);
        while let Some(id) = desk.due(now) {
            desk.dirty.remove(&id);
            desk.resting.remove(&id);
            let Some(live) = self.live.get(&id) else {
                continue; // not there: its watch will say when it is
            };
            if !self.namespaces.has(&id) {
                continue; // what is in there does not exist (any more), even where the watches do not know it yet
            }
            let Desired { statuses, reserve } = &desk.desired;
            if reserve.undecided.contains(&id) {
                continue; // it is looked at as soon as that is no more so
            }
            let wanted = statuses.get(&id);
            if wanted.is_none() && reserve.closing && is_listened_for(id.kind) {
                desk.held.insert(id);
                continue;
            }
            let difference = self.difference(&id, &live, wanted, &reserve.others);
            let Some(Difference { patch, counts_alone }) = difference else { continue };
            let undone = desk.last.get(&id).is_some_and(|(uid, last)| match (last, wanted) {
                // One that was created anew has had no status yet, which is nobody's doing.
                _ if *uid != live.uid => false,
                (Some(last), Some(wanted)) => Arc::ptr_eq(last, wanted),
                (None, None) => true,
                _ => false,
            });
            if undone && let Some(times) = desk.pace.undone(&id, now) {
                desk.dirty.insert(id.clone());
                if times == pace::WAR {
                    tracing::warn!(object = %id, "somebody else keeps changing this status; it is written less and less often");
                    self.metrics.contested(id.kind);
                    // Who tells is gone only at the end of everything.
                    let _ = self.contested.send(id);
                }
                continue;
            }
            let rests = match counts_alone {
                _ if undone => None,
                true => desk.pace.counts(&id, now),
                false => desk.pace.changed(&id, now),
            };
            if let Some(until) = rests {
                desk.resting.insert(id, until);
                continue;
            }
            let reason = match wanted {
                _ if undone => WriteReason::restored,
                Some(_) => WriteReason::changed,
                None => WriteReason::withdrawn,
            };
            desk.last.insert(id.clone(), (Arc::clone(&live.uid), wanted.cloned()));
            return Some((id, patch, reason));
        }
        None
    }

    fn difference(
        &self,
        id: &ResourceRef,
        live: &LiveObject,
        wanted: Option<&Arc<Status>>,
        others: &BTreeSet<ResourceRef>,
    ) -> Option<Difference> {
        // Whole seconds, as Kubernetes writes times.
        let now = (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let merge = Merge { controller: &self.controller, others, namespaces: &self.namespaces, now: &now };
        let (there, wanted) = (live.status(), wanted.map(|status| status.written()));
        let status = merge.apply(id, &there, live.signature.as_deref(), wanted.as_ref())?;
        let patch = json!({
            "metadata": { "uid": *live.uid, "resourceVersion": *live.version },
            "status": merge::patch(&there, &status),
        });
        Some(Difference { patch, counts_alone: merge::differ_in_counts_alone(&there, &status) })
    }

    async fn write(&self, id: ResourceRef, patch: Value, reason: WriteReason) -> Written {
        let outcome = self.send(&id, patch).await;
        Written { id, reason, outcome }
    }

    async fn send(&self, id: &ResourceRef, patch: Value) -> Result<LiveObject, WriteFailed> {
        let resource = self.live.served(id.kind).ok_or(WriteFailed::NotServed)?;
        let api: Api<Bounded<DynamicObject>> = match &*id.namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let parameters = PatchParams { field_manager: Some(self.manager.to_string()), ..PatchParams::default() };
        let Bounded(object) = api.patch_status(&id.name, &parameters, &Patch::Merge(patch)).await?;
        let (uid, version) = (object.uid().unwrap_or_default(), object.resource_version().unwrap_or_default());
        let live = LiveObject::new(&uid, &version, object.data.get("status"));
        Ok(live.signed(signature(id.kind, &object.metadata, &self.manager)))
    }

    fn settle(&self, desk: &mut Desk, written: Written) {
        let Written { id, reason, outcome } = written;
        desk.busy.remove(&id);
        match outcome {
            Ok(live) => {
                self.metrics.written(id.kind, reason);
                desk.pace.succeeded(&id);
                self.live.insert(id, live);
            }
            Err(WriteFailed::Refused(kube::Error::Api(status))) if status.is_not_found() => {
                // Deleted meanwhile; its watch will say so.
                desk.pace.forget(&id);
                desk.last.remove(&id);
            }
            Err(error) => {
                let conflict = matches!(&error, WriteFailed::Refused(kube::Error::Api(status)) if status.is_conflict());
                self.metrics.write_failed(id.kind, conflict);
                desk.last.remove(&id); // it was not written, so nobody undid it
                let attempts = desk.pace.failed(&id, Instant::now());
                if !conflict && attempts == 1 {
                    tracing::warn!(object = %id, error = &error as &dyn std::error::Error, "cannot write a status; trying again");
                }
                desk.dirty.insert(id);
            }
        }
    }
}

/// Whether its status says where it listens.
fn is_listened_for(kind: Kind) -> bool {
    matches!(kind, Kind::Gateway | Kind::ListenerSet | Kind::Ingress)
}

impl Desk {
    /// Look again at what has rested long enough.
    fn rouse(&mut self, now: Instant) {
        self.resting.retain(|id, until| {
            let rests = *until > now;
            if !rests {
                self.dirty.insert(id.clone());
            }
            rests
        });
    }

    /// When something that waits may be looked at. Who may not write now, or has his hands full, is not woken for it: he would be at once, again and
    /// again.
    fn due_at(&mut self, may_write: bool) -> Option<Instant> {
        if !may_write {
            return None;
        }
        let first = self.pace.next(&self.dirty).into_iter().chain(self.resting.values().copied()).min();
        let is_idle = self.dirty.is_empty() && self.resting.is_empty();
        self.throttle.next(Instant::now()).filter(|_| !is_idle).or(first)
    }

    /// An object that may be looked at now.
    fn due(&self, now: Instant) -> Option<ResourceRef> {
        let due = |id: &&ResourceRef| !self.busy.contains(*id) && self.pace.is_due(id, now);
        self.dirty.iter().find(due).cloned()
    }

    /// Take what is wanted now. What differs from before is to be looked at; the rest is as it was.
    fn receive(&mut self, desired: Desired) {
        let before = std::mem::replace(&mut self.desired, desired);
        self.pace.forget_calm(Instant::now());
        let now = &self.desired.statuses;
        if !Arc::ptr_eq(&before.statuses, now) {
            self.dirty.extend(before.statuses.keys().filter(|id| !now.contains_key(*id)).cloned());
            let differs = |(id, status): &(&ResourceRef, &Arc<Status>)| {
                before.statuses.get(*id).is_none_or(|before| !Arc::ptr_eq(before, status))
            };
            self.dirty.extend(now.iter().filter(differs).map(|(id, _)| id.clone()));
            self.last.retain(|id, _| now.contains_key(id) || before.statuses.contains_key(id));
        }
        if !self.desired.reserve.closing {
            self.dirty.append(&mut self.held);
        }
        self.dirty.extend(before.reserve.undecided.difference(&self.desired.reserve.undecided).cloned());
    }
}

#[cfg(test)]
mod tests;
