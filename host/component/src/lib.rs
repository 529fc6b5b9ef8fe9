//! From a guest crate to a component: the one way, for `cargo xtask guests` and for `penstock plugin build`.
//!
//! ```text
//! ensure_target ─► (the caller runs cargo build --target wasm32-unknown-unknown) ─► core module ─► encode ─► component
//! ```
//!
//! Invariants: nothing here prints or knows where files are; few dependencies, because a build script of this repository compiles it.

mod sections;
mod target;

use wit_component::ComponentEncoder;

pub use self::target::{InstallError, Installed, TARGET, ensure_target};

/// A core module that became a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The component.
    pub bytes: Vec<u8>,
    /// Bytes of names and debug information that were left out.
    pub stripped: usize,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Not what `cargo build` makes for [`TARGET`].
    #[error("this is no core module of WebAssembly")]
    NotAModule,
    /// Nothing in it was made by the SDK.
    #[error(
        "the module exports no plugin: export one at the end of src/lib.rs, such as `penstock_plugin::plugin!(policy: MyPlugin);`"
    )]
    NoPlugin,
    /// The module does not fit the description that it carries.
    #[error("the module cannot be made into a component: {0}")]
    Mismatch(String),
}

/// Wrap a core module into the component that its embedded WIT describes, without what only debuggers read.
///
/// # Errors
/// When it is no module, exports no plugin, or does not fit what it says of itself.
pub fn encode(module: &[u8]) -> Result<Component, EncodeError> {
    let names = sections::custom_names(module).ok_or(EncodeError::NotAModule)?;
    if !names.iter().any(|name| name.starts_with("component-type")) {
        return Err(EncodeError::NoPlugin);
    }
    let slim = sections::without_debug(module).ok_or(EncodeError::NotAModule)?;
    let mismatch = |error| EncodeError::Mismatch(format!("{error:#}"));
    let mut encoder = ComponentEncoder::default();
    encoder.module(&slim).map_err(mismatch)?.validate(true);
    let bytes = encoder.encode().map_err(mismatch)?;
    Ok(Component { bytes, stripped: module.len() - slim.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_or_no_plugin_is_said_so() {
        assert!(matches!(encode(b"ten bytes!"), Err(EncodeError::NotAModule)));
        assert!(matches!(encode(b"\0asm\x01\0\0\0"), Err(EncodeError::NoPlugin)));
    }
}
