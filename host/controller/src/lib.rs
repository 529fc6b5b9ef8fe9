//! The control plane: sources, the event loop, publishing, the status board.
//!
//! ```text
//! sources ──Event──► Inbox ──Batch──► Controller ──► Resources ──► translate ──┬─► Outputs: snapshot, plugins
//! facts   ──Event──►  (latest of each thing wins)                              ├─► endpoint cells
//!                                                                              ├─► StatusBoard ──► admin server
//!                                                                              └─► Writer ──► API server (who holds the Lease)
//! ```
//!
//! Invariants:
//! * One owner: only the loop's thread touches the world. Everyone else sends events, and reads what it published.
//! * Nothing overflows: events about the same thing replace each other.
//! * Nothing is published before every source is complete, so a restart never answers 404 for what it has not read yet.
//! * Only the writer writes into a cluster: it compares what is wanted with what is there, and leaves what is others'.
//! * Status is never an input. A fact that is known already causes no work.

mod cluster;
mod controller;
mod event;
mod events;
mod health;
mod inbox;
mod lease;
mod metrics;
mod readiness;
pub mod sources;
mod status;
mod timer;
mod upkeep;
mod writer;

pub use cluster::{Cluster, ClusterSettings};
pub use controller::{Controller, Outputs, Reserve};
pub use event::{Event, SourceId};
pub use health::Health;
pub use inbox::{Batch, Inbox};
pub use metrics::{ClusterMetrics, ControllerMetrics};
pub use readiness::Unready;
pub use status::{Clock, ProblemReport, Report, ResourceReport, SocketReport, StatusBoard};
