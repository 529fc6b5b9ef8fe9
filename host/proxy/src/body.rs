//! The one body type: what is sent to endpoints and what is sent to clients.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use penstock_core::reason::Reason;

use crate::{clock::Clock, patience::Patience, record::Record, upstream::Lease};

/// The body of a message on its way through. Nothing is buffered: a frame is asked for when the other side has room for it.
#[derive(Debug)]
pub(crate) struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Whole(Option<Bytes>),
    Request(Box<RequestBody>),
    Response(Box<ResponseBody>),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The side that it comes from failed.
    #[error("the sender of the body failed")]
    Broken(#[from] hyper::Error),
    /// It stalled for too long.
    #[error("the body stalled")]
    Stalled,
    /// It is larger than allowed.
    #[error("the body is too large")]
    TooLarge,
}

impl Body {
    pub(crate) const fn empty() -> Self {
        Self(Kind::Empty)
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Whole(Some(bytes))) }
    }

    pub(crate) fn request(body: RequestBody) -> Self {
        Self(Kind::Request(Box::new(body)))
    }

    pub(crate) fn response(body: ResponseBody) -> Self {
        Self(Kind::Response(Box::new(body)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Request(body) => body.poll_frame(cx),
            Kind::Response(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Request(body) => body.incoming.is_end_stream(),
            Kind::Response(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Request(body) => body.incoming.size_hint(),
            Kind::Response(body) => body.incoming.size_hint(),
        }
    }
}

/// How far the body of a request got; shared by the body and the exchange that sends it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    received: Cell<u64>,
    begun: Cell<bool>,
    done: Cell<bool>,
    failure: Cell<Option<Reason>>,
}

impl Progress {
    /// Bytes so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether any of it was asked for: from then on the request cannot be sent again.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Whether all of it was sent.
    pub(crate) fn is_done(&self) -> bool {
        self.done.get()
    }

    /// Why it broke off: the client's fault, not the endpoint's.
    pub(crate) fn failure(&self) -> Option<Reason> {
        self.failure.get()
    }
}

/// Opens when the endpoint said `100 Continue`. Its callback must be `Send`, hence the atomic.
pub(crate) type Continue = Arc<AtomicBool>;

/// A request body on its way to an endpoint.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) incoming: Incoming,
    pub(crate) progress: Rc<Progress>,
    pub(crate) limit: Option<u64>,
    /// Nothing is asked of the client before it opens (`Expect: 100-continue`).
    pub(crate) gate: Option<Continue>,
    /// For streams of HTTP/2; on HTTP/1.1 the guard watches.
    pub(crate) patience: Option<(Patience, Arc<Clock>)>,
}

impl RequestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.gate.as_ref().is_some_and(|gate| !gate.load(Relaxed)) {
            // The connection to the endpoint is what wakes this task, when the 100 or the final response comes.
            return Poll::Pending;
        }
        self.progress.begun.set(true);
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.poll_patience(cx),
        };
        if let Some((patience, _)) = &mut self.patience {
            patience.rest();
        }
        match frame {
            None => {
                self.progress.done.set(true);
                Poll::Ready(None)
            }
            Some(Ok(frame)) => Poll::Ready(Some(self.pass(frame))),
            Some(Err(error)) => Poll::Ready(Some(Err(self.fail(Reason::ClientClosed, error.into())))),
        }
    }

    fn pass(&mut self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        if let Some(data) = frame.data_ref() {
            let received = self.progress.received.get() + data.len() as u64;
            self.progress.received.set(received);
            if self.limit.is_some_and(|limit| received > limit) {
                return Err(self.fail(Reason::BodyTooLarge, BodyError::TooLarge));
            }
        }
        if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers);
        }
        if self.incoming.is_end_stream() {
            self.progress.done.set(true);
        }
        Ok(frame)
    }

    fn poll_patience<T>(&mut self, cx: &Context<'_>) -> Poll<Option<Result<T, BodyError>>> {
        if self.patience.as_mut().is_some_and(|(patience, clock)| patience.is_over(clock, cx)) {
            return Poll::Ready(Some(Err(self.fail(Reason::RequestTimeout, BodyError::Stalled))));
        }
        Poll::Pending
    }

    fn fail(&self, reason: Reason, error: BodyError) -> BodyError {
        self.progress.failure.set(Some(reason));
        error
    }
}

/// A response body on its way to a client. It holds the connection that it comes over, and the record of the exchange.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    pub(crate) incoming: Incoming,
    pub(crate) lease: Lease,
    pub(crate) record: Record,
}

impl ResponseBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(self.lease.poll_frame(cx, &mut self.incoming)) {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.record.count_sent(data.len());
                } else if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                    self.record.grpc_status(trailers);
                }
                if self.incoming.is_end_stream() {
                    self.record.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.record.fail(Reason::UpstreamReset);
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.record.complete();
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper asks no more once it knows that the end is reached, so this is where the connection becomes free.
        if self.incoming.is_end_stream() || self.record.is_complete() {
            self.lease.give_back();
        }
    }
}

/// Trailers may add nothing that decides about framing, routing or the connection (RFC 9110 §6.5.1).
fn clean_trailers(trailers: &mut HeaderMap) {
    const FORBIDDEN: [header::HeaderName; 7] = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::HOST,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
    ];
    for name in FORBIDDEN {
        trailers.remove(name);
    }
}
