//! What a route says by itself, before anything it refers to is looked at.
//!
//! Whatever is broken answers in its own place, so that no other rule takes its requests. The one exception is a match that cannot be compiled:
//! it matches nothing and is left out. Which requests it was meant for cannot be known, and a guess would take requests from healthy routes.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use penstock_core::{Kind, ResourceRef, hostname::HostPattern, route::RuleMatch};

use super::{
    filters::{self, FilterPlace, FilterSet},
    matches::CompileMatch,
};
use crate::{
    problem::Problem,
    resources::{
        common::ParentReference,
        route::{BackendRef, RouteRule, RouteSpec},
    },
};

/// The limit of `weight` in Gateway API; it keeps the sum of a rule's weights far from overflowing.
pub(super) const MAX_WEIGHT: i32 = 1_000_000;

/// A route with everything compiled that needs nothing else.
#[derive(Debug)]
pub(super) struct RouteDraft {
    pub(super) id: ResourceRef,
    pub(super) generation: i64,
    /// Seconds since the epoch; 0 where the source has no time.
    pub(super) created: i64,
    pub(super) parents: Vec<ParentReference>,
    /// Never empty unless all of them are malformed.
    pub(super) hostnames: Vec<HostPattern>,
    pub(super) rules: Vec<RuleDraft>,
    /// What is wrong, in the order of the resource.
    pub(super) problems: Vec<Problem>,
    /// Well-formed fields that have no effect.
    pub(super) notes: Vec<String>,
}

/// One rule.
#[derive(Debug)]
pub(super) struct RuleDraft {
    pub(super) index: usize,
    pub(super) name: Option<Arc<str>>,
    /// Empty if none of them can ever match: then there is no rule.
    pub(super) matches: Vec<RuleMatch>,
    /// If they do not work together, the rule answers in place of its backends.
    pub(super) filters: Result<FilterSet, Problem>,
    pub(super) backends: Vec<BackendDraft>,
}

/// One backend reference.
#[derive(Debug)]
pub(super) struct BackendDraft {
    pub(super) reference: BackendRef,
    pub(super) filters: Result<FilterSet, Problem>,
}

impl RouteDraft {
    /// Whether anything of the route can take requests as it was meant to.
    pub(super) fn works(&self) -> bool {
        !self.hostnames.is_empty() && self.rules.iter().any(|rule| !rule.matches.is_empty() && rule.filters.is_ok())
    }
}

pub(super) fn draft<M: CompileMatch>(id: &ResourceRef, metadata: &ObjectMeta, spec: &RouteSpec<M>) -> RouteDraft {
    let mut draft = RouteDraft {
        id: id.clone(),
        generation: metadata.generation.unwrap_or(0),
        created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        parents: Vec::new(),
        hostnames: Vec::new(),
        rules: Vec::new(),
        problems: Vec::new(),
        notes: Vec::new(),
    };
    for parent in &spec.parent_refs {
        if !draft.parents.contains(parent) {
            draft.parents.push(parent.clone()); // a repetition says nothing new, and status is keyed by the reference
        }
    }
    draft.read_hostnames(&spec.hostnames);
    if spec.use_default_gateways.is_some() {
        draft.notes.push("useDefaultGateways is not supported yet and ignored".to_owned());
    }
    if spec.rules.is_empty() {
        draft.read_rule(0, &everything::<M>());
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        draft.read_rule(index, rule);
    }
    draft
}

/// The rule of a route without rules.
fn everything<M>() -> RouteRule<M> {
    RouteRule {
        name: None,
        matches: Vec::new(),
        filters: Vec::new(),
        backend_refs: Vec::new(),
        timeouts: None,
        retry: None,
        session_persistence: None,
    }
}

impl RouteDraft {
    fn read_hostnames(&mut self, hostnames: &[String]) {
        if hostnames.is_empty() {
            self.hostnames.push(HostPattern::Any);
        }
        for (index, text) in hostnames.iter().enumerate() {
            match HostPattern::parse(text) {
                Ok(HostPattern::Any) => {
                    self.problems
                        .push(Problem::unsupported(format!("hostnames[{index}]: is empty; leave the entry out")));
                }
                Ok(hostname) if self.hostnames.contains(&hostname) => {}
                Ok(hostname) => self.hostnames.push(hostname),
                Err(error) => self.problems.push(Problem::unsupported(format!("hostnames[{index}]: `{text}` {error}"))),
            }
        }
    }

    fn read_rule<M: CompileMatch>(&mut self, index: usize, rule: &RouteRule<M>) {
        let at = format!("rules[{index}]");
        let mut matches = Vec::with_capacity(rule.matches.len().max(1));
        if rule.matches.is_empty() {
            matches.push(M::everything());
        }
        for (position, one) in rule.matches.iter().enumerate() {
            match one.compile() {
                Ok(compiled) => matches.push(compiled),
                Err(problem) => self.problems.push(problem.within(format_args!("{at}.matches[{position}]"))),
            }
        }
        let place =
            FilterPlace { kind: self.id.kind, in_backend: false, single_prefix: M::is_single_prefix(&rule.matches) };
        let filters = filters::compile(&rule.filters, place)
            .and_then(|filters| match filters.redirect.is_some() && !rule.backend_refs.is_empty() {
                true => Err(Problem::new(
                    "IncompatibleFilters",
                    "backendRefs: a rule with a RequestRedirect filter never forwards; remove one of the two",
                )),
                false => Ok(filters),
            })
            .map_err(|problem| problem.within(&at));
        self.problems.extend(filters.as_ref().err().cloned());
        let backends = self.read_backends(&at, &rule.backend_refs, FilterPlace { in_backend: true, ..place });
        self.note_ignored(&at, rule);
        let name: Option<Arc<str>> = rule.name.as_deref().map(Into::into);
        if name.is_some() && self.rules.iter().any(|earlier| earlier.name == name) {
            self.notes.push(format!("{at}.name is that of an earlier rule; a policy for that name applies to both"));
        }
        self.rules.push(RuleDraft { index, name, matches, filters, backends });
    }

    fn read_backends(&mut self, at: &str, references: &[BackendRef], place: FilterPlace) -> Vec<BackendDraft> {
        let mut backends = Vec::with_capacity(references.len());
        for (position, reference) in references.iter().enumerate() {
            let at = format!("{at}.backendRefs[{position}]");
            if let Some(weight) = reference.weight.filter(|weight| !(0..=MAX_WEIGHT).contains(weight)) {
                let message =
                    format!("{at}.weight: {weight} is not between 0 and {MAX_WEIGHT}; the backend gets no requests");
                self.problems.push(Problem::unsupported(message));
            }
            let filters = filters::compile(&reference.filters, place).map_err(|problem| problem.within(&at));
            self.problems.extend(filters.as_ref().err().cloned());
            backends.push(BackendDraft { reference: reference.clone(), filters });
        }
        backends
    }

    fn note_ignored<M>(&mut self, at: &str, rule: &RouteRule<M>) {
        let fields = [
            ("timeouts", rule.timeouts.is_some()),
            ("retry", rule.retry.is_some()),
            ("sessionPersistence", rule.session_persistence.is_some()),
        ];
        let given = fields.iter().filter(|(_, given)| *given);
        self.notes.extend(given.map(|(field, _)| format!("{at}.{field} is not supported yet and ignored")));
    }

    /// Whether its backends must speak HTTP/2.
    pub(super) fn is_grpc(&self) -> bool {
        self.id.kind == Kind::GRPCRoute
    }
}
