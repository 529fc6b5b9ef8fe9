//! Developer commands of Penstock, as a library and as `cargo xtask <command>`.
//!
//! ```text
//! cargo xtask run      guests ─► binary ─► `penstock echo` + `penstock run -f examples/quickstart`
//! cargo xtask test     fmt, clippy, tidy, guests, tests, doc tests, docs, examples, Kubernetes: what CI runs
//! cargo xtask tidy     the rules of the code base that no compiler checks
//! cargo xtask bench    CPU microseconds per request, beside other proxies
//! cargo xtask guests   the WebAssembly components alone
//! cargo xtask cluster  a real Kubernetes on this machine: up, down, status, kubectl, exec, load-image
//! cargo xtask image    the gateway as a container image, without Docker
//! cargo xtask scale    thousands of routes in that cluster, and what the gateway makes of them
//! cargo xtask conformance   the Gateway API's conformance suite, in that cluster or another
//! ```
//!
//! It is a library because the test artifacts of `penstock-testing` are built by [`guests::build`] too: there is one way to
//! turn a guest crate into a component, whoever asks. Since a build script compiles this crate, it keeps few dependencies.
//!
//! Invariants: commands print progress to stderr and results to stdout; they can run twice in a row; they end the processes
//! that they started, by id; and they write nothing outside Cargo's target directory and
//! the user's cache.

pub mod bench;
pub mod checks;
pub mod cluster;
pub mod conformance;
pub mod guests;
pub mod image;
mod packages;
pub mod process;
pub mod run;
pub mod scale;
pub mod tidy;
pub mod workspace;
