//! Random numbers, cryptographically strong.

use crate::imports::random;

/// This many bytes, at most 4096.
#[must_use]
pub fn bytes(len: u32) -> Vec<u8> {
    random::bytes(len)
}

/// Any integer.
#[must_use]
pub fn next() -> u64 {
    random::next()
}
