//! Buckets that the resource declares, shared by all workers; they survive a reload of the plugin.

use crate::imports::rate_limit;

pub use crate::bindings::imports::rate_limit::{Decision, RateLimitError};

/// Takes `cost` units for `key` from the bucket. Nothing is taken when not allowed.
///
/// # Errors
/// When no bucket of this name was granted, or the backing store does not answer in time.
pub fn take(bucket: &str, key: &[u8], cost: u32) -> Result<Decision, RateLimitError> {
    rate_limit::take(bucket, key, cost)
}

/// The same decision without taking.
///
/// # Errors
/// As [`take`].
pub fn peek(bucket: &str, key: &[u8], cost: u32) -> Result<Decision, RateLimitError> {
    rate_limit::peek(bucket, key, cost)
}
