//! `rate-limit`: buckets with a count for each key.
//!
//! Both algorithms count in whole numbers and round nothing but what they tell: over any time, on any number of threads, exactly as much is
//! taken as the rule allows.
//!
//! * **Token bucket.** What a key has spent is kept in units × nanoseconds of the window: taking one unit adds the window's length, a
//!   nanosecond takes off the limit. So no rate is too fast, too slow or too odd to be exact.
//! * **Sliding window.** What was taken in the current window and in the one before it, of which the part counts that the sliding window
//!   still covers, as if it had been taken evenly. Windows of a key begin with its first request, so that keys do not renew all at once.

pub(crate) mod shared;
mod sliding_window;
mod token_bucket;

use std::time::Duration;

use penstock_core::plugin::{RateAlgorithm, RateLimit};

use self::{
    sliding_window::{SlidingRule, SlidingWindow},
    token_bucket::{TokenBucket, TokenRule},
};
use super::{Nanos, table::Table};
use crate::budget::Share;

/// A bucket.
pub(crate) struct Bucket {
    limit: u64,
    window: u64,
    counts: Counts,
}

enum Counts {
    Token(Table<TokenBucket>),
    Sliding(Table<SlidingWindow>),
}

/// What a bucket says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Units in a window.
    pub(crate) limit: u64,
    /// Whole units that could be taken now.
    pub(crate) remaining: u64,
    /// When allowed: until one more unit is free. When not: until this cost would be allowed, or the window if it never is.
    pub(crate) reset: Duration,
    pub(crate) window: Duration,
}

/// What an algorithm says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outcome {
    allowed: bool,
    remaining: u64,
    /// Nanoseconds; none if the cost is more than the bucket ever holds.
    reset: Option<u64>,
}

impl Bucket {
    /// With nothing taken.
    pub(crate) fn new(limit: &RateLimit, share: &Share) -> Self {
        let most = usize::try_from(limit.max_keys.get()).unwrap_or(usize::MAX);
        let window = u64::try_from(limit.window.get().as_nanos()).unwrap_or(u64::MAX);
        let units = u64::from(limit.limit.get());
        let counts = match limit.algorithm {
            RateAlgorithm::TokenBucket { burst } => {
                Counts::Token(Table::new(TokenRule::new(units, window, u64::from(burst.get())), most, share))
            }
            RateAlgorithm::SlidingWindow => {
                Counts::Sliding(Table::new(SlidingRule { limit: units, window }, most, share))
            }
        };
        Self { limit: units, window, counts }
    }

    /// Take `cost` units for `key`. Nothing is taken when not allowed.
    pub(crate) fn take(&self, key: &[u8], cost: u32, now: Nanos) -> Decision {
        let cost = u64::from(cost);
        self.decision(match &self.counts {
            Counts::Token(table) => table.update(key, now, |rule, count| count.take(rule, cost, now)),
            Counts::Sliding(table) => table.update(key, now, |rule, count| count.take(rule, cost, now)),
        })
    }

    /// The same decision without taking.
    pub(crate) fn peek(&self, key: &[u8], cost: u32, now: Nanos) -> Decision {
        let cost = u64::from(cost);
        self.decision(match &self.counts {
            Counts::Token(table) => table.get(key).peek(table.rule(), cost, now),
            Counts::Sliding(table) => table.get(key).peek(table.rule(), cost, now),
        })
    }

    /// Whether a new bucket would decide the same.
    pub(crate) fn is_blank(&self, now: Nanos) -> bool {
        match &self.counts {
            Counts::Token(table) => table.is_blank(now),
            Counts::Sliding(table) => table.is_blank(now),
        }
    }

    /// How many keys are counted.
    #[cfg(test)]
    fn keys(&self) -> usize {
        match &self.counts {
            Counts::Token(table) => table.len(),
            Counts::Sliding(table) => table.len(),
        }
    }

    fn decision(&self, outcome: Outcome) -> Decision {
        outcome.decision(self.limit, self.window)
    }
}

impl Outcome {
    /// In a bucket of so many units in so many nanoseconds.
    fn decision(self, limit: u64, window: u64) -> Decision {
        let Self { allowed, remaining, reset } = self;
        let reset = Duration::from_nanos(reset.unwrap_or(window));
        Decision { allowed, limit, remaining, reset, window: Duration::from_nanos(window) }
    }
}

#[cfg(test)]
mod tests;
