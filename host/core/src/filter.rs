//! Native filters: header edits, redirects, URL rewrites. What they are, and what they do to a message.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request, uri::Authority};
use serde::{Serialize, Serializer};

use crate::{
    path::{self, TargetTooLong},
    route::PathMatch,
};

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

/// The request as the client meant it: what a redirect keeps unless it is told otherwise.
#[derive(Debug, Clone, Copy)]
pub struct RedirectedRequest<'a> {
    /// Scheme of the listener (or of the outermost trusted proxy).
    pub scheme: Scheme,
    /// Without port; IPv6 in brackets. Empty if the request has none: the redirect is then a relative one.
    pub host: &'a str,
    /// Port of the listener.
    pub port: u16,
    /// Normalised.
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
}

impl HeaderEdits {
    /// Edit a message's headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

impl UrlRewrite {
    /// Rewrite a request that has the normalised path in its URI. `matched` is the path condition by which its rule took it.
    ///
    /// # Errors
    /// The target became too long; 414.
    pub fn apply(&self, parts: &mut request::Parts, matched: &PathMatch) -> Result<(), TargetTooLong> {
        if let Some(rewrite) = &self.path {
            let path = rewrite.apply(parts.uri.path(), matched);
            parts.uri = path::replace(std::mem::take(&mut parts.uri), &path)?;
        }
        if let Some(hostname) = &self.hostname {
            parts.headers.insert(header::HOST, hostname.clone());
            set_authority(&mut parts.uri, hostname);
        }
        Ok(())
    }
}

/// HTTP/2 requests have their host in the URI. Resources only hold hostnames that are authorities too.
fn set_authority(uri: &mut Uri, hostname: &HeaderValue) {
    if uri.authority().is_none() {
        return;
    }
    let Ok(authority) = Authority::try_from(hostname.as_bytes()) else { return };
    let mut parts = std::mem::take(uri).into_parts();
    parts.authority = Some(authority);
    *uri = Uri::from_parts(parts).expect("another authority in a URI that had one");
}

impl PathRewrite {
    /// The new path for a normalised one. A prefix is replaced element by element, as Gateway API's table for `ReplacePrefixMatch`
    /// says; a rule that did not match by prefix has none to replace, so the path stays.
    pub fn apply(&self, path: &str, matched: &PathMatch) -> String {
        match (self, matched) {
            (Self::Full(full), _) => absolute(full, ""),
            (Self::Prefix(replacement), PathMatch::Prefix(prefix)) => {
                let rest = path.strip_prefix(&**prefix).unwrap_or(path);
                match rest {
                    "" => absolute(replacement, ""),
                    _ => absolute(replacement.trim_end_matches('/'), rest),
                }
            }
            (Self::Prefix(_), PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Call(_)) => path.to_owned(),
        }
    }
}

/// Head and tail as one path that begins with `/`.
fn absolute(head: &str, tail: &str) -> String {
    let slash = if head.starts_with('/') || (head.is_empty() && tail.starts_with('/')) { "" } else { "/" };
    [slash, head, tail].concat()
}

impl Redirect {
    /// The value of `Location`.
    ///
    /// The port follows Gateway API: the given one, else the well-known one of a given scheme, else the listener's; and it is
    /// left out where it is the well-known one of the scheme. The query stays.
    pub fn location(&self, request: &RedirectedRequest<'_>, matched: &PathMatch) -> HeaderValue {
        let scheme = self.scheme.unwrap_or(request.scheme);
        let host = self.hostname.as_deref().unwrap_or(request.host);
        let port = self.port.unwrap_or_else(|| self.scheme.map_or(request.port, Scheme::default_port));
        let path = self.path.as_ref().map(|rewrite| rewrite.apply(request.path, matched));
        let path = path.as_deref().unwrap_or(request.path);

        let mut location =
            Vec::with_capacity(16 + host.len() + path.len() + request.query.map_or(0, |query| query.len() + 1));
        if !host.is_empty() {
            location.extend_from_slice(scheme.as_str().as_bytes());
            location.extend_from_slice(b"://");
            path::push_escaped(&mut location, host, b"[]");
            if port != scheme.default_port() {
                location.push(b':');
                location.extend_from_slice(port.to_string().as_bytes());
            }
        }
        path::push_escaped(&mut location, path, b"");
        if let Some(query) = request.query {
            location.push(b'?');
            path::push_escaped(&mut location, query, b"?[]{}|^`\"\\");
        }
        HeaderValue::from_maybe_shared(Bytes::from(location)).expect("only visible ASCII was written")
    }
}

impl Scheme {
    /// As in URLs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that need not be named.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
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

#[cfg(test)]
mod tests;
