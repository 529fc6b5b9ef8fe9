//! What a request asks for: its host and path in one form, whatever the protocol and however it was spelled.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, Version, header, request, uri::PathAndQuery};
use penstock_core::{
    hostname::split_authority,
    path::{self, TargetTooLong},
    reason::Reason,
};

use crate::{guard, respond::Rejection, wire::Wire};

/// Bring a request into the form in which everything after sees it: origin-form target with a normalised path, and one `Host`.
pub(crate) fn settle(head: &mut request::Parts, wire: &Wire) -> Result<(), Rejection> {
    if head.method.as_str() == guard::REFUSED_METHOD {
        return Err(refused(wire));
    }
    if head.uri.path_and_query().map_or(0, |target| target.as_str().len()) > wire.limits.uri_length {
        return Err(Reason::UriTooLong.into());
    }
    // On HTTP/1.1 the guard has counted.
    if head.headers.len() > wire.limits.headers {
        return Err(Reason::HeadersTooLarge.into());
    }
    settle_host(head)?;
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    let path =
        path::normalize(head.uri.path()).map_err(|error| Rejection::new(Reason::BadRequest, error.to_string()))?;
    if let Cow::Owned(path) = path {
        head.uri = path::replace(std::mem::take(&mut head.uri), &path).map_err(|TargetTooLong| Reason::UriTooLong)?;
    }
    Ok(())
}

/// HTTP/2 splits cookies so that each compresses well; nothing else knows more than one field of them (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(header::COOKIE, joined);
    }
}

/// A request that the guard refused.
fn refused(wire: &Wire) -> Rejection {
    use guard::Violation as V;
    let Some(violation) = wire.violation() else {
        return Rejection::new(Reason::BadRequest, "the method is reserved");
    };
    let reason = match violation {
        V::UriTooLong => Reason::UriTooLong,
        V::HeadTooLarge | V::TooManyHeaders => Reason::HeadersTooLarge,
        V::Timeout => Reason::RequestTimeout,
        _ => Reason::BadRequest,
    };
    Rejection::new(reason, violation.text())
}

/// Why a body broke off that the guard refused.
pub(crate) fn refused_body(wire: &Wire) -> Option<Rejection> {
    wire.violation().map(|_| refused(wire))
}

/// Absolute-form (and HTTP/2, where every target is absolute) names the host in the target: then that is the host, and a `Host` that
/// says otherwise is an attempt to be routed by one and served by the other (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn settle_host(head: &mut request::Parts) -> Result<(), Rejection> {
    let Some(authority) = head.uri.authority() else {
        let mut hosts = head.headers.get_all(header::HOST).iter();
        return match (hosts.next(), hosts.next()) {
            (None, _) if head.version == Version::HTTP_2 => {
                Err(Rejection::new(Reason::BadRequest, "there is neither Host nor :authority"))
            }
            (_, None) => Ok(()),
            _ => Err(Rejection::new(Reason::BadRequest, "there are two Host")),
        };
    };
    for host in head.headers.get_all(header::HOST) {
        if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) {
            return Err(Rejection::new(Reason::BadRequest, "Host and the authority of the target differ"));
        }
    }
    let host = HeaderValue::from_str(authority.as_str());
    let host = host.map_err(|_| Rejection::new(Reason::BadRequest, "the authority is malformed"))?;
    head.headers.insert(header::HOST, host);
    let target = head.uri.path_and_query().cloned();
    head.uri = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok(())
}

/// The host for matching; empty if the request has none (HTTP/1.0).
pub(crate) fn host(head: &request::Parts) -> Result<Cow<'_, str>, Rejection> {
    let malformed = || Rejection::new(Reason::BadRequest, "Host is malformed");
    let Some(host) = head.headers.get(header::HOST) else { return Ok(Cow::Borrowed("")) };
    let host = host.to_str().map_err(|_| malformed())?;
    let (host, _) = split_authority(host).map_err(|_| malformed())?;
    Ok(host)
}
