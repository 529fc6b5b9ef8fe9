//! The interfaces that plugins may import, each linked only when the resource grants it.
//!
//! Imports never fail but for contract violations: what is not known is absent, what is too much is dropped and counted.

pub(crate) mod clock;
mod counters;
pub(crate) mod exchange_info;
mod key_value;
pub(crate) mod log;
mod metrics;
pub(crate) mod outbound;
pub(crate) mod random;
mod rate_limit;
pub(crate) mod wasi;

use penstock_core::plugin::Capabilities;
use wasmtime::{Engine, component::Linker};

use crate::{
    contract::{OUTBOUND_HTTP, RATE_LIMIT},
    instance::InstanceState,
};

/// Bytes of a key of counters. Keys are hashed, which no deadline ends.
const LONGEST_KEY: usize = 4096;
/// Bytes of a key of buckets: they are made of what clients send, and whatever a head may hold is a key.
const LONGEST_BUCKET_KEY: usize = 64 << 10;

/// Keys that are longer break the contract.
fn check_key(key: &[u8], most: usize) -> wasmtime::Result<()> {
    let length = key.len();
    wasmtime::ensure!(length <= most, "a key of {length} bytes; {most} are allowed");
    Ok(())
}

/// Where a template's instances will run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// In the gateway.
    Traffic,
    /// In the process that validates: there is no network, and nothing waits. Buckets are the gateway's own, without a count.
    Validation,
}

/// A linker with what `granted` allows. `exchange-info` is always there.
pub(crate) fn linker(
    engine: &Engine,
    granted: &Capabilities,
    purpose: Purpose,
) -> wasmtime::Result<Linker<InstanceState>> {
    let mut linker = Linker::new(engine);
    exchange_info::link(&mut linker)?;
    if granted.log {
        log::link(&mut linker)?;
    }
    if granted.clock {
        clock::link(&mut linker)?;
    }
    if granted.random {
        random::link(&mut linker)?;
    }
    if granted.metrics {
        metrics::link(&mut linker)?;
    }
    if granted.counters {
        counters::link(&mut linker)?;
    }
    if granted.key_value {
        key_value::link(&mut linker)?;
    }
    if may_wait(RATE_LIMIT, granted, purpose) {
        rate_limit::link_waiting(&mut linker)?;
    } else if !granted.rate_limits.is_empty() {
        rate_limit::link(&mut linker)?;
    }
    if granted.wasi {
        wasi::link(&mut linker)?;
    }
    if may_wait(OUTBOUND_HTTP, granted, purpose) {
        outbound::link(&mut linker)?;
    } else if !granted.outbound.is_empty() {
        outbound::link_nowhere(&mut linker)?;
    }
    Ok(linker)
}

/// Whether calls of an import may wait: instances of components that have such an import are called on fibers, each for one call at a time.
pub(crate) fn may_wait(import: &str, granted: &Capabilities, purpose: Purpose) -> bool {
    purpose == Purpose::Traffic
        && match import {
            OUTBOUND_HTTP => !granted.outbound.is_empty(),
            RATE_LIMIT => granted.rate_limits.iter().any(|limit| limit.redis.is_some()),
            _ => false,
        }
}
