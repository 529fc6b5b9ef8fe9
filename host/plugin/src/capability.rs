//! What stands behind the capabilities that keep something: buckets, counters, values, metrics.
//!
//! ```text
//! Registry (process) ──open──► Stores (one plugin) ──Arc──► every instance of every revision, on every worker
//!   by value                     Bucket…  Counters  KeyValue  Metrics
//! ```
//!
//! Stores belong to plugins and not to revisions, so they survive a reload, and a plugin that is deleted and made again. Nothing here knows
//! wasmtime or reads a clock: time is an argument, so that one hostcall sees one time and tests see the one they choose.
//!
//! Invariants: every store is bounded, whatever a plugin does; nothing that is called on a worker waits for anything but the lock of
//! one shard, which nobody holds for longer than a bounded number of steps; stores of two plugins have nothing in common.

pub(crate) mod counters;
pub(crate) mod key_value;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod rate_limit;
pub(crate) mod redis;
mod registry;
mod table;

use std::{sync::OnceLock, time::Instant};

pub(crate) use self::registry::{GrantedBucket, Registry, Stores};

/// Nanoseconds since the gateway first looked at the clock. Enough for 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    /// Read the clock.
    pub(crate) fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Time since `earlier`. Workers read the clock before they get the lock, so it may seem to be later: that counts as no time.
    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `ttl` milliseconds from now; none is never.
    pub(crate) fn expiry(self, ttl: Option<u64>) -> Self {
        ttl.map_or(Self::NEVER, |ttl| Self(self.0.saturating_add(ttl.saturating_mul(1_000_000))))
    }

    /// As far away as can be.
    pub(crate) const NEVER: Self = Self(u64::MAX);
}
