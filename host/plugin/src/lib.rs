//! The plugin host: WebAssembly components as policies.
//!
//! ```text
//!              PluginSpec                                  Fact::Plugin
//! controller ─────────────► PluginHost ──────────────────────────────────────► controller
//!                             │ fetch                                                               (own threads)
//!                             │ static check ─ compile ─ describe ─ configure ─ samples             (own processes)
//!                             ▼
//!                          Revision ──(snapshot)──► proxy worker ──► PolicyWorker ──► Instance      (worker threads)
//! ```
//!
//! Three lifetimes, three types: the engine (process), a revision (module + configuration + limits + capabilities, shared), an instance
//! (one store, one thread at a time).
//!
//! Invariants:
//! * This is the only crate that knows wasmtime; the proxy sees `core::plugin` alone.
//! * Nothing here blocks a worker but the hook itself, and that has a limit of CPU time.
//! * A hook that does not answer properly leaves the message as it was. Its instance is dropped; no other exchange notices.
//! * A candidate that is refused changes nothing but status: what was active stays active.
//! * No interface that the resource does not grant, and behind WASI neither files nor sockets, no machine code that this host did not have compiled and sign.
//! * No compiler in the gateway's process: what strangers wrote is compiled and first run in a process that can do nothing else.

mod artifact;
mod breaker;
mod budget;
mod capability;
mod checks;
mod choose;
mod config;
mod contract;
mod edits;
mod engine;
mod examine;
mod fetch;
mod fields;
#[cfg(test)]
#[expect(dead_code, unreachable_pub, reason = "it is made for other tests")]
#[path = "../tests/support/guest.rs"]
mod guest;
mod hooks;
mod host;
mod imports;
mod instance;
mod last_good;
mod metrics;
mod module;
mod names;
mod plan;
mod printable;
pub mod reason;
pub mod rehearsal;
mod reply;
mod revision;
mod samples;
mod sandbox;
mod static_check;
mod tally;
pub mod validator;
mod worker;

pub use artifact::StoreError;
pub use engine::EngineError;
pub use fetch::{Artifact, PulledModule, RegistryClient, RegistryError, SourceAddresses};
pub use host::{
    Described, Desired, InstanceCost, Outline, PlanReport, PluginHost, PluginSettings, StartError, Validated,
};
pub use last_good::OpenError;
pub use static_check::is_wasi_slice;
