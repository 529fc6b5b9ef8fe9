//! The data plane with real sockets on loopback. One binary, so that it is linked once.

mod basics;
mod change;
mod failures;
mod smuggling;
mod support;
