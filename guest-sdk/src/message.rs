//! The messages that hooks see.

use std::{borrow::Cow, cell::RefCell};

use crate::{
    edit,
    header::{Direction, IntoValue, Values, canonical},
    imports::exchange_info,
    plan::{Plan, position},
    wire,
};

/// A request as it reached this plugin: what native filters and earlier plugins made of it.
///
/// Reading sees the message as it arrived, whatever this hook has recorded already. Edits are recorded and applied, in order, after the
/// hook has succeeded. A header that the plan declares costs nothing to read; any other one is fetched with a call.
pub struct Request<'p> {
    plan: &'p Plan,
    fields: Vec<wire::Field>,
    edits: RefCell<Vec<wire::Edit>>,
}

impl<'p> Request<'p> {
    pub(crate) fn new(plan: &'p Plan, fields: Vec<wire::Field>) -> Self {
        Self { plan, fields, edits: RefCell::default() }
    }

    pub(crate) fn into_edits(self) -> Vec<wire::Edit> {
        self.edits.into_inner()
    }

    /// All values of a header or pseudo-header.
    #[must_use]
    pub fn header(&self, name: &str) -> Values<'_> {
        match position(&self.plan.wire().request_reads, name).and_then(|index| self.fields.get(index)) {
            Some(field) => field.into(),
            None => Values::owned(exchange_info::request_header(&canonical(name))),
        }
    }

    /// The values at this place of the plan's `request_reads`.
    ///
    /// # Panics
    /// When the plan declares fewer.
    #[must_use]
    pub fn read(&self, index: usize) -> Values<'_> {
        (&self.fields[index]).into()
    }

    /// Such as `GET`.
    #[must_use]
    pub fn method(&self) -> String {
        self.pseudo(":method")
    }

    /// Without the query.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = self.pseudo(":path");
        path.truncate(path.find('?').unwrap_or(path.len()));
        path
    }

    /// What follows the first `?` of the target, as the client wrote it.
    #[must_use]
    pub fn query(&self) -> Option<String> {
        self.pseudo(":path").split_once('?').map(|(_, query)| query.to_owned())
    }

    /// Host, and the port if it was named.
    #[must_use]
    pub fn authority(&self) -> String {
        self.pseudo(":authority")
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> String {
        self.pseudo(":scheme")
    }

    /// Address of the client, after trusted proxies have been taken off.
    #[must_use]
    pub fn client_address(&self) -> String {
        self.pseudo(":client-address")
    }

    /// Replace all values of `name` by this one.
    pub fn set(&self, name: &str, value: impl IntoValue) {
        self.record(edit::set(self.plan.writes(Direction::Request), name, value));
    }

    /// Add a value behind those that exist.
    pub fn append(&self, name: &str, value: impl IntoValue) {
        self.record(edit::append(self.plan.writes(Direction::Request), name, value));
    }

    /// Remove every value of `name`.
    pub fn remove(&self, name: &str) {
        self.record(edit::remove(self.plan.writes(Direction::Request), name));
    }

    /// [`Request::set`] for the name at this place of the plan's `request_writes`.
    pub fn set_known(&self, index: u32, value: impl IntoValue) {
        self.record(edit::set_known(index, value));
    }

    /// [`Request::append`] for the name at this place of the plan's `request_writes`.
    pub fn append_known(&self, index: u32, value: impl IntoValue) {
        self.record(edit::append_known(index, value));
    }

    /// [`Request::remove`] for the name at this place of the plan's `request_writes`.
    pub fn remove_known(&self, index: u32) {
        self.record(wire::Edit::RemoveKnown(index));
    }

    fn record(&self, edit: wire::Edit) {
        self.edits.borrow_mut().push(edit);
    }

    fn pseudo(&self, name: &str) -> String {
        text(&self.header(name)).into_owned()
    }
}

/// A response on its way to the client: from a backend, from another plugin, or from the gateway itself.
///
/// As with [`Request`], reading sees the message as it arrived, and edits are applied after the hook.
pub struct Response<'p> {
    plan: &'p Plan,
    token: u64,
    status: u16,
    fields: Vec<wire::Field>,
    edits: RefCell<Vec<wire::Edit>>,
}

impl<'p> Response<'p> {
    pub(crate) fn new(plan: &'p Plan, token: u64, status: u16, fields: Vec<wire::Field>) -> Self {
        Self { plan, token, status, fields, edits: RefCell::default() }
    }

    pub(crate) fn into_edits(self) -> Vec<wire::Edit> {
        self.edits.into_inner()
    }

    /// Such as 200.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What the request hook of the same exchange kept with [`crate::Verdict::ProceedWith`]; else 0.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// All values of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Values<'_> {
        match position(&self.plan.wire().response_reads, name).and_then(|index| self.fields.get(index)) {
            Some(field) => field.into(),
            None => Values::owned(exchange_info::response_header(&canonical(name))),
        }
    }

    /// The values at this place of the plan's `response_reads`, which the `carried_reads` follow.
    ///
    /// # Panics
    /// When the plan declares fewer.
    #[must_use]
    pub fn read(&self, index: usize) -> Values<'_> {
        (&self.fields[index]).into()
    }

    /// All values of a header or pseudo-header of the request, as it reached this plugin.
    ///
    /// # Panics
    /// When the plan does not carry it: the gateway has not kept it then, and "absent" would be a lie.
    #[must_use]
    pub fn request_header(&self, name: &str) -> Values<'_> {
        let plan = self.plan.wire();
        let Some(index) = position(&plan.carried_reads, name) else {
            panic!("`{name}` of the request is read in the response hook: declare it with Plan::carried_reads")
        };
        self.read(plan.response_reads.len() + index)
    }

    /// Replace all values of `name` by this one.
    pub fn set(&self, name: &str, value: impl IntoValue) {
        self.record(edit::set(self.plan.writes(Direction::Response), name, value));
    }

    /// Add a value behind those that exist.
    pub fn append(&self, name: &str, value: impl IntoValue) {
        self.record(edit::append(self.plan.writes(Direction::Response), name, value));
    }

    /// Remove every value of `name`.
    pub fn remove(&self, name: &str) {
        self.record(edit::remove(self.plan.writes(Direction::Response), name));
    }

    /// [`Response::set`] for the name at this place of the plan's `response_writes`.
    pub fn set_known(&self, index: u32, value: impl IntoValue) {
        self.record(edit::set_known(index, value));
    }

    /// [`Response::append`] for the name at this place of the plan's `response_writes`.
    pub fn append_known(&self, index: u32, value: impl IntoValue) {
        self.record(edit::append_known(index, value));
    }

    /// [`Response::remove`] for the name at this place of the plan's `response_writes`.
    pub fn remove_known(&self, index: u32) {
        self.record(wire::Edit::RemoveKnown(index));
    }

    fn record(&self, edit: wire::Edit) {
        self.edits.borrow_mut().push(edit);
    }
}

/// The trailers of a message; edits change them as they change headers. An edit must be covered by the plan's writes for the direction.
pub struct Trailers {
    trailers: Vec<wire::Header>,
    body: RefCell<Vec<u8>>,
    edits: RefCell<Vec<wire::Edit>>,
}

impl Trailers {
    pub(crate) fn new(trailers: Vec<wire::Header>) -> Self {
        Self { trailers, body: RefCell::default(), edits: RefCell::default() }
    }

    pub(crate) fn into_verdict(self) -> wire::TrailersVerdict {
        wire::TrailersVerdict { body: self.body.into_inner(), edits: self.edits.into_inner() }
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.trailers.iter().map(|trailer| (trailer.name.as_str(), trailer.value.as_slice()))
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Replace all values of `name` by this one.
    pub fn set(&self, name: &str, value: impl IntoValue) {
        self.edits.borrow_mut().push(edit::set(&[], name, value));
    }

    /// Add a value behind those that exist.
    pub fn append(&self, name: &str, value: impl IntoValue) {
        self.edits.borrow_mut().push(edit::append(&[], name, value));
    }

    /// Remove every value of `name`.
    pub fn remove(&self, name: &str) {
        self.edits.borrow_mut().push(edit::remove(&[], name));
    }

    /// Write bytes behind the body, in front of the trailers.
    pub fn write_body(&self, bytes: &[u8]) {
        self.body.borrow_mut().extend_from_slice(bytes);
    }
}

/// Pseudo-headers are ASCII on the wire, but the gateway passes on what it does not have to refuse.
fn text<'v>(values: &'v Values<'_>) -> Cow<'v, str> {
    values.first().map_or(Cow::Borrowed(""), String::from_utf8_lossy)
}
