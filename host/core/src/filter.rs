//! Native filters: header edits, redirects, URL rewrites. What they are, and what they do to a message.

use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Serialize, Serializer};

/// `RequestHeaderModifier` / `ResponseHeaderModifier`: set, then add, then remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HeaderEdits {
    /// Replace all values.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Add a value.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Remove all values.
    pub remove: Vec<HeaderName>,
}

/// `URLRewrite`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct UrlRewrite {
    /// New `Host`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_value_opt")]
    pub hostname: Option<HeaderValue>,
    /// New path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
}

/// How the path changes; the query stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum PathRewrite {
    /// The whole path.
    Full(Arc<str>),
    /// The prefix that the rule matched.
    Prefix(Arc<str>),
}

/// `RequestRedirect`. What is not given stays as in the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Host without port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Arc<str>>,
    /// Port; if not given, the well-known port of a given scheme, else the listener's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "display")]
    pub status: StatusCode,
}

/// URL schemes of redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scheme {
    Http,
    Https,
}

impl Serialize for HeaderEdits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pair = |(name, value): &(HeaderName, HeaderValue)| {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        let set = self.set.iter().map(|edit| format!("set {}", pair(edit)));
        let add = self.add.iter().map(|edit| format!("add {}", pair(edit)));
        let remove = self.remove.iter().map(|name| format!("remove {name}"));
        serializer.collect_seq(set.chain(add).chain(remove))
    }
}

pub(crate) fn display<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn display_opt<T: fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

fn display_value_opt<S: Serializer>(value: &Option<HeaderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).serialize(serializer)
}
