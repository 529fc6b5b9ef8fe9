//! Bringing the last good revision back after a restart.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use penstock_core::{
    ResourceRef,
    plugin::{PluginSpec, Rejection},
};

use super::jobs::{Refused, Shared};
use crate::{
    examine::Errand,
    last_good::{Blobs, Damage, MissingSecret, Record, Slot},
    module::{Digest, Module},
    reason,
    revision::Loaded,
};

/// Between attempts, where what went wrong lies with this machine, which starts many things just now. Nothing serves in the meantime, and nothing
/// older would be better. As long as there is no process that validates, or no memory for an instance, the last one is repeated.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    LAST_PAUSE,
];
const LAST_PAUSE: Duration = Duration::from_secs(4);

/// What to restore.
pub(crate) struct Restore {
    pub(super) plugin: ResourceRef,
    /// The last good revision, then the one before it.
    pub(super) slots: Vec<Slot>,
    /// Has the values of Secrets.
    pub(super) provider: Option<Arc<PluginSpec>>,
    /// That failed.
    pub(super) attempts: usize,
}

/// What came of an attempt.
pub(super) enum Attempt {
    Done(Restored),
    /// Another one is worth it.
    Again(Duration, Restore),
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Restored {
    /// With what is known of where it came from.
    pub(super) revision: Option<(Arc<Loaded>, Slot)>,
    /// Why it is not the newest one, or none at all.
    pub(super) failure: Option<Arc<str>>,
}

impl Restored {
    pub(super) fn failed(why: &str) -> Self {
        Self { revision: None, failure: Some(why.into()) }
    }
}

#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error("its record cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    #[error(transparent)]
    Secret(#[from] MissingSecret),
    #[error("{}: {}", .0.reason, .0.message)]
    Refused(Rejection),
    #[error("it is tried again after {0:?}")]
    Again(Duration),
}

impl Shared {
    /// The newest revision of `wanted` that can be made.
    pub(super) fn restore(&self, blobs: &Blobs, wanted: Restore, errand: Errand<'_>) -> Attempt {
        let mut restored = Restored::default();
        let mut failures = Vec::new();
        for slot in &wanted.slots {
            match self.restore_slot(blobs, &wanted, slot, errand) {
                Ok(loaded) => {
                    restored.revision = Some((loaded, slot.clone()));
                    break;
                }
                Err(RestoreError::Again(pause)) => {
                    return Attempt::Again(pause, Restore { attempts: wanted.attempts + 1, ..wanted });
                }
                Err(error) => {
                    tracing::warn!(plugin = %wanted.plugin, generation = slot.generation, %error, "a last good plugin cannot be restored");
                    failures.push(format!("generation {}: {error}", slot.generation));
                }
            }
        }
        restored.failure = (!failures.is_empty()).then(|| failures.join("; ").into());
        Attempt::Done(restored)
    }

    fn restore_slot(
        &self,
        blobs: &Blobs,
        wanted: &Restore,
        slot: &Slot,
        errand: Errand<'_>,
    ) -> Result<Arc<Loaded>, RestoreError> {
        let record = Record::parse(&blobs.get(&slot.record)?)?;
        let bytes = Bytes::from(blobs.get(&slot.module)?);
        let module = Module { digest: Digest::of(&bytes), bytes, artifact: slot.artifact.clone() };
        let spec = record.spec(&wanted.plugin, slot.generation, module.bytes.clone(), wanted.provider.as_deref())?;
        self.load(&spec, &module, errand, || {}).map_err(|Refused { rejection, retry }| {
            let lacks = [reason::VALIDATOR_UNAVAILABLE, reason::NO_ROOM].contains(&rejection.reason);
            let pause = PAUSES.get(wanted.attempts).or(lacks.then_some(&LAST_PAUSE)).filter(|_| retry);
            pause.map_or(RestoreError::Refused(rejection), |pause| RestoreError::Again(*pause))
        })
    }
}
