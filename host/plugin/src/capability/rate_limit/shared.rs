//! Buckets whose counts are in Redis.
//!
//! The scripts there decide by the same arithmetic as the buckets here, in whole numbers of microseconds; what is told of a decision is worked
//! out here, by the same code for both. So for the same requests at the same times both say the same.
//!
//! ```text
//! penstock:rate-limit:default/limits:per-client:3f0a1c…:=203.0.113.7
//! prefix              plugin         bucket     rule    key of the plugin; beyond 64 bytes `#` and its SHA-256
//! ```
//!
//! Another rule is another key, as it is another bucket here: gateways that still serve with the old rule do not count against the new one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use penstock_core::{
    plugin::{RateAlgorithm, RateLimit, RedisBucket, WhenUnavailable},
    route::Target,
};

use super::{
    super::redis::{Link, Links, Numbers, RedisError, Run, Script},
    Decision, Outcome,
    sliding_window::SlidingRule,
    token_bucket::TokenRule,
};
use crate::module::Digest;

/// Bytes of a plugin's key that stand in Redis as they are.
const LONGEST_KEY: usize = 64;

/// A bucket in Redis. Without its server it decides nothing.
pub(crate) struct SharedBucket {
    pub(crate) when_unavailable: WhenUnavailable,
    timeout: Duration,
    limit: u64,
    /// Microseconds. A window that is no whole number of them is rounded up.
    window: u64,
    rule: Rule,
    prefix: Box<[u8]>,
    namespace: Arc<str>,
    links: Arc<Links>,
    /// The one that was last asked.
    link: ArcSwapOption<Link>,
}

enum Rule {
    Token { rule: TokenRule, burst: u64 },
    Sliding(SlidingRule),
}

/// Whether what is asked for is taken if it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taking {
    Take,
    Peek,
}

impl SharedBucket {
    /// The bucket of a plugin (`namespace/name`); none if it is not in Redis.
    pub(crate) fn new(plugin: &str, limit: &RateLimit, links: &Arc<Links>) -> Option<Self> {
        let grant = limit.redis.as_ref()?;
        let units = u64::from(limit.limit.get());
        let window = u64::try_from(limit.window.get().as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        let rule = match limit.algorithm {
            RateAlgorithm::TokenBucket { burst } => {
                let burst = u64::from(burst.get());
                Rule::Token { rule: TokenRule::new(units, window * 1000, burst), burst }
            }
            RateAlgorithm::SlidingWindow => Rule::Sliding(SlidingRule { limit: units, window: window * 1000 }),
        };
        let rule_name = match &rule {
            Rule::Token { burst, .. } => format!("token-bucket {units} {window} {burst}"),
            Rule::Sliding(_) => format!("sliding-window {units} {window}"),
        };
        let digest = &Digest::of(format!("{rule_name} {}", limit.name).as_bytes()).hex()[..16];
        Some(Self {
            when_unavailable: grant.when_unavailable,
            timeout: grant.timeout,
            limit: units,
            window,
            rule,
            prefix: format!("penstock:rate-limit:{plugin}:{}:{digest}:", limit.name).into_bytes().into(),
            namespace: plugin.split_once('/').map_or("", |(namespace, _)| namespace).into(),
            links: Arc::clone(links),
            link: ArcSwapOption::empty(),
        })
    }

    /// Take `cost` units for `key`, or only ask. Nothing is taken when not allowed. Answers by `until`, and within the bucket's own time.
    pub(crate) async fn decide(
        &self,
        place: &RedisBucket,
        key: &[u8],
        cost: u32,
        taking: Taking,
        until: Instant,
    ) -> Result<Decision, RedisError> {
        let backend = match &place.target {
            Target::Backend(backend) => backend,
            Target::Fail(failure) => return Err(RedisError::Unresolved(Arc::clone(&failure.message))),
        };
        let link = match self.link.load_full() {
            Some(link) if link.is(backend, &place.login) => link,
            _ => {
                let opened = self.links.open(&self.namespace, backend, &place.login);
                let link = opened.map_err(|error| RedisError::Connect(error.to_string().into()))?;
                self.link.store(Some(Arc::clone(&link)));
                link
            }
        };
        let now = Instant::now();
        let deadline = until.min(now + self.timeout);
        if deadline <= now {
            return Err(RedisError::Timeout);
        }
        let numbers = link.ask(backend, self.run(key, cost, taking), deadline).await?;
        let outcome = self.outcome(numbers, u64::from(cost)).ok_or(RedisError::Malformed)?;
        Ok(outcome.decision(self.limit, self.window * 1000))
    }

    fn run(&self, key: &[u8], cost: u32, taking: Taking) -> Run {
        let (script, burst) = match self.rule {
            Rule::Token { burst, .. } => (Script::TokenBucket, burst),
            Rule::Sliding(_) => (Script::SlidingWindow, 0),
        };
        let taking = u64::from(taking == Taking::Take);
        Run { script, key: self.key(key), arguments: [self.limit, self.window, u64::from(cost), taking, burst] }
    }

    /// No key of a plugin that stands as it is looks like one that is hashed.
    fn key(&self, key: &[u8]) -> Vec<u8> {
        if key.len() > LONGEST_KEY {
            [&self.prefix, &b"#"[..], Digest::of(key).hex().as_bytes()].concat()
        } else {
            [&self.prefix, &b"="[..], key].concat()
        }
    }

    /// None for numbers that no script answers.
    fn outcome(&self, [allowed, first, second, third]: Numbers, cost: u64) -> Option<Outcome> {
        let allowed = allowed == 1;
        Some(match &self.rule {
            Rule::Token { rule, .. } => {
                let rest = u64::try_from(second).ok().filter(|rest| *rest < self.window)?;
                rule.decided(u32::try_from(first).ok()?, rest, cost, allowed)
            }
            Rule::Sliding(rule) => {
                let elapsed = u64::try_from(first).ok().filter(|elapsed| *elapsed < self.window)?;
                let taken = [u32::try_from(second).ok()?, u32::try_from(third).ok()?];
                rule.decided(elapsed * 1000, taken, cost, allowed)
            }
        })
    }
}

#[cfg(test)]
mod tests;
