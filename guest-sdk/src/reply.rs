//! Answers in place of the backend.

use crate::{edit, header::IntoValue, wire};

/// An answer in place of the backend. The gateway sets `content-length`.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Reply(wire::Reply);

impl Reply {
    /// With this status (200–599), no header and no body.
    pub fn new(status: u16) -> Self {
        Self(wire::Reply { status, headers: Vec::new(), body: Vec::new() })
    }

    /// Adds a header. Unlike edits, those of a reply need no declaration.
    pub fn header(mut self, name: &str, value: impl IntoValue) -> Self {
        self.0.headers.push(edit::header(name, value));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl IntoValue) -> Self {
        self.0.body = body.into_value();
        self
    }

    /// With this text, and a `content-type` that says so.
    pub fn text(self, text: &str) -> Self {
        self.header("content-type", "text/plain; charset=utf-8").body(text)
    }

    /// With this value as JSON, and a `content-type` that says so.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }

    pub(crate) fn into_wire(self) -> wire::Reply {
        self.0
    }
}
