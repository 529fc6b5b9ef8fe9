//! Bodies of requests: from the client, through the plugins that see them, to an endpoint.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, header, request};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use penstock_core::{backend::BackendProtocol, plugin::Direction, reason::Reason};

use super::{Body, BodyError, clean_trailers};
use crate::{
    clock::Clock,
    connection::Connection,
    patience::Patience,
    policies::{Break, Exchange, Source, Stages, Stop},
    respond::Rejection,
};

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

    /// Why it broke off: the client's fault, or a plugin's, not the endpoint's.
    pub(crate) fn failure(&self) -> Option<Reason> {
        self.failure.get()
    }
}

/// Opens when the endpoint said `100 Continue`. Its callback must be `Send`, hence the atomic.
pub(crate) type Continue = Arc<AtomicBool>;

/// The body of a request: from its head, when it is not known yet where it goes, to its last byte.
#[derive(Debug)]
pub(crate) struct RequestBody {
    source: RequestSource,
    /// Plugins that see it.
    stages: Option<Stages>,
}

#[derive(Debug)]
struct RequestSource {
    incoming: Incoming,
    /// None if the client sends nothing.
    progress: Option<Rc<Progress>>,
    limit: Option<u64>,
    /// Nothing is asked of the client before it opens (`Expect: 100-continue`).
    gate: Option<Continue>,
    /// For streams of HTTP/2; on HTTP/1.1 the guard watches.
    patience: Option<(Patience, Arc<Clock>)>,
}

impl RequestBody {
    pub(crate) fn new(connection: &Connection, incoming: Incoming) -> Self {
        let (worker, is_bodiless) = (&connection.worker, incoming.is_end_stream());
        let patience = (connection.is_h2() && !is_bodiless)
            .then(|| (Patience::new(&worker.waiters, worker.settings.timeouts.body), worker.clock.clone()));
        let source = RequestSource {
            incoming,
            progress: (!is_bodiless).then(Rc::default),
            limit: worker.settings.limits.body_size,
            gate: None,
            patience,
        };
        Self { source, stages: None }
    }

    /// Refuse what says that it is larger than allowed.
    pub(crate) fn check_size(&self) -> Result<(), Rejection> {
        let least = self.source.incoming.size_hint().lower();
        if self.source.limit.is_some_and(|limit| least > limit) { Err(Reason::BodyTooLarge.into()) } else { Ok(()) }
    }

    /// None if there is nothing to watch.
    pub(crate) fn progress(&self) -> Option<&Rc<Progress>> {
        self.source.progress.as_ref()
    }

    /// Whether the client sends nothing.
    pub(crate) fn is_bodiless(&self) -> bool {
        self.source.progress.is_none()
    }

    /// Whether a plugin sees the body.
    pub(crate) fn has_stages(&self) -> bool {
        self.stages.is_some()
    }

    pub(crate) fn set_gate(&mut self, gate: Option<Continue>) {
        self.source.gate = gate;
    }

    /// Stages, to which one will be added.
    pub(crate) fn stages(&mut self, exchange: &Rc<Exchange>) -> &mut Stages {
        self.stages.get_or_insert_with(|| Stages::new(Direction::Request, exchange.clone()))
    }

    /// See [`Stages::fill`].
    pub(crate) async fn fill(&mut self, place: usize) -> Result<(), Break> {
        match &mut self.stages {
            // The source has its own patience.
            Some(stages) => stages.fill(place, &mut self.source, |_| false).await,
            None => Ok(()),
        }
    }

    /// See [`Stages::complete`].
    pub(crate) async fn complete(&mut self) -> Result<(), Break> {
        match &mut self.stages {
            Some(stages) => stages.complete(&mut self.source).await,
            None => Ok(()),
        }
    }

    /// The body for an endpoint. What plugins have made of it decides how `head` announces it.
    pub(crate) fn into_body(mut self, head: &mut request::Parts, protocol: BackendProtocol) -> Body {
        let Some(stages) = &mut self.stages else {
            return if self.is_bodiless() { Body::empty() } else { Body::request(self) };
        };
        if let Some(whole) = stages.take_whole() {
            if !whole.is_empty() || !self.is_bodiless() {
                head.headers.insert(header::CONTENT_LENGTH, whole.len().into());
            }
            return Body::whole(whole);
        }
        head.headers.remove(header::CONTENT_LENGTH);
        if protocol == BackendProtocol::Http1 {
            // For some methods hyper would take an unknown length to mean that there is no body.
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Body::request(self)
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { source, stages } = self;
        let Some(stages) = stages else { return source.poll_frame(cx) };
        stages.poll_frame(source, cx).map(|frame| {
            frame.map(|frame| {
                frame.map_err(|broken| match broken {
                    Break::Source(error) => error,
                    Break::Plugin { at, stop } => {
                        source.fail(match &stop {
                            Stop::Reply(_) => Reason::PluginReply,
                            Stop::Reject(rejection) => rejection.reason,
                            Stop::Abort(_) => Reason::PluginAbort,
                        });
                        stages.exchange().interrupt(at, stop);
                        BodyError::Interrupted
                    }
                })
            })
        })
    }

    pub(super) fn is_end(&self) -> bool {
        match &self.stages {
            Some(stages) => stages.is_end(),
            None => self.source.incoming.is_end_stream(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.stages {
            Some(stages) => stages.size_hint(),
            None => self.source.incoming.size_hint(),
        }
    }
}

impl Source for RequestSource {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.gate.as_ref().is_some_and(|gate| !gate.load(Relaxed)) {
            // The connection to the endpoint is what wakes this task, when the 100 or the final response comes.
            return Poll::Pending;
        }
        let Some(progress) = &self.progress else { return Poll::Ready(None) };
        progress.begun.set(true);
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.poll_patience(cx),
        };
        if let Some((patience, _)) = &mut self.patience {
            patience.rest();
        }
        match frame {
            None => {
                progress.done.set(true);
                Poll::Ready(None)
            }
            Some(Ok(frame)) => Poll::Ready(Some(self.pass(frame))),
            Some(Err(_)) => Poll::Ready(Some(Err(self.fail(Reason::ClientClosed)))),
        }
    }

    fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }
}

impl RequestSource {
    fn pass(&self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let Some(progress) = &self.progress else { return Ok(frame) };
        if let Some(data) = frame.data_ref() {
            let received = progress.received.get() + data.len() as u64;
            progress.received.set(received);
            if self.limit.is_some_and(|limit| received > limit) {
                return Err(self.fail(Reason::BodyTooLarge));
            }
        }
        if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers);
        }
        if self.incoming.is_end_stream() {
            progress.done.set(true);
        }
        Ok(frame)
    }

    fn poll_patience<T>(&mut self, cx: &Context<'_>) -> Poll<Option<Result<T, BodyError>>> {
        if self.patience.as_mut().is_some_and(|(patience, clock)| patience.is_over(clock, cx)) {
            return Poll::Ready(Some(Err(self.fail(Reason::RequestTimeout))));
        }
        Poll::Pending
    }

    fn fail(&self, reason: Reason) -> BodyError {
        if let Some(progress) = &self.progress {
            progress.failure.set(Some(reason));
        }
        BodyError::Client(reason)
    }
}

/// The head, for good.
pub(crate) fn take(head: &mut request::Parts) -> request::Parts {
    std::mem::replace(head, http::Request::new(()).into_parts().0)
}
