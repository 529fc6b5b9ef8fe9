//! Building requests.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

pub(super) type RequestBody = UnsyncBoxBody<Bytes, Infallible>;

/// The host of requests that name none.
const DEFAULT_HOST: &str = "example.com";

#[derive(Clone, Copy)]
pub(super) enum Protocol {
    H1,
    H2,
}

/// A request in the making.
#[derive(Debug)]
pub struct Request {
    method: Method,
    path: String,
    host: String,
    headers: HeaderMap,
    body: Option<RequestBody>,
    trailers: Option<HeaderMap>,
}

/// `GET path`.
#[must_use]
pub fn get(path: &str) -> Request {
    request("GET", path)
}

/// `POST path` with a body of known length.
#[must_use]
pub fn post(path: &str, body: impl Into<Bytes>) -> Request {
    request("POST", path).body(body)
}

/// A request without body.
///
/// # Panics
/// When the method is not a token.
#[must_use]
pub fn request(method: &str, path: &str) -> Request {
    Request {
        method: Method::try_from(method).expect("a valid method"),
        path: path.to_owned(),
        host: DEFAULT_HOST.to_owned(),
        headers: HeaderMap::new(),
        body: None,
        trailers: None,
    }
}

impl Request {
    /// The `Host` header or the `:authority`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Add a header; the same name may be added several times.
    ///
    /// # Panics
    /// When name or value are not valid.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::try_from(name).expect("a valid header name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a valid header value"));
        self
    }

    /// A body of known length.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        let body = Full::new(body.into());
        self.streaming(body)
    }

    /// Any body: with unknown length it is sent in chunks.
    #[must_use]
    pub fn streaming<B>(mut self, body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        self.body = Some(body.boxed_unsync());
        self
    }

    /// End the body with a trailer; several calls make one trailer section.
    ///
    /// # Panics
    /// When name or value are not valid.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a valid trailer name");
        let value = HeaderValue::try_from(value).expect("a valid trailer value");
        self.trailers.get_or_insert_default().append(name, value);
        self
    }

    pub(super) fn build(mut self, protocol: Protocol) -> http::Request<RequestBody> {
        let body = self.body.unwrap_or_else(|| http_body_util::Empty::new().boxed_unsync());
        let body = match self.trailers {
            None => body,
            Some(trailers) => {
                // HTTP/1.1 sends only trailers that were announced.
                for name in trailers.keys() {
                    self.headers.append(http::header::TRAILER, HeaderValue::from(name.clone()));
                }
                // `map_frame` hides the length, since a body that ends with trailers has to be sent in chunks.
                let body = body.map_frame(std::convert::identity);
                body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync()
            }
        };
        let mut request = http::Request::new(body);
        let (target, version) = match protocol {
            Protocol::H1 => {
                // An own `Host` header, if the test added one, stands.
                self.headers.entry(HOST).or_insert(HeaderValue::try_from(&self.host).expect("a valid host"));
                (self.path, Version::HTTP_11)
            }
            Protocol::H2 => (format!("http://{}{}", self.host, self.path), Version::HTTP_2),
        };
        *request.uri_mut() = Uri::try_from(&target).unwrap_or_else(|error| panic!("{target}: {error}"));
        *request.version_mut() = version;
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        request
    }

    /// Ask for trailers in the response (`TE: trailers`).
    #[must_use]
    pub fn accepting_trailers(mut self) -> Self {
        self.headers.insert(TE, HeaderValue::from_static("trailers"));
        self
    }
}
