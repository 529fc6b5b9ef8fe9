//! A breaker per revision: what faults again and again is not called for a while.
//!
//! It bounds what a broken plugin costs its neighbours: each trap costs a new instance, each deadline stalls a worker for the whole of
//! `limits.hookTime`. Two things open it:
//!
//! * **Faults in a row.** It seems to be broken altogether, and is tried again after a cool-down.
//! * **Time lost to faults**, whatever is answered in between: of a core's time they get a share, and not much more of it in one go than one
//!   fault may take. What is beyond is paid back before the next call.
//!
//! It does not judge who is to blame, so both pauses are short: a client that knows how to make a plugin fault must not gain much by it.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Faults in a row, over all workers, before calls stop.
pub(crate) const FAULTS: u32 = 10;
/// How long calls stop. After it one call is let through; if that faults as well, calls stop again.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(1);

/// Faults may take one part in so many of a core's time.
const SHARE: u32 = 5;
/// Beside `limits.hookTime`, time that faults may take before the first of it is paid back: a single one, which may overrun by two ticks,
/// stops no calls.
const ALLOWANCE: Duration = Duration::from_millis(3);
/// What a fault takes at least: a new instance.
const LEAST: Duration = Duration::from_micros(50);

/// State of a breaker. All of it atomic: workers share nothing else, and none waits for another.
#[derive(Debug)]
pub(crate) struct Breaker {
    start: Instant,
    /// Microseconds that faults may take in one go.
    at_once: u64,
    in_a_row: AtomicU32,
    /// Microseconds after `start`; only meaningful when `in_a_row` has reached [`FAULTS`].
    closed_again: AtomicU64,
    /// When the time that faults took is paid back, in microseconds after `start`; 0 for never having taken any.
    paid_back: AtomicU64,
}

impl Breaker {
    /// For a plugin whose hooks may take so much CPU time.
    pub(crate) fn new(now: Instant, hook_time: Duration) -> Self {
        Self {
            start: now,
            at_once: micros(hook_time + ALLOWANCE),
            in_a_row: AtomicU32::new(0),
            closed_again: AtomicU64::new(0),
            paid_back: AtomicU64::new(0),
        }
    }

    /// Whether a call may be made. The clock is read only when faults have happened.
    pub(crate) fn admits(&self, now: impl FnOnce() -> Instant) -> bool {
        let is_broken = self.in_a_row.load(Ordering::Relaxed) >= FAULTS;
        let paid_back = self.paid_back.load(Ordering::Relaxed);
        if !is_broken && paid_back == 0 {
            return true;
        }
        let now = self.micros(now());
        if self.owes_too_much(now) {
            return false;
        }
        if paid_back != 0 && paid_back <= now {
            let _ = self.paid_back.compare_exchange(paid_back, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        !is_broken || self.may_try(now)
    }

    /// Whether a call would be refused now.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        let now = self.micros(now);
        let is_broken = self.in_a_row.load(Ordering::Relaxed) >= FAULTS;
        is_broken && now < self.closed_again.load(Ordering::Relaxed) || self.owes_too_much(now)
    }

    fn owes_too_much(&self, now: u64) -> bool {
        self.paid_back.load(Ordering::Relaxed).saturating_sub(now) > self.at_once.saturating_mul(SHARE.into())
    }

    /// Of the workers that get here after the cool-down, the one that moves its end makes the trial call.
    fn may_try(&self, now: u64) -> bool {
        let open_until = self.closed_again.load(Ordering::Relaxed);
        let moved = now + micros(COOL_DOWN);
        now >= open_until
            && self.closed_again.compare_exchange(open_until, moved, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A call answered.
    pub(crate) fn succeeded(&self) {
        // Reading first keeps the cache line shared between workers while all is well.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A call faulted that took so much CPU time.
    pub(crate) fn faulted(&self, now: Instant, took: Duration) {
        let now = self.micros(now);
        self.closed_again.store(now + micros(COOL_DOWN), Ordering::Relaxed);
        let owed = micros(took.max(LEAST).saturating_mul(SHARE));
        let _ = self.paid_back.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_back| {
            Some(paid_back.max(now).saturating_add(owed))
        });
        let _ = self.in_a_row.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_add(1)));
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.start))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(1);
    const HOOK_TIME: Duration = Duration::from_millis(2);
    const AT_ONCE: Duration = Duration::from_millis(5);

    #[test]
    fn it_opens_after_faults_in_a_row_and_lets_one_call_through_after_the_cool_down() {
        let start = Instant::now();
        let breaker = Breaker::new(start, HOOK_TIME);
        for _ in 1..FAULTS {
            breaker.faulted(start, SHORT);
        }
        assert!(breaker.admits(|| start));
        breaker.faulted(start, SHORT);
        assert!(!breaker.admits(|| start) && breaker.is_open(start));
        let later = start + COOL_DOWN;
        assert!(!breaker.admits(|| later - Duration::from_millis(1)));
        assert!(!breaker.is_open(later), "who asks does not use up the trial call");
        assert!(breaker.admits(|| later), "one trial call");
        assert!(!breaker.admits(|| later), "and no second one beside it");
        breaker.faulted(later, SHORT);
        assert!(!breaker.admits(|| later));
        let later = later + COOL_DOWN;
        assert!(breaker.admits(|| later));
        breaker.succeeded();
        assert!(breaker.admits(|| later));
        assert!(breaker.admits(|| panic!("a closed breaker does not look at the clock")));
    }

    /// Time that faults of `took` each get in `total`, with an answer after each of them, and how much of it in one go.
    fn lost(took: Duration, total: Duration) -> (Duration, Duration) {
        let start = Instant::now();
        let (breaker, mut now, mut lost) = (Breaker::new(start, HOOK_TIME), start, Duration::ZERO);
        let (mut longest, mut in_one_go) = (Duration::ZERO, Duration::ZERO);
        while now < start + total {
            if breaker.admits(|| now) {
                now += took;
                lost += took;
                in_one_go += took;
                longest = longest.max(in_one_go);
                breaker.faulted(now, took);
                breaker.succeeded();
            } else {
                now += Duration::from_micros(100);
                in_one_go = Duration::ZERO;
            }
        }
        (lost, longest)
    }

    #[test]
    fn faults_take_no_more_than_their_share_whatever_is_answered_in_between() {
        let total = Duration::from_secs(10);
        for millis in [1, 2, 5, 100] {
            let took = Duration::from_millis(millis);
            let (lost, longest) = lost(took, total);
            // A call that was let through may be the last of the time.
            assert!(lost <= total / SHARE + AT_ONCE + took, "{took:?}: {lost:?} of {total:?}");
            assert!(lost >= total / SHARE / 2, "{took:?}: it is tried again: {lost:?}");
            assert!(longest <= AT_ONCE * 5 / 4 + took, "{took:?}: {longest:?} in one go");
        }
    }

    #[test]
    fn what_was_paid_back_is_forgotten() {
        let start = Instant::now();
        let breaker = Breaker::new(start, HOOK_TIME);
        breaker.faulted(start, AT_ONCE * 2);
        breaker.succeeded();
        assert!(!breaker.admits(|| start + AT_ONCE) && breaker.is_open(start + AT_ONCE), "too much was taken");
        assert!(breaker.admits(|| start + AT_ONCE * SHARE), "enough of it is paid back");
        assert!(breaker.admits(|| start + AT_ONCE * 2 * SHARE), "all of it");
        assert!(breaker.admits(|| panic!("a closed breaker does not look at the clock")));
    }

    #[test]
    fn an_answer_in_between_keeps_it_closed() {
        let start = Instant::now();
        let breaker = Breaker::new(start, HOOK_TIME);
        for fault in 0..10 * FAULTS {
            let now = start + LEAST * SHARE * fault;
            assert!(breaker.admits(|| now));
            breaker.faulted(now, SHORT);
            breaker.succeeded();
        }
    }
}
