//! The configuration as users write it. The descriptions of the JSON Schema are the comments here.

use std::collections::BTreeMap;

use penstock_plugin::extract::condition::ConditionConfig;
use schemars::JsonSchema;
use serde::Deserialize;

/// Limits on how many requests may be made in a time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// A request passes if every policy that is for it allows it.
    #[schemars(length(min = 1, max = 16))]
    pub policies: Vec<PolicyConfig>,
    /// Requests that no policy counts: those for which one of these conditions holds.
    #[serde(default)]
    pub exempt: Vec<ConditionConfig>,
    /// What a request gets that a policy denies.
    #[serde(default)]
    pub denied: DeniedConfig,
    /// Which response headers tell clients about their limits. `Retry-After` is always there when a request is denied.
    #[serde(default)]
    pub headers: HeaderStyle,
    /// What happens when the store of the counts does not answer.
    #[serde(default)]
    pub on_unavailable: OnUnavailable,
}

/// One limit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyConfig {
    /// For response headers and metrics: lower case letters, digits, `-`, `_` and `.`. The name of the bucket if left out. Counts belong to the
    /// name: policies may change their order, or be added and removed, without losing any.
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// One of the buckets that the resource declares in `spec.capabilities.rateLimits`, which say how much is allowed in which time.
    pub bucket: String,
    /// The requests that the policy is for. Absent: every request.
    pub when: Option<ConditionConfig>,
    /// What is counted separately: requests that agree in every part share one count. Empty: one count for all requests.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub key: Vec<KeyPartConfig>,
    /// What happens to requests that lack a part of the key.
    #[serde(default)]
    pub on_missing_key: OnMissingKey,
    /// How many units a request takes. Absent: one.
    #[serde(default)]
    pub cost: CostConfig,
    /// Count and report in metrics what would be denied, but deny nothing and send no headers.
    #[serde(default)]
    pub dry_run: bool,
}

/// One part of a key: exactly one of the fields.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KeyPartConfig {
    /// The address of the client, without trusted proxies.
    pub client_address: Option<PrefixLengths>,
    /// All values of this request header. Of `host` neither spelling nor port counts.
    pub header: Option<String>,
    /// All values of this cookie.
    pub cookie: Option<String>,
    /// All values of this query parameter, decoded.
    pub query: Option<String>,
    /// The template that the path fits, with or without a slash behind it, and the segments of it that are kept.
    pub path_template: Option<PathTemplateConfig>,
    /// `true`: the method.
    pub method: Option<bool>,
    /// A claim of a JSON Web Token whose signature an earlier filter has verified. This plugin verifies nothing: where no filter with a higher
    /// priority refuses requests with invalid tokens, anybody can write a token of their own for each request, and no limit holds.
    pub jwt_claim_verified_by_earlier_filter: Option<ClaimConfig>,
}

/// How much of an address counts. Clients own whole networks, so an IPv6 address alone limits nobody.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrefixLengths {
    /// Leading bits of an IPv4 address that count; 32 if left out.
    #[schemars(range(max = 32))]
    pub ipv4_prefix_length: Option<u8>,
    /// Leading bits of an IPv6 address that count; 64 if left out.
    #[schemars(range(max = 128))]
    pub ipv6_prefix_length: Option<u8>,
}

/// Paths that count as one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathTemplateConfig {
    /// Such as `/users/{id}` (one segment) or `/static/**` (anything below). The first that fits counts; the part is missing if none does.
    #[schemars(length(min = 1, max = 256))]
    pub templates: Vec<String>,
    /// Names of segments whose value is a part of the key. Empty: all paths of a template share one count.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// Where a claim stands.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimConfig {
    /// Name of the claim, or a JSON pointer to it if it begins with `/`. Strings, numbers and booleans count, anything else is missing.
    pub claim: String,
    /// The request header with the token, with or without `Bearer`. `authorization` if left out.
    pub header: Option<String>,
}

/// What happens to requests that lack a part of the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum OnMissingKey {
    /// They share one count.
    #[default]
    Share,
    /// The policy does not count them.
    Skip,
}

/// How many units a request takes: the header if it is there, else the method's, else the default. A request that takes 0 always passes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CostConfig {
    /// 1 if left out.
    pub default: Option<u32>,
    /// By method, such as `POST: 5`.
    pub methods: BTreeMap<String, u32>,
    /// A number that an earlier filter wrote into a request header.
    pub header: Option<CostHeaderConfig>,
}

/// A number that an earlier filter wrote into a request header.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CostHeaderConfig {
    /// A client must not be able to write it itself: have an earlier filter set or remove it.
    pub name: String,
    /// Larger numbers count as this one.
    #[schemars(range(min = 1))]
    pub max: u32,
}

/// What a request gets that a policy denies.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeniedConfig {
    /// 429 if left out.
    #[schemars(range(min = 400, max = 599))]
    pub status: Option<u16>,
    /// `application/problem+json` if there is no `body`, else `text/plain; charset=utf-8`.
    pub content_type: Option<String>,
    /// `${policy}` is the name of the policy that denies for longest, `${retryAfter}` the seconds until a request may succeed. Absent: a problem of
    /// RFC 9457 that names the policies.
    pub body: Option<String>,
}

/// Which response headers tell clients about their limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HeaderStyle {
    /// `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers.
    #[default]
    Standard,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds).
    Legacy,
    /// All five.
    Both,
    /// None.
    None,
}

/// What happens when the store of the counts does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum OnUnavailable {
    /// The request passes.
    #[default]
    Allow,
    /// The request gets a 503.
    Deny,
}
