//! Where connections arrive: sockets, and the Gateway listeners that share them.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{
    ResourceRef,
    hostname::{HostPattern, HostRank},
    matching::RouteTable,
    reason::Reason,
};

/// One address and port to accept on. Several listeners of one or more Gateways may share it, told apart by hostname.
#[derive(Debug, Clone, Serialize)]
pub struct Socket {
    /// Unspecified addresses (`0.0.0.0`, `[::]`) accept on all.
    pub address: SocketAddr,
    /// The port that clients see, if something in front of the socket has another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed: Option<u16>,
    /// What is spoken on it; all its listeners agree.
    pub protocol: SocketProtocol,
    /// Most specific hostname first; the first that covers the host takes the request.
    pub listeners: Vec<Arc<Listener>>,
}

impl Socket {
    /// A socket with its listeners put in order. Where two declare the same hostname, the first one given takes the requests.
    pub fn new(address: SocketAddr, protocol: SocketProtocol, mut listeners: Vec<Arc<Listener>>) -> Self {
        sort_listeners(&mut listeners);
        Self { address, exposed: None, protocol, listeners }
    }

    /// The listener that takes a request for `host` (lower case, without port; empty if the request has none), on a connection whose
    /// TLS client named `sni`.
    ///
    /// Listeners are isolated: the most specific hostname decides, and only the routes of that listener count, even if none matches.
    ///
    /// # Errors
    /// `NoRoute` if no listener covers the host. `Misdirected` (421) if the connection was made to another listener: what that one
    /// demands of a client (a certificate, say) must not be escaped by asking for one host and sending requests to another. A
    /// connection without `sni` was made to no listener in particular, and two listeners with the same routes are one but for their
    /// certificates (those of Ingress).
    pub fn listener_for(&self, host: &str, sni: Option<&str>) -> Result<&Arc<Listener>, Reason> {
        let by_host = self.most_specific(host);
        let by_sni = match sni {
            Some(name) if name != host => self.most_specific(name),
            _ => by_host,
        };
        match (by_host, by_sni) {
            (Some(listener), Some(connected)) if Arc::ptr_eq(&listener.routes, &connected.routes) => Ok(listener),
            (None, None) => Err(Reason::NoRoute),
            _ => Err(Reason::Misdirected),
        }
    }

    /// The listener with the most specific hostname that covers `host`: also how a certificate is found by SNI.
    pub fn most_specific(&self, host: &str) -> Option<&Arc<Listener>> {
        debug_assert!(self.listeners.is_sorted_by_key(|listener| listener.hostname.as_rank()), "use `Socket::new`");
        if let [only] = self.listeners.as_slice() {
            return only.hostname.covers(host).then_some(only);
        }
        HostRank::covering(host).find_map(|rank| {
            let at = self.listeners.partition_point(|listener| listener.hostname.as_rank() < rank);
            self.listeners.get(at).filter(|listener| listener.hostname.as_rank() == rank)
        })
    }
}

/// Most specific hostname first; the order of equal ones stays.
pub fn sort_listeners(listeners: &mut [Arc<Listener>]) {
    listeners.sort_by(|a, b| a.hostname.by_specificity(&b.hostname));
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum SocketProtocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, in clear.
    Http,
    /// TLS terminated here; HTTP/1.1 or HTTP/2 by ALPN.
    Https,
}

/// Identity of a listener within the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId {
    /// The Gateway (or ListenerSet) that declares it.
    pub parent: ResourceRef,
    /// Its `name` there.
    pub name: Arc<str>,
}

/// `Gateway/namespace/name#listener`.
impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.parent, self.name)
    }
}

impl Serialize for ListenerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One listener that takes traffic.
#[derive(Debug, Clone, Serialize)]
pub struct Listener {
    /// Who declares it.
    pub id: ListenerId,
    /// The hosts it takes.
    pub hostname: HostPattern,
    /// Certificates, in the order of `certificateRefs`; empty in clear. The first one is the default for this listener.
    pub certificates: Vec<Arc<Certificate>>,
    /// Its routes.
    pub routes: Arc<RouteTable>,
}

/// A certificate chain with its key, as bytes. The proxy turns it into a signing key once per value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// The Secret it came from.
    pub secret: ResourceRef,
    /// DER, leaf first. Never empty.
    pub chain: Vec<Vec<u8>>,
    /// DER of the private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PrivateKey,
}

/// DER of a private key and its encoding.
#[derive(Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the encodings")]
pub enum PrivateKey {
    Pkcs8(Vec<u8>),
    Pkcs1(Vec<u8>),
    Sec1(Vec<u8>),
}

/// Never prints key material.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, chain of {}, key redacted)", self.secret, self.chain.len())
    }
}

/// The name of its Secret and the length of the chain: `/config` shows no secrets.
impl Serialize for Certificate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} (chain of {})", self.secret, self.chain.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn socket(hostnames: &[&str]) -> Socket {
        let listener = |hostname: &&str| {
            Arc::new(Listener {
                id: ListenerId { parent: ResourceRef::new(Kind::Gateway, "default", "gw"), name: (*hostname).into() },
                hostname: HostPattern::parse(hostname).unwrap(),
                certificates: Vec::new(),
                routes: Arc::default(),
            })
        };
        Socket::new(([127, 0, 0, 1], 80).into(), SocketProtocol::Https, hostnames.iter().map(listener).collect())
    }

    #[track_caller]
    fn check(hostnames: &[&str], host: &str, sni: Option<&str>, expected: Result<&str, Reason>) {
        let socket = socket(hostnames);
        let found = socket.listener_for(host, sni).map(|listener| &*listener.id.name);
        assert_eq!(found, expected, "{hostnames:?}, host {host:?}, SNI {sni:?}");
    }

    #[test]
    fn isolation() {
        // The table of the conformance test for GatewayHTTPListenerIsolation.
        let all = ["", "*.example.com", "*.foo.example.com", "abc.foo.example.com"];
        check(&all, "bar.com", None, Ok(""));
        check(&all, "", None, Ok(""));
        check(&all, "bar.example.com", None, Ok("*.example.com"));
        check(&all, "bar.foo.example.com", None, Ok("*.foo.example.com"));
        check(&all, "abc.foo.example.com", None, Ok("abc.foo.example.com"));
        check(&all, "foo.example.com", None, Ok("*.example.com"));
        check(&all, "example.com", None, Ok(""));
        check(&["*.example.com"], "example.com", None, Err(Reason::NoRoute));
        check(&[], "example.com", None, Err(Reason::NoRoute));
    }

    #[test]
    fn misdirected() {
        let all = ["", "*.wildcard.org", "example.org", "second-example.org"];
        check(&all, "example.org", Some("example.org"), Ok("example.org"));
        check(&all, "second-example.org", Some("example.org"), Err(Reason::Misdirected));
        check(&all, "unknown-example.org", Some("example.org"), Err(Reason::Misdirected));
        check(&all, "b.wildcard.org", Some("a.wildcard.org"), Ok("*.wildcard.org"));
        check(&all, "unknown-example.org", Some("other.org"), Ok(""));
        check(&all, "example.org", None, Ok("example.org"));
        check(&["example.org"], "unknown-example.org", Some("example.org"), Err(Reason::Misdirected));
        check(&["example.org"], "example.org", Some("unknown-example.org"), Err(Reason::Misdirected));
        check(&["example.org"], "unknown-example.org", Some("unknown-example.org"), Err(Reason::NoRoute));
    }

    #[test]
    fn listeners_with_the_same_routes_are_one() {
        let mut socket = socket(&["a.org", "*.b.org", "c.org"]);
        let shared = Arc::<RouteTable>::default();
        for listener in &mut socket.listeners[..2] {
            Arc::get_mut(listener).unwrap().routes = shared.clone();
        }
        let names: Vec<_> = socket.listeners.iter().map(|listener| listener.id.name.to_string()).collect();
        assert_eq!(names, ["a.org", "c.org", "*.b.org"]);
        let found = |host, sni| socket.listener_for(host, Some(sni)).map(|listener| &*listener.id.name);
        assert_eq!(found("a.org", "c.org"), Ok("a.org"));
        assert_eq!(found("x.b.org", "a.org"), Err(Reason::Misdirected));
        assert_eq!(found("d.org", "a.org"), Err(Reason::Misdirected), "no listener has the host");
    }

    #[test]
    fn the_first_of_equal_hostnames_takes_the_request() {
        let mut socket = socket(&["a.com", "a.com", "a.com"]);
        for (at, listener) in socket.listeners.iter_mut().enumerate() {
            Arc::get_mut(listener).unwrap().id.name = at.to_string().into();
        }
        assert_eq!(&*socket.listener_for("a.com", None).unwrap().id.name, "0");
    }
}
