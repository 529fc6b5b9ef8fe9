//! What an operator may set about the data plane. Every field has a default and a reason for it.

use std::{num::NonZeroUsize, time::Duration};

use penstock_core::client_address::TrustedProxies;

/// Settings of the data plane. They hold for the life of the process; what changes at run time is in the snapshot.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Worker threads. One for each core that the process may use: workers share nothing, so more only adds switches.
    pub workers: NonZeroUsize,
    /// Limits on what clients may send.
    pub limits: Limits,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// Connections to endpoints.
    pub upstream: UpstreamSettings,
    /// What is told to endpoints about the client.
    pub forwarding: ForwardingSettings,
    /// One record for each request.
    pub access_log: AccessLog,
    /// In each record, which headers each plugin changed. Heads are copied for it.
    pub access_log_edits: bool,
}

/// Limits on what clients may send.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open client connections, all workers together. At about 20 KiB each, 50,000 take 1 GiB. Further ones get 503 and are closed.
    pub connections: usize,
    /// Bytes of a request head, request line included. 64 KiB is what browsers with many cookies need at most; nginx allows 32 KiB.
    pub head_size: usize,
    /// Header lines of a request. 100 is what Apache allows.
    pub headers: usize,
    /// Bytes of a request target. 8 KiB is what RFC 9110 asks to support and what most servers allow.
    pub uri_length: usize,
    /// Bytes of a request body. No limit by default: streams are never buffered, and backends have limits of their own.
    pub body_size: Option<u64>,
    /// Bytes of bodies that wait in memory, all of them together: what plugins hold back, and what is buffered for them. 256 MiB: as many whole
    /// ones at the default of a plugin's `limits.bodyBuffer`. Further ones get 503.
    pub waiting_bodies: u64,
    /// Concurrent streams of an HTTP/2 connection. 128 suffices for any browser, and bounds what one client can ask at once.
    pub streams: u32,
    /// Streams that a client may open and reset at once before the connection is ended (rapid reset, CVE-2023-44487).
    pub reset_streams: usize,
}

/// How long anything may take. Most are checked ten times a second, so they may be up to 200 ms late.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From the first byte of a request head to its last. 10 s: no sane client needs more, and slow ones hold a connection each.
    pub head: Duration,
    /// A client connection without a request. 60 s, longer than most clients keep theirs, so that they close first.
    pub idle: Duration,
    /// Between two pieces of a request body (not for the whole of it). 30 s, half of what nginx allows: a client that pauses for longer is gone.
    pub body: Duration,
    /// A client that takes nothing of a response. 30 s: its exchange holds a connection to an endpoint for as long.
    pub write: Duration,
    /// A TLS handshake with a client. 10 s, as for a head: both cost a client nothing to begin.
    pub handshake: Duration,
    /// TCP connect and TLS handshake with an endpoint. 5 s: three SYNs; a healthy endpoint needs milliseconds.
    pub connect: Duration,
    /// From the end of the request to the head of the response. 60 s as in nginx and HAProxy examples.
    pub response: Duration,
}

/// Connections to endpoints.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// An idle connection is closed after it. 30 s, less than the 60 s and more of common servers, so that they seldom close first.
    pub idle: Duration,
    /// Idle HTTP/1.1 connections kept for each endpoint and worker. 256: more at once are rare, and each costs a descriptor on both sides.
    pub max_idle: usize,
    /// Endpoints to try for one request when connecting fails. 3: an endpoint that died is skipped, a dead service answers soon.
    pub attempts: u32,
    /// How long an endpoint that refused a connection is passed over while others remain. 1 s: soon found again, and seldom asked in vain.
    pub cooldown: Duration,
}

/// What is told to endpoints about the client.
#[derive(Debug, Clone, Default)]
pub struct ForwardingSettings {
    /// Whose `X-Forwarded-*`, `Forwarded` and `X-Request-Id` are believed: proxies in front of this one. Nobody's by default: whatever
    /// a stranger claims is replaced.
    pub trusted_proxies: TrustedProxies,
}

/// One record for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessLog {
    /// Nothing is gathered, nothing is written. The default: metrics tell rates and latencies at no cost.
    #[default]
    Off,
    /// A JSON object a line on standard output.
    Json,
    /// A line for people on standard output.
    Text,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            upstream: UpstreamSettings::default(),
            forwarding: ForwardingSettings::default(),
            access_log: AccessLog::Off,
            access_log_edits: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 50_000,
            head_size: 64 << 10,
            headers: 100,
            uri_length: 8 << 10,
            body_size: None,
            waiting_bodies: 256 << 20,
            streams: 128,
            reset_streams: 20,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
        }
    }
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), max_idle: 256, attempts: 3, cooldown: Duration::from_secs(1) }
    }
}
