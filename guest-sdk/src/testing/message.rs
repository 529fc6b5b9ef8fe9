//! Messages as the harness keeps them.

use crate::{
    header::{IntoValue, canonical},
    wire,
};

/// The head of a request or a response: pseudo-headers and headers, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub(super) fields: Vec<(String, Vec<u8>)>,
}

impl Message {
    pub(super) fn request(method: &str, path: &str) -> Self {
        let mut message = Self::default();
        for (name, value) in [
            (":method", method),
            (":scheme", "http"),
            (":authority", "gateway.test"),
            (":path", path),
            (":client-address", "192.0.2.1"),
        ] {
            message.append(name, value.into());
        }
        message
    }

    pub(super) fn response(status: u16) -> Self {
        let mut message = Self::default();
        message.append(":status", status.to_string().into());
        message
    }

    /// The first value of a header or pseudo-header; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// All values of a header or pseudo-header, in order; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        self.bytes(name).into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// All values of a header or pseudo-header, in order, as they are.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<&[u8]> {
        let name = canonical(name);
        self.fields.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// Whether the message has the header.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !self.bytes(name).is_empty()
    }

    /// The status of a response; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.first(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// What a test gives: a header more, or another value of a pseudo-header.
    pub(super) fn given(&mut self, name: &str, value: impl IntoValue) {
        let name = canonical(name);
        if name.starts_with(':') { self.set(&name, value.into_value()) } else { self.append(&name, value.into_value()) }
    }

    pub(super) fn with(&mut self, name: &str, value: impl IntoValue) {
        self.append(&canonical(name), value.into_value());
    }

    pub(super) fn append(&mut self, name: &str, value: Vec<u8>) {
        self.fields.push((name.to_owned(), value));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.fields.retain(|(known, _)| known != name);
    }

    pub(super) fn set(&mut self, name: &str, value: Vec<u8>) {
        match self.fields.iter().position(|(known, _)| known == name) {
            Some(first) => {
                let mut index = 0;
                self.fields.retain(|(known, _)| {
                    index += 1;
                    index - 1 == first || known != name
                });
                self.fields[first].1 = value;
            }
            None => self.append(name, value),
        }
    }

    /// What a hook receives for the names that its plan declares.
    pub(super) fn read(&self, names: &[String]) -> Vec<wire::Field> {
        names
            .iter()
            .map(|name| {
                let mut values: Vec<_> = self.bytes(name).into_iter().map(<[u8]>::to_vec).collect();
                match values.len() {
                    0 => wire::Field::Absent,
                    1 => wire::Field::One(values.remove(0)),
                    _ => wire::Field::Many(values),
                }
            })
            .collect()
    }

    /// Without pseudo-headers.
    pub(super) fn headers(&self) -> Vec<wire::Header> {
        let regular = self.fields.iter().filter(|(name, _)| !name.starts_with(':'));
        regular.map(|(name, value)| wire::Header { name: name.clone(), value: value.clone() }).collect()
    }
}
