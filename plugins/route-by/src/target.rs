//! Where requests go, ready to be asked.

use std::collections::BTreeMap;

use penstock_plugin::RouteRequest;

use crate::{
    hash::{hash, part},
    source::Key,
    sticky::Sticky,
    table::{NameId, Table},
};

/// Parts of all keys: a percentage has two decimals.
pub(crate) const PARTS: u16 = 10_000;

#[derive(Debug)]
pub(crate) enum Target {
    Weights,
    Backend(NameId),
    Lookup { key: Key, backends: BTreeMap<Vec<u8>, NameId> },
    Hash(Key),
    Percentages { key: Key, seed: u64, shares: Vec<Share> },
    Sticky(Sticky),
}

/// A share of the keys.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) backend: NameId,
    /// It begins where the one before ends, and ends in front of this part.
    pub(crate) end: u16,
}

/// What a target has for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The weights of the route's rule decide.
    Weights,
    /// This one, which is ready.
    Backend(u32),
    /// This one, which is ready, and a cookie that makes it stick.
    Sticking { index: u32, cookie: String },
    /// A backend of the rule that is not ready.
    NotReady,
    /// Nothing: the rule has no such backend, or the request no such key.
    NotHere,
}

impl Target {
    pub(crate) fn pick(&self, request: &RouteRequest, table: &Table) -> Pick {
        match self {
            Self::Weights => Pick::Weights,
            Self::Backend(name) => named(Some(*name), request, table),
            Self::Lookup { key, backends } => {
                let name = key.read(request, |value| backends.get(value).copied()).flatten();
                named(name, request, table)
            }
            Self::Hash(key) => match key.read(request, |value| hash(0, value)) {
                Some(key) => table.hashed(key, |index| ready(request, index)).map_or(Pick::NotReady, Pick::Backend),
                None => Pick::NotHere,
            },
            Self::Percentages { key, seed, shares } => {
                let part = key.read(request, |value| part(hash(*seed, value), PARTS));
                let share = part.and_then(|part| shares.iter().find(|share| part < share.end));
                named(share.map(|share| share.backend), request, table)
            }
            Self::Sticky(sticky) => sticky.pick(request, table),
        }
    }
}

fn named(name: Option<NameId>, request: &RouteRequest, table: &Table) -> Pick {
    match name.and_then(|name| table.named(name)) {
        Some(index) if ready(request, index) => Pick::Backend(index),
        Some(_) => Pick::NotReady,
        None => Pick::NotHere,
    }
}

pub(crate) fn ready(request: &RouteRequest, index: u32) -> bool {
    request.ready_endpoints(index) > 0
}
