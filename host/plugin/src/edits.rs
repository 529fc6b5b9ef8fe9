//! Edits that a hook answered: all of them are judged before the first is applied, so that a head is either edited or untouched.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery},
};
use penstock_core::path::{self, InvalidPath};
use smallvec::SmallVec;

use crate::{
    contract::types::{Edit, Header, KnownHeader},
    names::{InvalidName, Pseudo, Target},
    plan::{InvalidTarget, Writes},
};

/// Edits in one answer. Ten times what a header policy with many rules makes.
const MOST_EDITS: usize = 1024;
/// Bytes of all values in one answer: more than any HTTP server accepts in a head.
const MOST_BYTES: usize = 256 << 10;
/// Headers of a message after the edits. `HeaderMap` panics beyond 32,768.
const MOST_HEADERS: usize = 8192;

/// Why an answer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidEdit {
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    #[error("the value of `{0}` has control characters")]
    Value(String),
    #[error("`{0}` can only be set, not appended or removed")]
    OnlySet(&'static str),
    #[error("`{0}` cannot be set in trailers")]
    Trailer(&'static str),
    #[error("`{value}` is no {what}")]
    Pseudo { what: &'static str, value: String },
    #[error("`{value}` is no path that can be passed on: {source}")]
    Path { value: String, source: InvalidPath },
    #[error("{found} edits; {MOST_EDITS} are allowed")]
    TooMany { found: usize },
    #[error("values of more than {MOST_BYTES} bytes together")]
    TooLarge,
    #[error("the message would have more than {MOST_HEADERS} headers")]
    TooManyHeaders,
}

impl From<InvalidName> for InvalidEdit {
    fn from(error: InvalidName) -> Self {
        Self::Target(error.into())
    }
}

/// Edits that will be applied: nothing in here can fail any more.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    headers: SmallVec<[Change; 4]>,
    method: Option<Method>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    status: Option<StatusCode>,
}

#[derive(Debug)]
enum Change {
    Set(HeaderName, HeaderValue),
    Append(HeaderName, HeaderValue),
    Remove(HeaderName),
}

impl Edits {
    /// Judge what a hook answered against the writes of its plan.
    pub(crate) fn check(answer: Vec<Edit>, writes: &Writes) -> Result<Self, InvalidEdit> {
        if answer.len() > MOST_EDITS {
            return Err(InvalidEdit::TooMany { found: answer.len() });
        }
        let mut edits = Self::default();
        let mut bytes = 0;
        for edit in answer {
            bytes += edits.add(edit, writes)?;
            if bytes > MOST_BYTES {
                return Err(InvalidEdit::TooLarge);
            }
        }
        Ok(edits)
    }

    /// Whether nothing would change.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { headers, method, authority, path, status } = self;
        headers.is_empty() && method.is_none() && authority.is_none() && path.is_none() && status.is_none()
    }

    /// Add one edit; answers how many bytes it carries.
    fn add(&mut self, edit: Edit, writes: &Writes) -> Result<usize, InvalidEdit> {
        match edit {
            Edit::SetKnown(KnownHeader { index, value }) => self.set(writes.known(index)?.clone(), value),
            Edit::AppendKnown(KnownHeader { index, value }) => self.append(writes.known(index)?.clone(), value),
            Edit::RemoveKnown(index) => self.remove(writes.known(index)?.clone()),
            Edit::Set(Header { name, value }) => self.set(writes.named(&name)?, value),
            Edit::Append(Header { name, value }) => self.append(writes.named(&name)?, value),
            Edit::Remove(name) => self.remove(writes.named(&name)?),
        }
    }

    fn set(&mut self, target: Target, value: Vec<u8>) -> Result<usize, InvalidEdit> {
        let len = value.len();
        match target {
            Target::Header(name) => {
                let value = header_value(&name, value)?;
                self.headers.push(Change::Set(name, value));
            }
            Target::Pseudo(Pseudo::Method) => self.method = Some(method(&value)?),
            Target::Pseudo(Pseudo::Authority) => self.authority = Some(parse_authority(value)?),
            Target::Pseudo(Pseudo::Path) => self.path = Some(request_target(value)?),
            Target::Pseudo(Pseudo::Status) => self.status = Some(status(&value)?),
        }
        Ok(len)
    }

    fn append(&mut self, target: Target, value: Vec<u8>) -> Result<usize, InvalidEdit> {
        let name = header(target)?;
        let len = value.len();
        let value = header_value(&name, value)?;
        self.headers.push(Change::Append(name, value));
        Ok(len)
    }

    fn remove(&mut self, target: Target) -> Result<usize, InvalidEdit> {
        self.headers.push(Change::Remove(header(target)?));
        Ok(0)
    }

    /// Apply to a request, or leave it untouched.
    pub(crate) fn apply_to_request(self, head: &mut http::request::Parts) -> Result<(), InvalidEdit> {
        self.check_count(&head.headers)?;
        let uri = self.uri(&head.uri)?;
        if let Some(authority) = &self.authority {
            set_host(&mut head.headers, authority, head.uri.authority().is_some());
        }
        if let Some(uri) = uri {
            head.uri = uri;
        }
        if let Some(method) = self.method {
            head.method = method;
        }
        apply(self.headers, &mut head.headers);
        Ok(())
    }

    /// Apply to a response, or leave it untouched.
    pub(crate) fn apply_to_response(self, head: &mut http::response::Parts) -> Result<(), InvalidEdit> {
        self.check_count(&head.headers)?;
        if let Some(status) = self.status {
            head.status = status;
        }
        apply(self.headers, &mut head.headers);
        Ok(())
    }

    /// Apply to trailers, or leave them untouched. They have no pseudo-headers.
    pub(crate) fn apply_to_trailers(self, trailers: &mut HeaderMap) -> Result<(), InvalidEdit> {
        self.check_count(trailers)?;
        let pseudo = [
            (self.method.is_some(), ":method"),
            (self.authority.is_some(), ":authority"),
            (self.path.is_some(), ":path"),
            (self.status.is_some(), ":status"),
        ];
        if let Some((_, name)) = pseudo.into_iter().find(|(is_set, _)| *is_set) {
            return Err(InvalidEdit::Trailer(name));
        }
        apply(self.headers, trailers);
        Ok(())
    }

    fn check_count(&self, headers: &HeaderMap) -> Result<(), InvalidEdit> {
        // One more for the `host` that a new authority may bring.
        if headers.len() + self.headers.len() + 1 > MOST_HEADERS { Err(InvalidEdit::TooManyHeaders) } else { Ok(()) }
    }

    /// The target of the request after the edits, if they change it.
    fn uri(&self, old: &Uri) -> Result<Option<Uri>, InvalidEdit> {
        let authority = self.authority.as_ref().filter(|_| old.authority().is_some());
        if authority.is_none() && self.path.is_none() {
            return Ok(None);
        }
        let mut parts = old.clone().into_parts();
        if let Some(authority) = authority {
            parts.authority = Some(authority.clone());
        }
        if let Some(path) = &self.path {
            parts.path_and_query = Some(path.clone());
        }
        // Only the target of a CONNECT, which has no path to set, cannot take one.
        Uri::from_parts(parts).map(Some).map_err(|_| InvalidEdit::Pseudo {
            what: "path for a request of this method",
            value: self.path.as_ref().map_or_else(String::new, ToString::to_string),
        })
    }
}

/// Where a request says its authority: in its target, in `host`, or in both.
fn set_host(headers: &mut HeaderMap, authority: &Authority, in_target: bool) {
    if in_target && !headers.contains_key(HOST) {
        return;
    }
    // An authority is visible ASCII, which a header value always takes.
    if let Ok(value) = HeaderValue::from_str(authority.as_str()) {
        headers.insert(HOST, value);
    }
}

fn apply(changes: SmallVec<[Change; 4]>, headers: &mut HeaderMap) {
    for change in changes {
        match change {
            Change::Set(name, value) => drop(headers.insert(name, value)),
            Change::Append(name, value) => drop(headers.append(name, value)),
            Change::Remove(name) => drop(headers.remove(name)),
        }
    }
}

fn header(target: Target) -> Result<HeaderName, InvalidEdit> {
    match target {
        Target::Header(name) => Ok(name),
        Target::Pseudo(pseudo) => Err(InvalidEdit::OnlySet(match pseudo {
            Pseudo::Method => ":method",
            Pseudo::Authority => ":authority",
            Pseudo::Path => ":path",
            Pseudo::Status => ":status",
        })),
    }
}

/// The bytes that the guest answered become the value as they are, without a copy.
pub(crate) fn header_value(name: &HeaderName, value: Vec<u8>) -> Result<HeaderValue, InvalidEdit> {
    HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| InvalidEdit::Value(name.to_string()))
}

fn invalid(what: &'static str, value: &[u8]) -> InvalidEdit {
    InvalidEdit::Pseudo { what, value: shown(value) }
}

fn shown(value: &[u8]) -> String {
    value.iter().take(64).flat_map(|byte| byte.escape_ascii()).map(char::from).collect()
}

/// `CONNECT` would turn the request into a tunnel.
fn method(value: &[u8]) -> Result<Method, InvalidEdit> {
    match Method::from_bytes(value) {
        Ok(method) if method != Method::CONNECT => Ok(method),
        _ => Err(invalid("method that a plugin can set", value)),
    }
}

fn parse_authority(value: Vec<u8>) -> Result<Authority, InvalidEdit> {
    let wrong = invalid("authority", &value);
    match Authority::from_maybe_shared(Bytes::from(value)) {
        // User information has no place in `host` (RFC 9110 §4.2.4).
        Ok(authority) if !authority.as_str().contains('@') && !authority.host().is_empty() => Ok(authority),
        _ => Err(wrong),
    }
}

/// Path and query. The path is brought into the form that all paths have: what a plugin cuts out of one must not leave another way to `/admin`.
fn request_target(value: Vec<u8>) -> Result<PathAndQuery, InvalidEdit> {
    let wrong = invalid("path", &value);
    // A fragment would be cut off in silence.
    let visible = value.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    let Some(text) = str::from_utf8(&value).ok().filter(|text| visible && text.starts_with('/')) else {
        return Err(wrong);
    };
    let (path, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    let bytes = match path::normalize(path) {
        Ok(Cow::Borrowed(_)) => Bytes::from(value),
        Ok(Cow::Owned(path)) => Bytes::from(path + query),
        Err(source) => return Err(InvalidEdit::Path { value: shown(&value), source }),
    };
    PathAndQuery::from_maybe_shared(bytes).map_err(|_| wrong)
}

fn status(value: &[u8]) -> Result<StatusCode, InvalidEdit> {
    match StatusCode::from_bytes(value) {
        Ok(status) if (200..=599).contains(&status.as_u16()) => Ok(status),
        _ => Err(invalid("status between 200 and 599", value)),
    }
}

#[cfg(test)]
mod tests;
