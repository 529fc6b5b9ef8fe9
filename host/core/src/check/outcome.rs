//! What came of an exchange.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, request, response};

use crate::plugin::PluginFault;

/// A message that came out.
#[derive(Debug, Clone)]
pub struct Passed<H> {
    /// Its head.
    pub head: H,
    /// All of its body.
    pub body: Bytes,
    /// Behind the body.
    pub trailers: HeaderMap,
}

/// What came of an exchange.
#[derive(Debug)]
pub struct Outcome {
    /// What reached the backend; none if nothing did.
    pub request: Option<Passed<request::Parts>>,
    /// What a route plugin chose: the name of a backend, or `default`.
    pub chosen: Option<String>,
    /// How it ended.
    pub end: End,
    /// Time in the plugin's hooks, with what the host does around them.
    pub time: Duration,
}

/// How an exchange ended.
#[derive(Debug)]
pub enum End {
    /// The response of the backend, as it reached the client.
    Response(Passed<response::Parts>),
    /// The plugin answered itself.
    Reply(Response<Bytes>),
    /// It was given up, and why.
    Aborted(String),
    /// A hook did not answer properly: which, and how.
    Fault(&'static str, PluginFault),
}
