//! What a plugin may ask of the gateway. A component imports only the capabilities that it calls, and the WasmPlugin resource must grant
//! each of them; one that is not granted is refused by name before anything runs.
//!
//! In tests [`crate::testing`] provides all of them.

pub mod clock;
pub mod counters;
pub mod exchange;
pub mod key_value;
pub mod log;
pub mod metrics;
pub mod outbound;
pub mod random;
pub mod rate_limit;
