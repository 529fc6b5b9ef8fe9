//! A connection to an endpoint over HTTP/1.1.
//!
//! It has no task of its own: who uses it drives it, in the same task that reads the client's connection. That saves two wake-ups a
//! request, and a connection that nobody uses costs nothing. What the driver brings (a response, a frame) is asked for right after
//! driving, so those questions are put with a waker that does nothing; and what those questions would wake is the driver, which is driven
//! before the next one anyway, so its waker is muted meanwhile.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;

use super::paced::Paced;
use crate::{body::Body, stream::Stream};

/// The largest read, and so the largest head of a response.
const READ_BUFFER: usize = 64 << 10;

/// A connection and the handle that sends on it.
#[derive(Debug)]
pub(crate) struct Http1 {
    sender: SendRequest<Body>,
    driver: Driver,
}

/// Reads and writes for a connection, in whatever task uses it at the time.
#[derive(Debug)]
struct Driver {
    connection: Connection<TokioIo<Paced<Stream>>, Body>,
    over: bool,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Wakes the task that uses the connection, unless it is that task itself which makes the noise, or nobody uses it.
#[derive(Debug, Default)]
struct Signal {
    muted: AtomicBool,
    /// It would have been woken, had it not been muted: on an idle connection, there is something to read.
    noise: AtomicBool,
    // Only ever locked by the worker that the connection belongs to; a lock because wakers must be `Send`.
    task: Mutex<Option<Waker>>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.muted.load(Relaxed) {
            return self.noise.store(true, Relaxed);
        }
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl Driver {
    fn new(connection: Connection<TokioIo<Paced<Stream>>, Body>) -> Self {
        let signal = Arc::<Signal>::default();
        Self { connection, over: false, waker: signal.clone().into(), signal }
    }

    fn drive(&mut self, cx: &Context<'_>) {
        if self.over {
            return;
        }
        self.signal.muted.store(false, Relaxed);
        {
            let mut task = self.signal.task.lock().unwrap_or_else(PoisonError::into_inner);
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        self.poll();
    }

    fn poll(&mut self) {
        // How it ended is told to the request that was under way.
        self.over = Pin::new(&mut self.connection).poll(&mut Context::from_waker(&self.waker)).is_ready();
    }

    /// Drive it for nobody, and remember whether anything comes afterwards.
    fn rest(&mut self) {
        self.signal.muted.store(true, Relaxed);
        if !self.over {
            self.poll();
        }
        self.signal.noise.store(false, Relaxed);
    }

    /// Ask for something that only driving can bring.
    fn ask<T>(&self, question: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.signal.muted.store(true, Relaxed);
        let answer = question(&mut Context::from_waker(Waker::noop()));
        self.signal.muted.store(false, Relaxed);
        answer
    }
}

/// A request under way, up to the head of its response.
pub(crate) struct Exchange<'a, F> {
    response: F,
    driver: &'a mut Driver,
}

/// What hyper returns for a request that was handed over.
pub(crate) trait ResponseFuture:
    Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>
{
}

impl<F: Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>> ResponseFuture for F {}

impl<F: ResponseFuture> Exchange<'_, F> {
    /// Send the request and wait. `is_too_late` is asked whenever there is nothing to do but wait.
    pub(crate) async fn run(
        self,
        mut is_too_late: impl FnMut(&Context<'_>) -> bool,
    ) -> Result<Response<Incoming>, NoResponse> {
        let Self { response, driver } = self;
        let mut response = pin!(response);
        poll_fn(|cx| {
            driver.drive(cx);
            match driver.ask(|cx| response.as_mut().poll(cx)) {
                Poll::Pending if is_too_late(cx) => Poll::Ready(Err(NoResponse::TimedOut)),
                polled => polled.map_err(NoResponse::from),
            }
        })
        .await
    }
}

impl From<TrySendError<Request<Body>>> for NoResponse {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(request),
            None => Self::Failed(error.into_error()),
        }
    }
}

/// Why there is no response.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and boxing would cost every request that is sent again"
)]
pub(crate) enum NoResponse {
    /// Nothing was sent: here is the request.
    Unsent(Request<Body>),
    /// The connection broke, or what came is not HTTP.
    Failed(hyper::Error),
    /// Too slow.
    TimedOut,
}

impl Http1 {
    /// No byte is sent before the first request.
    pub(crate) async fn start(stream: Stream) -> hyper::Result<Box<Self>> {
        let stream = TokioIo::new(Paced::new(stream));
        let (sender, connection) = http1::Builder::new().max_buf_size(READ_BUFFER).handshake(stream).await?;
        Ok(Box::new(Self { sender, driver: Driver::new(connection) }))
    }

    /// The exchange is over. Whether the connection can take another one.
    pub(crate) fn rest(&mut self) -> bool {
        self.driver.rest();
        !self.driver.over && self.sender.is_ready()
    }

    /// Whether a connection that rested is still open, as far as this process knows.
    pub(crate) fn is_open(&mut self) -> bool {
        let has_news = self.driver.signal.noise.load(Relaxed);
        !has_news || self.rest()
    }

    /// Hand a request over. It is sent when the exchange is polled.
    pub(crate) fn send(&mut self, request: Request<Body>) -> Exchange<'_, impl ResponseFuture + use<>> {
        Exchange { response: self.sender.try_send_request(request), driver: &mut self.driver }
    }

    /// The next frame of the response. It is there already if it came together with what came before.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = self.driver.ask(|cx| Pin::new(&mut *body).poll_frame(cx)) {
            return Poll::Ready(frame);
        }
        self.driver.drive(cx);
        self.driver.ask(|cx| Pin::new(body).poll_frame(cx))
    }

    /// Give it a task of its own, for exchanges whose request goes on while the response comes: neither may wait for the other.
    pub(crate) fn detach(self) -> SendRequest<Body> {
        if !self.driver.over {
            tokio::task::spawn_local(self.driver.connection);
        }
        self.sender
    }

    /// The same for an exchange that may leave HTTP.
    pub(crate) fn detach_with_upgrades(self) -> SendRequest<Body> {
        tokio::task::spawn_local(self.driver.connection.with_upgrades());
        self.sender
    }
}
