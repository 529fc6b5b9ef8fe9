//! Plugins as the other crates see them: what should run, what does run, and the one seam through which the proxy calls them.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    ops::Not,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;

pub use self::rate_limit::{RateAlgorithm, RateLimit, RateWindow};
use crate::{ResourceRef, route::RuleId};

mod rate_limit;

/// A loaded revision (module + config + limits + capabilities). Equal ids mean the same revision, so two snapshots that name it find the
/// same warm instances. Whoever holds one keeps it loaded: a request in flight can finish with the revision it began with.
#[derive(Clone)]
pub struct Revision {
    id: u64,
    loaded: Arc<dyn Any + Send + Sync>,
}

impl Revision {
    /// `loaded` is whatever the plugin host needs to make instances; only it looks inside.
    pub fn new(id: u64, loaded: Arc<dyn Any + Send + Sync>) -> Self {
        Self { id, loaded }
    }

    /// Unique within the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The plugin host's own value.
    pub fn loaded(&self) -> &Arc<dyn Any + Send + Sync> {
        &self.loaded
    }
}

impl PartialEq for Revision {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Revision {}

impl Hash for Revision {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({})", self.id)
    }
}

/// One policy plugin in the chain of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct PolicyCall {
    /// The WasmPlugin.
    pub plugin: ResourceRef,
    /// The revision that serves.
    #[serde(skip)]
    pub revision: Revision,
    /// What a fault means for the exchange.
    pub failure_policy: FailurePolicy,
    /// Which hooks to call; the others cost nothing.
    pub hooks: Hooks,
}

/// Which hooks a revision asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Hooks {
    /// Request headers.
    pub request: bool,
    /// Response headers.
    pub response: bool,
    /// The plugin may read the request's headers lazily in its response hook: the proxy keeps a copy of the head.
    pub keeps_request: bool,
}

/// What an exchange gets when a plugin in its chain faults or cannot run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub enum FailurePolicy {
    /// 503.
    #[default]
    Closed,
    /// Continue without the plugin.
    Open,
}

/// What should run: the plugin host's whole input for one WasmPlugin.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginSpec {
    /// The WasmPlugin.
    pub plugin: ResourceRef,
    /// `metadata.generation`, or 0 where the source has none.
    pub generation: i64,
    /// Where the module comes from.
    pub source: ModuleSource,
    /// `spec.config` with secrets substituted. `Null` counts as `{}`.
    pub config: Arc<serde_json::Value>,
    /// Granted capabilities.
    pub capabilities: Capabilities,
    /// Limits.
    pub limits: PluginLimits,
}

/// Where a module comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModuleSource {
    /// A file on this machine. `stamp` changes when the file does (the file source watches it), so that a new content is a new spec.
    File {
        /// Absolute, or relative to the directory of the resource file; already resolved here.
        path: PathBuf,
        /// Opaque: content identity as the source saw it.
        stamp: Arc<str>,
    },
    /// The bytes themselves (ConfigMap `binaryData`).
    Inline(Bytes),
}

/// Interfaces granted to a plugin. `exchange-info` is always there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Capabilities {
    /// `log`.
    pub log: bool,
    /// `clock`.
    pub clock: bool,
    /// `random`.
    pub random: bool,
    /// `metrics`.
    #[serde(skip_serializing_if = "Not::not")]
    pub metrics: bool,
    /// `counters`.
    #[serde(skip_serializing_if = "Not::not")]
    pub counters: bool,
    /// `key-value`.
    #[serde(skip_serializing_if = "Not::not")]
    pub key_value: bool,
    /// The buckets of `rate-limit`, which is granted when there is one. Their names differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
}

/// Limits of one plugin. Every limit has a default and a reason; a plugin that exceeds one faults, its neighbours notice nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct PluginLimits {
    /// CPU time of one hook. A header hook needs microseconds; 2 ms is three orders above and still bounds a worker's stall.
    pub hook_time: Duration,
    /// CPU time of describe, configure and self-test.
    pub configure_time: Duration,
    /// Linear memory of one instance in bytes.
    pub memory: u64,
    /// Size of the module in bytes.
    pub module_size: u64,
    /// Log lines a second and instance.
    pub log_lines: u32,
    /// Label combinations of one metric of the plugin. Further ones are counted together: what clients can choose must not fill the memory.
    pub metric_series: u32,
    /// Bytes in the key-value store of the plugin, over all workers. The store lives in the gateway's memory, and is for small things.
    pub key_value_bytes: u64,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            hook_time: Duration::from_millis(2),
            configure_time: Duration::from_secs(2),
            memory: 16 << 20,
            module_size: 16 << 20,
            log_lines: 100,
            metric_series: 256,
            key_value_bytes: 4 << 20,
        }
    }
}

/// What does run, as the plugin host observed it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PluginState {
    /// The revision that serves, if any.
    pub active: Option<ActiveRevision>,
    /// The revision on its way or rejected; none once it became active.
    pub candidate: Option<Candidate>,
}

/// The revision that serves.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveRevision {
    /// For calls.
    pub revision: Revision,
    /// Generation of the resource it came from.
    pub generation: i64,
    /// `sha256:…` of the module.
    pub digest: Arc<str>,
    /// Name and version from the manifest.
    pub name: Arc<str>,
    /// Version from the manifest.
    pub version: Arc<str>,
    /// What its plan asked for.
    pub hooks: Hooks,
}

/// A revision that does not serve (yet).
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Generation of the resource it came from.
    pub generation: i64,
    /// `sha256:…`, once the bytes are known.
    pub digest: Option<Arc<str>>,
    /// How far it came.
    pub phase: Phase,
}

/// How far a candidate came.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Being fetched.
    Fetching,
    /// Being validated.
    Validating,
    /// Refused. Changes nothing but status.
    Rejected(Rejection),
}

/// Why a candidate was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// CamelCase, stable: `ImportNotGranted`, `InvalidConfig`, `ConfigureTrapped`, …
    pub reason: &'static str,
    /// For people: what is wrong, and what to do.
    pub message: String,
}

/// Facts about the exchange that a plugin may ask for lazily.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeFacts<'a> {
    /// Client address after trusted hops.
    pub client: std::net::SocketAddr,
    /// Protocol towards the client.
    pub version: http::Version,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Server name of the TLS connection.
    pub server_name: Option<&'a str>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub tls_version: Option<&'static str>,
    /// The rule that took the request.
    pub rule: &'a RuleId,
    /// `x-request-id` of the exchange.
    pub request_id: &'a str,
}

/// What a hook decided; edits are applied already.
#[derive(Debug)]
pub enum Verdict {
    /// Go on; the token goes to the response hook of the same plugin.
    Proceed {
        /// Opaque.
        token: u64,
    },
    /// Answer with this in place of the upstream (or of its response).
    Reply(http::Response<Bytes>),
}

/// A plugin did not answer properly. The instance is gone; the exchange gets what `failurePolicy` says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin fault {kind}: {message}")]
pub struct PluginFault {
    /// For metrics: a small closed set.
    pub kind: FaultKind,
    /// For the log.
    pub message: String,
}

/// Kinds of faults, as in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// Trap: unreachable, out of bounds, stack overflow, division by zero.
    Trap,
    /// `limits.hookTime` passed.
    Deadline,
    /// `limits.memory` passed.
    Memory,
    /// The answer broke the contract: undeclared or malformed edits, invalid reply.
    InvalidAnswer,
    /// The revision is not loaded (any more), or no instance could be made.
    Unavailable,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::InvalidAnswer => "invalid_answer",
            Self::Unavailable => "unavailable",
        })
    }
}

/// The seam between proxy and plugin host. Each worker thread asks once for its own [`PolicyWorker`].
pub trait PolicyRuntime: Send + Sync {
    /// State for one worker thread: its instances live and die there.
    fn worker(&self) -> Box<dyn PolicyWorker>;
}

/// Calls hooks on one worker thread. Synchronous: a hook decides, it never waits.
pub trait PolicyWorker {
    /// Run the request hook and apply its edits to `head`. After an `Err`, `head` is as it was.
    fn on_request(
        &self,
        call: &PolicyCall,
        exchange: &ExchangeFacts<'_>,
        head: &mut http::request::Parts,
    ) -> Result<Verdict, PluginFault>;

    /// Run the response hook and apply its edits to `head`. After an `Err`, `head` is as it was. `request` is there if
    /// `call.hooks.keeps_request`.
    fn on_response(
        &self,
        call: &PolicyCall,
        token: u64,
        exchange: &ExchangeFacts<'_>,
        request: Option<&http::request::Parts>,
        head: &mut http::response::Parts,
    ) -> Result<Verdict, PluginFault>;
}

/// A runtime without plugins, for tests and for gateways that have none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPolicies;

impl PolicyRuntime for NoPolicies {
    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(*self)
    }
}

impl PolicyWorker for NoPolicies {
    fn on_request(
        &self,
        call: &PolicyCall,
        _: &ExchangeFacts<'_>,
        _: &mut http::request::Parts,
    ) -> Result<Verdict, PluginFault> {
        Err(unavailable(call))
    }

    fn on_response(
        &self,
        call: &PolicyCall,
        _: u64,
        _: &ExchangeFacts<'_>,
        _: Option<&http::request::Parts>,
        _: &mut http::response::Parts,
    ) -> Result<Verdict, PluginFault> {
        Err(unavailable(call))
    }
}

fn unavailable(call: &PolicyCall) -> PluginFault {
    PluginFault { kind: FaultKind::Unavailable, message: format!("{} is not loaded: no plugin host runs", call.plugin) }
}
