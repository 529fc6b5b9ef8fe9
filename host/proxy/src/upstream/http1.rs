//! A connection to an endpoint over HTTP/1.1.
//!
//! It has no task of its own: who uses it drives it, in the same task that reads the client's connection. That saves two wake-ups a
//! request, and a connection that nobody uses costs nothing. What the driver brings (a response, a frame) is asked for right after
//! driving, so those questions are put with a waker that does nothing; and what those questions would wake is the driver, which is driven
//! before the next one anyway, so its waker is muted meanwhile.

use std::{
    pin::Pin,
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
        http1::{Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;

use crate::{body::Body, stream::Stream};

/// A connection and the handle that sends on it.
#[derive(Debug)]
pub(crate) struct Http1 {
    sender: SendRequest<Body>,
    driver: Driver,
}

/// Reads and writes for a connection, in whatever task uses it at the time.
#[derive(Debug)]
struct Driver {
    connection: Connection<TokioIo<Stream>, Body>,
    over: bool,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Wakes the task that uses the connection, unless it is that task itself which makes the noise.
#[derive(Debug, Default)]
struct Signal {
    muted: AtomicBool,
    // Only ever locked by the worker that the connection belongs to; a lock because wakers must be `Send`.
    task: Mutex<Option<Waker>>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.muted.load(Relaxed) {
            return;
        }
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl Driver {
    fn new(connection: Connection<TokioIo<Stream>, Body>) -> Self {
        let signal = Arc::<Signal>::default();
        Self { connection, over: false, waker: signal.clone().into(), signal }
    }

    fn drive(&mut self, cx: &Context<'_>) {
        if self.over {
            return;
        }
        {
            let mut task = self.signal.task.lock().unwrap_or_else(PoisonError::into_inner);
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        // How it ended is told to the request that was under way.
        self.over = Pin::new(&mut self.connection).poll(&mut Context::from_waker(&self.waker)).is_ready();
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
    response: Pin<Box<F>>,
    driver: &'a mut Driver,
}

/// What hyper returns for a request that was handed over.
pub(crate) trait ResponseFuture:
    Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>
{
}

impl<F: Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>> ResponseFuture for F {}

impl<F: ResponseFuture> Exchange<'_, F> {
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Response<Incoming>, NoResponse>> {
        self.driver.drive(cx);
        self.driver.ask(|cx| self.response.as_mut().poll(cx)).map_err(NoResponse::from)
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
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        Ok(Box::new(Self { sender, driver: Driver::new(connection) }))
    }

    /// Whether it could take a request now. Notices that the endpoint has closed it, as far as this process knows.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.driver.drive(&Context::from_waker(Waker::noop()));
        !self.driver.over && self.sender.is_ready()
    }

    /// Hand a request over. It is sent when the exchange is polled.
    pub(crate) fn send(&mut self, request: Request<Body>) -> Exchange<'_, impl ResponseFuture + use<>> {
        Exchange { response: Box::pin(self.sender.try_send_request(request)), driver: &mut self.driver }
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
