//! One condition of one rule.

use std::{
    cmp::{Ordering, Reverse},
    sync::Arc,
};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{RequestView, RuleMatched, query};
use crate::route::{CallMatch, HeaderMatch, PathMatch, QueryMatch, Route, Rule, RuleMatch, ValueMatch};

/// A condition that, in its list, needs no more than its method, headers and query (and expression) checked.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    rule: Arc<Rule>,
    route: Arc<Route>,
    /// Which of the route's rules it is.
    position: usize,
    /// Which of the rule's matches it is.
    condition: usize,
    /// Whether there is nothing to check: known beforehand, it saves a visit to the condition.
    unconditional: bool,
}

impl Entry {
    /// All conditions of a route, each as an entry.
    pub(super) fn of_route(route: &Arc<Route>) -> impl Iterator<Item = (&RuleMatch, Self)> {
        route.rules.iter().enumerate().flat_map(move |(position, rule)| {
            rule.matches.iter().enumerate().map(move |(at, condition)| {
                let entry = Self {
                    rule: rule.clone(),
                    route: route.clone(),
                    position,
                    condition: at,
                    unconditional: is_unconditional(condition),
                };
                (condition, entry)
            })
        })
    }

    /// The route's identity.
    pub(super) fn route(&self) -> *const Route {
        Arc::as_ptr(&self.route)
    }

    fn condition(&self) -> &RuleMatch {
        &self.rule.matches[self.condition]
    }

    pub(super) fn matched(&self) -> RuleMatched<'_> {
        RuleMatched { rule: &self.rule, path: &self.condition().path }
    }

    /// Whether a request whose path led to this entry's list is taken.
    pub(super) fn takes(&self, request: &RequestView<'_>) -> bool {
        if self.unconditional {
            return true;
        }
        let RuleMatch { path, method, headers, query } = self.condition();
        method.as_ref().is_none_or(|method| method == request.method)
            && headers.iter().all(|condition| has_header(request, condition))
            && query.iter().all(|condition| has_parameter(request, condition))
            && match path {
                // Last, for it costs most.
                PathMatch::Regex(regex) | PathMatch::Call(CallMatch { path: regex, .. }) => {
                    regex.is_match(request.path)
                }
                PathMatch::Exact(_) | PathMatch::Prefix(_) => true,
            }
    }

    /// The order among entries of one hostname and path.
    pub(super) fn by_precedence(a: &Self, b: &Self) -> Ordering {
        a.specificity()
            .cmp(&b.specificity())
            .then_with(|| a.route.created.cmp(&b.route.created))
            .then_with(|| a.route.id.by_full_name(&b.route.id))
            .then_with(|| (a.position, a.condition).cmp(&(b.position, b.condition)))
    }

    fn specificity(&self) -> impl Ord {
        let RuleMatch { path, method, headers, query } = self.condition();
        let part = match path {
            PathMatch::Call(call) => Some(call.part),
            PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Regex(_) => None,
        };
        (part, method.is_none(), Reverse(headers.len()), Reverse(query.len()))
    }
}

fn is_unconditional(condition: &RuleMatch) -> bool {
    let RuleMatch { path, method, headers, query } = condition;
    let by_lookup = matches!(path, PathMatch::Exact(_) | PathMatch::Prefix(_));
    method.is_none() && headers.is_empty() && query.is_empty() && by_lookup
}

fn has_header(request: &RequestView<'_>, condition: &HeaderMatch) -> bool {
    request.headers.get_all(&condition.name).iter().any(|value| match &condition.value {
        ValueMatch::Exact(expected) => value == expected,
        ValueMatch::Regex(regex) => std::str::from_utf8(value.as_bytes()).is_ok_and(|text| regex.is_match(text)),
    })
}

fn has_parameter(request: &RequestView<'_>, condition: &QueryMatch) -> bool {
    request.query.and_then(|text| query::first(text, &condition.name)).is_some_and(|value| match &condition.value {
        ValueMatch::Exact(expected) => value.is(expected.as_bytes()),
        ValueMatch::Regex(regex) => value.decode().is_some_and(|text| regex.is_match(&text)),
    })
}

/// The condition, and what the rule does.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let RuleMatch { path, method, headers, query } = self.condition();
        let Rule { id, matches: _, request_headers, response_headers, rewrite, policies, route_plugin, action } =
            &*self.rule;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", path)?;
        if let Some(method) = method {
            map.serialize_entry("method", method.as_str())?;
        }
        if !headers.is_empty() {
            map.serialize_entry("headers", headers)?;
        }
        if !query.is_empty() {
            map.serialize_entry("query", query)?;
        }
        map.serialize_entry("rule", &format!("{}#{id}", id.route))?;
        if let Some(edits) = request_headers {
            map.serialize_entry("request_headers", edits)?;
        }
        if let Some(edits) = response_headers {
            map.serialize_entry("response_headers", edits)?;
        }
        if let Some(rewrite) = rewrite {
            map.serialize_entry("rewrite", rewrite)?;
        }
        if !policies.is_empty() {
            map.serialize_entry("policies", policies)?;
        }
        if let Some(call) = route_plugin {
            map.serialize_entry("route_plugin", call)?;
        }
        map.serialize_entry("action", action)?;
        map.end()
    }
}
