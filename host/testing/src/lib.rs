//! What integration tests share.
//!
//! ```text
//! client ──────►  gateway under test  ──────►  origin
//! get("/x").host("a.example")                  Answer::new(200).chunk("a").wait(&gate).trailer("x", "y")
//! Connection::h1 | h2 | tls | Raw              Origin::start(), origin.requests()
//! ```
//!
//! * [`origin`]: a server on 127.0.0.1 that records what it got and answers what the test says.
//! * [`client`]: requests over one HTTP/1.1 or HTTP/2 connection, or raw bytes.
//! * [`pressure`]: requests without pause, to show that a change loses none.
//! * [`gateway`]: the binary as a process, with resource files of its own.
//! * [`port`]: ports that belong to one test.
//! * [`redis`]: a real Redis as a process, with a password or without.
//! * [`registry`]: a real registry as a process, with a login or without.
//! * [`certificate`]: certificates for tests, made on the spot.
//! * `guests`: first-party plugins and test guests as components (behind the feature `guests`).
//! * [`gate`] and [`eventually`]: waiting without sleeping in the dark.
//!
//! Invariants: only loopback addresses, only ports that the kernel chose, nothing waits longer than [`PATIENCE`]. A failed
//! operation is an error that says what was waited for, so that a test may `unwrap` it.

use std::time::Duration;

pub mod certificate;
pub mod client;
pub mod eventually;
pub mod gate;
pub mod gateway;
#[cfg(feature = "guests")]
pub mod guests;
pub mod origin;
pub mod port;
pub mod pressure;
pub mod redis;
pub mod registry;
mod server;

pub use tempfile;

/// How long any operation of this crate waits before it gives up. A hang becomes a failure with a message; it is no measure
/// of speed, and long enough for a machine that compiles in the background.
pub const PATIENCE: Duration = Duration::from_secs(60);
