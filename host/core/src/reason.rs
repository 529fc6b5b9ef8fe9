//! Why the gateway itself answered, or why an exchange failed. One list for status codes, access log, metrics and `Proxy-Status`.

use serde::Serialize;

/// Every reason has a stable code (in logs and metrics), a status, and a short text for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No listener or no rule takes the request.
    NoRoute,
    /// A rule without `backendRefs`, or all weights zero.
    NoBackend,
    /// The backend reference does not resolve (missing, not permitted, unknown kind).
    InvalidBackend,
    /// The rule refers to a filter that is missing or cannot work.
    InvalidFilter,
    /// The backend has no ready endpoint.
    NoEndpoint,
    /// Connecting to the endpoint was refused or reset.
    ConnectFailed,
    /// Connecting took too long.
    ConnectTimeout,
    /// TLS towards the endpoint failed.
    UpstreamTls,
    /// The endpoint closed or reset before a response.
    UpstreamReset,
    /// The endpoint's answer is not HTTP.
    UpstreamProtocol,
    /// No response headers in time.
    UpstreamTimeout,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The client left before the end.
    ClientClosed,
    /// Malformed or ambiguous request (smuggling vectors among them).
    BadRequest,
    /// The request target is longer than allowed.
    UriTooLong,
    /// More or larger headers than allowed.
    HeadersTooLarge,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// A `TE`, `Expect` or upgrade that is not supported.
    ExpectationFailed,
    /// A policy plugin faulted, and its `failurePolicy` is `Closed`.
    PluginFault,
    /// A policy plugin has no revision that can run, and its `failurePolicy` is `Closed`.
    PluginUnavailable,
    /// A plugin answered in place of the upstream.
    PluginReply,
    /// More connections or requests than the limits allow.
    Overloaded,
    /// The gateway is shutting down.
    Draining,
    /// The authority belongs to another listener than the TLS connection.
    Misdirected,
    /// A defect of the gateway itself.
    Internal,
}
