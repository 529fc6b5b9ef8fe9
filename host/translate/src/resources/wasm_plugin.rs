//! WasmPlugin: a WebAssembly policy, where it comes from and what it applies to.

use penstock_core::check::Check;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::PolicyTargetReference,
    macros::{open_enum, resource},
};

resource! {
    /// A WebAssembly plugin that decides about requests and responses. It applies to its `targetRefs`, and to every rule that names it in an
    /// `ExtensionRef` filter. A revision that fails validation changes nothing but this resource's status: the last good one keeps serving.
    WasmPlugin(WasmPluginSpec), "penstock.dev" / "v1alpha1", "wasmplugins", NamespaceResourceScope
}

/// Spec of [`WasmPlugin`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WasmPluginSpec {
    /// Where the module comes from: exactly one of the fields.
    pub source: PluginSource,
    /// What the plugin applies to: Gateways (or one listener by `sectionName`), HTTPRoutes and GRPCRoutes (or one rule by `sectionName`) of
    /// `gateway.networking.k8s.io`, and Ingresses of `networking.k8s.io`, in the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<PolicyTargetReference>,
    /// Plugins of a rule run by descending priority, then by namespace and name; on the response in reverse. 0 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Configuration; checked against the schema that the plugin carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
    /// Values of Secrets, put into `config`. Status and logs never show them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_refs: Vec<PluginSecretReference>,
    /// Interfaces that the plugin may import; what is not granted is refused before anything runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<PluginCapabilities>,
    /// Limits of time and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PluginLimits>,
    /// Which exchanges share an instance of the plugin: those of a worker (`Shared`, the default), so that a fault ends all that have state in it;
    /// or none (`Exchange`), which costs ten times as much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// What a request gets when the plugin faults or cannot run: `Closed` (503, the default) or `Open` (it goes on without the plugin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,
    /// What becomes of a body that is larger than the plugin buffers: `Reject` (413 for a request, 502 for a response; the default) or `Pass`
    /// (it goes on, and the plugin does not see it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_overflow: Option<BodyOverflow>,
    /// Plugins of one namespace that name the same group switch to new revisions together: all of them at the same moment, or none. A change of
    /// several members is one switch when it is applied at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_group: Option<String>,
    /// How long a new revision is watched after it began to serve. When it faults too often, the last good one comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<PluginProbation>,
    /// Sample exchanges that a new revision must pass before it may serve: what comes in, and what must come of it, in the words of
    /// `penstock plugin test`. They run one after the other in the process that validates, without a network; a revision that fails one is
    /// refused with the reason `CheckFailed`. At most 64, and 256 KiB of JSON together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Check>")]
    pub checks: Vec<serde_json::Value>,
}

/// How long a new revision is watched, and how many faults are too many.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginProbation {
    /// Time from the switch, such as `30s` (the default), at most `24h`; `0s` turns it off.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Faults within it that are accepted; 5 if not given. One more, and the last good revision comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_faults: Option<u32>,
}

/// Where a module comes from: exactly one of the fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginSource {
    /// A file on the gateway's machine; not in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSource>,
    /// `binaryData` of a ConfigMap of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyReference>,
    /// A web server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// A registry: an artifact with one WebAssembly layer, such as `penstock plugin push` makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,
}

/// A file on the gateway's machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileSource {
    /// Absolute, or relative to the file that holds this resource.
    pub path: String,
}

/// A module on a web server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// `https://…` or `http://…`. Redirects are followed, but never from HTTPS to HTTP.
    pub url: String,
    /// SHA-256 of the module, as `sha256sum` prints it. Nothing else is ever used, wherever it comes from.
    pub sha256: String,
}

/// A module in a registry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciSource {
    /// Registry, repository and tag, such as `ghcr.io/acme/headers:1.2`; `latest` if there is no tag. What a tag means is looked up when the
    /// reference is new, and then kept, over restarts as well: a tag that moves changes nothing that serves.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of the manifest, as `penstock plugin push` prints it. The tag then says nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg` with a login for the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<PullSecretReference>,
    /// How often to look what the tag means by now, such as `5m`; at least `10s`. Never, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_interval: Option<String>,
    /// Ask the registry without TLS, and send it the login in the clear. For loopback addresses it need not be said.
    #[serde(default)]
    pub insecure: bool,
}

/// A Secret with logins for registries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretReference {
    /// Name of the Secret.
    pub name: String,
    /// Its namespace, if it is another one; a ReferenceGrant there must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A key of a ConfigMap of the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyReference {
    /// Name of the ConfigMap.
    pub name: String,
    /// Key in `binaryData`; may be left out if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A value of a Secret of the same namespace, and its place in `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginSecretReference {
    /// Name of the Secret.
    pub name: String,
    /// Key in its `data`.
    pub key: String,
    /// JSON pointer into `config`, such as `/auth/token`. The value becomes a string there; objects on the way are made if they are missing.
    /// At most 1024 bytes and 32 names.
    #[serde(rename = "as")]
    pub pointer: String,
}

/// Interfaces that a plugin may import.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginCapabilities {
    /// Write log lines.
    #[serde(default)]
    pub log: bool,
    /// Read the clocks.
    #[serde(default)]
    pub clock: bool,
    /// Get random numbers.
    #[serde(default)]
    pub random: bool,
    /// Export metrics.
    #[serde(default)]
    pub metrics: bool,
    /// Count in integers that all workers share.
    #[serde(default)]
    pub counters: bool,
    /// Keep small values that all workers share.
    #[serde(default)]
    pub key_value: bool,
    /// Import WASI 0.2, as languages other than Rust do: clocks, random numbers, and printing to the log; no files, sockets or environment.
    #[serde(default)]
    pub wasi: bool,
    /// Buckets to limit rates with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<PluginRateLimit>,
    /// Backends that the plugin may call over HTTP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<PluginOutbound>,
}

/// A backend that the plugin may call over HTTP, and no other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginOutbound {
    /// By which the plugin asks for it.
    pub name: String,
    /// What it leads to.
    pub backend_ref: PluginBackendReference,
    /// How long one call may take, such as `1s` (the default): 1ms to 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Size of an answer's body, such as `64Ki` (the default), at most `16Mi`. Larger ones are an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response_bytes: Option<String>,
}

/// A Service or XBackend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginBackendReference {
    /// Group of the backend; empty if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind of the backend; `Service` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the backend.
    pub name: String,
    /// Namespace; that of the plugin if not given. Another namespace must grant the reference by a ReferenceGrant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Port of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A bucket: how much is allowed in which time, for each key that the plugin asks for. Buckets belong to the plugin and are shared by all workers;
/// what was counted survives every change of the plugin but one of the bucket itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginRateLimit {
    /// By which the plugin asks for it.
    pub name: String,
    /// `SlidingWindow` (the default): what was taken in the window that ends now. `TokenBucket`: units come back one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<RateLimitAlgorithm>,
    /// Units in a window, at least 1.
    pub limit: u32,
    /// The time that `limit` is for, such as `1m`: 1ms to 744h.
    pub window: String,
    /// Units that a `TokenBucket` gives at once; as many as `limit` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Keys that are counted at once; 100000 if left out. Beyond it the one with the least to lose is forgotten. A key takes about 100 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<u32>,
    /// Count in Redis, so that several gateways share the counts, and they outlive a restart. Each decision is one round trip; an exchange
    /// that waits for one has an instance of the plugin for itself (`limits.waiting`). `maxKeys` is then for the gateway's own counts alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<PluginRedis>,
}

/// A Redis server, version 5 or later, or Valkey, that keeps the counts of a bucket. Keys begin with `penstock:rate-limit:`, and expire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginRedis {
    /// Where it is, without TLS. Endpoints are tried one after the other; one that cannot be written to is left for the next.
    pub backend_ref: PluginBackendReference,
    /// Number of the database; 0 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<u32>,
    /// Who logs in; the server's default user if there is only a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password. Status and logs never show it, and a new one is no new revision of the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyReference>,
    /// How long one decision may take, such as `50ms` (the default): 1ms to 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What a decision is when the server does not answer in time: `Local` (the default): that of this gateway's own bucket of the same rule,
    /// which begins at nothing and counts for this gateway alone; or `Refuse`: none, the plugin is told so and decides what it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_unavailable: Option<RedisUnavailable>,
}

/// A key of a Secret of the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    pub name: String,
    /// Key in its `data`.
    pub key: String,
}

/// Limits of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// CPU time of one hook, such as `2ms` (the default); at most `100ms` unless the gateway's operator says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_time: Option<String>,
    /// CPU time of all hooks of one exchange in a policy on bodies, such as `10s` (the default), at most `24h`. What comes after it is a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_time: Option<String>,
    /// CPU time of validation: describe, configure and self-test; `2s` if not given, at most `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configure_time: Option<String>,
    /// Memory of one instance, such as `16Mi` (the default); at most `256Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Size of the module, such as `16Mi` (the default); at most `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_size: Option<String>,
    /// Log lines a second; 100 if not given, at most 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u32>,
    /// Label combinations of one metric; 256 if not given, at most 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_series: Option<u32>,
    /// How long a hook may wait in outbound calls and for buckets in Redis, all of them together; `5s` if not given, at most `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_time: Option<String>,
    /// Outbound calls of one exchange; 8 if not given, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_calls: Option<u32>,
    /// Exchanges of one worker that may be in a plugin with outbound calls or buckets in Redis at once; 64 if not given, at most 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// Size of the key-value store, such as `4Mi` (the default); at most `256Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_value_bytes: Option<String>,
    /// Bytes of one body, in each direction, that the gateway keeps for the plugin: what it buffers or holds back, such as `1Mi` (the
    /// default); at most `16Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_buffer: Option<String>,
}

open_enum! {
    /// How counts are forgotten.
    pub enum RateLimitAlgorithm {
        /// What was taken in the window that ends now counts.
        SlidingWindow = "SlidingWindow",
        /// Units come back one after the other.
        TokenBucket = "TokenBucket",
    }
}

open_enum! {
    /// What a decision is when its server does not answer.
    pub enum RedisUnavailable {
        /// That of the gateway's own bucket.
        Local = "Local",
        /// None.
        Refuse = "Refuse",
    }
}

open_enum! {
    /// Which exchanges share an instance.
    pub enum Isolation {
        /// Those of a worker.
        Shared = "Shared",
        /// None.
        Exchange = "Exchange",
    }
}

open_enum! {
    /// What a request gets when the plugin faults or cannot run.
    pub enum FailurePolicy {
        /// 503.
        Closed = "Closed",
        /// It goes on without the plugin.
        Open = "Open",
    }
}

open_enum! {
    /// What becomes of a body that is larger than the plugin buffers.
    pub enum BodyOverflow {
        /// 413 for a request, 502 for a response.
        Reject = "Reject",
        /// It goes on, and the plugin does not see it.
        Pass = "Pass",
    }
}
