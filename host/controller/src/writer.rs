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
//! * One write per object at a time, and a bounded number altogether.
//! * What says nothing new but a count of routes waits for more; nothing else does.
//! * Only the leader writes. Who does not lead keeps comparing nothing, and begins with everything when it does.
//! * Somebody who keeps undoing what is written here is answered more and more slowly: no war of writes.

mod merge;
mod pace;

use std::{
    collections::{BTreeMap, BTreeSet},
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
    sync::{mpsc::UnboundedReceiver, watch},
    time::Instant,
};

use self::{merge::Merge, pace::Pace};
use crate::{
    controller::Reserve,
    metrics::{ClusterMetrics, WriteReason},
    sources::cluster::{LiveObject, LiveObjects, Namespaces},
    status::Clock,
    timer::sleep_until,
};

/// Writes at a time: enough to keep one connection busy, and no load that an API server would notice.
const MAX_WRITES: usize = 16;

/// How long the writer waits for more after something changed.
const SETTLING: Duration = Duration::from_millis(25);

/// The name under which the API server notes our fields.
pub(crate) const FIELD_MANAGER: &str = "penstock";

/// What should be said, complete.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desired {
    pub(crate) statuses: Statuses,
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
    /// Under which the addresses of Ingresses are written.
    pub(crate) signature: Arc<str>,
    pub(crate) controller: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) metrics: ClusterMetrics,
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
    /// Of these nothing but counts is to be written, and not before.
    counting: BTreeMap<ResourceRef, Instant>,
    /// What was last written for an object: the same again means that somebody undid it.
    last: BTreeMap<ResourceRef, Option<Arc<Status>>>,
}

impl Writer {
    /// Write until the controller is gone.
    pub(crate) async fn run(self, mut sources: Sources) {
        let mut desk = Desk::default();
        let mut writes = FuturesUnordered::new();
        loop {
            let known = sources.desired.borrow().is_some();
            let works = known && *sources.leading.borrow();
            if works {
                while writes.len() < MAX_WRITES
                    && let Some((id, patch, reason)) = self.next(&mut desk, Instant::now())
                {
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
        desk.count(now);
        while let Some(id) = desk.due(now) {
            desk.dirty.remove(&id);
            desk.counting.remove(&id);
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
            let difference = self.difference(&id, &live, wanted, &reserve.others);
            let Some(Difference { patch, counts_alone }) = difference else { continue };
            let undone = desk.last.get(&id).is_some_and(|last| match (last, wanted) {
                (Some(last), Some(wanted)) => Arc::ptr_eq(last, wanted),
                (None, None) => true,
                _ => false,
            });
            if undone && let Some(times) = desk.pace.undone(&id, now) {
                desk.dirty.insert(id.clone());
                if times == pace::WAR {
                    tracing::warn!(object = %id, "somebody else keeps changing this status; it is written less and less often");
                }
                continue;
            }
            if counts_alone
                && !undone
                && let Some(at) = desk.pace.counts(&id, now)
            {
                desk.counting.insert(id, at);
                continue;
            }
            let reason = match wanted {
                _ if undone => WriteReason::restored,
                Some(_) => WriteReason::changed,
                None => WriteReason::withdrawn,
            };
            desk.last.insert(id.clone(), wanted.cloned());
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
        let merge = Merge { controller: &self.controller, others, now: &now };
        let there = live.status();
        let wanted = match wanted {
            Some(status) => Some(status.written()),
            // An Ingress that is not ours any more, unless somebody else has it by now, and said so.
            None if live.signed && there["loadBalancer"]["ingress"].is_array() => Some(json!({ "loadBalancer": {} })),
            None => None,
        };
        let status = merge.apply(id, &there, wanted.as_ref())?;
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
        let api: Api<DynamicObject> = match &*id.namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let manager = if id.kind == Kind::Ingress { &self.signature } else { FIELD_MANAGER };
        let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        let object = api.patch_status(&id.name, &parameters, &Patch::Merge(patch)).await?;
        let (uid, version) = (object.uid().unwrap_or_default(), object.resource_version().unwrap_or_default());
        let live = LiveObject::new(&uid, &version, object.data.get("status"));
        Ok(live.signed_by(&object.metadata, &self.signature))
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

impl Desk {
    /// Look again at what has waited long enough.
    fn count(&mut self, now: Instant) {
        self.counting.retain(|id, at| {
            let waits = *at > now;
            if !waits {
                self.dirty.insert(id.clone());
            }
            waits
        });
    }

    /// When something that waits may be looked at. Who may not write now, or has his hands full, is not woken for it: he would be at once, again and
    /// again.
    fn due_at(&self, may_write: bool) -> Option<Instant> {
        self.pace.next(&self.dirty).into_iter().chain(self.counting.values().copied()).filter(|_| may_write).min()
    }

    /// An object that may be looked at now.
    fn due(&self, now: Instant) -> Option<ResourceRef> {
        let due = |id: &&ResourceRef| !self.busy.contains(*id) && self.pace.is_due(id, now);
        self.dirty.iter().find(due).cloned()
    }

    /// Take what is wanted now. What differs from before is to be looked at; the rest is as it was.
    fn receive(&mut self, desired: Desired) {
        let before = std::mem::replace(&mut self.desired, desired);
        let now = &self.desired.statuses;
        self.dirty.extend(before.statuses.keys().filter(|id| !now.contains_key(*id)).cloned());
        let differs = |(id, status): &(&ResourceRef, &Arc<Status>)| {
            before.statuses.get(*id).is_none_or(|before| !Arc::ptr_eq(before, status))
        };
        self.dirty.extend(now.iter().filter(differs).map(|(id, _)| id.clone()));
        self.dirty.extend(before.reserve.undecided.difference(&self.desired.reserve.undecided).cloned());
        self.last.retain(|id, _| now.contains_key(id) || before.statuses.contains_key(id));
    }
}

#[cfg(test)]
mod tests;
