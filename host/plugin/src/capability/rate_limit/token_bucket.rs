//! Units that come back one after the other.

use super::{
    super::{Nanos, table::Value},
    Outcome,
};

/// What one key has spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TokenBucket {
    /// In units × nanoseconds of the window, at the time `at`.
    spent: u128,
    at: Nanos,
}

/// Numbers that all keys share. None overflows: limits and bursts have 32 bits, windows 52.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenRule {
    /// What one nanosecond gives back.
    limit: u64,
    /// What one unit costs: nanoseconds of the window.
    window: u64,
    /// The most that can be spent.
    capacity: u128,
}

impl TokenRule {
    pub(super) fn new(limit: u64, window: u64, burst: u64) -> Self {
        Self { limit, window, capacity: scaled(burst, window) }
    }
}

impl TokenBucket {
    pub(super) fn take(&mut self, rule: &TokenRule, cost: u64, now: Nanos) -> Outcome {
        let spent = self.spent(rule, now);
        let wanted = spent + scaled(cost, rule.window);
        let allowed = wanted <= rule.capacity;
        if allowed {
            // The later of both times: a worker that was late must not give back what another one has given back already.
            *self = Self { spent: wanted, at: self.at.max(now) };
        }
        rule.outcome(if allowed { wanted } else { spent }, cost, allowed)
    }

    pub(super) fn peek(self, rule: &TokenRule, cost: u64, now: Nanos) -> Outcome {
        let spent = self.spent(rule, now);
        rule.outcome(spent, cost, spent + scaled(cost, rule.window) <= rule.capacity)
    }

    /// What is still spent.
    fn spent(self, rule: &TokenRule, now: Nanos) -> u128 {
        self.spent.saturating_sub(scaled(now.since(self.at), rule.limit))
    }
}

impl TokenRule {
    /// The outcome where something else has decided: what is spent then is `units`, and `rest` of one in units × microseconds.
    pub(super) fn decided(&self, units: u32, rest: u64, cost: u64, allowed: bool) -> Outcome {
        let spent = scaled(u64::from(units), self.window) + scaled(rest, 1000);
        self.outcome(spent, cost, allowed)
    }

    fn outcome(&self, spent: u128, cost: u64, allowed: bool) -> Outcome {
        let window = u128::from(self.window);
        let free = self.capacity.saturating_sub(spent);
        let remaining = free / window;
        let wanted = if allowed { (remaining + 1) * window } else { scaled(cost, self.window) };
        // A full bucket gets no further unit: nothing to wait for.
        let missing = wanted.min(if allowed { self.capacity } else { wanted }).saturating_sub(free);
        let reset = missing.div_ceil(u128::from(self.limit));
        Outcome {
            allowed,
            remaining: u64::try_from(remaining).unwrap_or(u64::MAX),
            reset: (wanted <= self.capacity || allowed).then(|| u64::try_from(reset).unwrap_or(u64::MAX)),
        }
    }
}

impl Value for TokenBucket {
    type Rule = TokenRule;

    fn loss(&self, rule: &TokenRule, now: Nanos) -> u128 {
        self.spent(rule, now)
    }
}

fn scaled(units: u64, by: u64) -> u128 {
    u128::from(units) * u128::from(by)
}
