//! Reading lists of hops. Bad input is an unknown hop, never an error: the headers come from the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderValue, header::GetAll};
use smallvec::SmallVec;

/// The hops of `X-Forwarded-For`, nearest first. Empty list elements do not count (RFC 9110 §5.6.1).
pub(super) fn x_forwarded_for(values: GetAll<'_, HeaderValue>) -> impl Iterator<Item = Option<SocketAddr>> {
    let entries = values.into_iter().rev().flat_map(|value| text(value).rsplit(','));
    entries.map(str::trim_ascii).filter(|entry| !entry.is_empty()).map(node)
}

/// The hops of `Forwarded`, nearest first.
pub(super) fn forwarded(values: GetAll<'_, HeaderValue>) -> impl Iterator<Item = Option<SocketAddr>> {
    // Quoted strings can only be told from the left: a trusted proxy may quote a host that a stranger chose, commas and all.
    let elements = |value| Unquoted { rest: Some(text(value)), separator: b',' }.collect::<SmallVec<[&str; 8]>>();
    let entries = values.into_iter().rev().flat_map(move |value| elements(value).into_iter().rev());
    entries.map(str::trim_ascii).filter(|entry| !entry.is_empty()).map(forwarded_for)
}

/// A value that is not ASCII becomes one entry that is not an address.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("unknown")
}

/// The `for` parameter of one element.
fn forwarded_for(element: &str) -> Option<SocketAddr> {
    let mut pairs = Unquoted { rest: Some(element), separator: b';' }.filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim_ascii().eq_ignore_ascii_case("for"))?;
    let value = value.trim_ascii();
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`; an obfuscated port (`_x`) counts as unknown.
fn node(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address.to_canonical(), 0));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = if port.is_empty() { 0 } else { node_port(port.strip_prefix(':')?)? };
        return Some(SocketAddr::new(address.to_canonical(), port));
    }
    let (address, port) = text.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    Some(SocketAddr::new(address.into(), node_port(port)?))
}

fn node_port(text: &str) -> Option<u16> {
    match text.strip_prefix('_') {
        Some(_) => Some(0),
        None => text.parse().ok(),
    }
}

/// The parts of a text between separators that do not stand in a quoted string.
struct Unquoted<'a> {
    rest: Option<&'a str>,
    separator: u8,
}

impl<'a> Iterator for Unquoted<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            if escaped {
                escaped = false;
            } else if byte == b'"' {
                quoted = !quoted;
            } else if byte == b'\\' && quoted {
                escaped = true;
            }
            byte == self.separator && !quoted
        });
        match end {
            Some(end) => {
                self.rest = Some(&text[end + 1..]);
                Some(&text[..end])
            }
            None => self.rest.take(),
        }
    }
}
