//! Backends and their endpoints. Configuration changes slowly and endpoints fast, so each has its own cell.

use std::{fmt, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use serde::{Serialize, Serializer};

/// What a backend is, as a value: pools, balancers and breakers are keyed by it, so that deleting and re-creating the same thing finds
/// everything warm.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct BackendKey {
    /// `namespace/name` of the Service or XBackend.
    pub name: Arc<str>,
    /// The port of the reference.
    pub port: u16,
    /// What is spoken to its endpoints.
    pub protocol: BackendProtocol,
    /// TLS towards the endpoints, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<BackendTls>>,
}

/// `namespace/name:port`.
impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// What is spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum BackendProtocol {
    /// HTTP/1.1; with TLS, HTTP/2 too if the endpoint agrees by ALPN.
    Http1,
    /// HTTP/2: prior knowledge in clear (`kubernetes.io/h2c`), ALPN `h2` with TLS. Always so for GRPCRoute.
    Http2,
}

/// How to verify endpoints over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct BackendTls {
    /// SNI, and the name the certificate must carry unless `subject_alt_names` are given.
    pub server_name: Arc<str>,
    /// Whom to trust.
    pub trust: Trust,
    /// Names of which the certificate must carry one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// Whom to trust as issuer of an endpoint's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trust {
    /// The operating system's roots.
    System,
    /// These roots in DER.
    Roots(Vec<Vec<u8>>),
}

impl Serialize for Trust {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::System => serializer.serialize_str("System"),
            Self::Roots(roots) => serializer.collect_str(&format_args!("{} roots", roots.len())),
        }
    }
}

/// An accepted subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[expect(missing_docs, reason = "the names are those of RFC 5280")]
pub enum SubjectAltName {
    Dns(Arc<str>),
    Uri(Arc<str>),
}

/// A backend as rules refer to it: identity, and the cell of its endpoints.
#[derive(Debug, Clone, Serialize)]
pub struct Backend {
    /// Identity.
    pub key: BackendKey,
    /// Its endpoints at this moment.
    #[serde(serialize_with = "serialize_cell")]
    pub endpoints: Arc<EndpointCell>,
}

/// The current endpoints of one backend. Replaced whole; readers keep what they loaded.
pub type EndpointCell = ArcSwap<EndpointSet>;

/// Endpoints that may take new requests, sorted and without duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndpointSet {
    /// Where a host name has to be resolved first (XBackend with an external hostname), `SocketAddr`s are absent until then.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A name to resolve at connect time, with its port.
    Name(Arc<str>, u16),
}

fn serialize_cell<S: Serializer>(cell: &Arc<EndpointCell>, serializer: S) -> Result<S::Ok, S::Error> {
    cell.load().endpoints.serialize(serializer)
}
