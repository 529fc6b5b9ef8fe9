//! Metrics, exported by the gateway as `penstock_plugin_<plugin>_<name>`. Register them in `configure`, keep them in the plugin.

use crate::imports::metrics;

pub use crate::bindings::imports::metrics::InvalidMetric;

/// Only grows.
pub struct Counter(metrics::Counter);

/// Goes up and down.
pub struct Gauge(metrics::Gauge);

/// A distribution.
pub struct Histogram(metrics::Histogram);

impl Counter {
    /// Registers a counter with the names of its labels.
    ///
    /// # Errors
    /// When the name is invalid, taken by another kind or with other labels, or one too many.
    pub fn register(name: &str, help: &str, labels: &[&str]) -> Result<Self, InvalidMetric> {
        metrics::Counter::register(name, help, &owned(labels)).map(Self)
    }

    /// Adds, with the values of the labels in the order of registration.
    pub fn add(&self, amount: u64, labels: &[&str]) {
        self.0.add(amount, &owned(labels));
    }
}

impl Gauge {
    /// As [`Counter::register`].
    ///
    /// # Errors
    /// As [`Counter::register`].
    pub fn register(name: &str, help: &str, labels: &[&str]) -> Result<Self, InvalidMetric> {
        metrics::Gauge::register(name, help, &owned(labels)).map(Self)
    }

    /// Sets, with the values of the labels in the order of registration.
    pub fn set(&self, value: f64, labels: &[&str]) {
        self.0.set(value, &owned(labels));
    }
}

impl Histogram {
    /// As [`Counter::register`], with the upper bounds of the buckets.
    ///
    /// # Errors
    /// As [`Counter::register`].
    pub fn register(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<Self, InvalidMetric> {
        metrics::Histogram::register(name, help, &owned(labels), buckets).map(Self)
    }

    /// Observes, with the values of the labels in the order of registration.
    pub fn observe(&self, value: f64, labels: &[&str]) {
        self.0.observe(value, &owned(labels));
    }
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}
