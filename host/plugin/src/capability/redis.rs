//! Connections to Redis, for buckets that gateways share.
//!
//! ```text
//! fiber of a hook (worker) ──Call──► Link ──► Driver (a task on the thread `plugin-redis`) ──► one connection, many calls in it ──► Redis
//!            ▲                                  │ knows every deadline
//!            └────────────── answer ◄───────────┘
//! ```
//!
//! One connection for all workers and all plugins of a namespace that name the same server with the same login: what several ask at the same time goes out in
//! one piece, which is what a server with one thread is fastest at. It is made when somebody asks, and closed when nobody does. What one
//! namespace asks for takes no place from another one.
//!
//! A client of its own, and not a library: it takes five commands, and whoever may write a WasmPlugin chooses the server, so nothing that the
//! server says may be kept without a limit. Every call is answered by its deadline, whatever the server does. Where answers are late or the
//! server is gone, further calls are answered at once, so that an outage costs one timeout and not one for each request.

mod connection;
mod driver;
mod resp;
mod script;
mod talk;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use arc_swap::ArcSwap;
use penstock_core::{
    backend::{Backend, BackendKey, EndpointCell},
    plugin::RedisLogin,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use self::driver::Driver;
pub(crate) use self::script::Script;

/// Calls of one link that are under way. A server that answers in a millisecond takes a million in a second so.
const MOST: usize = 1024;

/// What a script answers.
pub(crate) type Numbers = [i64; 4];

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedisError {
    /// Nothing was asked: the resource's reference leads nowhere.
    #[error("{0}")]
    Unresolved(Arc<str>),
    #[error("the backend has no endpoint that is ready")]
    NoEndpoint,
    #[error("no connection: {0}")]
    Connect(Arc<str>),
    #[error("no answer in time")]
    Timeout,
    #[error("it answers `{0}`")]
    Refused(Arc<str>),
    #[error("the connection ended before the answer")]
    Lost,
    #[error("it does not speak as Redis does")]
    Malformed,
    #[error("{MOST} calls wait for it already")]
    Busy,
    /// Nothing was asked: this hook has asked often enough.
    #[error("one hook may ask for {} decisions", Self::MOST_IN_A_HOOK)]
    Quota,
}

impl RedisError {
    /// Decisions that one hook may ask for: a few for each window of each policy. One that asks in a loop would fill the link of its namespace.
    pub(crate) const MOST_IN_A_HOOK: u32 = 64;

    /// Whether both are the same trouble for whoever looks after the server: one that is gone may say nothing, end its connections, refuse new ones
    /// or all of that in turn.
    fn is_like(&self, other: &Self) -> bool {
        let is_gone = |error: &Self| matches!(error, Self::NoEndpoint | Self::Connect(_) | Self::Timeout | Self::Lost);
        is_gone(self) && is_gone(other) || std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// A script to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) script: Script,
    pub(crate) key: Vec<u8>,
    pub(crate) arguments: [u64; 5],
}

/// A script that somebody waits for.
struct Call {
    run: Run,
    deadline: Instant,
    /// Taken when it was answered: what the server says later is for nobody.
    answer: Option<oneshot::Sender<Result<Numbers, RedisError>>>,
}

impl Call {
    fn answer(&mut self, answer: Result<Numbers, RedisError>) {
        if let Some(waiting) = self.answer.take() {
            // Whoever gave the call up is not told.
            let _ = waiting.send(answer);
        }
    }
}

/// What makes two links the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LinkKey {
    namespace: Arc<str>,
    backend: BackendKey,
    login: RedisLogin,
}

/// All links of the process, by value.
#[derive(Default)]
pub(crate) struct Links(Mutex<Known>);

#[derive(Default)]
struct Known {
    links: HashMap<LinkKey, Weak<Link>>,
    /// Started with the first link: most gateways have none.
    thread: Option<Thread>,
}

/// Drives all links. Dropping it ends them.
struct Thread {
    runtime: Handle,
    _stop: oneshot::Sender<()>,
}

/// The way to one server with one login. When nobody has it any more its connection ends.
pub(crate) struct Link {
    key: LinkKey,
    calls: mpsc::Sender<Call>,
    /// The cell of the backend's endpoints: a backend that was gone for a while has another one.
    endpoints: Arc<ArcSwap<EndpointCell>>,
}

impl Links {
    /// The link of this value. Nothing is connected yet.
    pub(crate) fn open(&self, namespace: &Arc<str>, backend: &Backend, login: &RedisLogin) -> io::Result<Arc<Link>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = LinkKey { namespace: Arc::clone(namespace), backend: backend.key.clone(), login: login.clone() };
        if let Some(link) = known.links.get(&key).and_then(Weak::upgrade) {
            return Ok(link);
        }
        if known.thread.is_none() {
            known.thread = Some(Thread::start()?);
        }
        let endpoints = Arc::new(ArcSwap::new(Arc::clone(&backend.endpoints)));
        let (calls, queue) = mpsc::channel(MOST);
        if let Some(Thread { runtime, .. }) = &known.thread {
            runtime.spawn(Driver::new(&key, Arc::clone(&endpoints), queue).run());
        }
        let link = Arc::new(Link { key: key.clone(), calls, endpoints });
        known.links.retain(|_, link| link.strong_count() > 0);
        known.links.insert(key, Arc::downgrade(&link));
        Ok(link)
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("plugin-redis-name") // those that resolve names
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("plugin-redis".into()).spawn(move || {
            let _ = runtime.block_on(stopped);
            // A name server that does not answer must not hold up the end.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _stop: stop })
    }
}

impl Link {
    /// Whether it leads there.
    pub(crate) fn is(&self, backend: &Backend, login: &RedisLogin) -> bool {
        self.key.backend == backend.key && self.key.login == *login
    }

    /// Ask the endpoints of `backend`, which it [is](Self::is) of. Answers by `deadline`.
    pub(crate) async fn ask(&self, backend: &Backend, run: Run, deadline: Instant) -> Result<Numbers, RedisError> {
        if !Arc::ptr_eq(&self.endpoints.load(), &backend.endpoints) {
            self.endpoints.store(Arc::clone(&backend.endpoints));
        }
        let (answer, answered) = oneshot::channel();
        let call = Call { run, deadline, answer: Some(answer) };
        self.calls.try_send(call).map_err(|_| RedisError::Busy)?;
        answered.await.unwrap_or(Err(RedisError::Lost))
    }
}

#[cfg(test)]
mod tests {
    use penstock_core::backend::BackendProtocol;

    use super::*;

    #[test]
    fn a_link_is_of_one_namespace() {
        let key = BackendKey { name: "shared/redis".into(), port: 6379, protocol: BackendProtocol::Http1, tls: None };
        let backend = Backend { key, endpoints: Arc::default() };
        let (links, login) = (Links::default(), RedisLogin::default());
        let open = |namespace: &str| links.open(&namespace.into(), &backend, &login).unwrap();
        let [one, same, other] = [open("a"), open("a"), open("b")];
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    }
}
