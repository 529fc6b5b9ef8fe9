//! The data plane: sockets, TLS, HTTP/1.1 and HTTP/2, endpoints, and a record of each request.
//!
//! ```text
//!            ┌──────────────────────── worker (one thread, one core; as many as there are) ────────────────────────┐
//! client ───►│ accept ─► guard ─► hyper ─► request: match, filter, plugins ─► upstream: pool, send ─► hyper        │───► endpoint
//!            └──────────────────────────────────────▲───────────────────────────────────────────────────────────────┘
//!                                        Snapshot (loaded once a request)
//! ```
//!
//! Invariants:
//! * Workers share the snapshot and a few atomics, nothing else: each has its own sockets, pools, plugin instances and metrics.
//! * A request keeps the snapshot that it began with. Publishing another one drops no connection and no request.
//! * Bodies are never buffered: a frame is asked for when the other side has room for it.
//! * Nothing that a client sends reaches an endpoint with framing that could be read in two ways.
//! * Plugins are reached through [`penstock_core::plugin::PolicyRuntime`] only; there is no wasmtime here.

mod accept;
mod access;
mod batch;
mod body;
mod clock;
mod connection;
mod edits;
mod forward;
mod guard;
mod headers;
mod ids;
mod listen;
mod metrics;
mod outbound;
mod patience;
mod policies;
mod proxy;
mod record;
mod request;
mod respond;
mod routing;
mod settings;
mod stream;
mod target;
mod tls;
mod upgrade;
mod upstream;
mod wire;
mod worker;

pub use proxy::{DrainReport, Proxy, StartError};
pub use settings::{AccessLog, ForwardingSettings, Limits, ProxySettings, Timeouts, UpstreamSettings};
