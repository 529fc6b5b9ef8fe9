//! A revision that serves, or did before the one on probation.

use std::sync::Arc;

use penstock_core::plugin::{ActiveRevision, RevisionName};

use super::{Pending, Progress};
use crate::{host::jobs::Identity, last_good::Good, revision::Loaded};

/// The revision that serves.
#[derive(Clone)]
pub(in crate::host) struct Serving {
    pub(in crate::host) loaded: Arc<Loaded>,
    pub(super) generation: i64,
    pub(super) artifact: Option<Arc<str>>,
}

impl Serving {
    pub(super) fn active(&self) -> ActiveRevision {
        let Self { loaded, generation, artifact } = self;
        ActiveRevision {
            artifact: artifact.clone(),
            outbound: loaded.capabilities().outbound.as_slice().into(),
            redis: loaded.capabilities().in_redis(),
            revision: loaded.revision(),
            generation: *generation,
            digest: loaded.digest().label(),
            name: Arc::clone(&loaded.name),
            version: Arc::clone(&loaded.version),
            hooks: loaded.plan.hooks(),
        }
    }

    pub(super) fn name(&self) -> RevisionName {
        let Self { loaded, generation, .. } = self;
        RevisionName {
            generation: *generation,
            digest: loaded.digest().label(),
            name: Arc::clone(&loaded.name),
            version: Arc::clone(&loaded.version),
        }
    }

    pub(in crate::host) fn to_keep(&self) -> Option<Good> {
        let keepable = Arc::clone(self.loaded.keepable.as_ref()?);
        let (generation, artifact) = (self.generation, self.artifact.clone());
        Some(Good { plugin: self.loaded.plugin().clone(), generation, artifact, keepable })
    }

    /// As a candidate again.
    pub(super) fn pending(self, progress: Progress) -> Pending {
        let identity = Identity { digest: self.loaded.digest().label(), artifact: self.artifact };
        Pending { generation: self.generation, identity: Some(identity), progress }
    }
}
