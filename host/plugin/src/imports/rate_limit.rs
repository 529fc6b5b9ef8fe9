//! `rate-limit`: the buckets of the plugin. One reading of the clock a call.
//!
//! Plugins with a bucket in Redis have the same functions as asynchronous ones: like those that call backends they are called on fibers, and
//! while one waits for a decision the worker goes on with other exchanges. Where there is no message that could wait (the beginning and the end
//! of an exchange, `configure`), and whenever Redis does not decide in time, the answer is what `whenUnavailable` says. In the process that
//! validates all buckets are scratch ones of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use penstock_core::plugin::WhenUnavailable;
use wasmtime::{
    StoreContextMut,
    component::{Linker, WasmList, WasmStr},
};

use super::{LONGEST_BUCKET_KEY, check_key};
use crate::{
    capability::{
        GrantedBucket, Nanos,
        rate_limit::{
            Decision,
            shared::{SharedBucket, Taking},
        },
        redis::RedisError,
    },
    contract::{
        RATE_LIMIT,
        types::{RateLimitDecision, RateLimitError},
    },
    instance::InstanceState,
    metrics::RedisOutcome,
};

type Answer = Result<RateLimitDecision, RateLimitError>;

/// Of plugins whose buckets are all in memory.
pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(RATE_LIMIT)?;
    instance.func_wrap("take", |store: StoreContextMut<'_, InstanceState>, asked: Asked| {
        decide(&store, &asked, Taking::Take)
    })?;
    instance.func_wrap("peek", |store: StoreContextMut<'_, InstanceState>, asked: Asked| {
        decide(&store, &asked, Taking::Peek)
    })
}

/// Of plugins with a bucket that is not.
pub(super) fn link_waiting(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(RATE_LIMIT)?;
    instance.func_wrap_async("take", |store: StoreContextMut<'_, InstanceState>, asked: Asked| {
        Box::new(decide_waiting(store, asked, Taking::Take))
    })?;
    instance.func_wrap_async("peek", |store: StoreContextMut<'_, InstanceState>, asked: Asked| {
        Box::new(decide_waiting(store, asked, Taking::Peek))
    })
}

/// Bucket, key, cost. Read where they stand in the memory of the guest.
type Asked = (WasmStr, WasmList<u8>, u32);

fn decide(
    store: &StoreContextMut<'_, InstanceState>,
    (name, key, cost): &Asked,
    taking: Taking,
) -> wasmtime::Result<(Answer,)> {
    let key = key.as_le_slice(store);
    check_key(key, LONGEST_BUCKET_KEY)?;
    let answer = match store.data().stores.bucket(&name.to_str(store)?) {
        Ok(bucket) => Ok(bucket.here(key, *cost, taking).into()),
        Err(granted) => Err(RateLimitError::UnknownBucket(granted)),
    };
    Ok((answer,))
}

async fn decide_waiting(
    mut store: StoreContextMut<'_, InstanceState>,
    asked: Asked,
    taking: Taking,
) -> wasmtime::Result<(Answer,)> {
    let (name, key, cost) = &asked;
    let stores = Arc::clone(&store.data().stores);
    let Ok(GrantedBucket { shared: Some(shared), .. }) = stores.bucket(&name.to_str(&store)?) else {
        return decide(&store, &asked, taking);
    };
    let key = key.as_le_slice(&store);
    check_key(key, LONGEST_BUCKET_KEY)?;
    // The guest's memory is not read while others may run.
    let (name, key) = (name.to_str(&store)?.into_owned(), key.to_vec());
    let answer = match (elsewhere(&mut store, shared, (&name, &key, *cost), taking).await, shared.when_unavailable) {
        (Ok(decision), _) => Ok(decision.into()),
        (Err(_), WhenUnavailable::Local) => match stores.bucket(&name) {
            Ok(bucket) => Ok(bucket.here(&key, *cost, taking).into()),
            Err(granted) => Err(RateLimitError::UnknownBucket(granted)),
        },
        (Err(why), WhenUnavailable::Refuse) => Err(RateLimitError::Unavailable(why.to_string())),
    };
    Ok((answer,))
}

async fn elsewhere(
    store: &mut StoreContextMut<'_, InstanceState>,
    shared: &SharedBucket,
    (name, key, cost): (&str, &[u8], u32),
    taking: Taking,
) -> Result<Decision, RedisError> {
    let nowhere = |why: &str| RedisError::Unresolved(why.into());
    let Some(network) = &mut store.data_mut().network else {
        return Err(nowhere("nobody can wait here: buckets in Redis are for the hooks of requests and responses"));
    };
    let (place, until) = (Arc::clone(&network.redis), network.until);
    let metrics = Arc::clone(&network.metrics);
    let left = network.decisions_left.checked_sub(1);
    network.decisions_left = left.unwrap_or_default();
    let start = Instant::now();
    let answer = match place.iter().find(|place| *place.bucket == *name) {
        None => Err(nowhere("there is no Redis here: this is no gateway")),
        Some(_) if left.is_none() => Err(RedisError::Quota),
        Some(place) => {
            store.data_mut().pause();
            shared.decide(place, key, cost, taking, until).await
        }
    };
    metrics.redis(name, RedisOutcome::of(&answer), start.elapsed());
    answer
}

impl GrantedBucket {
    /// The decision of this gateway's own bucket.
    fn here(&self, key: &[u8], cost: u32, taking: Taking) -> Decision {
        match taking {
            Taking::Take => self.local.take(key, cost, Nanos::now()),
            Taking::Peek => self.local.peek(key, cost, Nanos::now()),
        }
    }
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
