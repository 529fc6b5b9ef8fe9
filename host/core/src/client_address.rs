//! The client's address behind trusted hops, and what the next hop is told about it.
//!
//! Anyone may send `X-Forwarded-For`. What it says counts only as far as trusted proxies wrote it: each one appends the address that it
//! saw, so the list is read from its right end, and what stands to the left of the first address that is not a trusted proxy's was
//! written by strangers. The headers that are sent on are ours alone unless the peer is trusted.

mod network;
mod parse;

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    num::NonZeroU8,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;

pub use network::{InvalidNetwork, Network};

use crate::{filter::Scheme, hostname};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Which proxies in front of this one are believed, and in which header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct TrustedProxies {
    /// Who is believed.
    pub trusted: Trusted,
    /// Where addresses are read from.
    ///
    /// Only one of the two: a proxy that maintains one header passes the other on as the client wrote it.
    pub header: ForwardingHeader,
}

/// Who is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Trusted {
    /// Nobody: the peer is the client.
    #[default]
    Nobody,
    /// This many proxies stand in front, whatever their addresses.
    Hops(NonZeroU8),
    /// Proxies with these addresses.
    Networks(Vec<Network>),
}

/// The header that trusted proxies maintain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What this proxy itself knows about a request.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub scheme: Scheme,
    /// `Host` or `:authority` as received, with its port.
    pub authority: Option<&'a str>,
    /// The port of the listener.
    pub port: u16,
}

impl TrustedProxies {
    /// Whether what the peer says about earlier hops is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        match &self.trusted {
            Trusted::Nobody => false,
            Trusted::Hops(_) => true,
            Trusted::Networks(networks) => networks.iter().any(|network| network.contains(peer)),
        }
    }

    /// The address of the client. Its port is 0 where a trusted proxy did not tell it.
    ///
    /// With `Hops(n)`, the n-th address from the right; the peer if there are fewer, because then the request did not come the usual
    /// way. With `Networks`, the first address from the right that is not in them; the leftmost if all are. Where an entry hides its
    /// address (`unknown`, `_hidden`) or is no address, the nearest hop that is known stands for the client.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !self.trusts(peer.ip()) {
            return peer;
        }
        match self.header {
            ForwardingHeader::XForwardedFor => {
                self.client_among(peer, parse::x_forwarded_for(headers.get_all(X_FORWARDED_FOR)))
            }
            ForwardingHeader::Forwarded => {
                self.client_among(peer, parse::forwarded(headers.get_all(header::FORWARDED)))
            }
        }
    }

    /// `hops`: from the nearest to the farthest, `None` where the address is not known.
    fn client_among(&self, peer: SocketAddr, mut hops: impl Iterator<Item = Option<SocketAddr>>) -> SocketAddr {
        let mut nearest = peer;
        match &self.trusted {
            Trusted::Nobody => {}
            Trusted::Hops(count) => {
                for _ in 0..count.get() {
                    let Some(hop) = hops.next() else { return peer };
                    nearest = hop.unwrap_or(nearest);
                }
            }
            Trusted::Networks(_) => {
                while let Some(Some(hop)) = hops.next() {
                    nearest = hop;
                    if !self.trusts(hop.ip()) {
                        break;
                    }
                }
            }
        }
        nearest
    }

    /// The scheme that the client used: what a trusted proxy says, else the connection's own.
    pub fn scheme(&self, hop: &Hop<'_>, headers: &HeaderMap) -> Scheme {
        let told = self.told(hop, headers, &X_FORWARDED_PROTO).map(HeaderValue::as_bytes);
        match told {
            Some(proto) if proto.eq_ignore_ascii_case(b"http") => Scheme::Http,
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => Scheme::Https,
            _ => hop.scheme,
        }
    }

    /// Write what the next hop is told: `X-Forwarded-For`, `-Proto`, `-Host` and `-Port` always, `Forwarded` where trusted proxies
    /// maintain it. Lists of a trusted peer are continued and its other values kept; a stranger's are replaced.
    pub fn write(&self, hop: &Hop<'_>, headers: &mut HeaderMap) {
        let scheme = self.scheme(hop, headers);
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
        headers.insert(X_FORWARDED_FOR, self.x_forwarded_for(hop, headers));
        headers.insert(X_FORWARDED_PORT, self.x_forwarded_port(hop, headers));
        match self.x_forwarded_host(hop, headers) {
            Some(host) => headers.insert(X_FORWARDED_HOST, host),
            None => headers.remove(X_FORWARDED_HOST),
        };
        if self.header == ForwardingHeader::Forwarded || headers.contains_key(header::FORWARDED) {
            self.write_forwarded(hop, headers);
        }
    }

    fn write_forwarded(&self, hop: &Hop<'_>, headers: &mut HeaderMap) {
        if self.header == ForwardingHeader::Forwarded || self.trusts(hop.peer.ip()) {
            headers.insert(header::FORWARDED, self.forwarded(hop, headers));
        } else {
            headers.remove(header::FORWARDED);
        }
    }

    /// `X-Forwarded-For`: the list so far, if it is believed, and the peer.
    pub fn x_forwarded_for(&self, hop: &Hop<'_>, headers: &HeaderMap) -> HeaderValue {
        let mut list = self.believed_list(hop, headers, &X_FORWARDED_FOR);
        write!(list, "{}", hop.peer.ip().to_canonical()).expect("memory accepts what is written");
        finish(list)
    }

    /// `X-Forwarded-Host`: what a trusted peer says, else the authority of the request.
    pub fn x_forwarded_host(&self, hop: &Hop<'_>, headers: &HeaderMap) -> Option<HeaderValue> {
        let told = self.told(hop, headers, &X_FORWARDED_HOST);
        let told = told.filter(|host| host.to_str().is_ok_and(|host| hostname::split_authority(host).is_ok()));
        told.cloned().or_else(|| HeaderValue::from_str(hop.authority?).ok())
    }

    /// `X-Forwarded-Port`: what a trusted peer says, else the listener's port.
    pub fn x_forwarded_port(&self, hop: &Hop<'_>, headers: &HeaderMap) -> HeaderValue {
        let told = self.told(hop, headers, &X_FORWARDED_PORT);
        let told = told.filter(|port| port.to_str().is_ok_and(|port| port.parse::<u16>().is_ok()));
        told.cloned().unwrap_or_else(|| HeaderValue::from(hop.port))
    }

    /// `Forwarded`: the list so far, if it is believed, and an element about the peer.
    pub fn forwarded(&self, hop: &Hop<'_>, headers: &HeaderMap) -> HeaderValue {
        let mut list = self.believed_list(hop, headers, &header::FORWARDED);
        let written = match hop.peer.ip().to_canonical() {
            IpAddr::V4(address) => write!(list, "for={address}"),
            IpAddr::V6(address) => write!(list, "for=\"[{address}]\""),
        };
        written.expect("memory accepts what is written");
        if let Some(authority) = hop.authority.filter(|text| hostname::split_authority(text).is_ok()) {
            // Quoted always: a port or brackets would not be a token, and a quoted string never hurts.
            write!(list, ";host=\"{authority}\"").expect("memory accepts what is written");
        }
        write!(list, ";proto={}", hop.scheme.as_str()).expect("memory accepts what is written");
        finish(list)
    }

    /// The value of a header that a trusted peer sent once.
    fn told<'a>(&self, hop: &Hop<'_>, headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
        let first = headers.get(name)?;
        let single = headers.get_all(name).iter().nth(1).is_none();
        (single && self.trusts(hop.peer.ip())).then_some(first)
    }

    /// All values of a list header, each followed by a comma, with room for one more entry. Empty if the peer is not believed.
    fn believed_list(&self, hop: &Hop<'_>, headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
        const ROOM: usize = 64;
        if !headers.contains_key(name) || !self.trusts(hop.peer.ip()) {
            return Vec::with_capacity(ROOM);
        }
        let values = || headers.get_all(name).iter().filter(|value| !value.is_empty());
        let mut list = Vec::with_capacity(ROOM + values().map(|value| value.len() + 2).sum::<usize>());
        for value in values() {
            list.extend_from_slice(value.as_bytes());
            list.extend_from_slice(b", ");
        }
        list
    }
}

fn finish(value: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(value))
        .expect("made of header values, addresses and hosts that were checked")
}

#[cfg(test)]
mod tests;
