//! HTTP that plugins may ask for: what a resource grants, what that leads to, and who sends it.
//!
//! ```text
//! WasmPlugin ──► OutboundGrant (a value of the revision) ──translate──► OutboundBackend (with endpoints, in the snapshot)
//!                                                                              │
//! plugin ──outbound-http.send──► plugin host ── OutboundRequest ──► OutboundClient (the proxy's own pools, on the same worker)
//! ```
//!
//! Grants belong to the revision, so that the last good one keeps what it was granted while a newer one is refused. What they lead to belongs
//! to the snapshot, so that endpoints, TLS and permissions are always those of now.

use std::{
    hash::{Hash, Hasher},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};

use crate::{
    backend::{Backend, BackendKey},
    route::{Failure, Target},
};

/// A backend that a plugin may call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutboundGrant {
    /// By which the plugin asks for it.
    pub name: Arc<str>,
    /// What it leads to.
    pub backend: OutboundReference,
    /// How long one call may take. A call may ask for less.
    pub timeout: Duration,
    /// Bytes of an answer's body.
    pub max_response: u64,
}

/// The reference of a grant, as the resource has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutboundReference {
    /// Group of the kind; empty for the core group.
    pub group: Arc<str>,
    /// `Service`, for example.
    pub kind: Arc<str>,
    /// That of the WasmPlugin if the resource names none.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// Port of a Service.
    pub port: Option<i32>,
}

impl OutboundReference {
    /// A port of a Service.
    #[must_use]
    pub fn service(namespace: &str, name: &str, port: i32) -> Self {
        let (group, kind) = ("".into(), "Service".into());
        Self { group, kind, namespace: namespace.into(), name: name.into(), port: Some(port) }
    }
}

impl OutboundGrant {
    /// `timeout` where the resource names none: an exchange waits for it, and a helper that needs a second is not well.
    pub const USUAL_TIMEOUT: Duration = Duration::from_secs(1);
    /// The longest `timeout`.
    pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
    /// `max_response` where the resource names none: decisions, keys and small documents fit.
    pub const USUAL_RESPONSE: u64 = 64 << 10;
    /// The largest `max_response`. Answers are held in the gateway's memory, and again in the plugin's.
    pub const LARGEST_RESPONSE: u64 = 16 << 20;
}

/// A grant with what it leads to now.
#[derive(Debug, Clone, Serialize)]
pub struct OutboundBackend {
    /// By which the plugin asks for it.
    pub name: Arc<str>,
    /// A reference that does not resolve, or is no longer permitted, fails each call.
    pub target: Target,
    /// How long one call may take.
    #[serde(skip)]
    pub timeout: Duration,
    /// Bytes of an answer's body.
    #[serde(skip)]
    pub max_response: u64,
}

/// For values that show grants only where there are any.
pub(super) fn is_none(backends: &Arc<[OutboundBackend]>) -> bool {
    backends.is_empty()
}

/// What makes two of them the same; of a backend the key does, for there is one cell for each.
impl OutboundBackend {
    fn value(&self) -> (&str, Result<&BackendKey, &Failure>, Duration, u64) {
        let target = match &self.target {
            Target::Backend(backend) => Ok(&backend.key),
            Target::Fail(failure) => Err(failure),
        };
        (&self.name, target, self.timeout, self.max_response)
    }
}

impl PartialEq for OutboundBackend {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for OutboundBackend {}

impl Hash for OutboundBackend {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

/// A request of a plugin, judged and ready to be sent.
#[derive(Debug)]
pub struct OutboundRequest {
    /// Whose endpoints take it.
    pub backend: Arc<Backend>,
    /// With the path alone as its target, and a `host`.
    pub request: Request<Bytes>,
    /// From now to the last byte of the answer.
    pub timeout: Duration,
    /// Bytes of the answer's body.
    pub max_response: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundFailure {
    /// Not within the time.
    #[error("no answer in time")]
    Timeout,
    /// No connection to an endpoint.
    #[error("no connection: {0}")]
    Connect(String),
    /// The body is larger than allowed, in bytes.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    /// What came is no HTTP response, or was cut off.
    #[error("no proper answer: {0}")]
    Protocol(String),
}

/// An answer that is waited for. Dropping it gives the call up.
pub type Outbound = Pin<Box<dyn Future<Output = Result<Response<Bytes>, OutboundFailure>> + Send>>;

/// Sends requests of plugins from one worker thread. What it answers is `Send` because the plugin host's stores must be; nothing leaves the
/// thread.
pub trait OutboundClient: Send + Sync {
    /// Send a request. Nothing happens before the answer is polled for the first time, or after it was dropped.
    fn send(&self, request: OutboundRequest) -> Outbound;
}
