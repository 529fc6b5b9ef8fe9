//! When an object may be written again.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use penstock_core::ResourceRef;
use tokio::time::Instant;

/// After a failure: long enough for the watch to bring the version that was missed.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// After somebody else's change of what was written: the first one is mended at once, the next after a second, and so on.
const FIRST_RESTORE: Duration = Duration::from_secs(1);
const LONGEST_RESTORE: Duration = Duration::from_secs(300);

/// Between writes that say something new about the same object. The first are written at once, and each one that follows soon waits longer; what was
/// true for a moment in between nobody needs to know.
const FIRST_CHANGE: Duration = Duration::from_secs(1);
const LONGEST_CHANGE: Duration = Duration::from_secs(4);

/// While thousands of routes come, every one of them is another count of its Gateway.
const FREE_COUNTS: u32 = 1;

/// What comes to life, or is upgraded twice, says several things in a row; what keeps flapping between good and bad says more.
const FREE_CHANGES: u32 = 6;

/// After so many times it is no accident any more.
pub(super) const WAR: u32 = 4;

/// Who has to wait.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waits: BTreeMap<ResourceRef, Wait>,
    counts: Beats,
    changes: Beats,
}

/// When something new was last written about each object.
type Beats = BTreeMap<ResourceRef, Beat>;

#[derive(Debug, Clone, Copy)]
struct Beat {
    at: Instant,
    pause: Duration,
    /// So many more need not wait.
    free: u32,
}

#[derive(Debug, Default)]
struct Wait {
    until: Option<Instant>,
    failures: u32,
    /// How often somebody else undid what was written, and when that was last mended.
    undone: u32,
    mended: Option<Instant>,
}

impl Pace {
    /// Whether the object may be written.
    pub(super) fn is_due(&self, id: &ResourceRef, now: Instant) -> bool {
        self.waits.get(id).and_then(|wait| wait.until).is_none_or(|until| until <= now)
    }

    /// When the first of these may be written; none if nobody has to wait.
    pub(super) fn next(&self, dirty: &BTreeSet<ResourceRef>) -> Option<Instant> {
        dirty.iter().filter_map(|id| self.waits.get(id)?.until).min()
    }

    /// Somebody undid what was written. None if it may be mended now; else how often that happened, and then it has to wait.
    pub(super) fn undone(&mut self, id: &ResourceRef, now: Instant) -> Option<u32> {
        let wait = self.waits.entry(id.clone()).or_default();
        if wait.until.take().is_some_and(|until| until <= now) {
            wait.mended = Some(now);
            return None; // it has waited
        }
        if wait.mended.is_some_and(|mended| now.duration_since(mended) > LONGEST_RESTORE) {
            wait.undone = 0;
        }
        wait.undone += 1;
        if wait.undone == 1 {
            wait.mended = Some(now);
            return None;
        }
        let pause = doubled(FIRST_RESTORE, wait.undone - 2, LONGEST_RESTORE);
        wait.until = Some(now + pause);
        Some(wait.undone)
    }

    /// A write failed; answers how often in a row.
    pub(super) fn failed(&mut self, id: &ResourceRef, now: Instant) -> u32 {
        let wait = self.waits.entry(id.clone()).or_default();
        wait.failures += 1;
        wait.until = Some(now + doubled(FIRST_RETRY, wait.failures - 1, LONGEST_RETRY));
        wait.failures
    }

    pub(super) fn succeeded(&mut self, id: &ResourceRef) {
        if let Some(wait) = self.waits.get_mut(id) {
            (wait.failures, wait.until) = (0, None);
            if wait.undone == 0 {
                self.waits.remove(id);
            }
        }
    }

    pub(super) fn forget(&mut self, id: &ResourceRef) {
        self.waits.remove(id);
        self.counts.remove(id);
        self.changes.remove(id);
    }

    /// Nothing but counts is to be written. None if that may happen now, and then it counts as done; else when.
    pub(super) fn counts(&mut self, id: &ResourceRef, now: Instant) -> Option<Instant> {
        beat(&mut self.counts, id, FREE_COUNTS, now)
    }

    /// The same of anything else that is new.
    pub(super) fn changed(&mut self, id: &ResourceRef, now: Instant) -> Option<Instant> {
        beat(&mut self.changes, id, FREE_CHANGES, now)
    }

    /// What was written long ago may be written at once, and need not be remembered.
    pub(super) fn forget_calm(&mut self, now: Instant) {
        for beats in [&mut self.counts, &mut self.changes] {
            beats.retain(|_, beat| beat.is_soon(now));
        }
    }
}

impl Beat {
    /// Whether a write now follows soon after it.
    fn is_soon(&self, now: Instant) -> bool {
        now < self.at + 2 * self.pause
    }
}

fn beat(beats: &mut Beats, id: &ResourceRef, free: u32, now: Instant) -> Option<Instant> {
    let next = match beats.get(id) {
        Some(last) if last.is_soon(now) => match last.free.checked_sub(1) {
            Some(free) => Beat { at: now, free, ..*last },
            None if now < last.at + last.pause => return Some(last.at + last.pause),
            None => Beat { at: now, pause: (2 * last.pause).min(LONGEST_CHANGE), free: 0 },
        },
        _ => Beat { at: now, pause: FIRST_CHANGE, free: free - 1 },
    };
    beats.insert(id.clone(), next);
    None
}

/// How many writes a second, all objects together: as many as gather in a second may go at once.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// None: as many as there are.
    per_second: Option<NonZeroU32>,
    /// How many may go, as of then.
    left: Option<(f64, Instant)>,
}

impl Throttle {
    pub(super) fn new(per_second: Option<NonZeroU32>) -> Self {
        Self { per_second, left: None }
    }

    /// When the next write may go; none if at once.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let rate = f64::from(self.per_second?.get());
        let left = self
            .left
            .map_or(rate, |(left, at)| now.saturating_duration_since(at).as_secs_f64().mul_add(rate, left).min(rate));
        self.left = Some((left, now));
        // A hair more, so that whoever comes at that time does not come in vain.
        (left < 1.0).then(|| now + Duration::from_secs_f64((1.0 - left) / rate) + Duration::from_millis(1))
    }

    /// A write goes.
    pub(super) fn take(&mut self) {
        if let Some((left, _)) = &mut self.left {
            *left -= 1.0;
        }
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    use penstock_core::Kind;

    use super::*;

    #[test]
    fn a_war_of_writes_ends_in_silence() {
        let (mut pace, id) = (Pace::default(), ResourceRef::new(Kind::HTTPRoute, "default", "shop"));
        let start = Instant::now();
        let dirty = BTreeSet::from([id.clone()]);
        let (mut now, mut writes) = (start, Vec::new());
        // The other side answers at once, every time.
        while now < start + Duration::from_secs(60) {
            if pace.is_due(&id, now) && pace.undone(&id, now).is_none() {
                writes.push(now.duration_since(start).as_secs());
                pace.succeeded(&id);
            }
            now = pace.next(&dirty).unwrap_or(now).max(now + Duration::from_millis(10));
        }
        assert_eq!(writes, [0, 1, 3, 7, 15, 31], "fewer than ten in the first minute");
    }

    #[test]
    fn failures_wait_longer_each_time() {
        let (mut pace, id) = (Pace::default(), ResourceRef::new(Kind::HTTPRoute, "default", "shop"));
        let now = Instant::now();
        assert_eq!(pace.failed(&id, now), 1);
        assert!(!pace.is_due(&id, now) && pace.is_due(&id, now + FIRST_RETRY));
        assert_eq!(pace.failed(&id, now), 2);
        assert!(!pace.is_due(&id, now + FIRST_RETRY) && pace.is_due(&id, now + 2 * FIRST_RETRY));
        for _ in 0..40 {
            pace.failed(&id, now);
        }
        assert!(pace.is_due(&id, now + LONGEST_RETRY));
        pace.succeeded(&id);
        assert!(pace.is_due(&id, now));
    }

    #[test]
    fn counts_are_written_at_once_and_then_now_and_then() {
        let (mut pace, id) = (Pace::default(), ResourceRef::new(Kind::Gateway, "default", "web"));
        let start = Instant::now();
        let mut writes = Vec::new();
        for tenth in 0..100 {
            let now = start + Duration::from_millis(100) * tenth;
            if pace.counts(&id, now).is_none() {
                writes.push(tenth);
            }
        }
        assert_eq!(writes, [0, 10, 30, 70]);
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.counts(&id, later), None);
        assert_eq!(pace.counts(&id, later), Some(later + FIRST_CHANGE), "the storm is over");
        let other = ResourceRef::new(Kind::Gateway, "default", "other");
        assert_eq!(pace.counts(&other, later), None);
    }

    #[test]
    fn what_flaps_is_written_now_and_then() {
        let (mut pace, id) = (Pace::default(), ResourceRef::new(Kind::WasmPlugin, "default", "headers"));
        let start = Instant::now();
        let writes: Vec<u32> =
            (0..200).filter(|tenth| pace.changed(&id, start + Duration::from_millis(100) * *tenth).is_none()).collect();
        assert_eq!(writes, [0, 1, 2, 3, 4, 5, 15, 35, 75, 115, 155, 195]);
        let later = start + Duration::from_secs(60);
        pace.forget_calm(later);
        assert!(pace.changes.is_empty(), "it has calmed down");
        assert_eq!([0, 1, 2, 3, 4, 5].map(|_| pace.changed(&id, later)), [None; 6]);
        pace.forget_calm(later);
        assert!(pace.changed(&id, later).is_some());
    }

    #[test]
    fn writes_of_all_objects_have_a_rate() {
        let start = Instant::now();
        let mut throttle = Throttle::new(NonZeroU32::new(10));
        let (mut now, mut writes) = (start, 0);
        while now < start + Duration::from_secs(3) {
            match throttle.next(now) {
                None => throttle.take(),
                Some(at) => {
                    assert!(at > now && throttle.next(at).is_none());
                    now = at;
                    continue;
                }
            }
            writes += 1;
        }
        assert!((38..=41).contains(&writes), "{writes}: ten at once, and ten a second");
        let mut unbounded = Throttle::default();
        (0..1000).for_each(|_| unbounded.take());
        assert_eq!(unbounded.next(start), None);
    }
}
