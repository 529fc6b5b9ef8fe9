//! The life of one plugin as a value: what is wanted, what is on its way, what serves, and what it falls back to.
//!
//! ```text
//! want ─► Fetching ─► Validating ─► Ready ──(the whole group is)──► serving, on probation ─► good
//!             └───────────┴──► Rejected ◄───────── too many faults ───────────┘    (the last good one is back)
//! ```
//!
//! Nothing here acts: the owner asks, decides and tells.

mod serving;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use penstock_core::plugin::{
    Awaited, Candidate, Hold, LastGoodState, OnProbation, Phase, PluginSpec, PluginState, Rejection, RestoredFrom,
    Rollout,
};

pub(super) use self::serving::Serving;
use super::{
    JobId,
    group::Standing,
    jobs::{Identity, Refused},
    recall::Recall,
    restore::{Restore, Restored},
    retry::Retry,
};
use crate::{
    fetch::{Fetch, Resolve},
    last_good::{BlobName, Condemned, Kept},
    metrics::CallMetrics,
    reason::{self, rejection},
    revision::Loaded,
};

/// One plugin.
pub(super) struct Entry {
    /// None while the resource does not say what to run.
    pub(super) wanted: Option<Arc<PluginSpec>>,
    pending: Option<Pending>,
    pub(super) serving: Option<Serving>,
    trial: Option<Trial>,
    condemned: Option<Verdict>,
    last_good: LastGoodState,
    pub(super) reported: Option<Arc<PluginState>>,
    /// The job whose result counts.
    pub(super) job: Arc<AtomicU64>,
    /// Ends the fetch of that job when it is replaced or dropped.
    pub(super) fetch: Option<Fetch>,
    pub(super) restoring: bool,
    /// Of which another attempt is due then.
    pub(super) again: Option<(Instant, Restore)>,
    pub(super) recall: Recall,
    retry: Option<Retry>,
    /// How that job took tags, and when to look again what they mean.
    pub(super) resolve: Resolve,
    pub(super) poll: Option<Instant>,
    /// Keeps the series of the plugin as long as it exists.
    pub(super) metrics: Arc<CallMetrics>,
}

/// A candidate.
struct Pending {
    generation: i64,
    identity: Option<Identity>,
    progress: Progress,
}

enum Progress {
    Fetching,
    Validating,
    /// Held back by others of its group, if there are any.
    Ready(Arc<Loaded>, Vec<Awaited>),
    Rejected(Rejection),
}

/// What serves is new.
struct Trial {
    fallback: Serving,
    began: Instant,
    ends: Instant,
    until: SystemTime,
    max_faults: u32,
}

/// A revision that was rolled back. Known by what was loaded, or after a restart by its record.
struct Verdict {
    revision: Option<u64>,
    record: Option<BlobName>,
    message: String,
}

/// What a finished examination means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settlement {
    /// It is what serves already.
    Same,
    /// It may switch.
    Ready,
    /// It was rolled back before.
    Condemned,
}

impl Entry {
    pub(super) fn new(
        wanted: Option<Arc<PluginSpec>>,
        kept: Option<&Kept>,
        recall: Recall,
        metrics: Arc<CallMetrics>,
    ) -> Self {
        let condemned = kept.and_then(|kept| kept.condemned.as_ref()).map(|condemned| Verdict {
            revision: None,
            record: Some(condemned.record.clone()),
            message: condemned.message.clone(),
        });
        Self {
            wanted,
            pending: None,
            serving: None,
            trial: None,
            condemned,
            last_good: LastGoodState::default(),
            reported: None,
            job: Arc::default(),
            fetch: None,
            restoring: false,
            again: None,
            recall,
            retry: None,
            resolve: Resolve::Known,
            poll: None,
            metrics,
        }
    }

    /// Take another spec. True if it is another revision, which has to be made.
    pub(super) fn want(&mut self, spec: &Arc<PluginSpec>) -> bool {
        let same = self.wanted.as_ref().is_some_and(|wanted| is_same_revision(wanted, spec));
        self.wanted = Some(Arc::clone(spec));
        if same {
            match (&mut self.pending, &mut self.serving) {
                (Some(pending), _) => pending.generation = spec.generation,
                (None, Some(serving)) => serving.generation = spec.generation,
                (None, None) => {}
            }
        }
        !same
    }

    /// A candidate is on its way.
    pub(super) fn begin(&mut self) {
        let Some(spec) = &self.wanted else { return };
        self.retry = None;
        self.pending = Some(Pending { generation: spec.generation, identity: None, progress: Progress::Fetching });
    }

    pub(super) fn validating(&mut self, identity: Identity) {
        let Some(spec) = &self.wanted else { return };
        // Looking again at what was refused is no news.
        if !self.has_refused(Some(&identity)) {
            let (generation, identity) = (spec.generation, Some(identity));
            self.pending = Some(Pending { generation, identity, progress: Progress::Validating });
        }
    }

    /// Whether that module was refused already, for this generation.
    pub(super) fn has_refused(&self, identity: Option<&Identity>) -> bool {
        let Some(pending) = &self.pending else { return false };
        let Some((known, identity)) = pending.identity.as_ref().zip(identity) else { return false };
        matches!(pending.progress, Progress::Rejected(_))
            && known.digest == identity.digest
            && self.wanted.as_ref().is_some_and(|spec| spec.generation == pending.generation)
    }

    /// The candidate passed.
    pub(super) fn ready(&mut self, loaded: Arc<Loaded>, identity: Option<Identity>) -> Settlement {
        self.retry = None;
        let Some(spec) = &self.wanted else { return Settlement::Same };
        let generation = spec.generation;
        if let Some(serving) = self.serving.as_mut().filter(|serving| Arc::ptr_eq(&serving.loaded, &loaded)) {
            serving.generation = generation;
            serving.artifact = identity.and_then(|identity| identity.artifact);
            self.pending = None;
            self.last_good.restored = None;
            self.last_good.not_restored = None;
            self.recall.is_obsolete();
            return Settlement::Same;
        }
        // Where nothing serves, what faulted too often is still better than nothing.
        let verdict = self.condemned.as_ref().filter(|verdict| self.serving.is_some() && verdict.is_about(&loaded));
        if let Some(verdict) = verdict {
            let rejection = rejection(reason::FAULTS_IN_PROBATION, &verdict.message);
            self.pending = Some(Pending { generation, identity, progress: Progress::Rejected(rejection) });
            return Settlement::Condemned;
        }
        self.pending = Some(Pending { generation, identity, progress: Progress::Ready(loaded, Vec::new()) });
        Settlement::Ready
    }

    /// The candidate was refused. True if this is another candidate than the one that was refused last.
    pub(super) fn reject(&mut self, identity: Option<Identity>, refused: Refused) -> bool {
        let Some(spec) = &self.wanted else { return false };
        let first = self.retry.is_none() && !self.has_refused(identity.as_ref());
        self.retry = Retry::of(&refused, self.retry, &spec.source);
        let Refused { rejection, .. } = refused;
        let generation = spec.generation;
        self.pending = Some(Pending { generation, identity, progress: Progress::Rejected(rejection) });
        first
    }

    /// What came of restoring.
    pub(super) fn restored(&mut self, restored: Restored) {
        self.restoring = false;
        self.last_good.not_restored = restored.failure;
        if let Some((loaded, slot)) = restored.revision {
            self.last_good.restored = Some(RestoredFrom::Disk);
            self.serving = Some(Serving { loaded, generation: slot.generation, artifact: slot.artifact });
        }
    }

    /// What is on record was made. False if something better serves by now.
    pub(super) fn recalled(&mut self, loaded: Arc<Loaded>, identity: Option<Identity>) -> bool {
        let Some(generation) = self.recall.succeeded() else { return false };
        let older = |serving: &Serving| self.last_good.restored.is_some() && serving.generation < generation;
        if !self.serving.as_ref().is_none_or(older) {
            return false;
        }
        self.last_good.restored = Some(RestoredFrom::Cluster);
        self.serving = Some(Serving { loaded, generation, artifact: identity.and_then(|identity| identity.artifact) });
        true
    }

    /// Whether what is on record is all that could serve, and may be tried now.
    pub(super) fn needs_recall(&self, now: Instant) -> bool {
        self.has_nothing_else() && self.recall.is_last_resort(now)
    }

    /// Whether nothing serves, and what is wanted will not without being changed.
    fn has_nothing_else(&self) -> bool {
        let refused = matches!(&self.pending, Some(Pending { progress: Progress::Rejected(_), .. }));
        let in_vain = refused || self.wanted.is_none();
        in_vain && self.serving.is_none() && !self.restoring
    }

    /// Whether what is on record is to be tried before what is wanted.
    pub(super) fn recalls_first(&self) -> bool {
        self.recall.goes_first(self.serving.as_ref().map(|serving| serving.generation))
    }

    pub(super) fn standing(&self) -> Standing {
        match &self.pending {
            Some(Pending { progress: Progress::Ready(..), .. }) => Standing::Ready,
            Some(Pending { progress: Progress::Rejected(_), .. }) if self.retry.is_none() => {
                Standing::Held(Hold::Rejected)
            }
            Some(_) => Standing::Held(Hold::Pending),
            None if self.wanted.is_none() => Standing::Held(Hold::Unspecified),
            None => Standing::Settled,
        }
    }

    /// The candidate that could switch.
    pub(super) fn candidate(&self) -> Option<&Arc<Loaded>> {
        match &self.pending {
            Some(Pending { progress: Progress::Ready(loaded, _), .. }) => Some(loaded),
            _ => None,
        }
    }

    /// The candidate waits for these.
    pub(super) fn hold(&mut self, awaited: &[Awaited]) {
        if let Some(Pending { progress: Progress::Ready(_, waits), .. }) = &mut self.pending {
            waits.clear();
            waits.extend_from_slice(awaited);
        }
    }

    /// How long the candidate will be on probation if it switches now.
    pub(super) fn probation(&self) -> Duration {
        self.wanted.as_ref().map_or(Duration::ZERO, |spec| spec.rollout.probation.period)
    }

    /// The candidate serves from now on, and is watched for `period` if there is something to go back to.
    pub(super) fn switch(&mut self, period: Duration, now: Instant) {
        let Some(Pending { generation, identity, progress: Progress::Ready(loaded, _) }) = self.pending.take() else {
            return;
        };
        let artifact = identity.and_then(|identity| identity.artifact);
        let max_faults = self.wanted.as_ref().map_or(0, |spec| spec.rollout.probation.max_faults);
        let before = self.serving.replace(Serving { loaded: Arc::clone(&loaded), generation, artifact });
        if let Some(before) = &before {
            before.loaded.faults.disarm();
        }
        // What was on probation itself is nothing to go back to.
        let fallback = self.trial.take().map(|trial| trial.fallback).or(before);
        let fallback = fallback.filter(|fallback| !period.is_zero() && !Arc::ptr_eq(&fallback.loaded, &loaded));
        self.trial = fallback.map(|fallback| {
            loaded.faults.arm(max_faults);
            Trial { fallback, began: now, ends: now + period, until: SystemTime::now() + period, max_faults }
        });
        self.condemned = None;
        self.recall.is_obsolete();
        self.last_good = LastGoodState { not_kept: self.last_good.not_kept.take(), ..LastGoodState::default() };
    }

    pub(super) fn is_on_probation(&self) -> bool {
        self.trial.is_some()
    }

    /// Whether this revision serves on probation and had too many faults.
    pub(super) fn has_too_many_faults(&self, revision: u64) -> bool {
        let serving = self.serving.as_ref().filter(|serving| serving.loaded.id() == revision);
        self.trial.is_some() && serving.is_some_and(|serving| serving.loaded.faults.is_exceeded())
    }

    /// The probation is over and was passed. True if there was one.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        let over = self.trial.as_ref().is_some_and(|trial| trial.ends <= now);
        if over {
            self.trial = None;
            if let Some(serving) = &self.serving {
                serving.loaded.faults.disarm();
            }
        }
        over
    }

    /// Back to the last good revision, because this one had too many faults. Answers what to log.
    pub(super) fn condemn(&mut self, now: Instant) -> Option<String> {
        let trial = self.trial.take()?;
        let serving = self.serving.as_ref()?;
        let (message, observed) = (trial.verdict(serving), trial.observed(serving, now));
        let faulty = self.fall_back(trial.fallback)?;
        self.condemned = Some(Verdict {
            revision: Some(faulty.loaded.id()),
            record: faulty.loaded.keepable.as_ref().map(|keepable| keepable.record_name().clone()),
            message: message.clone(),
        });
        // A newer candidate goes its own way.
        let progress = Progress::Rejected(rejection(reason::FAULTS_IN_PROBATION, &message));
        self.pending.get_or_insert_with(|| faulty.pending(progress));
        Some(observed)
    }

    /// Back to the last good revision, because another member of the group is; what served is ready to switch again.
    pub(super) fn step_back(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        let Some(innocent) = self.fall_back(trial.fallback) else { return };
        let progress = Progress::Ready(Arc::clone(&innocent.loaded), Vec::new());
        self.pending.get_or_insert_with(|| innocent.pending(progress));
    }

    fn fall_back(&mut self, fallback: Serving) -> Option<Serving> {
        let faulty = self.serving.replace(fallback)?;
        faulty.loaded.faults.disarm();
        Some(faulty)
    }

    /// What should be kept on disk.
    pub(super) fn good(&self) -> Option<&Serving> {
        self.trial.as_ref().map(|trial| &trial.fallback).or(self.serving.as_ref())
    }

    pub(super) fn condemned(&self) -> Option<Condemned> {
        let Verdict { record, message, .. } = self.condemned.as_ref()?;
        Some(Condemned { record: record.clone()?, message: message.clone() })
    }

    /// Why what is good is not on disk, if it is not. True if that is news.
    pub(super) fn set_not_kept(&mut self, why: Option<Arc<str>>) -> bool {
        let news = self.last_good.not_kept != why;
        self.last_good.not_kept = why;
        news
    }

    /// When something has to be done without being asked.
    pub(super) fn due(&self) -> Option<Instant> {
        let look = self.retry.as_ref().map_or(self.poll, Retry::at);
        let recall = self.recall.due(self.has_nothing_else());
        let again = self.again.as_ref().map(|(at, _)| *at);
        look.into_iter().chain(self.trial.as_ref().map(|trial| trial.ends)).chain(recall).chain(again).min()
    }

    /// Whether to begin another attempt now, and how it takes tags.
    pub(super) fn retries(&mut self, now: Instant) -> Option<Resolve> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match &mut self.retry {
            Some(retry) if due(retry.at()) => {
                retry.begin();
                Some(self.resolve)
            }
            None if due(self.poll) => Some(Resolve::Anew),
            _ => None,
        }
    }

    pub(super) fn is_current(&self, job: JobId) -> bool {
        self.job.load(Ordering::Acquire) == job.0
    }

    /// What is told.
    pub(super) fn state(&self) -> PluginState {
        PluginState {
            active: self.serving.as_ref().map(Serving::active),
            candidate: self.pending.as_ref().map(|pending| pending.candidate(self.retry.as_ref())),
            probation: self.trial.as_ref().map(|trial| OnProbation {
                until: trial.until,
                max_faults: trial.max_faults,
                fallback: trial.fallback.name(),
            }),
            last_good: LastGoodState {
                recalling: self.recall.is_underway(),
                not_recalled: self.recall.failure(),
                ..self.last_good.clone()
            },
        }
    }
}

impl Pending {
    fn candidate(&self, retry: Option<&Retry>) -> Candidate {
        let phase = match &self.progress {
            Progress::Fetching => Phase::Fetching,
            Progress::Validating => Phase::Validating,
            Progress::Ready(_, awaited) => Phase::Waiting(awaited.clone()),
            Progress::Rejected(rejection) => match retry {
                Some(retry) => retry.phase(rejection.clone()),
                None => Phase::Rejected(rejection.clone()),
            },
        };
        let (digest, artifact) = self.identity.clone().map_or((None, None), |it| (Some(it.digest), it.artifact));
        Candidate { generation: self.generation, digest, artifact, phase }
    }
}

impl Trial {
    /// For the status, where every instance says it in the same words: without what this one has counted.
    fn verdict(&self, faulty: &Serving) -> String {
        let period = self.ends.saturating_duration_since(self.began);
        format!(
            "it was rolled back: it had more faults ({}) than spec.probation accepts, which is {} in {period:?}. It is not tried again until \
             the spec or the module changes",
            faulty.loaded.faults.kinds(),
            self.max_faults
        )
    }

    fn observed(&self, faulty: &Serving, now: Instant) -> String {
        let served = now.saturating_duration_since(self.began).as_secs_f32();
        format!("{} in the {served:.1}s that it served", faulty.loaded.faults)
    }
}

impl Verdict {
    /// Two revisions may differ in the value of a Secret alone, which their record does not show.
    fn is_about(&self, loaded: &Loaded) -> bool {
        match self.revision {
            Some(revision) => revision == loaded.id(),
            None => loaded.keepable.as_ref().map(|keepable| keepable.record_name()) == self.record.as_ref(),
        }
    }
}

/// Whether they make the same revision, which must pass the same: what happened to one of them holds for the other.
fn is_same_revision(one: &PluginSpec, other: &PluginSpec) -> bool {
    let rollout = Rollout { checks: other.rollout.checks.clone(), ..one.rollout.clone() };
    *one == PluginSpec { generation: one.generation, rollout, ..other.clone() }
}
