//! Why the gateway itself answered, or why an exchange failed. One list for status codes, access log, metrics and `Proxy-Status`.

use std::fmt;

use http::StatusCode;
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
    /// A plugin gave the exchange up.
    PluginAbort,
    /// The response's body is larger than a plugin buffers, and its `bodyOverflow` is `Reject`.
    ResponseTooLarge,
    /// More connections or requests than the limits allow.
    Overloaded,
    /// The gateway is shutting down.
    Draining,
    /// The authority belongs to another listener than the TLS connection.
    Misdirected,
    /// A defect of the gateway itself.
    Internal,
}

/// Whose doing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// Who sent the request.
    Client,
    /// Who wrote the resources.
    Configuration,
    /// The backend, or the way to it.
    Upstream,
    /// A plugin.
    Plugin,
    /// This process.
    Gateway,
}

impl Reason {
    /// All reasons, in the order of declaration: metrics register their series from it.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.reason)
    }

    /// The status of the answer. 499 for a client that left: it never sees it, logs do. A plugin's reply brings its own status; 200
    /// stands here only because every reason has one.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().status).expect("every status of the table is between 100 and 999")
    }

    /// Stable name in logs and metrics; the same as in serialized form.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The body of the answer. Says what the client may do, and nothing of what is behind the gateway.
    pub const fn text(self) -> &'static str {
        self.row().text
    }

    /// The error type of the `Proxy-Status` header (RFC 9209 §2.3).
    pub const fn proxy_status(self) -> &'static str {
        self.row().proxy_status
    }

    /// Whose doing it is: a dimension of metrics, and what decides whether a failure counts against an endpoint.
    pub const fn blame(self) -> Blame {
        self.row().blame
    }

    /// Whether no byte of the request can have reached an application, so that another endpoint may be tried whatever the method.
    pub const fn request_not_sent(self) -> bool {
        matches!(self, Self::ConnectFailed | Self::ConnectTimeout | Self::UpstreamTls)
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// What each reason means to whom, in the order of declaration.
#[rustfmt::skip]
const TABLE: [Row; 27] = {
    use Blame::{Client, Configuration, Gateway, Plugin, Upstream};
    use Reason as R;
    [
        row(R::NoRoute, 404, "no_route", "destination_not_found", Client,
            "Nothing is served at this address."),
        row(R::NoBackend, 500, "no_backend", "proxy_configuration_error", Configuration,
            "This address has no service behind it yet."),
        row(R::InvalidBackend, 500, "invalid_backend", "proxy_configuration_error", Configuration,
            "This address is not set up correctly."),
        row(R::InvalidFilter, 500, "invalid_filter", "proxy_configuration_error", Configuration,
            "This address is not set up correctly."),
        row(R::NoEndpoint, 503, "no_endpoint", "destination_unavailable", Upstream,
            "The service is not available now. Please try again soon."),
        row(R::ConnectFailed, 502, "connect_failed", "connection_refused", Upstream,
            "The service could not be reached. Please try again soon."),
        row(R::ConnectTimeout, 504, "connect_timeout", "connection_timeout", Upstream,
            "The service could not be reached in time. Please try again soon."),
        row(R::UpstreamTls, 502, "upstream_tls", "tls_protocol_error", Upstream,
            "The service could not be reached securely."),
        row(R::UpstreamReset, 502, "upstream_reset", "connection_terminated", Upstream,
            "The service ended the connection before it answered."),
        row(R::UpstreamProtocol, 502, "upstream_protocol", "http_protocol_error", Upstream,
            "The service gave an answer that cannot be understood."),
        row(R::UpstreamTimeout, 504, "upstream_timeout", "http_response_timeout", Upstream,
            "The service did not answer in time. Please try again soon."),
        row(R::RequestTimeout, 408, "request_timeout", "http_request_error", Client,
            "The request did not arrive in time. Please send it again."),
        row(R::ClientClosed, 499, "client_closed", "http_request_error", Client,
            "The client closed the connection."),
        row(R::BadRequest, 400, "bad_request", "http_request_error", Client,
            "The request is malformed."),
        row(R::UriTooLong, 414, "uri_too_long", "http_request_error", Client,
            "The address is too long."),
        row(R::HeadersTooLarge, 431, "headers_too_large", "http_request_error", Client,
            "The request has too many or too large headers."),
        row(R::BodyTooLarge, 413, "body_too_large", "http_request_error", Client,
            "The request is too large."),
        row(R::ExpectationFailed, 417, "expectation_failed", "http_request_error", Client,
            "The request expects something that is not supported."),
        row(R::PluginFault, 503, "plugin_fault", "proxy_internal_error", Plugin,
            "The request could not be checked. Please try again soon."),
        row(R::PluginUnavailable, 503, "plugin_unavailable", "proxy_internal_error", Plugin,
            "The request cannot be checked now. Please try again soon."),
        row(R::PluginReply, 200, "plugin_reply", "proxy_internal_response", Plugin,
            ""),
        row(R::PluginAbort, 502, "plugin_abort", "proxy_internal_response", Plugin,
            "This request was broken off."),
        row(R::ResponseTooLarge, 502, "response_too_large", "http_response_body_size", Upstream,
            "The service gave an answer that is too large."),
        row(R::Overloaded, 503, "overloaded", "connection_limit_reached", Gateway,
            "There is too much to do now. Please try again soon."),
        row(R::Draining, 503, "draining", "proxy_internal_response", Gateway,
            "This gateway is shutting down. Please try again."),
        row(R::Misdirected, 421, "misdirected", "http_request_denied", Client,
            "This connection is not for that host. Please open another one."),
        row(R::Internal, 500, "internal", "proxy_internal_error", Gateway,
            "The gateway made a mistake. Please try again."),
    ]
};

/// One row of the table.
struct Row {
    reason: Reason,
    status: u16,
    code: &'static str,
    proxy_status: &'static str,
    blame: Blame,
    text: &'static str,
}

const fn row(
    reason: Reason,
    status: u16,
    code: &'static str,
    proxy_status: &'static str,
    blame: Blame,
    text: &'static str,
) -> Row {
    Row { reason, status, code, proxy_status, blame, text }
}

const _: () = {
    assert!(Reason::Internal as usize + 1 == TABLE.len(), "a reason is missing in the table");
    let mut at = 0;
    while at < TABLE.len() {
        assert!(TABLE[at].reason as usize == at, "the table is not in the order of declaration");
        at += 1;
    }
};

/// The code.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9209 §2.3.
    const PROXY_ERROR_TYPES: &[&str] = &[
        "connection_limit_reached",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "destination_not_found",
        "destination_unavailable",
        "http_protocol_error",
        "http_request_denied",
        "http_request_error",
        "http_response_body_size",
        "http_response_timeout",
        "proxy_configuration_error",
        "proxy_internal_error",
        "proxy_internal_response",
        "tls_protocol_error",
    ];

    #[test]
    fn code_is_the_serialized_name() {
        for reason in Reason::all() {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
            assert_eq!(reason.to_string(), reason.code());
        }
    }

    #[test]
    fn rows() {
        for reason in Reason::all() {
            assert!(PROXY_ERROR_TYPES.contains(&reason.proxy_status()), "{reason}");
            assert!(reason.text().is_empty() == (reason == Reason::PluginReply), "{reason}");
            let expected = match reason.blame() {
                Blame::Client => 400..500,
                Blame::Configuration | Blame::Upstream | Blame::Gateway => 500..600,
                Blame::Plugin => 200..600,
            };
            assert!(expected.contains(&reason.status().as_u16()), "{reason}");
        }
    }
}
