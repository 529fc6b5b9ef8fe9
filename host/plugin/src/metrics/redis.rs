//! What is counted of buckets in Redis.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::capability::redis::RedisError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskedLabels {
    plugin: String,
    bucket: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabels {
    plugin: String,
    bucket: String,
}

/// The families.
pub(super) struct RedisMetrics {
    asked: Family<AskedLabels, Counter>,
    seconds: Family<BucketLabels, Histogram, fn() -> Histogram>,
}

/// Which series there are of one plugin: they go with it.
#[derive(Default)]
pub(super) struct RedisSeries(Mutex<HashSet<AskedLabels>>);

/// What came of asking Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedisOutcome {
    Answered,
    /// The resource's reference leads nowhere.
    Unresolved,
    Connect,
    Timeout,
    /// An error of the server.
    Refused,
    Busy,
    /// The hook has asked too often.
    Quota,
    Protocol,
}

impl RedisOutcome {
    pub(crate) fn of<T>(answer: &Result<T, RedisError>) -> Self {
        match answer {
            Ok(_) => Self::Answered,
            Err(RedisError::Unresolved(_)) => Self::Unresolved,
            Err(RedisError::NoEndpoint | RedisError::Connect(_) | RedisError::Lost) => Self::Connect,
            Err(RedisError::Timeout) => Self::Timeout,
            Err(RedisError::Refused(_)) => Self::Refused,
            Err(RedisError::Busy) => Self::Busy,
            Err(RedisError::Quota) => Self::Quota,
            Err(RedisError::Malformed) => Self::Protocol,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unresolved => "unresolved",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Quota => "quota",
            Self::Protocol => "protocol",
        }
    }
}

impl RedisMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let asked = Family::default();
        let seconds: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 14)));
        registry.register(
            "penstock_plugin_rate_limit_store_requests",
            "Decisions that Redis was asked for, by what came of it; all but `answered` were what whenUnavailable says",
            Family::clone(&asked),
        );
        registry.register(
            "penstock_plugin_rate_limit_store_seconds",
            "Time that exchanges waited for a decision of Redis",
            seconds.clone(),
        );
        Self { asked, seconds }
    }

    /// Such a call takes its time, so its series are looked up.
    pub(super) fn asked(
        &self,
        series: &RedisSeries,
        (plugin, bucket): (&str, &str),
        outcome: RedisOutcome,
        time: Duration,
    ) {
        let labels = AskedLabels { plugin: plugin.into(), bucket: bucket.into(), outcome: outcome.label() };
        self.seconds.get_or_create(&labels.bucket()).observe(time.as_secs_f64());
        self.asked.get_or_create(&labels).inc();
        series.0.lock().unwrap_or_else(PoisonError::into_inner).insert(labels);
    }

    pub(super) fn forget(&self, series: &RedisSeries) {
        for labels in series.0.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            self.seconds.remove(&labels.bucket());
            self.asked.remove(&labels);
        }
    }
}

impl AskedLabels {
    fn bucket(&self) -> BucketLabels {
        BucketLabels { plugin: self.plugin.clone(), bucket: self.bucket.clone() }
    }
}
