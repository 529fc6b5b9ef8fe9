//! The one body type: what is sent to endpoints and what is sent to clients.

mod request;
mod response;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};
use penstock_core::reason::Reason;

pub(crate) use self::{
    request::take,
    request::{Continue, Progress, RequestBody},
    response::{ResponseBody, ResponseSource, UpstreamBody},
};

/// The body of a message on its way through. Nothing is buffered unless a plugin asks for it: a frame is asked for when the other side has
/// room for it.
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
    /// The endpoint that it comes from failed.
    #[error("the sender of the body failed")]
    Broken(#[from] hyper::Error),
    /// The endpoint stalled while a plugin had the head.
    #[error("the body stalled")]
    Stalled,
    /// The client left, stalled, or sent too much.
    #[error("the client's body ended early: {0}")]
    Client(Reason),
    /// A plugin ended it.
    #[error("a plugin ended the body")]
    Interrupted,
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
            Kind::Request(body) => body.is_end(),
            Kind::Response(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Request(body) => body.size_hint(),
            Kind::Response(body) => body.size_hint(),
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
