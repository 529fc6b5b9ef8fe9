//! Where values of requests come from.

use penstock_plugin::{
    RouteRequest,
    extract::{
        address::{self, Lengths},
        claim::Claim,
        target,
    },
};

/// One value of a request. It is read at a place of the plan's `request_reads`.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) place: usize,
    pub(crate) part: Part,
}

/// What of the field at that place.
#[derive(Debug)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// Of `:authority`.
    Host,
    /// Of `cookie`.
    Cookie(String),
    /// Of `:path`.
    Query(String),
    Claim(Claim),
    /// Of `:client-address`.
    Client(Lengths),
}

impl Source {
    /// The first value for which `f` has an answer. Of headers every value is shown; of anything else there is at most one.
    pub(crate) fn find<R>(&self, request: &RouteRequest, mut f: impl FnMut(&[u8]) -> Option<R>) -> Option<R> {
        let values = request.read(self.place);
        let first = values.first()?;
        match &self.part {
            Part::Whole => values.iter().find_map(f),
            Part::Host => f(&target::host(first)),
            Part::Cookie(name) => f(target::cookie(values.iter(), name)?),
            Part::Query(name) => f(&target::query(first, name)?),
            Part::Claim(claim) => f(claim.of(&request.claims(self.place))?.as_bytes()),
            Part::Client(lengths) => f(address::prefix(address::parse(first)?, *lengths).bytes()),
        }
    }
}

/// The first value that a request has of several sources.
#[derive(Debug)]
pub(crate) struct Key(pub(crate) Vec<Source>);

impl Key {
    pub(crate) fn read<R>(&self, request: &RouteRequest, f: impl Fn(&[u8]) -> R) -> Option<R> {
        self.0.iter().find_map(|source| source.find(request, |value| Some(f(value))))
    }
}
