//! What was taken in the current window, and a part of the one before it.

use super::{
    super::{Nanos, table::Value},
    Outcome,
};

/// What one key has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SlidingWindow {
    start: Nanos,
    current: u64,
    previous: u64,
}

/// Numbers that all keys share. None overflows: limits have 32 bits, windows 52.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlidingRule {
    pub(super) limit: u64,
    /// Nanoseconds.
    pub(super) window: u64,
}

impl SlidingRule {
    /// The outcome where something else has decided: so many nanoseconds after the current window began.
    pub(super) fn decided(&self, elapsed: u64, taken: [u32; 2], cost: u64, allowed: bool) -> Outcome {
        let [current, previous] = taken.map(u64::from);
        let count = SlidingWindow { start: Nanos::default(), current, previous };
        count.outcome(self, cost, Nanos(elapsed), allowed)
    }
}

impl SlidingWindow {
    pub(super) fn take(&mut self, rule: &SlidingRule, cost: u64, now: Nanos) -> Outcome {
        let mut count = self.at(rule, now);
        let allowed = count.used(rule, now) + cost <= rule.limit;
        if allowed {
            count.current += cost;
            *self = count;
        }
        count.outcome(rule, cost, now, allowed)
    }

    pub(super) fn peek(self, rule: &SlidingRule, cost: u64, now: Nanos) -> Outcome {
        let count = self.at(rule, now);
        count.outcome(rule, cost, now, count.used(rule, now) + cost <= rule.limit)
    }

    /// The same count in the windows of `now`.
    fn at(self, rule: &SlidingRule, now: Nanos) -> Self {
        let elapsed = now.since(self.start);
        if self.current == 0 && self.previous == 0 || elapsed >= 2 * rule.window {
            Self { start: now, current: 0, previous: 0 }
        } else if elapsed >= rule.window {
            Self { start: Nanos(self.start.0 + rule.window), current: 0, previous: self.current }
        } else {
            self
        }
    }

    /// Units that the sliding window covers. `self` is in the windows of `now`.
    fn used(self, rule: &SlidingRule, now: Nanos) -> u64 {
        self.current + self.carried(rule, now.since(self.start))
    }

    /// What still counts of the window before, when `elapsed` of the current one is over. Rounded down: rounding up would cost every window
    /// its last unit, for ever, while this lets a unit come back early by less than its own time, and no window ever takes more than
    /// the limit.
    fn carried(self, rule: &SlidingRule, elapsed: u64) -> u64 {
        let left = rule.window.saturating_sub(elapsed);
        let carried = u128::from(self.previous) * u128::from(left) / u128::from(rule.window);
        u64::try_from(carried).unwrap_or(u64::MAX)
    }

    fn outcome(self, rule: &SlidingRule, cost: u64, now: Nanos, allowed: bool) -> Outcome {
        let used = self.used(rule, now);
        let remaining = rule.limit.saturating_sub(used);
        let reset = match (allowed, used) {
            (true, 0) => Some(0),
            (true, _) => self.wait(rule, remaining + 1, now),
            (false, _) => self.wait(rule, cost, now),
        };
        Outcome { allowed, remaining, reset }
    }

    /// How long until `cost` units are free, if nobody takes any. None: never.
    fn wait(self, rule: &SlidingRule, cost: u64, now: Nanos) -> Option<u64> {
        let most = rule.limit.checked_sub(cost)?;
        let elapsed = now.since(self.start);
        let (at, before) = match most.checked_sub(self.current) {
            Some(most) => (Self::carried_until(rule, self.previous, most), 0),
            // The current window must become the one before.
            None => (Self::carried_until(rule, self.current, most), rule.window),
        };
        Some((before + at).saturating_sub(elapsed))
    }

    /// When no more than `most` of `previous` counts: nanoseconds after a window's start.
    fn carried_until(rule: &SlidingRule, previous: u64, most: u64) -> u64 {
        if previous <= most {
            return 0;
        }
        // The longest that may be left of the window while less than one unit more than `most` counts.
        let left = (u128::from(rule.window) * (u128::from(most) + 1)).div_ceil(u128::from(previous)) - 1;
        rule.window - u64::try_from(left).unwrap_or(rule.window).min(rule.window)
    }
}

impl Value for SlidingWindow {
    type Rule = SlidingRule;

    fn loss(&self, rule: &SlidingRule, now: Nanos) -> u128 {
        let count = self.at(rule, now);
        // A window in which something was taken counts until the end of the next one.
        u128::from(count.used(rule, now))
    }
}
