//! All stores of the process, by value: whoever opens the same again finds it as it was.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use penstock_core::{
    ResourceRef,
    plugin::{Capabilities, PluginSpec, RateLimit},
};

use super::{
    Nanos,
    counters::Counters,
    key_value::KeyValue,
    log::LogRate,
    metrics::{Exporter, MetricTable, Metrics},
    rate_limit::{Bucket, shared::SharedBucket},
    redis::Links,
};
use crate::budget::{Budget, Share};

/// Stores of each kind that nobody uses are kept up to this number and so long, so that a plugin that was deleted by mistake finds its counts
/// again.
const KEPT: usize = 64;
const KEPT_FOR: u64 = 3600 * 1_000_000_000;

/// All stores.
#[derive(Default)]
pub(crate) struct Registry {
    budget: Arc<Budget>,
    state: Mutex<State>,
    metrics: Arc<MetricTable>,
    links: Arc<Links>,
}

#[derive(Default)]
struct State {
    buckets: Shelf<(ResourceRef, RateLimit), Bucket>,
    counters: Shelf<ResourceRef, Counters>,
    key_values: Shelf<ResourceRef, KeyValue>,
    logs: Shelf<ResourceRef, LogRate>,
}

/// The stores of one plugin.
#[derive(Default)]
pub(crate) struct Stores {
    /// In the order of the resource. There are few, so they are searched, not hashed.
    buckets: Vec<GrantedBucket>,
    counters: Arc<Counters>,
    key_value: Arc<KeyValue>,
    key_value_bytes: u64,
    log: Arc<LogRate>,
    memory: Share,
    metrics: Metrics,
}

/// A bucket as a plugin knows it.
pub(crate) struct GrantedBucket {
    pub(crate) name: Arc<str>,
    pub(crate) local: Arc<Bucket>,
    /// Its counts in Redis, which come first.
    pub(crate) shared: Option<SharedBucket>,
}

impl Registry {
    /// What all plugins together take comes from `budget`.
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget: Arc::new(budget), ..Self::default() }
    }

    /// The stores of `spec`, those that are there already or new ones; `name` is the one of the manifest.
    ///
    /// A bucket of another limit, window or algorithm is another bucket: what was counted against the old rule says nothing about the new
    /// one. The old one stays for revisions that still serve with it. Whether it is in Redis, and where, makes no other one of it.
    pub(crate) fn open(&self, spec: &PluginSpec, name: &str, now: Nanos) -> Stores {
        let (plugin, share) = (spec.plugin.full_name(), Share::new(&self.budget, &spec.plugin));
        let mut state = self.lock();
        let state = &mut *state;
        let Capabilities { rate_limits, .. } = &spec.capabilities;
        let buckets = rate_limits.iter().map(|limit| {
            let key = (spec.plugin.clone(), RateLimit { redis: None, ..limit.clone() });
            GrantedBucket {
                name: Arc::clone(&limit.name),
                local: state.buckets.open(key, || Bucket::new(limit, &share)),
                shared: SharedBucket::new(&plugin, limit, &self.links),
            }
        });
        let stores = Stores {
            buckets: buckets.collect(),
            counters: state.counters.open(spec.plugin.clone(), || Counters::new(&share)),
            key_value: state.key_values.open(spec.plugin.clone(), || KeyValue::new(&share)),
            key_value_bytes: spec.limits.key_value_bytes,
            log: state.logs.open(spec.plugin.clone(), LogRate::default),
            memory: share.clone(),
            metrics: Metrics::new(&self.metrics, &plugin, name, spec.limits.metric_series),
        };
        state.buckets.tidy(now, |bucket| bucket.is_blank(now));
        state.counters.tidy(now, |_| false);
        state.key_values.tidy(now, |_| false);
        state.logs.tidy(now, |_| true);
        stores
    }

    /// What exports the metrics of all plugins.
    pub(crate) fn exporter(&self) -> Exporter {
        Exporter(Arc::clone(&self.metrics))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stores {
    /// Of a candidate that is being examined: whatever it does must not show in what is real.
    pub(crate) fn scratch(spec: &PluginSpec) -> Self {
        Registry::default().open(spec, "", Nanos::default())
    }

    /// The bucket of this name, or the names that there are.
    pub(crate) fn bucket(&self, name: &str) -> Result<&GrantedBucket, Vec<String>> {
        let found = self.buckets.iter().find(|known| *known.name == *name);
        found.ok_or_else(|| self.buckets.iter().map(|known| known.name.to_string()).collect())
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn log(&self) -> &LogRate {
        &self.log
    }

    /// Where the linear memory of the plugin's instances comes from.
    pub(crate) fn memory(&self) -> &Share {
        &self.memory
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// With the bytes that it may hold.
    pub(crate) fn key_value(&self) -> (&KeyValue, u64) {
        (&self.key_value, self.key_value_bytes)
    }
}

/// Stores of one kind.
struct Shelf<K, S> {
    stores: HashMap<K, Shelved<S>>,
    opened: u64,
}

struct Shelved<S> {
    store: Arc<S>,
    /// When it was last opened, as a number of openings.
    opened: u64,
    /// When nobody was first seen to use it since then.
    unused: Option<Nanos>,
}

impl<K, S> Default for Shelf<K, S> {
    fn default() -> Self {
        Self { stores: HashMap::new(), opened: 0 }
    }
}

impl<K: Eq + Hash + Clone, S> Shelf<K, S> {
    fn open(&mut self, key: K, new: impl FnOnce() -> S) -> Arc<S> {
        self.opened += 1;
        let shelved =
            self.stores.entry(key).or_insert_with(|| Shelved { store: Arc::new(new()), opened: 0, unused: None });
        (shelved.opened, shelved.unused) = (self.opened, None);
        Arc::clone(&shelved.store)
    }

    /// Drop what nobody uses: what says nothing or was long unused, and of the rest all but the last [`KEPT`].
    fn tidy(&mut self, now: Nanos, is_blank: impl Fn(&S) -> bool) {
        self.stores.retain(|_, shelved| {
            if shelved.is_used() {
                shelved.unused = None;
                return true;
            }
            let since = *shelved.unused.get_or_insert(now);
            now.since(since) < KEPT_FOR && !is_blank(&shelved.store)
        });
        let mut unused: Vec<_> =
            self.stores.values().filter(|shelved| !shelved.is_used()).map(|shelved| shelved.opened).collect();
        if unused.len() > KEPT {
            unused.sort_unstable();
            let oldest = unused[unused.len() - KEPT];
            self.stores.retain(|_, shelved| shelved.is_used() || shelved.opened >= oldest);
        }
    }
}

impl<S> Shelved<S> {
    /// New users come from the registry alone, which is locked while this is asked.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.store) > 1
    }
}

#[cfg(test)]
mod tests;
