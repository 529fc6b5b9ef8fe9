//! The vocabulary of Penstock: what a snapshot is, how a request finds its rule, what native filters do.
//!
//! ```text
//! translate ──► Snapshot ──► proxy          (configuration: one way)
//! translate ──► PluginSpec ──► plugin host  (what should run)
//! proxy, plugin host ──► Fact ──► controller (what does run)
//! ```
//!
//! Invariants:
//! * Pure: no tokio, no Kubernetes, no wasmtime, no hyper, no clock, no I/O. Everything here can be tested with plain values.
//! * Values that key pools, buckets and instances are `Eq + Hash`, so an unrelated change never cools them.
//! * An invalid reference is data ([`route::Action::Fail`]), not an error path: the request that meets it gets an answer and a reason.

pub mod backend;
pub mod check;
pub mod client_address;
pub mod fact;
pub mod filter;
pub mod hostname;
pub mod listener;
pub mod matching;
pub mod nearest;
pub mod nesting;
pub mod path;
pub mod plugin;
pub mod reason;
pub mod resource;
pub mod route;
pub mod snapshot;

pub use resource::{Kind, ResourceRef};
pub use snapshot::{Snapshot, SnapshotCell};
