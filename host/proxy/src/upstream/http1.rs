//! A connection to an endpoint over HTTP/1.1.
//!
//! It has no task of its own: who uses it drives it, in the same task that reads the client's connection. That saves two wake-ups a
//! request, and a connection that nobody uses costs nothing. What the driver brings (a response, a frame) is asked for right after
//! driving, so those questions are put with a waker that does nothing.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, SendRequest},
};
use hyper_util::rt::TokioIo;

use crate::{body::Body, stream::Stream};

/// A connection and the handle that sends on it.
#[derive(Debug)]
pub(crate) struct Http1 {
    sender: SendRequest<Body>,
    driver: Connection<TokioIo<Stream>, Body>,
    over: bool,
}

/// Why there is no response.
#[derive(Debug)]
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
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        Ok(Box::new(Self { sender, driver, over: false }))
    }

    /// Let it read and write.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.over && Pin::new(&mut self.driver).poll(cx).is_ready() {
            // How it ended is told to the request that was under way.
            self.over = true;
        }
    }

    /// Whether it could take a request now. Notices that the endpoint has closed it, as far as this process knows.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.over && self.sender.is_ready()
    }

    /// Send a request and wait for the head of its response. `is_too_late` is asked whenever there is nothing to do but wait.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
        mut is_too_late: impl FnMut(&Context<'_>) -> bool,
    ) -> Result<Response<Incoming>, NoResponse> {
        let mut response = pin!(self.sender.try_send_request(request));
        let (driver, over) = (&mut self.driver, &mut self.over);
        poll_fn(|cx| {
            if !*over && Pin::new(&mut *driver).poll(cx).is_ready() {
                *over = true;
            }
            match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                    Some(request) => NoResponse::Unsent(request),
                    None => NoResponse::Failed(error.into_error()),
                })),
                Poll::Pending if is_too_late(cx) => Poll::Ready(Err(NoResponse::TimedOut)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Give it a task of its own, for exchanges whose request goes on while the response comes: neither may wait for the other.
    pub(crate) fn detach(self) -> SendRequest<Body> {
        if !self.over {
            tokio::task::spawn_local(self.driver);
        }
        self.sender
    }

    /// The same for an exchange that may leave HTTP.
    pub(crate) fn detach_with_upgrades(self) -> SendRequest<Body> {
        tokio::task::spawn_local(self.driver.with_upgrades());
        self.sender
    }
}
