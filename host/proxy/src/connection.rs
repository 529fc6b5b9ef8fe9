//! One client connection: what its requests know about it, and how it comes to its end.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use http::{HeaderValue, Version};
use penstock_core::{filter::Scheme, listener::SocketProtocol};

use crate::{listen::SocketKey, wire::Wire, worker::Worker};

/// A client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) socket: SocketKey,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Option<TlsSession>,
    pub(crate) wire: Arc<Wire>,
    /// `X-Forwarded-For` and `X-Forwarded-Port` for a peer that is not trusted: the same for all requests.
    pub(crate) peer_header: HeaderValue,
    pub(crate) port_header: HeaderValue,
    is_h2: Cell<bool>,
    stage: Cell<Stage>,
    in_flight: Cell<u32>,
    waker: RefCell<Option<Waker>>,
}

/// What is known from the TLS handshake.
#[derive(Debug)]
pub(crate) struct TlsSession {
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) version: &'static str,
}

/// How far a connection is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Responses say `Connection: close`. An idle connection is kept for a moment: a request may be on its way.
    Closing {
        since: u64,
    },
    /// Told to hyper on the next poll.
    Finish,
    Finished,
    Cut,
}

/// What the task of a connection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    Serve,
    /// `GOAWAY`, or no more keep-alive.
    Finish,
    /// Drop everything.
    Cut,
}

/// How many ticks an idle connection stays open after it was decided to close it.
const GRACE: u64 = 10;

impl Connection {
    pub(crate) fn new(
        worker: Rc<Worker>,
        socket: SocketKey,
        peer: SocketAddr,
        wire: Arc<Wire>,
        tls: Option<TlsSession>,
    ) -> Self {
        let peer_header = HeaderValue::from_str(&peer.ip().to_canonical().to_string());
        Self {
            peer_header: peer_header.expect("an address is printable"),
            port_header: HeaderValue::from(socket.port()),
            stage: Cell::new(Stage::Open),
            is_h2: Cell::new(false),
            in_flight: Cell::new(0),
            waker: RefCell::new(None),
            worker,
            socket,
            peer,
            tls,
            wire,
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        match self.socket.protocol {
            SocketProtocol::Http => Scheme::Http,
            SocketProtocol::Https => Scheme::Https,
        }
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.tls.as_ref().and_then(|tls| tls.server_name.as_deref())
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.is_h2.get()
    }

    pub(crate) fn version(&self) -> Version {
        if self.is_h2() { Version::HTTP_2 } else { Version::HTTP_11 }
    }

    pub(crate) fn set_h2(&self) {
        self.is_h2.set(true);
        self.wire.await_read(self.wire.timeouts.idle);
    }

    pub(crate) fn request_begins(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.wire.set_busy(true);
        if self.is_h2() {
            self.wire.read.clear();
        }
    }

    /// Called when a request's record is closed.
    pub(crate) fn request_ends(&self) {
        let left = self.in_flight.get().saturating_sub(1);
        self.in_flight.set(left);
        if left == 0 {
            self.wire.set_busy(false);
            self.wire.await_read(self.wire.timeouts.idle);
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether responses should say that the connection ends.
    pub(crate) fn is_closing(&self) -> bool {
        self.stage.get() != Stage::Open
    }

    /// Let it come to its end without losing a request.
    pub(crate) fn close(&self) {
        if self.stage.get() == Stage::Open {
            self.stage.set(Stage::Closing { since: self.wire.clock.now() });
            // GOAWAY says which streams will not be served, so nothing can be lost.
            if self.is_h2() {
                self.advance(Stage::Finish);
            }
        }
    }

    /// End it now.
    pub(crate) fn cut(&self) {
        self.advance(Stage::Cut);
    }

    /// Called ten times a second.
    pub(crate) fn sweep(&self, now: u64) {
        if self.wire.expire(now) {
            if self.is_h2() && self.in_flight() == 0 && self.wire.read_expired() && self.stage.get() != Stage::Finished
            {
                self.stage.set(Stage::Finish);
            }
            self.wake();
        }
        if let Stage::Closing { since } = self.stage.get()
            && self.in_flight() == 0
            && now > since + GRACE
        {
            self.advance(Stage::Finish);
        }
    }

    /// What to do; also remembers whom to wake.
    pub(crate) fn attend(&self, cx: &Context<'_>) -> Directive {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        match self.stage.get() {
            Stage::Open | Stage::Closing { .. } | Stage::Finished => Directive::Serve,
            Stage::Finish => {
                self.stage.set(Stage::Finished);
                Directive::Finish
            }
            Stage::Cut => Directive::Cut,
        }
    }

    fn advance(&self, stage: Stage) {
        self.stage.set(stage);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// All connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections(RefCell<Slots>);

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Rc<Connection>>>,
    free: Vec<usize>,
}

impl Connections {
    pub(crate) fn count(&self) -> usize {
        let slots = self.0.borrow();
        slots.entries.len() - slots.free.len()
    }

    pub(crate) fn each(&self, mut visit: impl FnMut(&Connection)) {
        for connection in self.0.borrow().entries.iter().flatten() {
            visit(connection);
        }
    }

    pub(crate) fn any(&self, mut predicate: impl FnMut(&Connection) -> bool) -> bool {
        self.0.borrow().entries.iter().flatten().any(|connection| predicate(connection))
    }

    pub(crate) fn insert(&self, connection: Rc<Connection>) -> usize {
        let mut slots = self.0.borrow_mut();
        if let Some(slot) = slots.free.pop() {
            slots.entries[slot] = Some(connection);
            return slot;
        }
        slots.entries.push(Some(connection));
        slots.entries.len() - 1
    }

    pub(crate) fn remove(&self, slot: usize) {
        let mut slots = self.0.borrow_mut();
        slots.entries[slot] = None;
        slots.free.push(slot);
    }
}
