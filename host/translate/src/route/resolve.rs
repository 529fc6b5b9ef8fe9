//! A route in its world: rules with their targets and plugins, attachments, status.

use std::sync::Arc;

use penstock_core::{
    Kind, ResourceRef,
    backend::BackendKey,
    reason::Reason,
    route::{Action, Failure, Route, Rule, RuleId, Target, WeightedBackend, WeightedBackends},
};

use super::{
    Attachment, RouteOutput,
    attach::{self, ParentOutcome},
    backends,
    draft::{BackendDraft, MAX_WEIGHT, RouteDraft, RuleDraft},
};
use crate::{
    Condition, Status,
    endpoints::BackendRegistry,
    gateway::GatewayModel,
    nearest::{did_you_mean, list},
    plugin::{AttachedPlugin, PluginModel, chain},
    problem::{Conditions, Problem, sentences},
    resources::common::{GATEWAY_GROUP, ParentReference},
    status::{RouteParentStatus, RouteStatus},
    view::View,
};

/// A rule with its references resolved, before the plugins of a Gateway are added.
struct ResolvedRule<'a> {
    draft: &'a RuleDraft,
    action: Action,
    /// Attached to the route or this rule of it.
    attached: Vec<&'a Arc<PluginModel>>,
    /// Named by the rule's own filters.
    named: Vec<&'a Arc<PluginModel>>,
}

pub(super) fn resolve(view: &View<'_>, draft: &RouteDraft, registry: &mut BackendRegistry) -> RouteOutput {
    let mut output = RouteOutput::default();
    let outcomes: Vec<(&ParentReference, ParentOutcome)> = draft
        .parents
        .iter()
        .enumerate()
        .filter_map(|(index, parent)| Some((parent, attach::attach(view, draft, index, parent)?)))
        .collect();
    if outcomes.is_empty() {
        return output; // nothing of it is ours: no status, no work
    }
    let mut unresolved = Vec::new();
    let attached = view.attached(&draft.id).map(|attached| attached.as_slice()).unwrap_or_default();
    let backends = &mut output.backends;
    let mut resolver = Resolver { view, draft, attached, unresolved: &mut unresolved, backends, registry };
    let rules: Vec<ResolvedRule<'_>> =
        draft.rules.iter().filter(|rule| !rule.matches.is_empty()).map(|rule| resolver.rule(rule)).collect();
    let mut routes = Vec::<(Vec<Arc<PluginModel>>, Arc<Route>)>::new();
    for (_, outcome) in &outcomes {
        if let ParentOutcome::Attached(gateway, listeners) = outcome {
            attach_to(view, draft, gateway, listeners, &rules, &mut routes, &mut output);
        }
    }
    output.status = Some(Arc::new(Status::Route(status(view, draft, &outcomes, &unresolved))));
    output
}

/// Put the route on listeners of one Gateway. Listeners with the same plugins share one value.
fn attach_to(
    view: &View<'_>,
    draft: &RouteDraft,
    gateway: &Arc<GatewayModel>,
    listeners: &[usize],
    rules: &[ResolvedRule<'_>],
    routes: &mut Vec<(Vec<Arc<PluginModel>>, Arc<Route>)>,
    output: &mut RouteOutput,
) {
    if draft.hostnames.is_empty() {
        return; // all of them malformed: no host to take requests for
    }
    let outer = view.attached(&gateway.id).map(|attached| attached.as_slice()).unwrap_or_default();
    for &listener in listeners {
        let there = |it: &Attachment| Arc::ptr_eq(&it.gateway, gateway) && it.listener == listener;
        if output.attachments.iter().any(there) {
            continue; // by another parentRef
        }
        let plugins: Vec<Arc<PluginModel>> =
            of_section(outer, Some(&gateway.listeners[listener].name)).cloned().collect();
        let known = routes.iter().find(|(others, _)| same(others, &plugins)).map(|(_, route)| route.clone());
        let route = known.unwrap_or_else(|| {
            let route = Arc::new(route(draft, rules, &plugins));
            routes.push((plugins, route.clone()));
            route
        });
        output.attachments.push(Attachment { gateway: gateway.clone(), listener, accepted: draft.works(), route });
    }
    for plugin in rules.iter().flat_map(|rule| rule.attached.iter().chain(&rule.named)) {
        if !output.plugins.iter().any(|(known, at)| Arc::ptr_eq(known, plugin) && Arc::ptr_eq(at, gateway)) {
            output.plugins.push((Arc::clone(plugin), gateway.clone()));
        }
    }
}

fn same(a: &[Arc<PluginModel>], b: &[Arc<PluginModel>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Those that apply to a section, or to the whole.
fn of_section<'a>(attached: &'a [AttachedPlugin], section: Option<&str>) -> impl Iterator<Item = &'a Arc<PluginModel>> {
    let applies = move |it: &&AttachedPlugin| it.section.as_deref().is_none_or(|wanted| section == Some(wanted));
    attached.iter().filter(applies).map(|it| &it.plugin)
}

fn route(draft: &RouteDraft, rules: &[ResolvedRule<'_>], outer: &[Arc<PluginModel>]) -> Route {
    Route {
        id: draft.id.clone(),
        created: draft.created,
        hostnames: draft.hostnames.clone(),
        rules: rules.iter().map(|resolved| Arc::new(rule(draft, resolved, outer))).collect(),
    }
}

fn rule(draft: &RouteDraft, resolved: &ResolvedRule<'_>, outer: &[Arc<PluginModel>]) -> Rule {
    let attached = outer.iter().chain(resolved.attached.iter().copied());
    let (policies, action) = match (chain(attached, resolved.named.iter().copied()), &resolved.action) {
        // A rule that is broken in itself says so, whatever its plugins do.
        (_, Action::Fail(failure)) => (Vec::new(), Action::Fail(failure.clone())),
        (Err(failure), _) => (Vec::new(), Action::Fail(failure)),
        (Ok(policies), action) => (policies, action.clone()),
    };
    let filters = resolved.draft.filters.as_ref().ok();
    Rule {
        id: RuleId {
            route: draft.id.clone(),
            index: u32::try_from(resolved.draft.index).unwrap_or(u32::MAX),
            name: resolved.draft.name.clone(),
        },
        matches: resolved.draft.matches.clone(),
        request_headers: filters.and_then(|filters| filters.request_headers.clone()),
        response_headers: filters.and_then(|filters| filters.response_headers.clone()),
        rewrite: filters.and_then(|filters| filters.rewrite.clone()),
        policies,
        action,
    }
}

/// Follows the references of a route, and collects what is wrong with them.
struct Resolver<'a, 'b, 'm> {
    view: &'b View<'a>,
    draft: &'b RouteDraft,
    attached: &'b [AttachedPlugin],
    unresolved: &'m mut Vec<Problem>,
    /// Each backend once.
    backends: &'m mut Vec<BackendKey>,
    registry: &'m mut BackendRegistry,
}

impl<'a: 'b, 'b> Resolver<'a, 'b, '_> {
    fn rule(&mut self, rule: &'b RuleDraft) -> ResolvedRule<'b> {
        let attached = of_section(self.attached, rule.name.as_deref()).collect();
        let filters = match &rule.filters {
            Ok(filters) => filters,
            Err(problem) => return ResolvedRule { draft: rule, action: failed(problem), attached, named: Vec::new() },
        };
        let mut named = Vec::with_capacity(filters.plugins.len());
        let mut lost = None;
        for (name, at) in &filters.plugins {
            match self.plugin(name) {
                Ok(plugin) => named.push(plugin),
                Err(problem) => {
                    let problem =
                        Problem::new(problem.reason, format!("rules[{}].{at}: {}", rule.index, problem.message));
                    self.unresolved.push(problem.clone());
                    lost.get_or_insert(problem);
                }
            }
        }
        let backends = self.backends(rule);
        let action = match (lost, &filters.redirect) {
            (Some(problem), _) => failed(&problem),
            (None, Some(redirect)) => Action::Redirect(redirect.clone()),
            (None, None) => Action::Forward(backends),
        };
        ResolvedRule { draft: rule, action, attached, named }
    }

    fn plugin(&self, name: &str) -> Result<&'b Arc<PluginModel>, Problem> {
        let key = ResourceRef::new(Kind::WasmPlugin, self.draft.id.namespace.clone(), name);
        self.view.plugin(&key).ok_or_else(|| {
            let hint = did_you_mean(name, self.view.plugins().names_in(Kind::WasmPlugin, &key.namespace));
            let message =
                format!("there is no WasmPlugin `{}/{name}`{hint}; until then the rule answers 500", key.namespace);
            Problem::new("FilterNotFound", message)
        })
    }

    fn backends(&mut self, rule: &RuleDraft) -> WeightedBackends {
        let backends = rule.backends.iter().enumerate().map(|(index, backend)| {
            let at = format!("rules[{}].backendRefs[{index}]", rule.index);
            self.backend(&at, backend)
        });
        WeightedBackends::new(backends.collect::<Vec<_>>())
    }

    fn backend(&mut self, at: &str, backend: &BackendDraft) -> WeightedBackend {
        let target = match (self.target(at, backend), &backend.filters) {
            (_, Err(problem)) => Target::Fail(failure(Reason::InvalidFilter, problem)),
            (target, Ok(_)) => target,
        };
        let filters = backend.filters.as_ref().ok();
        WeightedBackend {
            weight: weight(backend.reference.weight.unwrap_or(1)),
            target,
            request_headers: filters.and_then(|filters| filters.request_headers.clone()),
            response_headers: filters.and_then(|filters| filters.response_headers.clone()),
            rewrite: filters.and_then(|filters| filters.rewrite.clone()),
        }
    }

    fn target(&mut self, at: &str, backend: &BackendDraft) -> Target {
        match backends::find(self.view, self.draft, &backend.reference) {
            Ok(found) => {
                if !self.backends.contains(&found.key) {
                    self.backends.push(found.key.clone());
                }
                Target::Backend(self.registry.get(found.key, found.origin))
            }
            Err(problem) => {
                let problem = problem.within(at);
                self.unresolved.push(problem.clone());
                Target::Fail(failure(Reason::InvalidBackend, &problem))
            }
        }
    }
}

/// Out of range means none: a share that nobody meant is worse than no share.
fn weight(weight: i32) -> u32 {
    u32::try_from(weight).ok().filter(|_| weight <= MAX_WEIGHT).unwrap_or_default()
}

fn failed(problem: &Problem) -> Action {
    Action::Fail(failure(Reason::InvalidFilter, problem))
}

fn failure(reason: Reason, problem: &Problem) -> Failure {
    Failure { reason, message: problem.message.as_str().into() }
}

fn status(
    view: &View<'_>,
    draft: &RouteDraft,
    outcomes: &[(&ParentReference, ParentOutcome)],
    unresolved: &[Problem],
) -> RouteStatus {
    let parents = outcomes.iter().map(|(parent, outcome)| RouteParentStatus {
        parent_ref: ParentReference {
            group: Some(parent.group.clone().unwrap_or_else(|| GATEWAY_GROUP.to_owned())),
            kind: Some(parent.kind.clone().unwrap_or_else(|| "Gateway".to_owned())),
            ..(*parent).clone()
        },
        controller_name: view.settings().controller_name.clone(),
        conditions: conditions(draft, outcome, unresolved),
    });
    RouteStatus { parents: parents.collect() }
}

fn conditions(draft: &RouteDraft, outcome: &ParentOutcome, unresolved: &[Problem]) -> Vec<Condition> {
    let mut conditions = Conditions::new(draft.generation);
    match outcome {
        ParentOutcome::Refused(problem) => conditions.no("Accepted", problem),
        ParentOutcome::Attached(..) if !draft.works() => {
            let reason = draft.problems.first().map_or("UnsupportedValue", |first| first.reason);
            let message = format!("no rule can take requests: {}", sentences(&draft.problems));
            conditions.no("Accepted", &Problem::new(reason, message));
        }
        ParentOutcome::Attached(gateway, listeners) => {
            let names = list(listeners.iter().map(|at| &*gateway.listeners[*at].name));
            let notes: String = draft.notes.iter().map(|note| format!("; {note}")).collect();
            conditions.yes("Accepted", "Accepted", format!("attached to {names}{notes}"));
        }
    }
    let first = unresolved.first().map(|first| Problem::new(first.reason, sentences(unresolved)));
    conditions.holds_unless("ResolvedRefs", first.as_ref(), "all references are resolved");
    if draft.works() && !draft.problems.is_empty() {
        // The text must begin so; what Gateway API calls dropped answers 500 here, so that no other rule takes its requests.
        let message = format!("Dropped Rule or part of one: {}", sentences(&draft.problems));
        conditions.yes("PartiallyInvalid", "UnsupportedValue", message);
    }
    conditions.finish()
}
