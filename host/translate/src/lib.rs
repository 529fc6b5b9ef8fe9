//! Resources in, configuration and status out.
//!
//! ```text
//! Object ──► Resources ──► Translator::translate ──► Translation { snapshot, endpoints, statuses, needs }
//!               ▲                                                                          │
//!               └───────────────────────────── facts ◄─────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! * Total: bad input becomes conditions and failing rules, never an error and never a panic.
//! * Pure: no clock, no I/O. The result depends on the world and the settings only, not on the order in which the world came about.
//! * Snapshot and statuses come from the same evaluation.
//! * A broken rule answers; it never lets a less specific rule take its requests.
//! * What is somebody else's makes no work: `Translator::concerns` says so before a translation.
//! * Incremental: what did not read anything that changed is not evaluated again, and keeps its allocation.

mod backend_tls;
mod class;
mod concern;
pub mod crd;
mod endpoints;
mod front;
mod gateway;
mod grants;
mod ingress;
mod ownership;
mod plugin;
mod problem;
pub mod resources;
mod route;
mod selector;
mod settings;
mod sockets;
pub mod status;
mod table;
mod translation;
mod translator;
mod upkeep;
mod view;
mod world;

pub use penstock_core::nearest;
pub use plugin::{InvalidCeiling, PluginCeilings, installation, record_selector};
pub use selector::{InvalidSelector, LabelSelector};
pub use settings::{
    AddressRange, GatewayAddresses, GatewayServices, IngressPorts, InvalidAddressRange, InvalidServiceName,
    InvalidServiceType, ServiceType, Settings,
};
pub use status::{Condition, ConditionStatus, Status, Statuses};
pub use table::{Stamp, Table};
pub use translation::{Needs, Translation};
pub use translator::{Translator, translate};
pub use upkeep::{Action, Upkeep};
pub use world::{Change, Facts, Resources, ServiceSlices};
