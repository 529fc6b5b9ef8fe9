//! Connections to one endpoint, of one worker.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use penstock_core::backend::{BackendProtocol, BackendTls, Endpoint};

use super::Http1;
use crate::body::Body;

/// Identity of a pool: connections of one may serve any request to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) endpoint: Endpoint,
    pub(crate) protocol: BackendProtocol,
    pub(crate) tls: Option<Arc<BackendTls>>,
}

/// Connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) key: PoolKey,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Shared>>,
    cooling_until: Cell<u64>,
    /// Requests that wait for an HTTP/2 connection wait for the same one.
    pub(crate) connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    since: u64,
}

/// An HTTP/2 connection, which any number of requests share.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    streams: Rc<Cell<usize>>,
    /// As the endpoint allows at the moment.
    limit: Rc<Cell<usize>>,
    used: u64,
}

/// A connection for one exchange.
#[derive(Debug)]
pub(crate) enum Lease {
    /// Driven by the exchange, and given back after it.
    Own { connection: Option<Box<Http1>>, pool: Rc<Pool>, max_idle: usize, now: u64 },
    /// Has a task of its own, and ends with the exchange.
    Detached { _sender: http1::SendRequest<Body> },
    /// One stream of a shared connection.
    Stream { streams: Rc<Cell<usize>> },
}

impl Pool {
    pub(crate) fn new(key: PoolKey) -> Self {
        Self {
            key,
            idle: RefCell::default(),
            shared: RefCell::default(),
            cooling_until: Cell::new(0),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    /// The connection that was used last and still is open: the others may then grow old and be closed.
    pub(crate) fn take_idle(&self) -> Option<Box<Http1>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut entry) = idle.pop() {
            if entry.connection.is_open() {
                return Some(entry.connection);
            }
        }
        None
    }

    /// A stream on a connection that has room for it.
    pub(crate) fn take_stream(&self, now: u64) -> Option<(http2::SendRequest<Body>, Lease)> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|entry| !entry.sender.is_closed());
        let entry = shared.iter_mut().find(|entry| entry.streams.get() < entry.limit.get())?;
        entry.used = now;
        entry.streams.set(entry.streams.get() + 1);
        Some((entry.sender.clone(), Lease::Stream { streams: entry.streams.clone() }))
    }

    /// A new HTTP/2 connection.
    pub(crate) fn share(&self, sender: http2::SendRequest<Body>, limit: Rc<Cell<usize>>, now: u64) {
        self.shared.borrow_mut().push(Shared { sender, streams: Rc::default(), limit, used: now });
    }

    /// Connecting failed: pass it over for a while if there are others.
    pub(crate) fn cool_until(&self, tick: u64) {
        self.cooling_until.set(tick);
    }

    pub(crate) fn is_cooling(&self, now: u64) -> bool {
        self.cooling_until.get() > now
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty()
    }

    pub(crate) fn sweep(&self, now: u64, idle_ticks: u64) {
        self.idle.borrow_mut().retain_mut(|entry| entry.since + idle_ticks > now && entry.connection.is_open());
        self.shared
            .borrow_mut()
            .retain(|entry| !entry.sender.is_closed() && (entry.streams.get() > 0 || entry.used + idle_ticks > now));
    }

    pub(crate) fn close_idle(&self) {
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }

    fn put_back(&self, mut connection: Box<Http1>, max_idle: usize, now: u64) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < max_idle && connection.rest() {
            idle.push(Idle { connection, since: now });
        }
    }
}

impl Lease {
    /// A connection that has a task of its own.
    pub(crate) fn detached(sender: http1::SendRequest<Body>) -> Self {
        Self::Detached { _sender: sender }
    }

    /// The next frame of the response that comes over it.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match self {
            Self::Own { connection: Some(connection), .. } => connection.poll_frame(cx, body),
            _ => Pin::new(body).poll_frame(cx),
        }
    }

    /// The exchange is over and nothing of it is left on the connection.
    pub(crate) fn give_back(&mut self) {
        if let Self::Own { connection, pool, max_idle, now } = self
            && let Some(connection) = connection.take()
        {
            pool.put_back(connection, *max_idle, *now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Self::Stream { streams } = self {
            streams.set(streams.get().saturating_sub(1));
        }
    }
}
