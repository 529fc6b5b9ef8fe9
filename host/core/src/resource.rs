//! Names of resources, as every crate passes them around.

use std::{cmp::Ordering, fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// The kinds that Penstock reads. Printed exactly as Kubernetes spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[expect(missing_docs, reason = "the names are those of the Kubernetes kinds")]
pub enum Kind {
    GatewayClass,
    Gateway,
    ListenerSet,
    HTTPRoute,
    GRPCRoute,
    TLSRoute,
    TCPRoute,
    UDPRoute,
    BackendTLSPolicy,
    ReferenceGrant,
    XBackend,
    WasmPlugin,
    IngressClass,
    Ingress,
    Service,
    EndpointSlice,
    Secret,
    ConfigMap,
    ControllerRevision,
    Namespace,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One resource. Cheap to clone; ordered by kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceRef {
    /// The kind.
    pub kind: Kind,
    /// Empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The name within its namespace.
    pub name: Arc<str>,
}

impl ResourceRef {
    /// A reference to `namespace/name`; an empty namespace means cluster scope.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// `namespace/name`, where the kind is plain: the form of a plugin's name in logs, metrics and on disk.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Alphabetical by `namespace/name` as one text, which is how Gateway API settles what age does not: `a-b/x` comes before `a/x`. Then by
    /// kind.
    pub fn by_full_name(&self, other: &Self) -> Ordering {
        fn text(id: &ResourceRef) -> impl Iterator<Item = u8> {
            id.namespace.bytes().chain([b'/']).chain(id.name.bytes())
        }
        text(self).cmp(text(other)).then_with(|| self.kind.cmp(&other.kind))
    }
}

/// `Kind/namespace/name`, or `Kind/name` for cluster-scoped kinds: the form of logs, metrics and the admin API.
impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{}/{}", self.kind, self.name),
            namespace => write!(f, "{}/{namespace}/{}", self.kind, self.name),
        }
    }
}

impl Serialize for ResourceRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
