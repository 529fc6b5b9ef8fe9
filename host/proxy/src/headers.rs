//! Headers that concern one hop only, and what the next hop is told.

use http::{HeaderMap, HeaderName, HeaderValue, header, request};
use penstock_core::{
    client_address::{ForwardingHeader, Hop},
    filter::Scheme,
};
use smallvec::SmallVec;

use crate::connection::Connection;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Remove what concerns this hop alone (RFC 9110 §7.6.1): `Connection` and what it names, and what is known to be such.
///
/// `TE: trailers` stays: gRPC asks for trailers with it, and trailers are passed on.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip_connection(headers);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    headers.remove(header::PROXY_AUTHORIZATION);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    if let Some(te) = headers.get(header::TE)
        && te.as_bytes() != b"trailers"
    {
        if accepts_trailers(headers) {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
}

/// The same for responses.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    strip_connection(headers);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
}

/// gRPC asks for trailers with `TE: trailers`, and servers insist on it. Who made gRPC of something else on the way, a plugin, cannot say so: the
/// header belongs to the connection.
pub(crate) fn ask_trailers(headers: &mut HeaderMap) {
    let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if headers.get(header::CONTENT_TYPE).is_some_and(is_grpc) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

fn strip_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let names: SmallVec<[HeaderName; 4]> = headers.get_all(header::CONNECTION).iter().flat_map(named).collect();
    headers.remove(header::CONNECTION);
    for name in names {
        headers.remove(name);
    }
}

/// Header names in a `Connection` value. Some may not be removed by naming them there: a client could strip what this gateway relies on.
fn named(value: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    let options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    options.filter_map(|option| match option {
        b"" => None,
        option if option.eq_ignore_ascii_case(b"close") => None,
        option if option.eq_ignore_ascii_case(b"te") => None,
        option => HeaderName::from_bytes(option).ok().filter(may_be_named),
    })
}

fn may_be_named(name: &HeaderName) -> bool {
    *name != header::HOST
        && *name != header::CONTENT_LENGTH
        && *name != header::FORWARDED
        && *name != X_REQUEST_ID
        && !name.as_str().starts_with("x-forwarded-")
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::TE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.map(<[u8]>::trim_ascii).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// The protocol that a request asks to upgrade to (RFC 9110 §7.8). `h2c` is not one that is granted: it would end this gateway's view of
/// the requests.
pub(crate) fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    let asks = headers.get_all(header::CONNECTION).iter().any(|value| {
        let mut options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        options.any(|option| option.eq_ignore_ascii_case(b"upgrade"))
    });
    let is_h2c = protocol.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c");
    (asks && !is_h2c).then(|| protocol.clone())
}

/// Restore what an upgrade needs on the next hop.
pub(crate) fn ask_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Tell the endpoint about the client (`X-Forwarded-*`, `Forwarded`).
pub(crate) fn forward(connection: &Connection, head: &mut request::Parts) {
    let proxies = &connection.worker.settings.forwarding.trusted_proxies;
    let headers = &mut head.headers;
    if proxies.trusts(connection.peer.ip()) || proxies.header == ForwardingHeader::Forwarded {
        let authority = headers.get(header::HOST).cloned();
        let hop = Hop {
            peer: connection.peer,
            scheme: connection.scheme(),
            authority: authority.as_ref().and_then(|host| host.to_str().ok()),
            port: connection.socket.port(),
        };
        return proxies.write(&hop, headers);
    }
    // A stranger: what it says is replaced by what is known, and that is the same for all its requests.
    headers.insert(X_FORWARDED_FOR, connection.peer_header.clone());
    headers.insert(X_FORWARDED_PROTO, scheme(connection.scheme()));
    headers.insert(X_FORWARDED_PORT, connection.port_header.clone());
    match headers.get(header::HOST).cloned() {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
    headers.remove(header::FORWARDED);
}

fn scheme(scheme: Scheme) -> HeaderValue {
    match scheme {
        Scheme::Http => HeaderValue::from_static("http"),
        Scheme::Https => HeaderValue::from_static("https"),
    }
}

/// Longest `X-Request-Id` of a trusted proxy that is kept.
const LONGEST_ID: usize = 128;

/// Give the exchange an id: a trusted proxy's if it is sensible, else a new one.
pub(crate) fn identify(connection: &Connection, headers: &mut HeaderMap) {
    if let Some(id) = headers.get(X_REQUEST_ID)
        && connection.worker.settings.forwarding.trusted_proxies.trusts(connection.peer.ip())
        && (1..=LONGEST_ID).contains(&id.len())
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
    {
        return;
    }
    headers.insert(X_REQUEST_ID, connection.worker.ids.next());
}

/// The id that was given.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(X_REQUEST_ID).cloned()
}
