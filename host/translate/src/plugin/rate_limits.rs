//! `spec.capabilities.rateLimits`: buckets as the plugin host should keep them.

use std::{num::NonZeroU32, time::Duration};

use penstock_core::{
    ResourceRef,
    plugin::{RateAlgorithm, RateLimit, RateWindow, RedisGrant},
};

use super::{quantity, redis};
use crate::{
    nearest::did_you_mean,
    problem::Problem,
    resources::wasm_plugin::{PluginRateLimit, PluginRedis, RateLimitAlgorithm},
};

/// Buckets of one plugin. A plugin looks its bucket up by name in every call.
const MOST: usize = 32;
/// Bytes of a name.
const LONGEST_NAME: usize = 63;

/// The buckets, and what is wrong with those that cannot be.
pub(super) fn evaluate(id: &ResourceRef, given: &[PluginRateLimit], refused: &mut Vec<Problem>) -> Vec<RateLimit> {
    let at = "spec.capabilities.rateLimits";
    if given.len() > MOST {
        refused.push(Problem::invalid(format!("{at}: {} are too many; {MOST} are the most", given.len())));
    }
    let mut limits = Vec::<RateLimit>::new();
    for (index, given) in given.iter().take(MOST).enumerate() {
        match bucket(id, given) {
            Ok(limit) if limits.iter().any(|known| known.name == limit.name) => {
                refused
                    .push(Problem::invalid(format!("{at}[{index}].name: there is a bucket `{}` already", limit.name)));
            }
            Ok(limit) => limits.push(limit),
            Err(problems) => {
                refused.extend(problems.into_iter().map(|problem| problem.within(format_args!("{at}[{index}]"))));
            }
        }
    }
    let keys: u64 = limits.iter().map(|limit| u64::from(limit.max_keys.get())).sum();
    if keys > u64::from(RateLimit::MOST_KEYS) {
        let most = RateLimit::MOST_KEYS;
        refused.push(Problem::invalid(format!(
            "{at}: {keys} keys in all of them (maxKeys) are too many; {most} are the most"
        )));
    }
    limits
}

fn bucket(id: &ResourceRef, given: &PluginRateLimit) -> Result<RateLimit, Vec<Problem>> {
    let mut problems = Vec::new();
    if given.name.is_empty() || given.name.len() > LONGEST_NAME {
        problems.push(Problem::invalid(format!("name: must have 1 to {LONGEST_NAME} characters")));
    }
    let algorithm = algorithm(given, &mut problems);
    let limit = positive("limit", given.limit, &mut problems);
    let window = window(&given.window, &mut problems);
    let max_keys = match given.max_keys {
        None => Some(RateLimit::USUAL_KEYS),
        Some(keys) if keys > RateLimit::MOST_KEYS => {
            problems
                .push(Problem::invalid(format!("maxKeys: {keys} are too many; {} are the most", RateLimit::MOST_KEYS)));
            None
        }
        Some(keys) => positive("maxKeys", keys, &mut problems),
    };
    let redis = given.redis.as_ref().and_then(|given| in_redis(id, given, &mut problems));
    match (algorithm, limit, window, max_keys) {
        (Some(algorithm), Some(limit), Some(window), Some(max_keys)) if problems.is_empty() => {
            Ok(RateLimit { name: given.name.as_str().into(), algorithm, limit, window, max_keys, redis })
        }
        _ => Err(problems),
    }
}

fn in_redis(id: &ResourceRef, given: &PluginRedis, problems: &mut Vec<Problem>) -> Option<RedisGrant> {
    let mut wrong = Vec::new();
    let grant = redis::evaluate(id, given, &mut wrong);
    problems.extend(wrong.into_iter().map(|problem| problem.within("redis")));
    grant
}

fn algorithm(given: &PluginRateLimit, problems: &mut Vec<Problem>) -> Option<RateAlgorithm> {
    match &given.algorithm {
        None | Some(RateLimitAlgorithm::SlidingWindow) => {
            if given.burst.is_some() {
                problems.push(Problem::invalid("burst: only `algorithm: TokenBucket` has one"));
            }
            Some(RateAlgorithm::SlidingWindow)
        }
        Some(RateLimitAlgorithm::TokenBucket) => match given.burst {
            Some(burst) => positive("burst", burst, problems).map(|burst| RateAlgorithm::TokenBucket { burst }),
            // A limit of zero is a problem of its own.
            None => Some(RateAlgorithm::TokenBucket { burst: NonZeroU32::new(given.limit).unwrap_or(NonZeroU32::MIN) }),
        },
        Some(RateLimitAlgorithm::Unknown(text)) => {
            let hint = did_you_mean(text, RateLimitAlgorithm::KNOWN.iter().copied());
            problems.push(Problem::unsupported(format!("algorithm: `{text}` is not known{hint}")));
            None
        }
    }
}

fn positive(field: &str, number: u32, problems: &mut Vec<Problem>) -> Option<NonZeroU32> {
    let positive = NonZeroU32::new(number);
    if positive.is_none() {
        problems.push(Problem::invalid(format!("{field}: must be at least 1")));
    }
    positive
}

fn window(text: &str, problems: &mut Vec<Problem>) -> Option<RateWindow> {
    let window = quantity::duration(text).and_then(RateWindow::new);
    if window.is_none() {
        let hours = RateWindow::LONGEST.as_secs() / Duration::from_hours(1).as_secs();
        problems.push(Problem::invalid(format!("window: `{text}` is no duration from 1ms to {hours}h, such as `1m`")));
    }
    window
}
