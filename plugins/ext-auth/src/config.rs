//! The configuration as users write it. The descriptions of the JSON Schema are the comments here.

use std::collections::BTreeMap;

use penstock_plugin::extract::condition::ConditionConfig;
use schemars::JsonSchema;
use serde::Deserialize;

/// Which service decides whether a request may pass, what it is told, and what becomes of its answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Who is asked.
    pub service: ServiceConfig,
    /// What the service is told.
    #[serde(default)]
    pub request: RequestConfig,
    /// What a request takes along that may pass: the service answered 2xx.
    #[serde(default)]
    pub allowed: AllowedConfig,
    /// What the client gets that may not: the service answered 3xx or 4xx.
    #[serde(default)]
    pub denied: DeniedConfig,
    /// What happens when the service cannot be reached, does not answer in time, or answers 5xx.
    #[serde(default)]
    pub on_error: OnError,
    /// What the client gets when there is no decision; 503 if left out.
    #[schemars(range(min = 400, max = 599))]
    pub error_status: Option<u16>,
    /// Requests that pass unasked: those for which one of these conditions holds.
    #[serde(default)]
    pub exempt: Vec<ConditionConfig>,
}

/// Who is asked. At most one of `path` and `pathPrefix`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceConfig {
    /// One of the backends that the resource declares in `spec.capabilities.outbound`, by its name there.
    pub backend: String,
    /// Ask this path, with a query if it needs one; `/` if left out.
    pub path: Option<String>,
    /// Ask the path of the request itself, with its query, behind this prefix, which may be empty.
    pub path_prefix: Option<String>,
    /// If left out: `GET`; with `pathPrefix` the method of the request.
    pub method: Option<String>,
    /// If left out: the name of the service; with `pathPrefix` the host that the client asked for.
    pub host: Option<String>,
    /// How long an answer may take, such as `200ms`; the `timeout` of the backend holds as well, and is all there is if this is left out.
    pub timeout: Option<String>,
}

/// What the service is told beside `X-Forwarded-*` and `X-Original-*`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestConfig {
    /// Names of request headers. If left out: all but those that describe the body, which is never sent, and those of conditional requests.
    #[schemars(length(max = 128))]
    pub headers: Option<Vec<String>>,
    /// Headers with values of the configuration, such as a password of the gateway. They replace what the client sent.
    pub set: BTreeMap<String, String>,
}

/// What a request takes along that may pass.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AllowedConfig {
    /// Headers of the service's answer that the backend gets; `x-auth-*` stands for every name that begins so. What the client itself sent under
    /// these names never reaches the backend, whatever becomes of the question.
    #[schemars(length(max = 64))]
    pub request_headers: Vec<String>,
}

/// What the client gets that may not pass: status and body as the service answered them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeniedConfig {
    /// Headers of the service's answer that the client gets; `x-auth-*` stands for every name that begins so. If left out: all. `location`,
    /// `www-authenticate` and what describes the body always go along.
    #[schemars(length(max = 64))]
    pub response_headers: Option<Vec<String>>,
}

/// What happens when there is no decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum OnError {
    /// The client gets `errorStatus`.
    #[default]
    Deny,
    /// The request passes, as if nobody had asked.
    Allow,
}
