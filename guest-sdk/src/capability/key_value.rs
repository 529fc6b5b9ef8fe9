//! A small store of bytes, kept by plugin, shared by all workers; it survives a reload, not a restart.

use std::time::Duration;

use crate::imports::key_value;

pub use crate::bindings::imports::key_value::KeyValueError;

/// The value of a key.
#[must_use]
pub fn get(key: &str) -> Option<Vec<u8>> {
    key_value::get(key)
}

/// Sets the value of a key.
///
/// # Errors
/// When the store is full, or key (512 bytes) or value (64 KiB) too large.
pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), KeyValueError> {
    key_value::set(key, value, ttl.map(millis))
}

/// Removes a key, if it is there.
pub fn delete(key: &str) {
    key_value::delete(key);
}

/// Sets the value only if it is still `expected` (none: absent), and answers whether it was.
///
/// # Errors
/// As [`set`].
pub fn compare_and_set(
    key: &str,
    expected: Option<&[u8]>,
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<bool, KeyValueError> {
    key_value::compare_and_set(key, expected, value, ttl.map(millis))
}

/// More than half a billion years are as good as no limit.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
