//! How a request finds its rule.
//!
//! Precedence on one listener (Gateway API): the route's own hostname (exact before wildcard, longer before shorter), then path
//! (exact, regular expression, longer prefix; of gRPC calls, who names the service before who names the method alone), method, more headers, more query parameters, older route, `namespace/name`, order of the
//! rules. A hostname whose rules all decline passes the request on to the next less specific one.
//!
//! ```text
//! host ──► HostRules ──► exact path ──► [entry, entry, …]   sorted: method, headers, query, age, name, order
//!     exact          ──► expressions ─► [entry, entry, …]
//!     longer wildcard──► longest prefix ► [entry, entry, …]
//!     …  any             … shortest prefix
//!                    ──► gRPC calls with one half open ► [entry, entry, …]
//!                    ──► the prefix that covers everything ► [entry, entry, …]
//! ```
//!
//! Every step is a hash lookup; only entries with equal hosts and paths are tried one by one, so a lookup does not grow with the
//! number of routes. The entries are sorted when the table is built.
//!
//! A table is built from its predecessor: routes are compared by pointer, and only the entries of those that came or went are touched.
//! All other lists are shared. What remains proportional to the world is copying pointers.

mod affix;
mod change;
mod entry;
mod host_rules;
mod query;

use std::sync::Arc;

use http::{HeaderMap, Method};
use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};

use self::{
    affix::Suffixes,
    change::{Change, Differences},
    host_rules::HostRules,
};
use crate::{
    hostname::{HostPattern, after_first_label},
    route::{PathMatch, Route, Rule},
};

/// What matching looks at.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// Lower case, without port.
    pub host: &'a str,
    /// Normalised, without query.
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
    /// Method.
    pub method: &'a Method,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// A rule that took a request, and the path condition by which it did (a prefix rewrite needs it).
#[derive(Debug, Clone, Copy)]
pub struct RuleMatched<'a> {
    /// The rule.
    pub rule: &'a Arc<Rule>,
    /// The path condition.
    pub path: &'a PathMatch,
}

/// All rules of a listener, arranged for lookup. What did not change is shared with the table that it was built from.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// In the order given, each once.
    routes: Vec<Arc<Route>>,
    exact: FxHashMap<Arc<str>, Arc<HostRules>>,
    /// Wildcards that stand for one label, by what comes after it.
    one_label: FxHashMap<Arc<str>, Arc<HostRules>>,
    wildcard: Suffixes<Arc<HostRules>>,
    any: Option<Arc<HostRules>>,
}

impl RouteTable {
    /// Arrange these routes; `previous` lends what did not change, which is told by pointer: give the same `Arc` for the same route.
    pub fn build(routes: &[Arc<Route>], previous: Option<&Self>) -> Self {
        let routes = change::distinct(routes);
        let before: &[_] = previous.map_or(&[], |table| &table.routes);
        let mut table = previous.map(Self::lend).unwrap_or_default();
        for (hostname, change) in Differences::between(before, &routes).by_hostname() {
            table.apply(hostname, &change);
        }
        table.wildcard.index();
        table.routes = routes;
        table
    }

    /// Everything but the list of routes, which the new table brings.
    fn lend(&self) -> Self {
        let (exact, one_label) = (self.exact.clone(), self.one_label.clone());
        let (wildcard, any) = (self.wildcard.clone(), self.any.clone());
        Self { routes: Vec::new(), exact, one_label, wildcard, any }
    }

    fn apply(&mut self, hostname: &HostPattern, change: &Change<'_>) {
        let rules = match hostname {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::OneLabel(suffix) => self.one_label.entry(suffix.clone()).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix),
            HostPattern::Any => self.any.get_or_insert_default(),
        };
        Arc::make_mut(rules).apply(change);
        if !rules.is_empty() {
            return;
        }
        match hostname {
            HostPattern::Exact(name) => drop(self.exact.remove(name)),
            HostPattern::OneLabel(suffix) => drop(self.one_label.remove(suffix)),
            HostPattern::Wildcard(suffix) => self.wildcard.remove(suffix),
            HostPattern::Any => self.any = None,
        }
    }

    /// The rule that takes the request, if any.
    pub fn find(&self, request: &RequestView<'_>) -> Option<RuleMatched<'_>> {
        if let Some(found) = self.exact.get(request.host).and_then(|rules| rules.find(request)) {
            return Some(found);
        }
        if !self.one_label.is_empty()
            && let Some(found) = self.find_one_label(request)
        {
            return Some(found);
        }
        if let Some(found) = self.wildcard.ending(request.host).find_map(|rules| rules.find(request)) {
            return Some(found);
        }
        self.any.as_ref()?.find(request)
    }

    /// No other suffix of the host is as long as the one after its first label, so this goes before all other wildcards.
    fn find_one_label(&self, request: &RequestView<'_>) -> Option<RuleMatched<'_>> {
        self.one_label.get(after_first_label(request.host)?)?.find(request)
    }

    /// The routes, each once, in the order in which they were given.
    pub fn iter_routes(&self) -> impl ExactSizeIterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Whether the table was built from these very routes, told by pointer: then it can stay as it is.
    pub fn is_built_from(&self, routes: &[Arc<Route>]) -> bool {
        self.routes.len() == routes.len()
            && self.routes.iter().zip(routes).all(|(mine, other)| Arc::ptr_eq(mine, other))
    }

    /// Every hostname with its rules, in order of precedence.
    fn hosts(&self) -> Vec<(HostPattern, &HostRules)> {
        let exact = self.exact.iter().map(|(name, rules)| (HostPattern::Exact(name.clone()), &**rules));
        let wildcard = self.wildcard.iter().map(|(suffix, rules)| (HostPattern::Wildcard(suffix.clone()), &**rules));
        let one_label = self.one_label.iter().map(|(suffix, rules)| (HostPattern::OneLabel(suffix.clone()), &**rules));
        let any = self.any.iter().map(|rules| (HostPattern::Any, &**rules));
        let mut hosts: Vec<_> = exact.chain(one_label).chain(wildcard).chain(any).collect();
        hosts.sort_by(|(a, _), (b, _)| a.by_specificity(b));
        hosts
    }
}

/// Hostname → what is tried for it, in the order in which it is tried.
impl Serialize for RouteTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.hosts())
    }
}

#[cfg(test)]
mod tests;
