//! Buckets of the `rate-limit` capability, as values: equal ones are the same bucket, so counts survive whatever changes beside them.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::RedisGrant;

/// A bucket: how much is allowed in which time, for each key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimit {
    /// By which the plugin asks for it.
    pub name: Arc<str>,
    /// How counts are forgotten.
    pub algorithm: RateAlgorithm,
    /// Units in a window.
    pub limit: NonZeroU32,
    /// The time that `limit` is for.
    pub window: RateWindow,
    /// Keys that are counted at once. Beyond it the one with the least to lose is forgotten.
    pub max_keys: NonZeroU32,
    /// Where gateways share the counts; none: each counts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisGrant>,
}

impl RateLimit {
    /// `max_keys` where the resource names none: a hundred thousand clients, in ten megabytes at most.
    pub const USUAL_KEYS: NonZeroU32 = NonZeroU32::new(100_000).expect("is not zero");
    /// The largest `max_keys`: a gigabyte.
    pub const MOST_KEYS: u32 = 10_000_000;
}

/// How counts are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RateAlgorithm {
    /// Units come back one after the other, `limit` of them in a window. In any time `t` at most `burst + limit × t / window` are taken.
    TokenBucket {
        /// Units that can be taken at once.
        burst: NonZeroU32,
    },
    /// What was taken in the current window, and of the one before the part that the sliding window still covers.
    SlidingWindow,
}

/// The time that a limit is for: not zero, and not so long that counting in nanoseconds could overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Duration")]
pub struct RateWindow(Duration);

impl RateWindow {
    /// Shorter windows would be shorter than the clock's jitter under load.
    pub const SHORTEST: Duration = Duration::from_millis(1);
    /// 31 days: quotas of a month. Counts do not survive a restart, so longer ones would be a fiction.
    pub const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

    /// None if `window` is shorter or longer than that.
    #[must_use]
    pub fn new(window: Duration) -> Option<Self> {
        (Self::SHORTEST..=Self::LONGEST).contains(&window).then_some(Self(window))
    }

    /// Its length.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

/// A window that is shorter or longer than what can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a window of {0:?} is shorter than 1ms or longer than 31 days")]
pub struct InvalidWindow(Duration);

impl TryFrom<Duration> for RateWindow {
    type Error = InvalidWindow;

    fn try_from(window: Duration) -> Result<Self, InvalidWindow> {
        Self::new(window).ok_or(InvalidWindow(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_bounds() {
        assert_eq!(RateWindow::new(Duration::from_micros(999)), None);
        assert_eq!(RateWindow::new(RateWindow::SHORTEST).map(RateWindow::get), Some(RateWindow::SHORTEST));
        assert_eq!(RateWindow::new(RateWindow::LONGEST).map(RateWindow::get), Some(RateWindow::LONGEST));
        assert_eq!(RateWindow::new(RateWindow::LONGEST + Duration::from_nanos(1)), None);
    }
}
