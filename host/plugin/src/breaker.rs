//! A breaker per revision: what faults again and again is not called for a while.
//!
//! It bounds what a broken plugin costs its neighbours: each trap costs a new instance, each deadline stalls a worker for the whole of
//! `limits.hookTime`. It does not judge who is to blame, so the cool-down is short: a client that knows how to make a plugin fault must not
//! gain much by it.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Faults in a row, over all workers, before calls stop.
pub(crate) const FAULTS: u32 = 10;
/// How long calls stop. After it one call is let through; if that faults as well, calls stop again.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(1);

/// State of a breaker. All of it atomic: workers share nothing else, and none waits for another.
#[derive(Debug)]
pub(crate) struct Breaker {
    start: Instant,
    in_a_row: AtomicU32,
    /// Milliseconds after `start`; only meaningful when `in_a_row` has reached [`FAULTS`].
    closed_again: AtomicU64,
}

impl Breaker {
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, in_a_row: AtomicU32::new(0), closed_again: AtomicU64::new(0) }
    }

    /// Whether a call may be made. The clock is read only when faults have happened.
    pub(crate) fn admits(&self, now: impl FnOnce() -> Instant) -> bool {
        if self.in_a_row.load(Ordering::Relaxed) < FAULTS {
            return true;
        }
        let now = self.millis(now());
        let open_until = self.closed_again.load(Ordering::Relaxed);
        // Of the workers that get here after the cool-down, the one that moves its end makes the trial call.
        now >= open_until
            && self
                .closed_again
                .compare_exchange(open_until, now + millis(COOL_DOWN), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// A call answered.
    pub(crate) fn succeeded(&self) {
        // Reading first keeps the cache line shared between workers while all is well.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A call faulted.
    pub(crate) fn faulted(&self, now: Instant) {
        self.closed_again.store(self.millis(now) + millis(COOL_DOWN), Ordering::Relaxed);
        let _ = self.in_a_row.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_add(1)));
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.start))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_faults_in_a_row_and_lets_one_call_through_after_the_cool_down() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        for _ in 1..FAULTS {
            breaker.faulted(start);
        }
        assert!(breaker.admits(|| start));
        breaker.faulted(start);
        assert!(!breaker.admits(|| start));
        let later = start + COOL_DOWN;
        assert!(!breaker.admits(|| later - Duration::from_millis(1)));
        assert!(breaker.admits(|| later), "one trial call");
        assert!(!breaker.admits(|| later), "and no second one beside it");
        breaker.faulted(later);
        assert!(!breaker.admits(|| later));
        assert!(breaker.admits(|| later + COOL_DOWN));
        breaker.succeeded();
        assert!(breaker.admits(|| panic!("a closed breaker does not look at the clock")));
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        for _ in 0..10 * FAULTS {
            breaker.faulted(start);
            breaker.succeeded();
        }
        assert!(breaker.admits(|| start));
    }
}
