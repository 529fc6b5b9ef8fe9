//! What is counted of the lives of plugins and of the last good set.

use penstock_core::ResourceRef;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::restore::Restored;
use crate::last_good::{KeepError, LastGood};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// Of plugins' lives.
#[derive(Clone, Default)]
pub(super) struct LifeCounts {
    rollbacks: Family<PluginLabels, Counter>,
    probation: Family<PluginLabels, Gauge>,
    restores: Family<ResultLabels, Counter>,
    recalls: Family<ResultLabels, Counter>,
}

impl LifeCounts {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        registry.register(
            "penstock_plugin_rollbacks",
            "Revisions that were replaced by the last good one because they faulted on probation",
            counts.rollbacks.clone(),
        );
        registry.register(
            "penstock_plugin_on_probation",
            "1 while the revision that serves is on probation",
            counts.probation.clone(),
        );
        registry.register(
            "penstock_plugin_restores",
            "Plugins restored from disk at the start: the last good revision, the one before it, or none",
            counts.restores.clone(),
        );
        registry.register(
            "penstock_plugin_recalls",
            "Attempts to restore a plugin from its record in the cluster, because nothing better could serve",
            counts.recalls.clone(),
        );
        counts
    }

    pub(super) fn rolled_back(&self, plugin: &ResourceRef) {
        self.rollbacks.get_or_create(&labels(plugin)).inc();
    }

    pub(super) fn on_probation(&self, plugin: &ResourceRef, is: bool) {
        self.probation.get_or_create(&labels(plugin)).set(i64::from(is));
    }

    pub(super) fn restored(&self, restored: &Restored) {
        let result = match (&restored.revision, &restored.failure) {
            (Some(_), None) => "newest",
            (Some(_), Some(_)) => "previous",
            (None, _) => "failed",
        };
        self.restores.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn recalled(&self, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.recalls.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn forget(&self, plugin: &ResourceRef) {
        self.rollbacks.remove(&labels(plugin));
        self.probation.remove(&labels(plugin));
    }
}

/// Of the last good set.
#[derive(Clone, Default)]
pub(super) struct StoreCounts {
    bytes: Gauge,
    commits: Family<ResultLabels, Counter>,
    damaged: Counter,
}

impl StoreCounts {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        registry.register(
            "penstock_plugin_last_good_bytes",
            "Size of the last good plugins on disk",
            counts.bytes.clone(),
        );
        registry.register(
            "penstock_plugin_last_good_commits",
            "Attempts to write the last good set",
            counts.commits.clone(),
        );
        registry.register(
            "penstock_plugin_last_good_damaged_indexes",
            "Damaged indexes of the last good set that were found at the start",
            counts.damaged.clone(),
        );
        counts
    }

    pub(super) fn opened(&self, store: &LastGood) {
        self.set_bytes(store);
        for damage in store.damage() {
            tracing::error!(%damage, "the last good set is damaged; what is left of it is used");
            self.damaged.inc();
        }
    }

    pub(super) fn kept(&self, store: &LastGood, result: &Result<bool, KeepError>) {
        self.set_bytes(store);
        let result = match result {
            Ok(true) => "ok",
            Ok(false) => return,
            Err(_) => "failed",
        };
        self.commits.get_or_create(&ResultLabels { result }).inc();
    }

    fn set_bytes(&self, store: &LastGood) {
        self.bytes.set(i64::try_from(store.bytes()).unwrap_or(i64::MAX));
    }
}

fn labels(plugin: &ResourceRef) -> PluginLabels {
    PluginLabels { plugin: plugin.full_name() }
}
