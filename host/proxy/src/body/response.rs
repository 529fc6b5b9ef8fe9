//! Bodies of responses: from an endpoint, or from the gateway itself, through the plugins that see them, to the client.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use penstock_core::reason::Reason;

use super::{BodyError, clean_trailers};
use crate::{
    policies::{Break, Source, Stages, Stop},
    record::Record,
    upstream::Lease,
};

/// Where the body of a response comes from.
pub(crate) enum ResponseSource {
    /// From the gateway itself.
    Local(Option<Bytes>),
    /// From an endpoint.
    Upstream(UpstreamBody),
    /// There is no body to wait for, whatever the endpoint sends.
    Bodiless(Lease),
}

/// A body that comes from an endpoint, over this connection.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    lease: Lease,
    /// From its trailers, before plugins see them.
    grpc_status: Option<HeaderValue>,
}

/// A response body on its way to a client. It holds the connection that it comes over, and the record of the exchange.
pub(crate) struct ResponseBody {
    pub(crate) source: ResponseSource,
    /// Plugins that see it.
    pub(crate) stages: Option<Stages>,
    pub(crate) record: Record,
}

impl Source for ResponseSource {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Local(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Bodiless(..) => Poll::Ready(None),
            Self::Upstream(body) => body.poll_frame(cx),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Local(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.incoming.is_end_stream(),
            Self::Bodiless(..) => true,
        }
    }
}

impl ResponseSource {
    /// Nothing more comes: the connection may serve others.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Local(_) => {}
            Self::Upstream(UpstreamBody { lease, .. }) | Self::Bodiless(lease) => lease.give_back(),
        }
    }

    /// The status of a call of gRPC, if its trailers have come.
    pub(crate) fn grpc_status(&mut self) -> Option<HeaderValue> {
        match self {
            Self::Upstream(body) => body.grpc_status.take(),
            Self::Local(_) | Self::Bodiless(_) => None,
        }
    }
}

impl UpstreamBody {
    pub(crate) fn new(incoming: Incoming, lease: Lease) -> Self {
        Self { incoming, lease, grpc_status: None }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut frame = ready!(self.lease.poll_frame(cx, &mut self.incoming));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            clean_trailers(trailers);
            self.grpc_status = trailers.get("grpc-status").cloned();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }
}

impl ResponseBody {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.stages {
            None => ready!(self.source.poll_frame(cx)).transpose().map_err(Break::Source),
            Some(stages) => ready!(stages.poll_frame(&mut self.source, cx)).transpose(),
        };
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.record.complete();
                return Poll::Ready(None);
            }
            Err(broken) => return Poll::Ready(Some(Err(self.broken(broken)))),
        };
        if let Some(data) = frame.data_ref() {
            self.record.count_sent(data.len());
        }
        if self.is_end() {
            self.record.complete();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// The head is gone, so all that is left is to break the body off.
    fn broken(&mut self, broken: Break) -> BodyError {
        match broken {
            Break::Source(error) => {
                self.record.fail(Reason::UpstreamReset);
                error
            }
            Break::Plugin { at, stop } => {
                let (reason, detail) = match stop {
                    Stop::Reply(_) => (Reason::PluginAbort, "it replied after the headers were sent".into()),
                    Stop::Reject(rejection) => (rejection.reason, rejection.detail),
                    Stop::Abort(why) => (Reason::PluginAbort, why.into()),
                };
                self.record.fail_in_plugin(reason, detail, self.stages.as_ref().map(|stages| stages.plugin(at)));
                BodyError::Interrupted
            }
        }
    }

    pub(super) fn is_end(&self) -> bool {
        match &self.stages {
            Some(stages) => stages.is_end(),
            None => self.source.is_end(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match (&self.stages, &self.source) {
            (Some(stages), _) => stages.size_hint(),
            (None, ResponseSource::Upstream(body)) => body.incoming.size_hint(),
            (None, ResponseSource::Local(bytes)) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            (None, ResponseSource::Bodiless(..)) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(status) = self.source.grpc_status() {
            self.record.grpc_status(status);
        }
        // hyper asks no more once it knows that the end is reached, so this is where the connection becomes free.
        if self.source.is_end() || self.record.is_complete() {
            self.source.finish();
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").field("stages", &self.stages).finish_non_exhaustive()
    }
}
