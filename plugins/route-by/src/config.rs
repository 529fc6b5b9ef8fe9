//! The configuration as users write it. The descriptions of the JSON Schema are the comments here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Which backend of a rule a request gets.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// In order: the first whose conditions hold, and whose target has a backend for the request, decides. If none does, the weights of the route's
    /// rule do.
    #[schemars(length(min = 1, max = 64))]
    pub rules: Vec<RuleConfig>,
}

/// Some requests, and where they go.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleConfig {
    /// All must hold. Empty: every request.
    #[serde(default)]
    pub when: Vec<ConditionConfig>,
    /// Where the requests go.
    pub to: TargetConfig,
    /// What happens when the backend is among those of the route's rule, but has no ready endpoint.
    #[serde(default)]
    pub if_not_ready: IfNotReady,
}

/// A value of the request, and what it must be. Exactly one of `header`, `cookie`, `query`, `unverifiedJwtClaim`, and exactly one of `present`, `exact`,
/// `prefix`, `regex`, `in`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConditionConfig {
    /// Of a repeated header one value must fit. `host` is compared in lower case, without port and last dot.
    pub header: Option<String>,
    /// The first value of the cookie.
    pub cookie: Option<String>,
    /// The first value of the parameter, decoded.
    pub query: Option<String>,
    /// A claim of a JSON Web Token. Its signature is NOT verified: see the README.
    pub unverified_jwt_claim: Option<ClaimConfig>,
    /// `true`: there is such a value. `false`: there is none.
    pub present: Option<bool>,
    /// It is this one.
    pub exact: Option<String>,
    /// It begins so.
    pub prefix: Option<String>,
    /// It has a match of this regular expression, in the syntax of the Rust crate `regex-lite`.
    pub regex: Option<String>,
    /// It is one of these.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<String>>,
}

/// A value of the request. Exactly one of the fields.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KeyConfig {
    /// The first value of the header. `host` in lower case, without port and last dot.
    pub header: Option<String>,
    /// The first value of the cookie.
    pub cookie: Option<String>,
    /// The first value of the parameter, decoded.
    pub query: Option<String>,
    /// A claim of a JSON Web Token. Its signature is NOT verified: see the README.
    pub unverified_jwt_claim: Option<ClaimConfig>,
    /// The address of the client, without trusted proxies.
    pub client_address: Option<PrefixLengths>,
}

/// A claim of a JSON Web Token, whose signature is not verified.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimConfig {
    /// Name of the claim, or a JSON pointer to it if it begins with `/`. Strings, numbers and booleans count, anything else is missing.
    pub claim: String,
    /// The request header with the token, with or without `Bearer`. `authorization` if left out.
    pub header: Option<String>,
}

/// How many leading bits of an address count.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrefixLengths {
    /// 32 if left out.
    #[schemars(range(max = 32))]
    pub ipv4_prefix_length: Option<u8>,
    /// 64 if left out: a subscriber has a whole network.
    #[schemars(range(max = 128))]
    pub ipv6_prefix_length: Option<u8>,
}

/// Where requests go. Exactly one of the fields. A backend is named as `name`, `name:port`, `namespace/name` or `namespace/name:port`; the first backend of the
/// route's rule that fits is meant.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TargetConfig {
    /// To this backend.
    pub backend: Option<String>,
    /// To the backend that stands beside the value of a key.
    pub lookup: Option<LookupConfig>,
    /// Always to the same backend for the same key, all backends by their weights.
    pub hash: Option<HashConfig>,
    /// Always the same share of keys to these backends; the others go on with the next rule.
    pub percentages: Option<PercentagesConfig>,
    /// By weights at first, and then to the same backend, which a cookie remembers.
    pub sticky: Option<StickyConfig>,
    /// `true`: by the weights of the route's rule, and no further rule is asked.
    pub weights: Option<bool>,
}

/// A table from values to backends.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupConfig {
    /// Whose value is looked up: the first of these that the request has.
    #[schemars(length(min = 1, max = 8))]
    pub key: Vec<KeyConfig>,
    /// Backends by value. A value that is not here goes on with the next rule.
    #[schemars(length(min = 1, max = 1024))]
    pub backends: BTreeMap<String, String>,
}

/// Consistent hashing: when a backend joins or leaves, only the keys that it gets or had change their backend.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HashConfig {
    /// What is hashed: the first of these that the request has. A request that has none goes on with the next rule.
    #[schemars(length(min = 1, max = 8))]
    pub key: Vec<KeyConfig>,
}

/// Shares of keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PercentagesConfig {
    /// What stays with its backend: the first of these that the request has. A request that has none goes on with the next rule.
    #[schemars(length(min = 1, max = 8))]
    pub key: Vec<KeyConfig>,
    /// At most 100 together.
    #[schemars(length(min = 1, max = 16))]
    pub shares: Vec<ShareConfig>,
    /// Rules with the same salt choose the same keys first. The names of the backends if left out.
    pub salt: Option<String>,
}

/// A share of keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShareConfig {
    /// Who gets it.
    pub backend: String,
    /// Of all keys, in steps of 0.01.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: f64,
}

/// The cookie that remembers a backend.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StickyConfig {
    /// Name of the cookie.
    #[schemars(length(min = 1, max = 128))]
    pub cookie: String,
    /// Requests that send the cookie: those below this path. `/` if left out.
    pub path: Option<String>,
    /// Hosts that get the cookie. Only the one that was asked if left out.
    pub domain: Option<String>,
    /// How long the cookie lives, such as `30m` or `24h`. Until the browser ends if left out.
    pub max_age: Option<String>,
    /// When requests from other sites send the cookie.
    #[serde(default)]
    pub same_site: SameSite,
    /// Whether the cookie is sent by TLS alone.
    #[serde(default)]
    pub secure: Secure,
    /// Whether scripts cannot read the cookie. `true` if left out.
    pub http_only: Option<bool>,
}

/// When requests from other sites send the cookie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SameSite {
    /// Never.
    Strict,
    /// When a link is followed.
    #[default]
    Lax,
    /// Always. The cookie must be `Secure` then.
    None,
}

/// Whether the cookie is sent by TLS alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Secure {
    /// If the request came by TLS.
    #[default]
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// What happens when a backend has no ready endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum IfNotReady {
    /// The next rule is asked.
    #[default]
    NextRule,
    /// The request gets a 503: for requests that must not go elsewhere.
    Refuse,
}
