//! `interface types` of the contract.
//!
//! Order and names of fields and cases are those of `wit/types.wit`; wasmtime compares them with every component it loads.

#![allow(unsafe_code, reason = "the derives of wasmtime expand to unsafe implementations that they have checked")]

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wasmtime::component::{ComponentType, Lift, Lower, flags};

#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum Field<'a> {
    #[component(name = "absent")]
    Absent,
    #[component(name = "one")]
    One(&'a [u8]),
    #[component(name = "many")]
    Many(&'a [&'a [u8]]),
}

#[derive(Debug, Clone, PartialEq, ComponentType, Lift)]
#[component(record)]
pub(crate) struct KnownHeader {
    pub(crate) index: u32,
    pub(crate) value: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Edit {
    #[component(name = "set")]
    Set(Header),
    #[component(name = "append")]
    Append(Header),
    #[component(name = "remove")]
    Remove(String),
    #[component(name = "set-known")]
    SetKnown(KnownHeader),
    #[component(name = "append-known")]
    AppendKnown(KnownHeader),
    #[component(name = "remove-known")]
    RemoveKnown(u32),
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Proceed {
    pub(crate) edits: Vec<Edit>,
    pub(crate) token: u64,
    pub(crate) skip: Hooks,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Verdict {
    #[component(name = "proceed")]
    Proceed(Proceed),
    #[component(name = "reply")]
    Reply(Reply),
    #[component(name = "hold")]
    Hold,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Release {
    pub(crate) edits: Vec<Edit>,
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum BodyVerdict {
    #[component(name = "pass")]
    Pass,
    #[component(name = "replace")]
    Replace(Vec<u8>),
    #[component(name = "hold")]
    Hold,
    #[component(name = "release")]
    Release(Release),
    #[component(name = "reply")]
    Reply(Reply),
    #[component(name = "abort")]
    Abort(String),
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(crate) struct TrailersVerdict {
    pub(crate) body: Vec<u8>,
    pub(crate) edits: Vec<Edit>,
}

/// A header on its way into the guest.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct HeaderRef<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a [u8],
}

#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Summary<'a> {
    pub(crate) status: u16,
    #[component(name = "request-bytes")]
    pub(crate) request_bytes: u64,
    #[component(name = "response-bytes")]
    pub(crate) response_bytes: u64,
    #[component(name = "duration-us")]
    pub(crate) duration_us: u64,
    pub(crate) upstream: Option<&'a str>,
    #[component(name = "grpc-status")]
    pub(crate) grpc_status: Option<u32>,
    pub(crate) error: Option<&'a str>,
}

/// `route-policy.pick`.
#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Pick {
    pub(crate) index: u32,
    #[component(name = "response-edits")]
    pub(crate) response_edits: Vec<Edit>,
}

/// `route-policy.choice`.
#[derive(Debug, Clone, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Choice {
    #[component(name = "default")]
    Default,
    #[component(name = "candidate")]
    Candidate(Pick),
    #[component(name = "reply")]
    Reply(Reply),
}

#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Serialize, Deserialize)]
#[component(variant)]
pub(crate) enum BodyMode {
    #[component(name = "none")]
    None,
    #[component(name = "stream")]
    Stream,
    #[component(name = "buffer")]
    Buffer(u32),
}

#[derive(Debug, Clone, ComponentType, Lift, Serialize, Deserialize)]
#[component(record)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    #[component(name = "config-schema")]
    pub(crate) config_schema: String,
}

flags! {
    Hooks {
        #[component(name = "request-headers")]
        const REQUEST_HEADERS;
        #[component(name = "request-body")]
        const REQUEST_BODY;
        #[component(name = "request-trailers")]
        const REQUEST_TRAILERS;
        #[component(name = "response-headers")]
        const RESPONSE_HEADERS;
        #[component(name = "response-body")]
        const RESPONSE_BODY;
        #[component(name = "response-trailers")]
        const RESPONSE_TRAILERS;
        #[component(name = "end")]
        const END;
        #[component(name = "choose")]
        const CHOOSE;
    }
}

impl Hooks {
    /// With their names in the contract, in the order in which they are called.
    pub(crate) const NAMES: [(Self, &'static str); 8] = [
        (Self::REQUEST_HEADERS, "request-headers"),
        (Self::REQUEST_BODY, "request-body"),
        (Self::REQUEST_TRAILERS, "request-trailers"),
        (Self::CHOOSE, "choose"),
        (Self::RESPONSE_HEADERS, "response-headers"),
        (Self::RESPONSE_BODY, "response-body"),
        (Self::RESPONSE_TRAILERS, "response-trailers"),
        (Self::END, "end"),
    ];
}

/// By name.
impl Serialize for Hooks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Self::NAMES.iter().filter(|(hook, _)| *self & *hook == *hook).map(|(_, name)| name))
    }
}

impl<'de> Deserialize<'de> for Hooks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer)?.iter().try_fold(Self::empty(), |hooks, name| {
            let hook = Self::NAMES.iter().find(|(_, known)| known == name);
            hook.map(|(hook, _)| hooks | *hook)
                .ok_or_else(|| de::Error::custom(format_args!("no hook is named {name:?}")))
        })
    }
}

#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Serialize, Deserialize)]
#[component(record)]
pub(crate) struct Plan {
    pub(crate) hooks: Hooks,
    #[component(name = "request-reads")]
    pub(crate) request_reads: Vec<String>,
    #[component(name = "response-reads")]
    pub(crate) response_reads: Vec<String>,
    #[component(name = "carried-reads")]
    pub(crate) carried_reads: Vec<String>,
    #[component(name = "request-writes")]
    pub(crate) request_writes: Vec<String>,
    #[component(name = "response-writes")]
    pub(crate) response_writes: Vec<String>,
    #[component(name = "request-body")]
    pub(crate) request_body: BodyMode,
    #[component(name = "response-body")]
    pub(crate) response_body: BodyMode,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Problem {
    pub(crate) pointer: String,
    pub(crate) message: String,
}

/// `exchange-info.tls-info`.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(crate) struct TlsInfo {
    #[component(name = "server-name")]
    pub(crate) server_name: Option<String>,
    pub(crate) version: &'static str,
    #[component(name = "client-certificate")]
    pub(crate) client_certificate: Option<Vec<u8>>,
}

/// `exchange-info.client-info`.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(crate) struct ClientInfo {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) protocol: &'static str,
    pub(crate) tls: Option<TlsInfo>,
}

/// `exchange-info.candidate`.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) weight: u32,
    #[component(name = "ready-endpoints")]
    pub(crate) ready_endpoints: u32,
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "only plugins construct levels")]
pub(crate) enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// `metrics.invalid-metric`.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum InvalidMetric {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "conflict")]
    Conflict(String),
    #[component(name = "too-many")]
    TooMany,
}

/// `rate-limit.decision`.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct RateLimitDecision {
    pub(crate) allowed: bool,
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    #[component(name = "reset-ms")]
    pub(crate) reset_ms: u64,
    #[component(name = "window-ms")]
    pub(crate) window_ms: u64,
}

/// `rate-limit.rate-limit-error`.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum RateLimitError {
    #[component(name = "unknown-bucket")]
    UnknownBucket(Vec<String>),
    #[component(name = "unavailable")]
    Unavailable(String),
}

/// `key-value.key-value-error`.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum KeyValueError {
    #[component(name = "full")]
    Full,
    #[component(name = "too-large")]
    TooLarge,
}

/// `outbound-http.request`.
#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(crate) struct OutboundCall {
    pub(crate) backend: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Vec<u8>,
    #[component(name = "timeout-ms")]
    pub(crate) timeout_ms: Option<u32>,
}

/// `outbound-http.response`.
#[derive(Debug, Clone, PartialEq, ComponentType, Lower)]
#[component(record)]
pub(crate) struct OutboundAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Vec<u8>,
}

/// `outbound-http.outbound-error`.
#[derive(Debug, Clone, PartialEq, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum OutboundError {
    #[component(name = "unknown-backend")]
    UnknownBackend(Vec<String>),
    #[component(name = "invalid-request")]
    InvalidRequest(String),
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "connect")]
    Connect(String),
    #[component(name = "too-large")]
    TooLarge(u64),
    #[component(name = "quota")]
    Quota,
    #[component(name = "protocol")]
    Protocol(String),
}
