//! Does what is to be done in the cluster beside statuses: Services of Gateways with their EndpointSlices, and records of plugins.
//!
//! Invariants:
//! * Only the leader does anything, one object after the other: there are few, and nobody waits for them.
//! * What was done and is still asked for is done again later, and later each time: the answer may be on its way, or somebody keeps undoing it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use penstock_core::{Kind, ResourceRef};
use penstock_translate::{Action, Upkeep};
use tokio::{sync::watch, time::Instant};

use crate::{
    metrics::{ClusterMetrics, UpkeepAction},
    timer::sleep_until,
    writer::FIELD_MANAGER,
};

/// Long enough for the watch to tell what was done.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Who does it.
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) metrics: ClusterMetrics,
}

/// What was last tried with an object.
#[derive(Debug)]
struct Attempt {
    action: Action,
    times: u32,
    /// Not before.
    again: Instant,
}

/// What was tried, and when it may be tried again.
#[derive(Debug, Default)]
struct Attempts(BTreeMap<ResourceRef, Attempt>);

impl Keeper {
    /// Work until the controller is gone. `upkeep` is complete: the latest one counts.
    pub(crate) async fn run(self, mut upkeep: watch::Receiver<Arc<Upkeep>>, mut leading: watch::Receiver<bool>) {
        let mut attempts = Attempts::default();
        loop {
            let wanted = Arc::clone(&upkeep.borrow_and_update());
            let leads = *leading.borrow_and_update();
            if leads {
                for (id, action) in attempts.due(&wanted, Instant::now()) {
                    self.act(id, action).await;
                    attempts.tried(id, action, Instant::now());
                }
            }
            let pause = attempts.next(&wanted, leads);
            tokio::select! {
                changed = upkeep.changed() => if changed.is_err() { return },
                Ok(()) = leading.changed() => {}
                () = sleep_until(pause) => {}
            }
        }
    }

    async fn act(&self, id: &ResourceRef, action: &Action) {
        let (name, outcome) = match action {
            Action::Apply(manifest) => {
                let parameters = PatchParams::apply(FIELD_MANAGER).force();
                let patched = self.api(id).patch(&id.name, &parameters, &Patch::Apply(manifest)).await;
                (UpkeepAction::apply, patched.map(drop))
            }
            Action::Create(manifest) => {
                let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                // Only what was made from the types of Kubernetes is created here, so it can be read back.
                let object = serde_json::from_value(manifest.clone()).map_err(kube::Error::SerdeError);
                let created = async { self.api(id).create(&parameters, &object?).await };
                (UpkeepAction::create, created.await.map(drop))
            }
            Action::Delete(uid) => {
                let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                (UpkeepAction::delete, self.api(id).delete(&id.name, &parameters).await.map(drop))
            }
        };
        match outcome {
            Ok(()) => self.metrics.kept_up(id.kind, name, true),
            // Deleted by somebody else, or created meanwhile: its watch will say so.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => {
                self.metrics.kept_up(id.kind, name, false);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(object = %id, error, "cannot keep up what belongs to a Gateway or a plugin; trying again");
            }
        }
    }

    fn api(&self, id: &ResourceRef) -> Api<DynamicObject> {
        let (group, kind, plural) = match id.kind {
            Kind::EndpointSlice => ("discovery.k8s.io", "EndpointSlice", "endpointslices"),
            Kind::ControllerRevision => ("apps", "ControllerRevision", "controllerrevisions"),
            _ => ("", "Service", "services"),
        };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
        Api::namespaced_with(self.client.clone(), &id.namespace, &resource)
    }
}

impl Attempts {
    /// What may be done now.
    fn due<'a>(&mut self, wanted: &'a Upkeep, now: Instant) -> Vec<(&'a ResourceRef, &'a Action)> {
        // What has not been asked for in a long time is forgotten; sooner, it would be done at once when it is undone at once.
        self.0.retain(|id, attempt| wanted.contains_key(id) || attempt.again + LONGEST_PAUSE > now);
        let may = |id: &ResourceRef, action: &Action| {
            self.0.get(id).is_none_or(|attempt| attempt.action != *action || attempt.again <= now)
        };
        wanted.iter().filter(|(id, action)| may(id, action)).collect()
    }

    fn tried(&mut self, id: &ResourceRef, action: &Action, now: Instant) {
        let before = self.0.get(id).filter(|attempt| attempt.action == *action).map_or(0, |attempt| attempt.times);
        let pause = FIRST_PAUSE.saturating_mul(1u32.checked_shl(before).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
        let attempt = Attempt { action: action.clone(), times: before + 1, again: now + pause };
        self.0.insert(id.clone(), attempt);
    }

    /// When the first of what is still asked for may be done again. Who does not lead is not woken for what he may not do: he would be at once, again
    /// and again.
    fn next(&self, wanted: &Upkeep, leads: bool) -> Option<Instant> {
        wanted.keys().filter(|_| leads).filter_map(|id| Some(self.0.get(id)?.again)).min()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_undone_at_once_is_done_less_and_less_often() {
        let (mut attempts, id) = (Attempts::default(), ResourceRef::new(Kind::Service, "default", "web"));
        let wanted = Upkeep::from([(id.clone(), Action::Apply(json!({ "spec": 1 })))]);
        let (start, mut times) = (Instant::now(), Vec::new());
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            // Somebody undid it.
            for (id, action) in attempts.due(&wanted, now) {
                attempts.tried(id, action, now);
                times.push(second);
            }
            assert!(attempts.due(&wanted, now).is_empty());
            assert!(attempts.due(&Upkeep::new(), now).is_empty());
        }
        assert_eq!(times, [0, 1, 3, 7, 15, 31]);
        assert_eq!(attempts.next(&wanted, true), Some(start + Duration::from_secs(63)));
        assert_eq!(attempts.next(&wanted, false), None);
        let other = Upkeep::from([(id, Action::Apply(json!({ "spec": 2 })))]);
        assert_eq!(attempts.due(&other, start).len(), 1, "something new is done at once");
    }
}
