//! Integers shared by all workers, kept by plugin; they survive a reload.

use std::time::Duration;

use super::key_value::millis;
use crate::imports::counters;

/// Adds and answers the new value. `ttl` counts from the first write of the key; none: until the gateway ends.
pub fn add(key: &str, delta: i64, ttl: Option<Duration>) -> i64 {
    counters::add(key, delta, ttl.map(millis))
}

/// 0 when absent.
#[must_use]
pub fn get(key: &str) -> i64 {
    counters::get(key)
}
