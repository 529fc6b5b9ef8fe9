//! A server on loopback that records what it received and answers what the test says.
//!
//! ```text
//!                       ┌─► requests()            everything so far
//! connection ─► record ─┤
//!                       └─► answer(&Recorded) ─► Answer ─► head, chunks, waits, trailers, reset
//! ```
//!
//! It speaks HTTP/1.1, HTTP/2 with prior knowledge on the same port, and both over TLS by ALPN. It runs on a thread of its
//! own, so a test that blocks its runtime does not block the origin. Dropping it closes all connections and ends the thread before it
//! returns.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustls::ServerConfig;
use tokio::sync::{Notify, oneshot};

mod answer;
mod record;
mod serve;

pub use answer::Answer;
pub use record::Recorded;

use crate::PATIENCE;

type Behaviour = Arc<dyn Fn(&Recorded) -> Answer + Send + Sync>;

/// A running origin.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Taken when the origin is dropped.
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// How an origin is to be.
pub struct OriginBuilder {
    behaviour: Behaviour,
    tls: Option<Arc<ServerConfig>>,
    answers_early: bool,
    ip: IpAddr,
}

/// What the connections of one origin and its handle have in common.
struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<Recorded>>,
    arrived: Notify,
    answers_early: bool,
    tls: Option<Arc<ServerConfig>>,
}

impl Origin {
    /// An origin that echoes each request as JSON (see [`Answer::echo`]).
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// An origin that gives the same answer to everything.
    #[must_use]
    pub fn answering(answer: Answer) -> Self {
        Self::builder().answer(move |_| answer.clone()).start()
    }

    /// An origin with other properties.
    #[must_use]
    pub fn builder() -> OriginBuilder {
        OriginBuilder {
            behaviour: Arc::new(Answer::echo),
            tls: None,
            answers_early: false,
            ip: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// Where it listens: 127.0.0.1, unless built otherwise, and a port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, answer this way.
    pub fn answer(&self, behaviour: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(behaviour);
    }

    /// All requests so far, in the order in which they were complete.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests().clone()
    }

    /// Wait until `count` requests have arrived, and return all of them.
    ///
    /// # Panics
    /// When they do not arrive within [`PATIENCE`].
    pub async fn wait_for(&self, count: usize) -> Vec<Recorded> {
        let enough = async {
            loop {
                // Registered before the look, so that an arrival in between is not missed.
                let arrived = self.shared.arrived.notified();
                let requests = self.requests();
                if requests.len() >= count {
                    return requests;
                }
                arrived.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, enough).await;
        waited.unwrap_or_else(|_| panic!("the origin saw {} of {count} requests", self.requests().len()))
    }
}

impl Drop for Origin {
    /// Waits for the thread: from here on connections to the address are refused, and none is left that somebody could still get.
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.serving.take() {
            drop(stop);
            // A panic of the thread has been printed where it happened.
            let _ = thread.join();
        }
    }
}

impl OriginBuilder {
    /// Answer this way.
    #[must_use]
    pub fn answer(mut self, behaviour: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) -> Self {
        self.behaviour = Arc::new(behaviour);
        self
    }

    /// Speak TLS; the ALPN protocols of the configuration decide between HTTP/1.1 and HTTP/2.
    #[must_use]
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Listen on this address of the machine: Kubernetes takes no endpoints on loopback.
    #[must_use]
    pub fn bind(mut self, ip: IpAddr) -> Self {
        self.ip = ip;
        self
    }

    /// Record and answer as soon as the head of a request is there, without reading its body.
    #[must_use]
    pub fn answers_early(mut self) -> Self {
        self.answers_early = true;
        self
    }

    /// Listen and serve.
    ///
    /// # Panics
    /// When no socket or thread is to be had.
    #[must_use]
    pub fn start(self) -> Origin {
        let listener = std::net::TcpListener::bind((self.ip, 0)).expect("a free port on an address of this machine");
        listener.set_nonblocking(true).expect("sockets can be non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(self.behaviour),
            requests: Mutex::default(),
            arrived: Notify::new(),
            answers_early: self.answers_early,
            tls: self.tls,
        });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("origin".into())
            .spawn(move || serve::run(listener, &served, stopped))
            .expect("a thread can be started");
        Origin { address, shared, serving: Some((stop, thread)) }
    }
}

impl Shared {
    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<Recorded>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, request: Recorded) {
        self.requests().push(request);
        self.arrived.notify_waiters();
    }

    fn answer_to(&self, request: &Recorded) -> Answer {
        let behaviour = Arc::clone(&self.behaviour.lock().unwrap_or_else(PoisonError::into_inner));
        behaviour(request)
    }
}
