//! What the tests of this crate share: guests in text form, a recorder of facts, exchanges, backends that answer when told.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod exchange;
pub mod facts;
pub mod guest;
pub mod log;
pub mod outbound;
