//! First-party plugins and test guests as components, built by this crate's build script.
//!
//! Each constant is the path of a component: `HEADER_RULES` is `plugins/header-rules`.

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// The bytes of the component at `path`.
///
/// # Panics
/// When the file cannot be read: the build script has just written it.
#[must_use]
pub fn bytes(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("cannot read the guest {path}: {error}"))
}
