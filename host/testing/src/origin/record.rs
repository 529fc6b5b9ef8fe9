//! What the origin saw.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Version, request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Bytes of a body that are kept; the rest is only counted, so that large bodies cost no memory.
const KEPT: usize = 1 << 20;

/// A request as the origin received it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Peer of the connection: the gateway's side.
    pub peer: SocketAddr,
    /// Which connection of this origin it came over, counted from 0.
    pub connection: usize,
    /// Protocol version.
    pub version: Version,
    /// Method.
    pub method: Method,
    /// Path with query, as sent.
    pub path: String,
    /// `:authority` or `Host`; empty when there was none.
    pub authority: String,
    /// Header fields, `host` included.
    pub headers: HeaderMap,
    /// The first MiB of the body. Empty for an origin that answers early.
    pub body: Bytes,
    /// Bytes of the body altogether.
    pub body_length: u64,
    /// Trailer fields, if there were any.
    pub trailers: Option<HeaderMap>,
    /// Whether the body ended before its time.
    pub truncated: bool,
}

impl Recorded {
    pub(super) fn new(head: &request::Parts, peer: SocketAddr, connection: usize) -> Self {
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(http::uri::Authority::as_str).or(host);
        Self {
            peer,
            connection,
            version: head.version,
            method: head.method.clone(),
            path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            authority: authority.unwrap_or_default().to_owned(),
            headers: head.headers.clone(),
            body: Bytes::new(),
            body_length: 0,
            trailers: None,
            truncated: false,
        }
    }

    /// The value of a header, for text headers that occur once. Empty when absent, to keep assertions short.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(super) async fn read_body(&mut self, mut body: Incoming) {
        let mut kept = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                self.truncated = true;
                break;
            };
            match frame.into_data() {
                Ok(chunk) => {
                    self.body_length += chunk.len() as u64;
                    let room = KEPT.saturating_sub(kept.len()).min(chunk.len());
                    kept.extend_from_slice(&chunk[..room]);
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        self.body = kept.freeze();
    }
}
