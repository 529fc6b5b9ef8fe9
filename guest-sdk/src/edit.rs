//! Changes to headers, recorded by hooks and applied by the gateway once the hook has succeeded.

use std::cell::RefCell;

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

/// Records what one hook changes in one message. [`Request`](crate::Request), [`Response`](crate::Response) and
/// [`Trailers`](crate::Trailers) dereference to it.
///
/// What is recorded is applied, in order, after the hook has succeeded; reading the message does not see it. A name must be covered by the
/// plan's writes for the direction of the message.
pub struct Recorder<'p> {
    writes: &'p [String],
    edits: RefCell<Vec<wire::Edit>>,
}

impl<'p> Recorder<'p> {
    pub(crate) fn new(writes: &'p [String]) -> Self {
        Self { writes, edits: RefCell::default() }
    }

    pub(crate) fn into_edits(self) -> Vec<wire::Edit> {
        self.edits.into_inner()
    }

    /// Replace all values of `name` by this one.
    pub fn set(&self, name: &str, value: impl IntoValue) {
        match self.known(name) {
            Some(index) => self.set_known(index, value),
            None => self.record(wire::Edit::Set(header(name, value))),
        }
    }

    /// Add a value behind those that exist.
    pub fn append(&self, name: &str, value: impl IntoValue) {
        match self.known(name) {
            Some(index) => self.append_known(index, value),
            None => self.record(wire::Edit::Append(header(name, value))),
        }
    }

    /// Remove every value of `name`.
    pub fn remove(&self, name: &str) {
        match self.known(name) {
            Some(index) => self.remove_known(index),
            None => self.record(wire::Edit::Remove(canonical(name).into_owned())),
        }
    }

    /// [`Recorder::set`] for the name at this place of the plan's writes.
    pub fn set_known(&self, index: u32, value: impl IntoValue) {
        self.record(wire::Edit::SetKnown(wire::KnownHeader { index, value: value.into_value() }));
    }

    /// [`Recorder::append`] for the name at this place of the plan's writes.
    pub fn append_known(&self, index: u32, value: impl IntoValue) {
        self.record(wire::Edit::AppendKnown(wire::KnownHeader { index, value: value.into_value() }));
    }

    /// [`Recorder::remove`] for the name at this place of the plan's writes.
    pub fn remove_known(&self, index: u32) {
        self.record(wire::Edit::RemoveKnown(index));
    }

    /// How many changes are recorded. The gateway takes 1024.
    #[must_use]
    pub fn count(&self) -> usize {
        self.edits.borrow().len()
    }

    fn record(&self, edit: wire::Edit) {
        self.edits.borrow_mut().push(edit);
    }

    /// The index of a name that the plan declares: the cheapest form of an edit, with nothing to parse. A prefix such as `x-*` never equals
    /// a name that can be edited, so it is never found here.
    fn known(&self, name: &str) -> Option<u32> {
        position(self.writes, name).and_then(|index| u32::try_from(index).ok())
    }
}

/// A header by name, as replies and edits without a known name carry it.
pub(crate) fn header(name: &str, value: impl IntoValue) -> wire::Header {
    wire::Header { name: canonical(name).into_owned(), value: value.into_value() }
}
