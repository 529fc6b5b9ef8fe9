//! The configuration as users write it. The descriptions of the JSON Schema are the comments here.

use schemars::JsonSchema;
use serde::Deserialize;

/// Translates gRPC-Web to gRPC.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Answers preflights, and lets pages of other origins read responses. Absent: the plugin has nothing to do with CORS.
    pub cors: Option<CorsConfig>,
}

/// Which pages may call from other origins.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CorsConfig {
    /// Such as `https://shop.example`, `https://*.shop.example` or `*`.
    #[schemars(length(min = 1, max = 256))]
    pub allow_origins: Vec<String>,
    /// Headers that calls may have besides those of gRPC-Web. Absent: whatever they ask for.
    pub allow_headers: Option<Vec<String>>,
    /// Headers of responses that pages may read besides `grpc-status`, `grpc-message` and `grpc-status-details-bin`.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// Whether calls may carry cookies and other credentials.
    #[serde(default)]
    pub allow_credentials: bool,
    /// Seconds for which browsers remember the answer to a preflight. Their own default, 5, if left out.
    pub max_age: Option<u32>,
    /// Which preflights are answered.
    #[serde(default)]
    pub preflights: Preflights,
}

/// Which preflights are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Preflights {
    /// Those that ask for a `POST` with the header `x-grpc-web`, as all clients send it. Others go to the backend.
    #[default]
    GrpcWeb,
    /// Every one.
    All,
}
