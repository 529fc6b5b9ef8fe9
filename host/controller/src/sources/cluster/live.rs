//! The statuses that objects have in the cluster, as far as they were seen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::core::ApiResource;
use penstock_core::{Kind, ResourceRef};
use serde_json::Value;

use super::signature::Signature;

/// What of an object decides over writing its status.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LiveObject {
    /// Tells an object from one of the same name that was created later.
    pub(crate) uid: Arc<str>,
    /// For optimistic concurrency.
    pub(crate) version: Arc<str>,
    /// What of the status is ours, where its entries do not name their author.
    pub(crate) signature: Option<Arc<Signature>>,
    /// `.status` as text: it is looked at rarely, and there are thousands.
    status: Option<Arc<str>>,
}

impl LiveObject {
    pub(crate) fn new(uid: &str, version: &str, status: Option<&Value>) -> Self {
        let status = status.filter(|status| !status.is_null()).map(|status| status.to_string().into());
        Self { uid: uid.into(), version: version.into(), signature: None, status }
    }

    /// With what this installation has signed of it.
    pub(crate) fn signed(self, signature: Option<Signature>) -> Self {
        Self { signature: signature.map(Arc::new), ..self }
    }

    /// Whether it is an earlier version of the same object. Versions are numbers that grow, as Kubernetes promises since 1.35; where they are
    /// not, nothing is older.
    fn is_older_than(&self, other: &Self) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        let versions = number(&self.version).zip(number(&other.version));
        self.uid == other.uid && versions.is_some_and(|(own, other)| own < other)
    }

    /// `.status`; null if there is none.
    pub(crate) fn status(&self) -> Value {
        // It was written by the line above, so it can be read.
        self.status.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// Shared between watches, which fill it, and the writer, which compares with it.
#[derive(Debug, Default)]
pub(crate) struct LiveObjects(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ResourceRef, LiveObject>,
    served: BTreeMap<Kind, ApiResource>,
}

impl LiveObjects {
    /// What is there now. False if its status is what it was.
    pub(crate) fn insert(&self, id: ResourceRef, object: LiveObject) -> bool {
        let mut state = self.lock();
        if state.objects.get(&id).is_some_and(|before| object.is_older_than(before)) {
            return false; // the answer to a write came before the watch told of what was there until then
        }
        let now = (object.status.clone(), Arc::clone(&object.uid), object.signature.clone());
        let before = state.objects.insert(id, object);
        before.is_none_or(|before| (before.status, before.uid, before.signature) != now)
    }

    pub(crate) fn remove(&self, id: &ResourceRef) {
        self.lock().objects.remove(id);
    }

    pub(crate) fn get(&self, id: &ResourceRef) -> Option<LiveObject> {
        self.lock().objects.get(id).cloned()
    }

    /// All that have a status or may get one.
    pub(crate) fn ids(&self) -> Vec<ResourceRef> {
        self.lock().objects.keys().cloned().collect()
    }

    /// The version of the API in which a kind is written.
    pub(crate) fn served(&self, kind: Kind) -> Option<ApiResource> {
        self.lock().served.get(&kind).cloned()
    }

    pub(crate) fn set_served(&self, kind: Kind, resource: ApiResource) {
        self.lock().served.insert(kind, resource);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_another_status_or_object_is_news() {
        let live = LiveObjects::default();
        let id = ResourceRef::new(Kind::Gateway, "default", "web");
        let status = json!({"conditions": []});
        assert!(live.insert(id.clone(), LiveObject::new("u1", "1", Some(&status))));
        assert!(!live.insert(id.clone(), LiveObject::new("u1", "2", Some(&status))), "only the version moved");
        assert!(live.insert(id.clone(), LiveObject::new("u2", "3", Some(&status))), "created anew");
        assert!(live.insert(id.clone(), LiveObject::new("u2", "4", None)));
        assert!(!live.insert(id.clone(), LiveObject::new("u2", "3", Some(&status))), "late news");
        assert_eq!(live.get(&id).unwrap().status(), Value::Null);
    }
}
