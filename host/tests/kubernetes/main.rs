//! The gateway beside a real API server: whose resources it takes, what it writes, and what it does when one resource, one instance or the API
//! server itself fails.
//!
//! These tests run inside the test cluster's namespaces, one after the other, because some of them stop the API server:
//!
//! ```text
//! cargo xtask test --only kubernetes
//! ```
//!
//! Each has a namespace, controller names and addresses of its own. Writes are counted in the API server's audit log, by the ServiceAccount with
//! which an instance was started: what is not in it has not happened.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected has failed, helpers included")]

mod audit;
mod backend_tls;
mod cluster;
mod hot_load;
mod ingress;
mod install;
mod isolation;
mod namespaces;
mod outage;
mod ownership;
mod records;
mod replaced;
mod steady;
mod wasm_plugins;
