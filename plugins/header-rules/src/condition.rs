//! Conditions, ready to be asked.

use std::ops::RangeInclusive;

use penstock_plugin::extract::{
    pattern::{Effort, Pattern},
    target,
};

use crate::{
    operation::Operation,
    pass::{Message, Pass, Place},
};

/// Conditions on the request: all must hold.
#[derive(Debug)]
pub(crate) struct When {
    pub(crate) methods: Option<(Place, Vec<String>)>,
    pub(crate) path: Option<(Place, PathMatcher)>,
    pub(crate) headers: Vec<HeaderMatcher>,
}

/// What happens to a response.
#[derive(Debug)]
pub(crate) struct ResponsePart {
    /// Empty: any.
    pub(crate) status: Vec<RangeInclusive<u16>>,
    pub(crate) headers: Vec<HeaderMatcher>,
    pub(crate) operations: Vec<Operation>,
}

#[derive(Debug)]
pub(crate) enum PathMatcher {
    Exact(String),
    /// Without a slash at its end.
    Prefix(String),
    Regex(Pattern),
}

#[derive(Debug)]
pub(crate) struct HeaderMatcher {
    pub(crate) place: Place,
    pub(crate) matcher: ValueMatcher,
}

#[derive(Debug)]
pub(crate) enum ValueMatcher {
    Present,
    Absent,
    Exact(Vec<u8>),
    Regex(Pattern),
    /// The authority names this host, however it is spelled.
    Host(Vec<u8>),
    HostRegex(Pattern),
}

impl When {
    pub(crate) fn holds<M: Message>(&self, pass: &Pass<M>) -> bool {
        self.methods.as_ref().is_none_or(|(place, methods)| {
            let method = pass.values(*place);
            methods.iter().any(|known| method.first() == Some(known.as_bytes()))
        }) && self.path.as_ref().is_none_or(|(place, matcher)| {
            pass.values(*place).first().is_some_and(|target| matcher.matches(target::path(target), pass.effort()))
        }) && self.headers.iter().all(|header| header.holds(pass))
    }
}

impl ResponsePart {
    pub(crate) fn holds<M: Message>(&self, pass: &Pass<M>) -> bool {
        let status = pass.status();
        (self.status.is_empty() || self.status.iter().any(|range| range.contains(&status)))
            && self.headers.iter().all(|header| header.holds(pass))
    }
}

impl HeaderMatcher {
    fn holds<M: Message>(&self, pass: &Pass<M>) -> bool {
        let values = pass.values(self.place);
        match &self.matcher {
            ValueMatcher::Present => !values.is_empty(),
            ValueMatcher::Absent => values.is_empty(),
            ValueMatcher::Exact(wanted) => values.iter().any(|value| value == wanted),
            ValueMatcher::Regex(regex) => values.iter().any(|value| regex.is_match(value, pass.effort())),
            ValueMatcher::Host(wanted) => values.iter().any(|value| *target::host(value) == **wanted),
            ValueMatcher::HostRegex(regex) => {
                values.iter().any(|value| regex.is_match(&target::host(value), pass.effort()))
            }
        }
    }
}

impl PathMatcher {
    fn matches(&self, path: &[u8], effort: &Effort) -> bool {
        match self {
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
            }
            Self::Regex(regex) => regex.is_match(path, effort),
        }
    }
}
