//! The one place where a reason becomes a response.

use std::{
    borrow::Cow,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Version, header, response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use penstock_core::{plugin::Direction, reason::Reason, route::Failure};

use crate::{
    body::{Body, BodyError, ResponseBody, ResponseSource, UpstreamBody},
    connection::Connection,
    headers,
    patience::Patience,
    policies::{Break, Exchange, Source, Stages, Stop},
    record::Record,
    upstream::Lease,
};

/// Why there is no response of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Decides status, text and metrics.
    pub(crate) reason: Reason,
    /// For the access log, where the reason alone does not say enough.
    pub(crate) detail: Cow<'static, str>,
}

impl Rejection {
    pub(crate) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self::new(reason, "")
    }
}

/// Who answers.
const SERVER: HeaderValue = HeaderValue::from_static("penstock");

const PROXY_STATUS: header::HeaderName = header::HeaderName::from_static("proxy-status");

impl From<&Failure> for Rejection {
    fn from(failure: &Failure) -> Self {
        Self::new(failure.reason, failure.message.to_string())
    }
}

/// A response on its way out: its head may still be edited, of its body plugins may have seen some.
pub(crate) struct Answer {
    pub(crate) head: response::Parts,
    source: ResponseSource,
    stages: Option<Stages>,
}

impl Answer {
    fn new(head: response::Parts, source: ResponseSource) -> Self {
        Self { head, source, stages: None }
    }

    /// What an endpoint answered.
    pub(crate) fn upstream(response: Response<Incoming>, lease: Lease, method: &Method) -> Self {
        let (mut head, incoming) = response.into_parts();
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            headers::strip_response(&mut head.headers);
        }
        // On HTTP/2 there are endpoints that send one in answer to HEAD.
        let source = if incoming.is_end_stream() || method == Method::HEAD {
            ResponseSource::Bodiless(lease)
        } else {
            ResponseSource::Upstream(UpstreamBody::new(incoming, lease))
        };
        Self::new(head, source)
    }

    /// What the gateway answers itself because the configuration says so.
    pub(crate) fn local(response: Response<Bytes>, record: &mut Record) -> Self {
        record.complete();
        let (mut head, body) = response.into_parts();
        head.headers.entry(header::SERVER).or_insert(SERVER);
        Self::new(head, ResponseSource::Local((!body.is_empty()).then_some(body)))
    }

    /// What a plugin made of the exchange, unless it gave it up.
    pub(crate) fn stopped(stop: Stop, record: &mut Record) -> Result<Self, Aborted> {
        match stop {
            Stop::Reply(reply) => Ok(Self::plugin_reply(*reply, record)),
            Stop::Reject(rejection) => Ok(Self::rejected(&rejection, record)),
            Stop::Abort(why) => {
                record.fail(Reason::PluginAbort);
                if let Some(log) = record.log() {
                    log.detail = why;
                }
                Err(Aborted)
            }
        }
    }

    /// What a plugin answers.
    pub(crate) fn plugin_reply(response: Response<Bytes>, record: &mut Record) -> Self {
        record.fail(Reason::PluginReply);
        Self::local(response, record)
    }

    /// A short text for people, who answered, and why (RFC 9209).
    pub(crate) fn rejected(rejection: &Rejection, record: &mut Record) -> Self {
        let reason = rejection.reason;
        record.fail(reason);
        if let Some(log) = record.log() {
            log.detail = rejection.detail.to_string();
        }
        let mut response = Response::new(Bytes::from_static(reason.text().as_bytes()));
        *response.status_mut() = reason.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let status = format!("penstock; error={}; details=\"{}\"", reason.proxy_status(), reason.code());
        headers.insert(PROXY_STATUS, HeaderValue::from_str(&status).expect("codes and error types are tokens"));
        Self::local(response, record)
    }
}

/// Bodies, as far as plugins see them before the head is sent.
impl Answer {
    /// The head, for good.
    pub(crate) fn take_head(&mut self) -> response::Parts {
        std::mem::replace(&mut self.head, Response::new(()).into_parts().0)
    }

    /// Whether a plugin sees the body.
    pub(crate) fn has_stages(&self) -> bool {
        self.stages.is_some()
    }

    /// Stages, to which one will be added.
    pub(crate) fn stages(&mut self, exchange: &Rc<Exchange>) -> &mut Stages {
        self.stages.get_or_insert_with(|| Stages::new(Direction::Response, exchange.clone()))
    }

    /// See [`Stages::fill`]. An endpoint that stalls meanwhile has as long as for the head.
    pub(crate) async fn fill(&mut self, place: usize, record: &Record) -> Result<(), Break> {
        let Some(stages) = &mut self.stages else { return Ok(()) };
        let worker = &record.connection.worker;
        let mut patience = Patience::new(&worker.waiters, worker.settings.timeouts.response);
        stages.fill(place, &mut self.source, |cx| patience.is_over(&worker.clock, cx)).await
    }

    /// Whether HTTP has no place for a body in this response (RFC 9110 §6.4.1).
    pub(crate) fn takes_no_body(&self, is_head: bool) -> bool {
        let status = self.head.status;
        is_head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// Let plugins see that there is no body. What they would send in its place is dropped.
    pub(crate) async fn pass_nothing(&mut self) -> Result<(), Break> {
        let Some(mut stages) = self.stages.take() else { return Ok(()) };
        stages.complete(&mut Nothing).await
    }
}

/// The body of a response that has none.
struct Nothing;

impl Source for Nothing {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(None)
    }

    fn is_end(&self) -> bool {
        true
    }
}

/// An exchange that ends without a response: its connection, or its stream, is reset.
#[derive(Debug, thiserror::Error)]
#[error("a plugin gave the exchange up")]
pub(crate) struct Aborted;

/// Put the response together. The record goes with the body and is closed at its end.
pub(crate) fn finish(connection: &Connection, answer: Answer, mut record: Record) -> Response<Body> {
    let Answer { mut head, mut source, mut stages } = answer;
    record.answer(head.status);
    // What the endpoint speaks is its business.
    head.version = Version::HTTP_11;
    if connection.is_closing() && !connection.is_h2() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(seen) = &mut stages {
        head.headers.remove(header::CONTENT_LENGTH);
        if let Some(whole) = seen.take_whole() {
            if let Some(status) = source.grpc_status() {
                record.grpc_status(status);
            }
            source.finish();
            head.headers.insert(header::CONTENT_LENGTH, whole.len().into());
            (source, stages) = (ResponseSource::Local(Some(whole)), None);
            record.complete();
        }
    }
    let body = match (source, stages) {
        (ResponseSource::Local(bytes), None) => {
            let bytes = bytes.unwrap_or_default();
            record.count_sent(bytes.len());
            Body::whole(bytes)
        }
        (mut source @ ResponseSource::Bodiless(..), None) => {
            source.finish();
            record.complete();
            Body::empty()
        }
        (source, stages) => Body::response(ResponseBody { source, stages, record }),
    };
    Response::from_parts(head, body)
}
