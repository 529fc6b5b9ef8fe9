//! A response that has been read to its end.

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::ClientError;

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code, as a number to keep assertions short.
    pub status: u16,
    /// Protocol version.
    pub version: Version,
    /// Header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Trailer fields, if there were any.
    pub trailers: Option<HeaderMap>,
}

impl Response {
    pub(super) async fn read(response: http::Response<Incoming>) -> Result<Self, ClientError> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Self {
            status: head.status.as_u16(),
            version: head.version,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }

    /// The value of a header, for text headers that occur once. Empty when absent, to keep assertions short.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The same for a trailer.
    #[must_use]
    pub fn trailer(&self, name: &str) -> &str {
        let trailer = self.trailers.as_ref().and_then(|trailers| trailers.get(name));
        trailer.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The body as JSON, such as [`Answer::echo`](crate::origin::Answer::echo) sends.
    ///
    /// # Panics
    /// When it is not JSON; the message shows the body.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}
