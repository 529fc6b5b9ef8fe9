//! A coarse clock. Deadlines of connections are numbers that a sweep compares ten times a second, so that setting and clearing one costs
//! a store: a timer entry for each request would cost more than matching its route.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Length of a tick.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Ticks since the worker started. Advanced by the sweep of the same thread; atomic only because the I/O of a connection must be `Send`.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

/// A point in time in ticks, or none.
#[derive(Debug, Default)]
pub(crate) struct Deadline(AtomicU64);

const NONE: u64 = 0;

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn advance(&self) -> u64 {
        let now = self.now() + 1;
        self.0.store(now, Relaxed);
        now
    }

    /// The tick at which `after` has certainly passed: never early, at most two ticks late.
    pub(crate) fn after(&self, after: Duration) -> u64 {
        let ticks = after.as_nanos().div_ceil(TICK.as_nanos());
        self.now().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX)).saturating_add(1)
    }
}

impl Deadline {
    pub(crate) fn set(&self, tick: u64) {
        self.0.store(tick, Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.0.store(NONE, Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed) != NONE
    }

    pub(crate) fn has_passed(&self, now: u64) -> bool {
        let tick = self.0.load(Relaxed);
        tick != NONE && tick <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_never_early() {
        let clock = Clock::default();
        let deadline = Deadline::default();
        assert!(!deadline.has_passed(u64::MAX));
        deadline.set(clock.after(Duration::from_millis(150)));
        let passed = (1..10).find(|_| deadline.has_passed(clock.advance())).unwrap();
        assert_eq!(passed, 3, "150 ms are two ticks, and the first may have been almost over");
        deadline.clear();
        assert!(!deadline.is_set());
    }
}
