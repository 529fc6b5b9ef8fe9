//! Where connections arrive: sockets, and the Gateway listeners that share them.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{ResourceRef, hostname::HostPattern, matching::RouteTable};

/// One address and port to accept on. Several listeners of one or more Gateways may share it, told apart by hostname.
#[derive(Debug, Clone, Serialize)]
pub struct Socket {
    /// Unspecified addresses (`0.0.0.0`, `[::]`) accept on all.
    pub address: SocketAddr,
    /// What is spoken on it; all its listeners agree.
    pub protocol: SocketProtocol,
    /// Most specific hostname first; the first that covers the host takes the request.
    pub listeners: Vec<Arc<Listener>>,
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
