//! When an instance may take traffic: everything is read, published, bound, and plugins had their first verdict.

use std::{fmt, net::SocketAddr};

use penstock_core::{ResourceRef, plugin::Phase};
use penstock_translate::{Facts, Needs};

use crate::event::SourceId;

/// Why an instance is not ready: what it waits for before it is so for the first time, or that its end has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unready {
    /// The loop has not begun.
    Starting,
    /// Sources that have not said everything yet.
    Sources(Vec<SourceId>),
    /// Sockets that are neither bound nor refused yet.
    Sockets(Vec<SocketAddr>),
    /// Plugins of which no revision serves and the first one is still being validated.
    Plugins(Vec<ResourceRef>),
    /// Nothing: the instance is about to end.
    Draining,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, things) = match self {
            Self::Starting => return f.write_str("starting"),
            Self::Draining => return f.write_str("draining"),
            Self::Sources(sources) => ("reading", join(sources)),
            Self::Sockets(addresses) => ("binding", join(addresses)),
            Self::Plugins(plugins) => ("validating", join(plugins)),
        };
        write!(f, "{what} {things}")
    }
}

fn join(things: &[impl fmt::Display]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is still to wait for after a publication. A socket that cannot be bound is settled: waiting would not help, and status says so.
pub(crate) fn unready(needs: &Needs, facts: &Facts) -> Option<Unready> {
    let unsettled = needs.sockets.iter().filter(|address| !facts.sockets.contains_key(address));
    let sockets: Vec<_> = unsettled.copied().collect();
    if !sockets.is_empty() {
        return Some(Unready::Sockets(sockets));
    }
    let undecided = |plugin: &ResourceRef| match facts.plugins.get(plugin) {
        None => true,
        Some(state) => {
            let pending = state.candidate.as_ref().is_none_or(|it| !matches!(it.phase, Phase::Rejected(_)));
            state.active.is_none() && pending
        }
    };
    let plugins: Vec<_> = needs.plugins.iter().map(|spec| spec.plugin.clone()).filter(undecided).collect();
    (!plugins.is_empty()).then_some(Unready::Plugins(plugins))
}
