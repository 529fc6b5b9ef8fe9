//! Changes to headers, recorded by hooks and applied by the gateway once the hook has succeeded.

use crate::{
    header::{IntoValue, canonical},
    plan::position,
    wire,
};

/// Changes that a hook collects for headers that it does not hold itself: see [`crate::Release`] and [`crate::Choice`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edits(Vec<wire::Edit>);

impl Edits {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replace all values of `name` by this one.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl IntoValue) -> Self {
        self.0.push(wire::Edit::Set(header(name, value)));
        self
    }

    /// Add a value behind those that exist.
    #[must_use]
    pub fn append(mut self, name: &str, value: impl IntoValue) -> Self {
        self.0.push(wire::Edit::Append(header(name, value)));
        self
    }

    /// Remove every value of `name`.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        self.0.push(wire::Edit::Remove(canonical(name).into_owned()));
        self
    }

    pub(crate) fn into_wire(self) -> Vec<wire::Edit> {
        self.0
    }
}

/// A header by name, as replies and edits without a known name carry it.
pub(crate) fn header(name: &str, value: impl IntoValue) -> wire::Header {
    wire::Header { name: canonical(name).into_owned(), value: value.into_value() }
}

/// The cheapest form of "set": by index when the plan declares the name.
pub(crate) fn set(writes: &[String], name: &str, value: impl IntoValue) -> wire::Edit {
    match known(writes, name) {
        Some(index) => set_known(index, value),
        None => wire::Edit::Set(header(name, value)),
    }
}

/// As [`set`].
pub(crate) fn append(writes: &[String], name: &str, value: impl IntoValue) -> wire::Edit {
    match known(writes, name) {
        Some(index) => append_known(index, value),
        None => wire::Edit::Append(header(name, value)),
    }
}

/// As [`set`].
pub(crate) fn remove(writes: &[String], name: &str) -> wire::Edit {
    match known(writes, name) {
        Some(index) => wire::Edit::RemoveKnown(index),
        None => wire::Edit::Remove(canonical(name).into_owned()),
    }
}

pub(crate) fn set_known(index: u32, value: impl IntoValue) -> wire::Edit {
    wire::Edit::SetKnown(wire::KnownHeader { index, value: value.into_value() })
}

pub(crate) fn append_known(index: u32, value: impl IntoValue) -> wire::Edit {
    wire::Edit::AppendKnown(wire::KnownHeader { index, value: value.into_value() })
}

/// A prefix such as `x-*` never equals a name that can be edited, so it is never found here.
fn known(writes: &[String], name: &str) -> Option<u32> {
    position(writes, name).and_then(|index| u32::try_from(index).ok())
}
