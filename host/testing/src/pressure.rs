//! Requests without pause, to show that a change loses none.
//!
//! ```no_run
//! # async fn example(gateway: std::net::SocketAddr) {
//! use penstock_testing::client::get;
//! use penstock_testing::pressure::{Pressure, Protocol};
//!
//! let pressure = Pressure::start(gateway, Protocol::H2, 4, || get("/"), |response| response.status == 200);
//! // Change something, then let requests meet it:
//! pressure.progress(20).await;
//! let outcome = pressure.stop().await;
//! assert_eq!(outcome.failures, [""; 0]);
//! # }
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::client::{ClientError, Connection, Request, Response};

/// What the clients speak.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive, in the clear.
    H1,
    /// HTTP/2 with prior knowledge, in the clear.
    H2,
    /// TLS with `localhost`; ALPN decides.
    Tls(Arc<ClientConfig>),
}

impl Protocol {
    async fn connect(&self, address: SocketAddr) -> Result<Connection, ClientError> {
        match self {
            Self::H1 => Connection::h1(address).await,
            Self::H2 => Connection::h2(address).await,
            Self::Tls(config) => Connection::tls(address, "localhost", Arc::clone(config)).await,
        }
    }
}

/// Clients at work. Dropping it stops them.
pub struct Pressure {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<String>>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were answered as wanted.
    pub successes: u64,
    /// One line for each that was not.
    pub failures: Vec<String>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    completed: AtomicU64,
    succeeded: AtomicU64,
    completion: Notify,
}

impl Pressure {
    /// Start clients, each with a connection of its own and one request at a time. They run on the runtime of the caller.
    ///
    /// A client opens a new connection when the server has closed its own between two requests, which is no failure; a request that was
    /// sent and got no answer is one.
    pub fn start(
        address: SocketAddr,
        protocol: Protocol,
        clients: usize,
        request: impl Fn() -> Request + Clone + Send + 'static,
        wanted: impl Fn(&Response) -> bool + Clone + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for protocol in std::iter::repeat_n(protocol, clients) {
            let (shared, request, wanted) = (Arc::clone(&shared), request.clone(), wanted.clone());
            tasks.spawn(async move { shared.press(address, protocol, request, wanted).await });
        }
        Self { shared, clients: tasks }
    }

    /// Wait until this many more requests have ended, whatever their answers.
    ///
    /// # Panics
    /// When they do not end.
    pub async fn progress(&self, requests: u64) {
        let target = self.shared.completed.load(Ordering::Relaxed) + requests;
        let reached = async {
            loop {
                // Registered before the look, so that a completion in between is not missed.
                let completion = self.shared.completion.notified();
                if self.shared.completed.load(Ordering::Relaxed) >= target {
                    return;
                }
                completion.await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "no request ends any more");
    }

    /// Let every client finish its request, and sum up.
    ///
    /// # Panics
    /// When a client panicked.
    pub async fn stop(mut self) -> Outcome {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            failures.extend(client.expect("clients do not panic"));
        }
        Outcome { successes: self.shared.succeeded.load(Ordering::Relaxed), failures }
    }
}

impl Shared {
    async fn press(
        &self,
        address: SocketAddr,
        protocol: Protocol,
        request: impl Fn() -> Request,
        wanted: impl Fn(&Response) -> bool,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        let mut connection = None;
        while !self.stopped.load(Ordering::Relaxed) {
            match exchange(&mut connection, address, &protocol, request()).await {
                Ok(response) if wanted(&response) => {
                    self.succeeded.fetch_add(1, Ordering::Relaxed);
                }
                Ok(response) => failures.push(format!("{} {:?}", response.status, response.body)),
                Err(error) => failures.push(describe(&error)),
            }
            self.completed.fetch_add(1, Ordering::Relaxed);
            self.completion.notify_waiters();
        }
        failures
    }
}

/// Over the connection at hand, or a new one when there is none or the server has closed it.
async fn exchange(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    protocol: &Protocol,
    request: Request,
) -> Result<Response, ClientError> {
    let mut open = match connection.take().filter(|connection| !connection.is_closed()) {
        Some(open) => open,
        None => protocol.connect(address).await?,
    };
    let response = open.send(request).await?;
    *connection = Some(open);
    Ok(response)
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
