//! The one place where a reason becomes a response.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Version, header, response};
use http_body::Body as _;
use hyper::body::Incoming;
use penstock_core::{reason::Reason, route::Failure};

use crate::{
    body::{Body, ResponseBody},
    connection::Connection,
    headers,
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

/// A response on its way out: its head may still be edited, its body is not touched yet.
pub(crate) struct Answer {
    pub(crate) head: response::Parts,
    source: Source,
}

enum Source {
    Local(Bytes),
    Upstream(Incoming, Lease),
    /// There is no body to wait for, whatever the endpoint sends.
    Bodiless(Incoming, Lease),
}

impl Answer {
    /// What an endpoint answered.
    pub(crate) fn upstream(response: Response<Incoming>, lease: Lease, method: &Method) -> Self {
        let (mut head, incoming) = response.into_parts();
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            headers::strip_response(&mut head.headers);
        }
        // On HTTP/2 there are endpoints that send one in answer to HEAD.
        let source = if incoming.is_end_stream() || method == Method::HEAD {
            Source::Bodiless(incoming, lease)
        } else {
            Source::Upstream(incoming, lease)
        };
        Self { head, source }
    }

    /// What the gateway answers itself because the configuration says so.
    pub(crate) fn local(response: Response<Bytes>, record: &mut Record) -> Self {
        record.complete();
        let (mut head, body) = response.into_parts();
        head.headers.entry(header::SERVER).or_insert(SERVER);
        Self { head, source: Source::Local(body) }
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

/// Put the response together. The record goes with the body and is closed at its end.
pub(crate) fn finish(connection: &Connection, answer: Answer, mut record: Record) -> Response<Body> {
    let Answer { mut head, source } = answer;
    record.answer(head.status);
    // What the endpoint speaks is its business.
    head.version = Version::HTTP_11;
    if connection.is_closing() && !connection.is_h2() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let body = match source {
        Source::Local(bytes) => {
            record.count_sent(bytes.len());
            Body::whole(bytes)
        }
        Source::Bodiless(incoming, mut lease) => {
            drop(incoming);
            lease.give_back();
            record.complete();
            Body::empty()
        }
        Source::Upstream(incoming, lease) => Body::response(ResponseBody { incoming, lease, record }),
    };
    Response::from_parts(head, body)
}
