//! Which plugin changed what in a head, for the access log, if its operator wants to know.
//!
//! Heads are compared before and after each hook, so it is what a plugin did in effect, whatever it answered. Names alone are noted down:
//! values are often nobody's business. Without it nothing is kept and nothing compared.

use std::fmt::{self, Write as _};

use http::{HeaderMap, Uri, request, response};
use penstock_core::ResourceRef;

use crate::record::Record;

/// A hook on a head.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head {
    Request,
    Response,
}

/// What one hook of one plugin changed.
#[derive(Debug)]
pub(crate) struct HeadEdits {
    plugin: ResourceRef,
    head: Head,
    /// New or with other values; `:path` and `:authority` as well.
    set: Vec<String>,
    removed: Vec<String>,
}

/// A head before a hook; none if nobody wants to know.
pub(crate) struct Before(Option<(Option<Uri>, HeaderMap)>);

impl Before {
    pub(crate) fn request(record: &Record, head: &request::Parts) -> Self {
        Self(record.notes_edits().then(|| (Some(head.uri.clone()), head.headers.clone())))
    }

    pub(crate) fn response(record: &Record, head: &response::Parts) -> Self {
        Self(record.notes_edits().then(|| (None, head.headers.clone())))
    }

    pub(crate) fn note_request(self, record: &mut Record, plugin: &ResourceRef, head: &request::Parts) {
        self.note(record, plugin, Head::Request, Some(&head.uri), &head.headers);
    }

    pub(crate) fn note_response(self, record: &mut Record, plugin: &ResourceRef, head: &response::Parts) {
        self.note(record, plugin, Head::Response, None, &head.headers);
    }

    fn note(self, record: &mut Record, plugin: &ResourceRef, head: Head, uri: Option<&Uri>, headers: &HeaderMap) {
        let (Some((uri_before, before)), Some(log)) = (self.0, record.log()) else { return };
        let mut set = Vec::new();
        if let (Some(before), Some(after)) = (uri_before, uri) {
            let changed = |name: &str, changed: bool| changed.then(|| name.to_owned());
            set.extend(changed(":path", before.path_and_query() != after.path_and_query()));
            set.extend(changed(":authority", before.authority() != after.authority()));
        }
        let is_as_before = |name| before.get_all(name).iter().eq(headers.get_all(name).iter());
        set.extend(headers.keys().filter(|name| !is_as_before(*name)).map(ToString::to_string));
        let removed: Vec<_> =
            before.keys().filter(|name| !headers.contains_key(*name)).map(ToString::to_string).collect();
        if !set.is_empty() || !removed.is_empty() {
            log.edits.push(HeadEdits { plugin: plugin.clone(), head, set, removed });
        }
    }
}

impl Head {
    fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

impl HeadEdits {
    /// As an object. Names of headers and resources need no escapes.
    pub(crate) fn json(&self, out: &mut String) -> fmt::Result {
        let Self { plugin, head, set, removed } = self;
        write!(out, "{{\"plugin\":\"{plugin}\",\"hook\":\"{}\"", head.label())?;
        for (name, names) in [("set", set), ("removed", removed)].iter().filter(|(_, names)| !names.is_empty()) {
            write!(out, ",\"{name}\":[\"{}\"]", names.join("\",\""))?;
        }
        out.write_char('}')
    }
}

/// `WasmPlugin/default/headers request +x-a -x-b`.
impl fmt::Display for HeadEdits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.plugin, self.head.label())?;
        self.set.iter().try_for_each(|name| write!(f, " +{name}"))?;
        self.removed.iter().try_for_each(|name| write!(f, " -{name}"))
    }
}
