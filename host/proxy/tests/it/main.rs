//! The data plane with real sockets on loopback. One binary, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod basics;
mod bodies;
mod change;
mod failures;
mod heads;
mod outbound;
mod plugins;
mod pooling;
mod route_plugins;
mod smuggling;
mod streams;
mod support;
mod tls;
mod upgrades;

/// The allocator of the binary, so that memory is measured as it will be.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
