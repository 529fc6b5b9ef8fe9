//! The handle of the data plane: start, publish, drain.

use std::{
    collections::hash_map::Entry,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::RecvTimeoutError},
    thread::JoinHandle,
    time::Duration,
};

use penstock_core::{
    fact::{Fact, FactSink, SocketState},
    listener::{Socket, SocketProtocol},
    plugin::PolicyRuntime,
    snapshot::{Snapshot, SnapshotCell},
};
use prometheus_client::registry::Registry;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
};

use crate::{
    access::WorkerLog,
    listen::{self, SocketKey},
    metrics::ProxyMetrics,
    settings::ProxySettings,
    tls::server::{Keys, SocketTls},
    worker::{self, Command, Shared, Worker},
};

/// The data plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system gives no thread.
    #[error("a worker thread could not be started")]
    Thread(#[source] io::Error),
    /// The operating system gives no event queue or timer.
    #[error("the runtime of a worker could not be built")]
    Runtime(#[source] io::Error),
    /// The thread that writes the access log could not be started.
    #[error("the access log could not be started")]
    AccessLog(#[source] io::Error),
}

/// What became of the connections that were open when a drain began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Came to their end.
    pub finished: usize,
    /// Were cut at the deadline.
    pub cut: usize,
}

/// The running data plane. Dropping it ends the workers at once; [`Proxy::drain`] first to lose nothing.
pub struct Proxy {
    shared: Arc<Shared>,
    facts: Arc<dyn FactSink>,
    workers: Vec<WorkerHandle>,
    published: Mutex<Published>,
}

struct WorkerHandle {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// What was last published.
#[derive(Default)]
struct Published {
    sockets: FxHashMap<SocketKey, Option<SocketTls>>,
    /// Tried again with each snapshot; reported only when the text changes.
    failed: FxHashMap<SocketKey, String>,
    /// Addresses that this process has listened on. Workers may not have closed them yet when they are asked for again.
    held: FxHashSet<SocketAddr>,
    keys: Keys,
    /// Nothing is opened any more.
    draining: bool,
}

/// Tasks that a worker runs before it looks for what the network has brought. tokio's default of 61 is for tasks that take microseconds; here each
/// may run a plugin for a hook's whole time, and all the others wait.
const TASKS_BETWEEN_LOOKS: u32 = 16;

impl Proxy {
    /// Start the workers. They accept nothing before a snapshot is published.
    ///
    /// # Errors
    /// If the operating system refuses threads or event queues.
    #[expect(clippy::needless_pass_by_value, reason = "the workers keep it; a borrow would suggest otherwise")]
    pub fn start(
        settings: ProxySettings,
        policies: Arc<dyn PolicyRuntime>,
        facts: Arc<dyn FactSink>,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let count = settings.workers.get();
        let snapshot: Arc<SnapshotCell> = Arc::default();
        let metrics = Arc::new(ProxyMetrics::new(count, Arc::clone(&snapshot)));
        registry.register_collector(Box::new(metrics.clone()));
        let logs =
            WorkerLog::start(settings.access_log, settings.access_log_edits, count).map_err(StartError::AccessLog)?;
        let shared = Arc::new(Shared::new(settings, snapshot, metrics));
        let mut workers = Vec::with_capacity(count);
        for (index, log) in logs.into_iter().enumerate() {
            workers.push(WorkerHandle::start(index, shared.clone(), policies.clone(), log)?);
        }
        Ok(Self { shared, facts, workers, published: Mutex::default() })
    }

    /// The snapshot in effect.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Make a snapshot effective: open what it adds, serve requests by it, close what it no longer has. Each socket that changed is
    /// reported. No connection is dropped and no request lost; requests under way finish by the snapshot that they began with.
    ///
    /// Blocks for the few system calls of binding and closing. Concurrent calls take turns.
    #[expect(clippy::needless_pass_by_value, reason = "it is kept, as the snapshot in effect")]
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let mut published = self.published();
        published.keys.update(&snapshot);
        let opened = self.open(&mut published, &snapshot);
        // Before the workers accept: the first request of a new socket must find its listeners. The backlog holds it until then.
        self.shared.snapshot.store(snapshot.clone());
        for (key, listeners) in opened {
            let tls = published.sockets.get(&key).and_then(|tls| tls.as_ref().map(|tls| tls.config.clone()));
            for (worker, listener) in self.workers.iter().zip(listeners) {
                worker.tell(Command::Open { key, listener, tls: tls.clone() });
            }
            self.facts.report(Fact::Socket(key.address, SocketState::Bound));
        }
        self.close(&mut published, &snapshot);
    }

    /// Bind what is new, and give what is there its certificates.
    fn open(&self, published: &mut Published, snapshot: &Snapshot) -> Vec<(SocketKey, Vec<TcpListener>)> {
        let mut opened = Vec::new();
        let Published { sockets, failed, held, keys, draining: false } = published else { return opened };
        for socket in &snapshot.sockets {
            let key = SocketKey::from(&**socket);
            match sockets.entry(key) {
                Entry::Occupied(known) => known.get().iter().for_each(|tls| tls.update(socket, keys)),
                Entry::Vacant(vacant) => match self.bind(socket, keys, held) {
                    Ok((listeners, tls)) => {
                        vacant.insert(tls);
                        held.insert(key.address);
                        failed.remove(&key);
                        opened.push((key, listeners));
                    }
                    Err(text) => self.report_failure(failed, key, text),
                },
            }
        }
        opened
    }

    fn bind(
        &self,
        socket: &Arc<Socket>,
        keys: &Keys,
        held: &FxHashSet<SocketAddr>,
    ) -> Result<(Vec<TcpListener>, Option<SocketTls>), String> {
        let tls = match socket.protocol {
            SocketProtocol::Http => None,
            SocketProtocol::Https => Some(SocketTls::new(socket, keys).map_err(|error| error.to_string())?),
        };
        let free = if held.contains(&socket.address) { Ok(()) } else { listen::probe(socket.address) };
        let listeners = free.and_then(|()| listen::bind(socket.address, self.workers.len()));
        let listeners = listeners.map_err(|error| listen::explain(socket.address, &error))?;
        Ok((listeners, tls))
    }

    fn report_failure(&self, failed: &mut FxHashMap<SocketKey, String>, key: SocketKey, text: String) {
        if failed.get(&key) == Some(&text) {
            return;
        }
        tracing::warn!(address = %key.address, error = text, "a socket could not be bound");
        self.facts.report(Fact::Socket(key.address, SocketState::Failed(text.as_str().into())));
        failed.insert(key, text);
    }

    /// Close what is no longer wanted, and wait until it is: an address that is asked for again must not be shared with sockets that go
    /// away, for they take connections with them.
    fn close(&self, published: &mut Published, snapshot: &Snapshot) {
        let wanted: FxHashSet<SocketKey> = snapshot.sockets.iter().map(|socket| SocketKey::from(&**socket)).collect();
        let is_address_wanted = |key: &SocketKey| snapshot.socket(key.address).is_some();
        published.failed.retain(|key, _| wanted.contains(key));
        published.sockets.retain(|key, _| {
            if wanted.contains(key) {
                return true;
            }
            let is_closed = self.close_one(*key);
            if !is_address_wanted(key) {
                if is_closed {
                    published.held.remove(&key.address);
                }
                self.facts.report(Fact::Socket(key.address, SocketState::Closed));
            }
            false
        });
    }

    /// Whether all workers have closed it by the time that this returns. They do at once, unless one is held up.
    fn close_one(&self, key: SocketKey) -> bool {
        let (closed, all_closed) = std::sync::mpsc::channel();
        self.workers.iter().for_each(|worker| worker.tell(Command::Close { key, closed: closed.clone() }));
        drop(closed);
        all_closed.recv_timeout(CLOSING) == Err(RecvTimeoutError::Disconnected)
    }

    /// Stop accepting, finish what is under way, tell clients to go elsewhere (`Connection: close`, `GOAWAY`), and cut what is left when
    /// the deadline has passed. Snapshots that are published later open nothing any more. Cancelling it does not stop the drain.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let reports: Vec<_> = self.workers.iter().map(|worker| worker.drain(deadline)).collect();
        {
            let mut published = self.published();
            published.draining = true;
            published.sockets.clear();
        }
        let mut total = DrainReport::default();
        for report in reports {
            // A worker that is gone has nothing left to finish.
            let report = report.await.unwrap_or_default();
            total.finished += report.finished;
            total.cut += report.cut;
        }
        total
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long closing a socket is waited for: workers need microseconds, and a plugin may hold one up for some milliseconds.
const CLOSING: Duration = Duration::from_secs(1);

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.workers.iter().for_each(|worker| worker.tell(Command::Stop));
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("a worker ended by a panic");
            }
        }
    }
}

impl WorkerHandle {
    fn start(
        index: usize,
        shared: Arc<Shared>,
        policies: Arc<dyn PolicyRuntime>,
        log: WorkerLog,
    ) -> Result<Self, StartError> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ready, started) = std::sync::mpsc::channel();
        let body = move || {
            let mut runtime = Builder::new_current_thread();
            runtime.enable_all().event_interval(TASKS_BETWEEN_LOOKS);
            let runtime = runtime.build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            // The handle waits for this answer, so it is there to take it.
            let _ = ready.send(Ok(()));
            let worker = Rc::new(Worker::new(index, shared, policies.worker(), log));
            runtime.block_on(worker::run(worker, inbox));
        };
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(body).map_err(StartError::Thread)?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { commands, thread: Some(thread) }),
            Ok(Err(error)) => Err(StartError::Runtime(error)),
            Err(_) => Err(StartError::Runtime(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn tell(&self, command: Command) {
        // A worker that is gone is reported when it is joined.
        let _ = self.commands.send(command);
    }

    fn drain(&self, deadline: Duration) -> oneshot::Receiver<DrainReport> {
        let (report, answer) = oneshot::channel();
        self.tell(Command::Drain { deadline, report });
        answer
    }
}
