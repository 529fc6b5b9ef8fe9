//! What is counted of fetches.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::FetchError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    source: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
}

/// The families. All labels are of small closed sets.
pub(crate) struct FetchMetrics {
    fetches: Family<OutcomeLabels, Counter>,
    bytes: Family<SourceLabels, Counter>,
    seconds: Family<SourceLabels, Histogram, fn() -> Histogram>,
}

impl FetchMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            fetches: Family::default(),
            bytes: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 10))),
        };
        registry.register(
            "penstock_plugin_fetches",
            "Modules that were wanted from a source, by outcome: Fetched, or the reason of the failure",
            metrics.fetches.clone(),
        );
        registry.register(
            "penstock_plugin_fetch_bytes",
            "Bytes of modules that were downloaded",
            metrics.bytes.clone(),
        );
        registry.register(
            "penstock_plugin_fetch_seconds",
            "Time until a module was there, or was known not to come",
            metrics.seconds.clone(),
        );
        Arc::new(metrics)
    }

    /// Bytes came over the network.
    pub(crate) fn downloaded(&self, source: &'static str, bytes: usize) {
        self.bytes.get_or_create(&SourceLabels { source }).inc_by(bytes as u64);
    }

    /// An attempt ended.
    pub(crate) fn ended<T>(&self, source: &'static str, result: &Result<T, FetchError>, time: Duration) {
        let outcome = result.as_ref().map_or_else(FetchError::reason, |_| "Fetched");
        self.fetches.get_or_create(&OutcomeLabels { source, outcome }).inc();
        self.seconds.get_or_create(&SourceLabels { source }).observe(time.as_secs_f64());
    }
}
