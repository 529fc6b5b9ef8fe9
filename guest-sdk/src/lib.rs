#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! ```text
//! plugin crate ─ implements ─► Policy | StreamingPolicy | Route
//!                                      │
//!        wasm32: export ─ bindings (generated from wit/) ─► the gateway
//!        else:   testing (harness, fake capabilities)    ─► the plugin's tests
//! ```
//!
//! Invariants: generated code is named in `bindings`, `export` and `imports` only; on WebAssembly nothing but `penstock:plugin` is
//! imported, and of that only what the plugin calls; both sides go through [`export::Loaded`](export), so a test runs what the gateway runs.

#[doc(hidden)]
pub mod bindings;
pub mod capability;
pub mod duration;
mod edit;
#[doc(hidden)]
pub mod export;
pub mod extract;
pub mod header;
mod imports;
mod message;
mod plan;
mod policy;
mod problem;
mod reply;
mod route;
mod streaming;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

/// The values that cross the boundary.
pub(crate) use bindings::imports::types as wire;

pub use edit::{Edits, Recorder};
pub use header::{Direction, IntoValue, Values};
pub use message::{Request, Response, Trailers};
pub use plan::{BodyMode, Hooks, MOST_NAMES, Plan};
pub use policy::{Policy, Verdict};
pub use problem::{Pointer, Problem, Problems, nearest, schema};
pub use reply::Reply;
pub use route::{Candidate, Choice, Route, RouteRequest};
pub use streaming::{BodyVerdict, Chunk, Exchange, HeadVerdict, Release, StreamingPolicy};
pub use wire::Summary;

/// What most plugins need: `use penstock_plugin::prelude::*;`.
pub mod prelude {
    pub use crate::{
        BodyMode, BodyVerdict, Choice, Chunk, Edits, Exchange, HeadVerdict, Hooks, Plan, Pointer, Policy, Problems,
        Release, Reply, Request, Response, Route, RouteRequest, StreamingPolicy, Summary, Trailers, Values, Verdict,
        plugin,
    };
    pub use schemars::JsonSchema;
    pub use serde::Deserialize;
}
