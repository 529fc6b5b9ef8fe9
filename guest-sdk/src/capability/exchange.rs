//! The exchange at hand, beyond what the plan declares. Always granted; only inside a hook.

use crate::imports::exchange_info;

pub use crate::bindings::imports::exchange_info::{ClientInfo, TlsInfo};

/// The client's side of the connection.
#[must_use]
pub fn client() -> ClientInfo {
    exchange_info::client()
}

/// `HTTPRoute/namespace/name`, and the name or index of the rule.
#[must_use]
pub fn route() -> (String, String) {
    exchange_info::route()
}

/// All headers of the request, without pseudo-headers. Copies them: declare what you need instead, if you can. Empty after the request hooks.
#[must_use]
pub fn request_headers() -> Vec<(String, Vec<u8>)> {
    exchange_info::request_headers().into_iter().map(|header| (header.name, header.value)).collect()
}

/// All headers of the response. Empty in request hooks.
#[must_use]
pub fn response_headers() -> Vec<(String, Vec<u8>)> {
    exchange_info::response_headers().into_iter().map(|header| (header.name, header.value)).collect()
}
