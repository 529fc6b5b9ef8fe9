//! HTTP to backends that the resource names, nothing else.

use std::time::Duration;

use crate::{
    header::IntoValue,
    imports::outbound_http::{self, Response as WireResponse},
    wire,
};

pub use crate::bindings::imports::outbound_http::OutboundError;

/// A request to a granted backend.
///
/// ```no_run
/// # use penstock_plugin::capability::outbound::Call;
/// # use std::time::Duration;
/// let answer = Call::get("auth", "/verify").header("authorization", "Bearer …").timeout(Duration::from_millis(200)).send();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Call(outbound_http::Request);

impl Call {
    /// `backend` is the name of the grant, not of a host; `path` starts with `/` and may have a query.
    pub fn new(method: &str, backend: &str, path: &str) -> Self {
        Self(outbound_http::Request {
            backend: backend.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
        })
    }

    /// A `GET`.
    pub fn get(backend: &str, path: &str) -> Self {
        Self::new("GET", backend, path)
    }

    /// A `POST` of this body.
    pub fn post(backend: &str, path: &str, body: impl IntoValue) -> Self {
        let mut call = Self::new("POST", backend, path);
        call.0.body = body.into_value();
        call
    }

    /// Adds a header. `host` may be named once; if it is not, the gateway names the backend.
    pub fn header(mut self, name: &str, value: impl IntoValue) -> Self {
        self.0.headers.push(wire::Header { name: name.to_ascii_lowercase(), value: value.into_value() });
        self
    }

    /// Give up after this time. The grant's own timeout holds as well.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout_ms = Some(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// Sends, and waits for the answer. Other exchanges do not wait.
    ///
    /// # Errors
    /// When there is no answer, or none within the limits.
    pub fn send(self) -> Result<Answer, OutboundError> {
        outbound_http::send(&self.0).map(Answer)
    }
}

/// What a backend answered.
#[derive(Debug, Clone)]
pub struct Answer(WireResponse);

impl Answer {
    /// Such as 200.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// All values of a header, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers, in order; names are lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.headers.iter().map(|header| (header.name.as_str(), header.value.as_slice()))
    }

    /// All of the body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }
}
