//! Bringing back what the cluster has on record of a plugin, where nothing better serves.
//!
//! ```text
//! nothing on disk ──┬─ the resource says something else by now ──► the record first, then what is wanted; after a while both
//!                   └─ it says the same ──► what is wanted; the record when that is refused
//! ```
//!
//! The record comes first so that a newer revision is on probation, with something to go back to, as it is where the older one served all along.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use penstock_core::plugin::RecordedRevision;

use super::{JobId, jobs::Refused, retry::Retry};
use crate::fetch::Fetch;

/// What is wanted waits for the record that long. Longer than it takes to fetch and examine a module of the usual size.
const PATIENCE: Duration = Duration::from_secs(3);

/// How it stands with the record of one plugin.
#[derive(Default)]
pub(super) struct Recall {
    recorded: Option<Arc<RecordedRevision>>,
    stage: Stage,
    /// The job whose result counts.
    pub(super) job: Arc<AtomicU64>,
    /// Ends the fetch of that job when it is replaced or dropped.
    pub(super) fetch: Option<Fetch>,
    /// What is wanted waits until then.
    holds: Option<Instant>,
    /// Why it could not be made so far.
    failure: Option<Arc<str>>,
}

#[derive(Default, Clone, Copy)]
enum Stage {
    #[default]
    Idle,
    Underway(Option<Retry>),
    Failed(Option<Retry>),
    Done,
}

impl Recall {
    pub(super) fn new(recorded: Option<Arc<RecordedRevision>>) -> Self {
        Self { recorded, ..Self::default() }
    }

    /// This is on record now. What was tried of the same thing before counts. True if it is something else.
    pub(super) fn set(&mut self, recorded: Option<&Arc<RecordedRevision>>) -> bool {
        let same = match (&self.recorded, recorded) {
            (None, None) => true,
            (Some(known), Some(now)) => known.spec == now.spec && known.digest == now.digest,
            (None, Some(_)) | (Some(_), None) => false,
        };
        if same {
            self.recorded = recorded.cloned();
        } else {
            *self = Self { holds: self.holds, ..Self::new(recorded.cloned()) };
        }
        !same
    }

    /// Whether it should be tried before what is wanted. `serves` is the generation of what does.
    pub(super) fn goes_first(&self, serves: Option<i64>) -> bool {
        let newer = |recorded: &Arc<RecordedRevision>| serves.is_none_or(|serves| serves < recorded.spec.generation);
        matches!(self.stage, Stage::Idle) && self.recorded.as_ref().is_some_and(|it| !it.is_wanted && newer(it))
    }

    /// Whether it should be tried, where nothing serves and nothing that is wanted can.
    pub(super) fn is_last_resort(&self, now: Instant) -> bool {
        match self.stage {
            Stage::Idle => self.recorded.is_some(),
            Stage::Failed(Some(retry)) => retry.at().is_some_and(|at| at <= now),
            Stage::Underway(_) | Stage::Failed(None) | Stage::Done => false,
        }
    }

    /// It is tried now. Answers what to make.
    pub(super) fn begin(&mut self) -> Option<Arc<RecordedRevision>> {
        let recorded = self.recorded.clone()?;
        let before = if let Stage::Failed(retry) = self.stage { retry } else { None };
        self.stage = Stage::Underway(before);
        Some(recorded)
    }

    /// What is wanted waits for it.
    pub(super) fn hold(&mut self, now: Instant) {
        self.holds = Some(now + PATIENCE);
    }

    pub(super) fn is_holding(&self) -> bool {
        self.holds.is_some()
    }

    /// What is wanted has waited long enough, if it has waited.
    pub(super) fn release(&mut self) -> bool {
        self.holds.take().is_some()
    }

    /// It was made. Answers the generation that it is of.
    pub(super) fn succeeded(&mut self) -> Option<i64> {
        self.stage = Stage::Done;
        self.failure = None;
        self.recorded.as_ref().map(|recorded| recorded.spec.generation)
    }

    pub(super) fn failed(&mut self, refused: &Refused) {
        let (Stage::Underway(before), Some(recorded)) = (self.stage, &self.recorded) else { return };
        self.failure = Some(format!("generation {}: {}", recorded.spec.generation, refused.rejection.message).into());
        self.stage = Stage::Failed(Retry::of(refused, before, &recorded.spec.source));
    }

    /// Something better serves.
    pub(super) fn is_obsolete(&mut self) {
        self.failure = None;
    }

    pub(super) fn is_underway(&self) -> bool {
        matches!(self.stage, Stage::Underway(_))
    }

    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.failure.clone()
    }

    pub(super) fn is_current(&self, job: JobId) -> bool {
        self.job.load(Ordering::Acquire) == job.0
    }

    /// When something has to be done without being asked.
    pub(super) fn due(&self, is_needed: bool) -> Option<Instant> {
        let retry = match self.stage {
            Stage::Failed(Some(retry)) if is_needed => retry.at(),
            _ => None,
        };
        self.holds.into_iter().chain(retry).min()
    }

    /// Whether what is wanted has waited long enough.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.holds.is_some_and(|until| until <= now)
    }
}
