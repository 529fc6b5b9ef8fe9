//! Buckets whose counts are in Redis, so that several gateways share them: what a resource grants, and what that leads to.
//!
//! ```text
//! WasmPlugin ──► RedisGrant (a value of the revision) ──translate──► RedisBucket (endpoints and login of now, in the snapshot)
//!                                                                         │
//! plugin ──rate-limit.take──► plugin host ── one round trip ──► Redis ◄───┘
//! ```
//!
//! The password belongs to the snapshot and not to the revision: a new one is no new revision, and no record of a revision holds it.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{OutboundReference, Redacted};
use crate::{
    backend::BackendKey,
    route::{Failure, Target},
};

/// Where the counts of a bucket are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RedisGrant {
    /// The server.
    pub backend: OutboundReference,
    /// Number of the database there.
    #[serde(default)]
    pub database: u16,
    /// Who logs in; the server's default user if there is only a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Arc<str>>,
    /// Where the password is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
    /// How long one decision may take.
    pub timeout: Duration,
    /// What a decision is without the server.
    #[serde(default)]
    pub when_unavailable: WhenUnavailable,
}

impl RedisGrant {
    /// `timeout` where the resource names none: a server that is near answers in less than a millisecond, and every exchange waits for it.
    pub const USUAL_TIMEOUT: Duration = Duration::from_millis(50);
    /// The longest `timeout`, and what connecting may take: whoever is slower is gone.
    pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(5);
}

/// A key of a Secret in the plugin's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: Arc<str>,
    /// Key in its data.
    pub key: Arc<str>,
}

/// What a decision is when the server cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WhenUnavailable {
    /// That of the gateway's own bucket: each one counts for itself, and nothing is unlimited.
    #[default]
    Local,
    /// None: the plugin is told `unavailable`, and decides what that means.
    Refuse,
}

/// How to log in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RedisLogin {
    /// Number of the database.
    pub database: u16,
    /// None: the server's default user.
    pub username: Option<Arc<str>>,
    /// None: without logging in.
    pub password: Option<Redacted>,
}

/// A bucket in Redis, with what its grant leads to now.
#[derive(Debug, Clone, Serialize)]
pub struct RedisBucket {
    /// Name of the bucket.
    pub bucket: Arc<str>,
    /// A reference that does not resolve, or is no longer permitted, is a server that cannot be asked.
    pub target: Target,
    /// How to log in.
    #[serde(skip)]
    pub login: RedisLogin,
}

/// For values that show buckets only where there are any.
pub(super) fn is_none(buckets: &Arc<[RedisBucket]>) -> bool {
    buckets.is_empty()
}

/// What makes two of them the same; of a backend the key does, for there is one cell for each.
impl RedisBucket {
    fn value(&self) -> (&str, Result<&BackendKey, &Failure>, &RedisLogin) {
        let target = match &self.target {
            Target::Backend(backend) => Ok(&backend.key),
            Target::Fail(failure) => Err(failure),
        };
        (&self.bucket, target, &self.login)
    }
}

impl PartialEq for RedisBucket {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for RedisBucket {}

impl Hash for RedisBucket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}
