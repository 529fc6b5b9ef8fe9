//! Conditions on requests, ready to be asked.

use penstock_plugin::{
    RouteRequest,
    extract::pattern::{Effort, Pattern},
};

use crate::source::Source;

#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) source: Source,
    pub(crate) matcher: Matcher,
}

#[derive(Debug)]
pub(crate) enum Matcher {
    Present,
    Absent,
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Regex(Pattern),
    /// Sorted.
    OneOf(Vec<Vec<u8>>),
}

impl Condition {
    pub(crate) fn holds(&self, request: &RouteRequest) -> bool {
        let found = self.source.find(request, |value| self.matcher.fits(value, request.effort()).then_some(()));
        found.is_some() != matches!(self.matcher, Matcher::Absent)
    }
}

impl Matcher {
    /// [`Matcher::Absent`] is what [`Matcher::Present`] is not.
    fn fits(&self, value: &[u8], effort: &Effort) -> bool {
        match self {
            Self::Present | Self::Absent => true,
            Self::Exact(exact) => value == exact,
            Self::Prefix(prefix) => value.starts_with(prefix),
            Self::Regex(regex) => regex.is_match(value, effort),
            Self::OneOf(known) => known.binary_search_by(|known| known.as_slice().cmp(value)).is_ok(),
        }
    }
}
