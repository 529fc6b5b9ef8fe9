//! Sending a request again over another connection.

use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;

use crate::body::Body;

/// Enough to send a request without a body again. Its values are shared with the original, not copied.
#[derive(Debug)]
pub(crate) struct Replay {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
}

impl Replay {
    /// Only for what may be sent twice: idempotent, and without a body (RFC 9110 §9.2.2).
    pub(crate) fn of(request: &Request<Body>) -> Option<Self> {
        if !request.body().is_end_stream() || !request.method().is_idempotent() {
            return None;
        }
        Some(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
        })
    }
}

impl From<Replay> for Request<Body> {
    fn from(replay: Replay) -> Self {
        let mut request = Self::new(Body::empty());
        *request.method_mut() = replay.method;
        *request.uri_mut() = replay.uri;
        *request.version_mut() = replay.version;
        *request.headers_mut() = replay.headers;
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, body: Body) -> Request<Body> {
        let request = Request::builder().method(method).uri("/x?y").version(Version::HTTP_11);
        request.header("host", "a").header("x", "1").header("x", "2").body(body).unwrap()
    }

    #[test]
    fn the_same_request_again() {
        let original = request(Method::GET, Body::empty());
        let again: Request<Body> = Replay::of(&original).unwrap().into();
        assert_eq!(
            (again.method(), again.uri(), again.version()),
            (original.method(), original.uri(), original.version())
        );
        assert_eq!(again.headers(), original.headers());
    }

    #[test]
    fn not_what_may_happen_once_only() {
        assert!(Replay::of(&request(Method::POST, Body::empty())).is_none());
        assert!(Replay::of(&request(Method::PUT, Body::whole("body".into()))).is_none());
        assert!(Replay::of(&request(Method::DELETE, Body::empty())).is_some());
    }
}
