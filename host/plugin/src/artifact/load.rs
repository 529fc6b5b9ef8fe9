//! The one place that loads machine code.

use wasmtime::{Engine, component::Component};

/// Code that may be loaded. Whoever makes one says where it comes from; there are three such places, and no other will do.
#[derive(Clone, Copy)]
pub(super) struct Trusted<'a>(&'a [u8]);

impl<'a> Trusted<'a> {
    /// The answer of the process that compiles. It compiles in the sandbox and never runs what it compiled.
    pub(super) fn compiled(code: &'a [u8]) -> Self {
        Self(code)
    }

    /// Bytes with a valid signature under our own key. The checked bytes themselves, not the file again: it may have changed since.
    pub(super) fn signed(code: &'a [u8]) -> Self {
        Self(code)
    }

    /// What the gateway handed to the process that is to run it first, which has nothing to lose.
    pub(super) fn handed(code: &'a [u8]) -> Self {
        Self(code)
    }
}

/// The component whose code this is.
#[expect(unsafe_code, reason = "the one place that loads machine code; see below")]
pub(super) fn component(engine: &Engine, code: Trusted<'_>) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` trusts that the bytes are the unmodified output of `Engine::precompile_component`. They are: they come straight
    // from the process that compiles, through a pipe that nobody else has, or carry a valid HMAC under a key that never leaves this user's
    // private directory and signs nothing else. Whoever could forge one can read the key or write the pipe, and so could change the
    // gateway's own executable. What remains is a component that takes over the compiler while it is compiled, and then sends code of its
    // own: the compiler is what keeps plugins apart, so its defects were always the gateway's, and the sandbox leaves it nothing else to do.
    // That the version of wasmtime, its settings and the CPU are the same is checked by `deserialize` itself.
    unsafe { Component::deserialize(engine, code.0) }
}
