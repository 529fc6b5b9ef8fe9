//! Time. Does not move during one hook.

use std::time::{Duration, SystemTime};

use crate::imports::clock;

/// The time of day.
#[must_use]
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + unix_time()
}

/// Time since the Unix epoch, to the millisecond.
#[must_use]
pub fn unix_time() -> Duration {
    Duration::from_millis(clock::now())
}

/// Time since an arbitrary start, never backwards.
#[must_use]
pub fn monotonic() -> Duration {
    Duration::from_nanos(clock::monotonic())
}
