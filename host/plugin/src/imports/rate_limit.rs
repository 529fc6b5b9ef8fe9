//! `rate-limit`: the buckets of the plugin. One reading of the clock a call.

use std::time::Duration;

use wasmtime::{
    StoreContextMut,
    component::{Linker, WasmList, WasmStr},
};

use crate::{
    capability::{
        Nanos,
        rate_limit::{Bucket, Decision},
    },
    contract::{
        RATE_LIMIT,
        types::{RateLimitDecision, RateLimitError},
    },
    instance::InstanceState,
};

type Answer = Result<RateLimitDecision, RateLimitError>;

pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(RATE_LIMIT)?;
    instance.func_wrap("take", |store: StoreContextMut<'_, InstanceState>, asked: Asked| {
        decide(&store, &asked, |bucket, key, cost| bucket.take(key, cost, Nanos::now()))
    })?;
    instance.func_wrap("peek", |store: StoreContextMut<'_, InstanceState>, asked: Asked| {
        decide(&store, &asked, |bucket, key, cost| bucket.peek(key, cost, Nanos::now()))
    })
}

/// Bucket, key, cost. Read where they stand in the memory of the guest.
type Asked = (WasmStr, WasmList<u8>, u32);

fn decide(
    store: &StoreContextMut<'_, InstanceState>,
    (name, key, cost): &Asked,
    how: impl FnOnce(&Bucket, &[u8], u32) -> Decision,
) -> wasmtime::Result<(Answer,)> {
    let answer = match store.data().stores.bucket(&name.to_str(store)?) {
        Ok(bucket) => Ok(how(bucket, key.as_le_slice(store), *cost).into()),
        Err(granted) => Err(RateLimitError::UnknownBucket(granted)),
    };
    Ok((answer,))
}

impl From<Decision> for RateLimitDecision {
    fn from(Decision { allowed, limit, remaining, reset, window }: Decision) -> Self {
        Self { allowed, limit, remaining, reset_ms: millis(reset), window_ms: millis(window) }
    }
}

/// Rounded up: who waits for so long does not come too early.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
