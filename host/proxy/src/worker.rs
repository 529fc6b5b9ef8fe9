//! One worker: a thread with a runtime of its own, and everything that its requests need.

use std::{
    cell::RefCell,
    collections::hash_map::Entry,
    net::TcpListener,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::Cache;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use penstock_core::{
    listener::{Listener, Socket},
    plugin::PolicyWorker,
    route::{Action, Rule, Target},
    snapshot::{Snapshot, SnapshotCell},
};
use rustc_hash::FxHashMap;
use rustls::ServerConfig;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    accept,
    access::WorkerLog,
    clock::{Clock, TICK},
    connection::{Connection, Connections},
    ids::RequestIds,
    listen::SocketKey,
    metrics::{ProxyMetrics, RouteKey, RouteSeries, WorkerShard},
    outbound,
    patience::Waiters,
    policies::{
        ends::{self, Ends},
        room::Rooms,
    },
    proxy::DrainReport,
    settings::ProxySettings,
    upstream::{Upstream, Upstreams},
};

/// What a worker is told.
pub(crate) enum Command {
    /// Accept on this socket.
    Open { key: SocketKey, listener: TcpListener, tls: Option<Arc<ServerConfig>> },
    /// Accept no more on it, and let its connections end. `closed` is dropped when the socket is.
    Close { key: SocketKey, closed: Closed },
    /// Stop accepting, let all connections end, and cut what is left at the deadline.
    Drain { deadline: Duration, report: oneshot::Sender<DrainReport> },
    /// End now.
    Stop,
}

/// Dropped when a socket is closed.
pub(crate) type Closed = std::sync::mpsc::Sender<()>;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: ProxySettings,
    pub(crate) snapshot: Arc<SnapshotCell>,
    pub(crate) metrics: Arc<ProxyMetrics>,
    /// Open client connections of all workers. Touched when one is opened or closed, not by requests.
    pub(crate) connections: AtomicUsize,
    /// For bodies that wait for plugins.
    pub(crate) rooms: Arc<Rooms>,
}

impl Shared {
    pub(crate) fn new(settings: ProxySettings, snapshot: Arc<SnapshotCell>, metrics: Arc<ProxyMetrics>) -> Self {
        let rooms = Arc::new(Rooms::new(settings.limits.waiting_bodies));
        Self { settings, snapshot, metrics, connections: AtomicUsize::new(0), rooms }
    }
}

/// The state of one worker.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: ProxySettings,
    pub(crate) policies: Box<dyn PolicyWorker>,
    pub(crate) ends: Ends,
    pub(crate) clock: Arc<Clock>,
    pub(crate) waiters: Rc<Waiters>,
    pub(crate) connections: Connections,
    pub(crate) upstreams: Upstreams,
    pub(crate) access_log: WorkerLog,
    pub(crate) ids: RequestIds,
    /// For requests that no rule took.
    pub(crate) unrouted: Arc<RouteSeries>,
    pub(crate) http1: http1::Builder,
    pub(crate) http2: http2::Builder<LocalExec>,
    cache: RefCell<Cache<Arc<SnapshotCell>, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
    /// The last view that had a socket which is gone: connections that are left on it are served from there to their end.
    retired: RefCell<FxHashMap<SocketKey, Rc<View>>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).finish_non_exhaustive()
    }
}

/// A snapshot with what this worker has looked up about it.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    // By address of listener and rule, which the snapshot keeps alive.
    rules: RefCell<FxHashMap<(usize, usize), Rc<RuleState>>>,
}

/// What a worker has for a rule on a listener.
#[derive(Debug)]
pub(crate) struct RuleState {
    pub(crate) series: Arc<RouteSeries>,
    /// One for each backend of the rule; none where the reference does not resolve.
    pub(crate) upstreams: Box<[Option<Rc<Upstream>>]>,
}

/// Runs hyper's own tasks (streams of HTTP/2) on the worker that they belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExec;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExec {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        policies: Box<dyn PolicyWorker>,
        access_log: WorkerLog,
    ) -> Self {
        let mut cache = Cache::new(shared.snapshot.clone());
        let view = View { snapshot: cache.load().clone(), rules: RefCell::default() };
        Self {
            index,
            policies,
            ends: Ends::default(),
            access_log,
            settings: shared.settings.clone(),
            clock: Arc::default(),
            waiters: Rc::default(),
            connections: Connections::default(),
            upstreams: Upstreams::default(),
            ids: RequestIds::default(),
            unrouted: shared.metrics.route(RouteKey::new(None, None)),
            http1: http1_builder(&shared.settings),
            http2: http2_builder(&shared.settings),
            cache: RefCell::new(cache),
            view: RefCell::new(Rc::new(view)),
            retired: RefCell::default(),
            shared,
        }
    }

    pub(crate) fn metrics(&self) -> &WorkerShard {
        &self.shared.metrics.workers[self.index]
    }

    /// The view of the current snapshot.
    fn current(&self) -> Rc<View> {
        let mut cache = self.cache.borrow_mut();
        let snapshot = cache.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(snapshot, &view.snapshot) {
            let next = Rc::new(View { snapshot: snapshot.clone(), rules: RefCell::default() });
            let previous = std::mem::replace(&mut *view, next);
            self.retire(&previous, &view);
        }
        view.clone()
    }

    /// The view that serves connections of a socket: the current one, or the last one that had it.
    pub(crate) fn view(&self, key: SocketKey) -> Rc<View> {
        let view = self.current();
        if view.socket(key).is_some() {
            return view;
        }
        self.retired.borrow().get(&key).cloned().unwrap_or(view)
    }

    fn retire(&self, previous: &Rc<View>, current: &View) {
        let mut retired = self.retired.borrow_mut();
        for socket in &current.snapshot.sockets {
            retired.remove(&SocketKey::from(&**socket));
        }
        for socket in &previous.snapshot.sockets {
            let key = SocketKey::from(&**socket);
            if current.socket(key).is_none() {
                retired.insert(key, previous.clone());
            }
        }
    }

    /// Ten times a second: everything that is overdue.
    fn sweep(&self) {
        const UPSTREAM_SWEEP: u64 = 10;
        let now = self.clock.advance();
        self.connections.each(|connection| connection.sweep(now));
        self.waiters.sweep(now);
        if now.is_multiple_of(UPSTREAM_SWEEP) {
            let idle = self.settings.upstream.idle.as_millis() / TICK.as_millis();
            self.upstreams.sweep(now, u64::try_from(idle).unwrap_or(u64::MAX));
            // An idle worker too lets go of a snapshot that is no longer in effect.
            drop(self.current());
            self.forget_retired();
        }
        self.metrics().log_dropped.add(self.access_log.flush());
    }

    fn forget_retired(&self) {
        let mut retired = self.retired.borrow_mut();
        if !retired.is_empty() {
            retired.retain(|key, _| self.connections.any(|connection| connection.socket == *key));
        }
    }

    fn close_connections(&self, key: SocketKey) {
        self.connections.each(|connection| {
            if connection.socket == key {
                connection.close();
            }
        });
    }
}

impl View {
    pub(crate) fn socket(&self, key: SocketKey) -> Option<&Arc<Socket>> {
        self.snapshot.socket(key.address).filter(|socket| socket.protocol == key.protocol)
    }

    pub(crate) fn rule(&self, worker: &Worker, listener: &Arc<Listener>, rule: &Arc<Rule>) -> Rc<RuleState> {
        let key = (Arc::as_ptr(listener).addr(), Arc::as_ptr(rule).addr());
        match self.rules.borrow_mut().entry(key) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(vacant) => vacant.insert(Rc::new(RuleState::new(worker, listener, rule))).clone(),
        }
    }
}

impl RuleState {
    fn new(worker: &Worker, listener: &Listener, rule: &Rule) -> Self {
        let backends = match &rule.action {
            Action::Forward(backends) => backends.backends.as_slice(),
            Action::Redirect(_) | Action::Fail(_) => &[],
        };
        let upstreams = backends.iter().map(|backend| match &backend.target {
            Target::Backend(backend) => Some(worker.upstreams.upstream(&backend.key)),
            Target::Fail(_) => None,
        });
        let series = worker.shared.metrics.route(RouteKey::new(Some(listener), Some(rule)));
        Self { series, upstreams: upstreams.collect() }
    }
}

fn http1_builder(settings: &ProxySettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    if settings.limits.headers > HYPER_HEADERS {
        builder.max_headers(settings.limits.headers);
    }
    // The guard hands heads on whole, and limits them; hyper's buffer must only be large enough.
    builder.max_buf_size((settings.limits.head_size * 2).max(HYPER_BUFFER));
    // Not `pipeline_flush`: with it hyper buffers bodies without limit, whatever `max_buf_size` says.
    builder
}

/// What hyper parses without allocating.
const HYPER_HEADERS: usize = 100;

/// hyper's own default.
const HYPER_BUFFER: usize = 400 << 10;

fn http2_builder(settings: &ProxySettings) -> http2::Builder<LocalExec> {
    let limits = &settings.limits;
    let mut builder = http2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_size).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.reset_streams)
        .max_local_error_reset_streams(limits.reset_streams * 10)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(settings.timeouts.idle / 2)
        .keep_alive_timeout(settings.timeouts.write);
    builder
}

/// What a client may send of one body before it is taken, and on all streams together.
const H2_STREAM_WINDOW: u32 = 256 << 10;
const H2_CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of responses that wait in a connection's buffer, for each stream.
const H2_SEND_BUFFER: usize = 64 << 10;

/// The worker's main task: does what it is told, and sweeps.
pub(crate) async fn run(worker: Rc<Worker>, mut commands: mpsc::UnboundedReceiver<Command>) {
    outbound::connect(&worker);
    ends::start(&worker);
    let mut sockets = FxHashMap::<SocketKey, oneshot::Sender<Closed>>::default();
    let mut sweep = tokio::time::interval(TICK);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut drain: Option<Drain> = None;
    loop {
        let command = tokio::select! {
            biased;
            _ = sweep.tick() => {
                worker.sweep();
                drain = drain.and_then(|drain| drain.check(&worker));
                continue;
            }
            command = commands.recv() => command,
        };
        match command {
            Some(Command::Open { key, listener, tls }) => {
                let (stop, stopped) = oneshot::channel();
                sockets.insert(key, stop);
                tokio::task::spawn_local(accept::run(worker.clone(), key, listener, tls, stopped));
            }
            Some(Command::Close { key, closed }) => {
                if let Some(stop) = sockets.remove(&key) {
                    // An accept task that is gone has closed its socket.
                    let _ = stop.send(closed);
                }
                // Look at the new snapshot now: the one before is kept for what is left on the socket.
                drop(worker.current());
                worker.close_connections(key);
            }
            Some(Command::Drain { deadline, report }) => {
                sockets.clear();
                worker.connections.each(Connection::close);
                drain = Drain::begin(&worker, deadline, report).check(&worker);
            }
            Some(Command::Stop) | None => {
                worker.ends.stop();
                return;
            }
        }
    }
}

/// A drain under way.
struct Drain {
    until: Instant,
    open: usize,
    report: oneshot::Sender<DrainReport>,
}

impl Drain {
    fn begin(worker: &Worker, deadline: Duration, report: oneshot::Sender<DrainReport>) -> Self {
        Self { until: Instant::now() + deadline, open: worker.connections.count(), report }
    }

    /// Whether it goes on.
    fn check(self, worker: &Worker) -> Option<Self> {
        let left = worker.connections.count();
        // Connections that were accepted while the drain began.
        worker.connections.each(Connection::close);
        if left > 0 && Instant::now() < self.until {
            return Some(Self { open: self.open.max(left), ..self });
        }
        worker.connections.each(Connection::cut);
        worker.upstreams.close_idle();
        // Nobody may wait for the report any more.
        let _ = self.report.send(DrainReport { finished: self.open.max(left) - left, cut: left });
        None
    }
}

impl Shared {
    /// Take a place for one more connection; none if there are too many.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Place> {
        let place = Place(self.clone());
        let before = self.connections.fetch_add(1, Relaxed);
        (before < self.settings.limits.connections).then_some(place)
    }

    /// A place for what was a connection already: an upgraded one.
    pub(crate) fn admitted(self: &Arc<Self>) -> Place {
        self.connections.fetch_add(1, Relaxed);
        Place(self.clone())
    }
}

/// The place of one open connection.
#[derive(Debug)]
pub(crate) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let mut settings = ProxySettings::default();
        settings.limits.connections = 2;
        let shared = Shared::new(settings, Arc::default(), Arc::new(ProxyMetrics::new(1, Arc::default())));
        let shared = Arc::new(shared);
        let first = shared.admit();
        let second = shared.admit();
        assert!(first.is_some() && second.is_some());
        assert!(shared.admit().is_none());
        drop(second);
        assert!(shared.admit().is_some());
        drop(first);
        assert_eq!(shared.connections.load(Relaxed), 0);
    }
}
