//! Metrics of the data plane.
//!
//! Each worker counts in cells of its own, on cache lines of its own: counting is a load and a store, never a contended atomic. A scrape
//! adds the cells of all workers up. Labels are names of resources in the snapshot and closed enums, so their number is bounded by the
//! configuration; series of a route that is gone go with it, at the first scrape after the last request.

mod collect;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use penstock_core::{
    ResourceRef,
    listener::Listener,
    reason::Reason,
    route::Rule,
    snapshot::{Snapshot, SnapshotCell},
};
use rustc_hash::{FxHashMap, FxHashSet};

/// A counter that one thread writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn add(&self, count: u64) {
        // Not `fetch_add`: one writer, so no locked instruction is needed.
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the duration histogram in seconds: from what a local endpoint needs to what clients give up at.
pub(crate) const BOUNDS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The same in nanoseconds.
const BOUNDS_NANOS: [u64; BOUNDS.len()] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Requests of one route on one listener, as one worker counted them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct RouteShard {
    /// By the first digit of the status; 0 for requests whose client left before there was one.
    pub(crate) classes: [Cell; 6],
    pub(crate) buckets: [Cell; BOUNDS.len() + 1],
    pub(crate) nanoseconds: Cell,
    pub(crate) received: Cell,
    pub(crate) sent: Cell,
}

impl RouteShard {
    pub(crate) fn observe(&self, status: Option<StatusCode>, took: Duration) {
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100).min(5));
        self.classes[class].increment();
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.iter().position(|bound| nanoseconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].increment();
        self.nanoseconds.add(nanoseconds);
    }
}

/// What names the series of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RouteKey {
    /// Gateway and listener; none for requests that no listener took.
    pub(crate) listener: Option<(ResourceRef, Arc<str>)>,
    /// None for requests that no rule took.
    pub(crate) route: Option<ResourceRef>,
}

impl RouteKey {
    pub(crate) fn new(listener: Option<&Listener>, rule: Option<&Rule>) -> Self {
        Self {
            listener: listener.map(|listener| (listener.id.parent.clone(), listener.id.name.clone())),
            route: rule.map(|rule| rule.id.route.clone()),
        }
    }
}

/// The cells of all workers for one route on one listener.
#[derive(Debug)]
pub(crate) struct RouteSeries {
    shards: Box<[RouteShard]>,
}

impl RouteSeries {
    pub(crate) fn shard(&self, worker: usize) -> &RouteShard {
        &self.shards[worker]
    }
}

/// What one worker counts beside its requests.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerShard {
    pub(crate) connections_opened: Cell,
    pub(crate) connections_closed: Cell,
    pub(crate) handshakes_failed: Cell,
    pub(crate) upstream_connected: Cell,
    pub(crate) upstream_failed: Cell,
    pub(crate) upstream_reused: Cell,
    pub(crate) retries: Cell,
    pub(crate) log_dropped: Cell,
    pub(crate) reasons: [Cell; REASONS],
}

/// More than there are reasons; the excess is never exposed.
const REASONS: usize = 32;

impl WorkerShard {
    pub(crate) fn count_reason(&self, reason: Reason) {
        if let Some(cell) = self.reasons.get(reason as usize) {
            cell.increment();
        }
    }
}

/// All metrics of the data plane.
#[derive(Debug)]
pub(crate) struct ProxyMetrics {
    pub(crate) workers: Box<[WorkerShard]>,
    routes: Mutex<FxHashMap<RouteKey, Arc<RouteSeries>>>,
    snapshot: Arc<SnapshotCell>,
}

impl ProxyMetrics {
    pub(crate) fn new(workers: usize, snapshot: Arc<SnapshotCell>) -> Self {
        let workers = (0..workers).map(|_| WorkerShard::default()).collect();
        Self { workers, routes: Mutex::default(), snapshot }
    }

    /// Looked up once for each rule, worker and snapshot, not for each request.
    pub(crate) fn route(&self, key: RouteKey) -> Arc<RouteSeries> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let series = routes.entry(key).or_insert_with(|| {
            let shards = self.workers.iter().map(|_| RouteShard::default()).collect();
            Arc::new(RouteSeries { shards })
        });
        series.clone()
    }

    /// The series to show: those of listeners and routes that the snapshot in effect has, and those that somebody still counts in.
    fn series(&self) -> MutexGuard<'_, FxHashMap<RouteKey, Arc<RouteSeries>>> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.values().any(|series| Arc::strong_count(series) == 1) {
            let there = keys(&self.snapshot.load());
            routes.retain(|key, series| Arc::strong_count(series) > 1 || there.contains(key));
        }
        routes
    }
}

/// All keys that requests can be counted under by this snapshot.
fn keys(snapshot: &Snapshot) -> FxHashSet<RouteKey> {
    let listeners = snapshot.sockets.iter().flat_map(|socket| &socket.listeners);
    let keys = listeners.flat_map(|listener| {
        let routes = listener.routes.iter_routes().map(|route| Some(route.id.clone()));
        routes.chain([None]).map(|route| RouteKey { route, ..RouteKey::new(Some(listener), None) })
    });
    keys.chain([RouteKey::new(None, None)]).collect()
}
