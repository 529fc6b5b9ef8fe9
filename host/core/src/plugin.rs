//! Plugins as the other crates see them: what should run, what does run, and the one seam through which the proxy calls them.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    ops::Not,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use self::{
    calls::{
        Called, Carried, ExchangeFacts, FaultKind, NoPolicies, PluginFault, PolicyRuntime, PolicyWorker, Proceed,
        Verdict,
    },
    exchange::{BodyVerdict, Chunk, Direction, HeldHead, Message, PolicyExchange, Summary, TrailersVerdict},
    outbound::{
        Outbound, OutboundBackend, OutboundClient, OutboundFailure, OutboundGrant, OutboundReference, OutboundRequest,
    },
    rate_limit::{InvalidWindow, RateAlgorithm, RateLimit, RateWindow},
    redis::{RedisBucket, RedisGrant, RedisLogin, SecretKey, WhenUnavailable},
    reference::{InvalidReference, OciReference, OciVersion},
    registry_login::{DockerConfig, InvalidDockerConfig, Redacted, RegistryLogin},
    rollout::{
        ActivationGroup, Awaited, Hold, LastGoodState, OnProbation, Probation, RecordedRevision, RestoredFrom,
        RevisionName, Rollout, SecretPlace,
    },
    route::{Choice, ResponseEdits, RouteCall},
    source::{HttpSource, InvalidSha256, InvalidUrl, ModuleSource, ModuleUrl, OciSource, PullSecret, Sha256},
};
use crate::ResourceRef;

mod calls;
mod exchange;
mod outbound;
mod rate_limit;
mod redis;
mod reference;
mod registry_login;
mod rollout;
mod route;
mod source;

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
    /// What becomes of a body that is larger than the plugin wants to see in one piece.
    #[serde(skip_serializing_if = "BodyOverflow::is_reject")]
    pub body_overflow: BodyOverflow,
    /// Which hooks to call; the others cost nothing.
    pub hooks: Hooks,
    /// Backends that it may call.
    #[serde(skip_serializing_if = "outbound::is_none")]
    pub outbound: Arc<[OutboundBackend]>,
    /// Its buckets that are in Redis.
    #[serde(skip_serializing_if = "redis::is_none")]
    pub redis: Arc<[RedisBucket]>,
}

/// Which hooks a revision asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Hooks {
    /// Request headers.
    pub request: bool,
    /// Response headers.
    pub response: bool,
    /// Later hooks read something of the request: it is taken down when the request reaches the plugin, even without a request hook.
    #[serde(skip_serializing_if = "Not::not")]
    pub carries: bool,
    /// What a policy on bodies, trailers or the end asks for beyond that. None: a policy on headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streaming: Option<StreamingHooks>,
    /// It is a route plugin, which chooses among the backends of a rule. Such a plugin has no other hook.
    #[serde(skip_serializing_if = "Not::not")]
    pub choose: bool,
}

impl Hooks {
    /// Whether the plugin is called at all.
    pub fn any(&self) -> bool {
        self.request
            || self.response
            || self.choose
            || self.streaming.is_some_and(|streaming| streaming != StreamingHooks::default())
    }
}

/// Which hooks a policy on bodies, trailers or the end asked for beyond those on headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub struct StreamingHooks {
    /// How it sees the request's body.
    pub request_body: BodyMode,
    /// Whether it sees the request's trailers.
    pub request_trailers: bool,
    /// How it sees the response's body.
    pub response_body: BodyMode,
    /// Whether it sees the response's trailers.
    pub response_trailers: bool,
    /// Whether it hears how the exchange ended.
    pub end: bool,
}

impl StreamingHooks {
    /// What is left of them in an exchange.
    #[must_use]
    pub fn without(self, skip: Skip) -> Self {
        Self {
            request_body: if skip.request_body { BodyMode::None } else { self.request_body },
            request_trailers: self.request_trailers && !skip.request_trailers,
            response_body: if skip.response_body { BodyMode::None } else { self.response_body },
            response_trailers: self.response_trailers && !skip.response_trailers,
            end: self.end && !skip.end,
        }
    }
}

/// Hooks that a plugin does not need in one exchange: they are not called any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skip {
    /// The request's body passes untouched.
    pub request_body: bool,
    /// The request's trailers do.
    pub request_trailers: bool,
    /// The response's headers do.
    pub response: bool,
    /// The response's body does.
    pub response_body: bool,
    /// The response's trailers do.
    pub response_trailers: bool,
    /// The end is not told.
    pub end: bool,
}

impl Skip {
    /// What is skipped by either of two answers.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            request_body: self.request_body || other.request_body,
            request_trailers: self.request_trailers || other.request_trailers,
            response: self.response || other.response,
            response_body: self.response_body || other.response_body,
            response_trailers: self.response_trailers || other.response_trailers,
            end: self.end || other.end,
        }
    }
}

/// How much of a body a plugin wants to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub enum BodyMode {
    /// Nothing: the body streams past it.
    #[default]
    None,
    /// Chunk by chunk as it arrives.
    Stream,
    /// All of it in one call, up to this many bytes. The message's headers wait for it.
    Buffer(u32),
}

/// What becomes of a body that is larger than a plugin wants to see in one piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub enum BodyOverflow {
    /// 413 for a request, 502 for a response.
    #[default]
    Reject,
    /// It passes unseen.
    Pass,
}

impl BodyOverflow {
    fn is_reject(&self) -> bool {
        *self == Self::Reject
    }
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
    /// Which parts of `config` are values of Secrets.
    pub secrets: Vec<SecretPlace>,
    /// Granted capabilities.
    pub capabilities: Capabilities,
    /// Limits.
    pub limits: PluginLimits,
    /// How a new revision comes into effect. No part of the revision itself.
    pub rollout: Rollout,
}

/// Shorter ones would take half a sentence with them, and are no secrets.
const SHORTEST_SECRET: usize = 4;

impl PluginSpec {
    /// What the plugin said, without values of Secrets. It knows its whole configuration, and may repeat it when it speaks of a problem; logs
    /// and statuses are for more people.
    #[must_use]
    pub fn without_secrets(&self, text: String) -> String {
        let values = self.secrets.iter().filter_map(|place| self.config.pointer(&place.pointer)?.as_str());
        values.filter(|value| value.len() >= SHORTEST_SECRET).fold(text, |text, value| text.replace(value, "[secret]"))
    }
}

/// Interfaces granted to a plugin. `exchange-info` is always there. What is kept on disk may be of another version, which knew fewer of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
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
    /// An empty slice of WASI.
    #[serde(skip_serializing_if = "Not::not")]
    pub wasi: bool,
    /// The buckets of `rate-limit`, which is granted when there is one. Their names differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// The backends of `outbound-http`, which is granted when there is one. Their names differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<OutboundGrant>,
}

impl Capabilities {
    /// The buckets that gateways share.
    #[must_use]
    pub fn in_redis(&self) -> Arc<[RateLimit]> {
        self.rate_limits.iter().filter(|limit| limit.redis.is_some()).cloned().collect()
    }
}

/// Limits of one plugin. Every limit has a default and a reason; a plugin that exceeds one faults, its neighbours notice nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginLimits {
    /// CPU time of one hook. A header hook needs microseconds; 2 ms is three orders above and still bounds a worker's stall.
    pub hook_time: Duration,
    /// CPU time of all hooks of one exchange in a policy on bodies, to a millisecond. Ten seconds are a gigabyte at 100 MB/s; whoever keeps
    /// streams open for days gives more.
    pub exchange_time: Duration,
    /// CPU time of describe, configure and self-test.
    pub configure_time: Duration,
    /// Linear memory of one instance in bytes.
    pub memory: u64,
    /// Size of the module in bytes.
    pub module_size: u64,
    /// Log lines a second, over all workers: a log is for people.
    pub log_lines: u32,
    /// Label combinations of one metric of the plugin. Further ones are counted together: what clients can choose must not fill the memory.
    pub metric_series: u32,
    /// Bytes in the key-value store of the plugin, over all workers. The store lives in the gateway's memory, and is for small things.
    pub key_value_bytes: u64,
    /// Bytes of one body, in each direction, that wait for the plugin: what it buffers or holds back. They are the gateway's memory, for
    /// each exchange; whoever needs more streams.
    pub body_buffer: u64,
    /// How long a hook may wait in imported calls, all of them together. Below what clients wait for: beyond it each call answers `timeout`.
    pub wall_time: Duration,
    /// Outbound calls of one exchange. One or two decide; a plugin that needs more for each request amplifies whatever clients send.
    pub outbound_calls: u32,
    /// Exchanges of one worker that may be in a plugin that waits at once. Each has an instance of its own: at the default limit of memory
    /// 1 GiB at most, in practice some megabytes. Further ones get what `failurePolicy` says, so that a slow backend holds up a bounded part.
    pub waiting: u32,
    /// How far a fault reaches.
    #[serde(skip_serializing_if = "Isolation::is_shared")]
    pub isolation: Isolation,
}

/// Which exchanges share an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Isolation {
    /// Those of a worker, up to a number: a fault ends all that have state in the instance.
    #[default]
    Shared,
    /// None: each exchange of a policy on bodies, and each call of any other plugin, has an instance of its own, which nobody has used before.
    /// It costs ten times as much.
    Exchange,
}

impl Isolation {
    fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            hook_time: Duration::from_millis(2),
            exchange_time: Duration::from_secs(10),
            configure_time: Duration::from_secs(2),
            memory: 16 << 20,
            module_size: 16 << 20,
            log_lines: 100,
            metric_series: 256,
            key_value_bytes: 4 << 20,
            body_buffer: 1 << 20,
            wall_time: Duration::from_secs(5),
            outbound_calls: 8,
            waiting: 64,
            isolation: Isolation::Shared,
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
    /// `active` is new, and watched.
    pub probation: Option<OnProbation>,
    /// How it stands with the last good set on disk, and with what the cluster has on record.
    pub last_good: LastGoodState,
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
    /// The artifact in a registry that the module came from, by digest; none for other sources.
    pub artifact: Option<Arc<str>>,
    /// Backends that it was granted.
    pub outbound: Arc<[OutboundGrant]>,
    /// Buckets that it was granted, as far as they are in Redis.
    pub redis: Arc<[RateLimit]>,
}

/// A revision that does not serve (yet).
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Generation of the resource it came from.
    pub generation: i64,
    /// `sha256:…`, once the bytes are known.
    pub digest: Option<Arc<str>>,
    /// The artifact in a registry that the bytes came from, by digest; none for other sources.
    pub artifact: Option<Arc<str>>,
    /// How far it came.
    pub phase: Phase,
}

/// How far a candidate came.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Being fetched.
    Fetching,
    /// Could not be fetched so far; the host tries again by itself.
    Retrying {
        /// What went wrong last.
        rejection: Rejection,
        /// Attempts so far. Beyond ten it grows in steps, so that a status that says it is not written without end.
        attempts: u32,
        /// About how long until the next one.
        pause: Duration,
    },
    /// Being validated.
    Validating,
    /// Ready, and held back by other members of its activation group.
    Waiting(Vec<Awaited>),
    /// Refused. Changes nothing but status.
    Rejected(Rejection),
}

impl Phase {
    /// Why it does not serve, if that is known by now.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Fetching | Self::Validating | Self::Waiting(_) => None,
            Self::Retrying { rejection, .. } | Self::Rejected(rejection) => Some(rejection),
        }
    }
}

/// Why a candidate was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// CamelCase, stable: `ImportNotGranted`, `InvalidConfig`, `ConfigureTrapped`, …
    pub reason: &'static str,
    /// For people: what is wrong, and what to do.
    pub message: String,
}
