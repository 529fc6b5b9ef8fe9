//! The kinds that Penstock reads, as lenient types.
//!
//! Own types where the published crates lag behind Gateway API v1.7.0, refuse whole objects for one unknown enum value, or repeat a concept per
//! kind of route; `k8s-openapi` for what is Kubernetes' own. `status` is absent on purpose: it is an output, never an input.

pub mod backend_tls;
pub mod common;
pub mod filter;
pub mod gateway;
pub mod gateway_class;
pub mod listener_set;
mod macros;
mod object;
pub mod reference_grant;
pub mod route;
pub mod wasm_plugin;

pub use backend_tls::{BackendTLSPolicy, XBackend};
pub use gateway::Gateway;
pub use gateway_class::GatewayClass;
pub use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{ConfigMap, Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
pub use listener_set::ListenerSet;
pub use object::{InvalidObject, Object};
pub use reference_grant::ReferenceGrant;
pub use route::{GRPCRoute, HTTPRoute};
pub use wasm_plugin::WasmPlugin;
