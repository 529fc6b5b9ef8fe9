//! A route in its world: rules with their targets and plugins, attachments, status.

use std::sync::Arc;

use penstock_core::{
    Kind, ResourceRef,
    backend::BackendKey,
    filter::Redirect,
    reason::Reason,
    route::{Action, Failure, Route, Rule, RuleId, Target, WeightedBackend},
};

use super::{
    Attachment, RouteOutput,
    attach::{self, ParentOutcome},
    backends::{self, Found},
    draft::{BackendDraft, MAX_WEIGHT, RouteDraft, RuleDraft},
};
use crate::{
    Condition, Status,
    backend_tls::ServiceTls,
    endpoints::BackendRegistry,
    gateway::GatewayModel,
    nearest::{did_you_mean, list},
    plugin::{self, AttachedPlugin, Chain, PluginModel, RouteUse, chain, forward, ordered},
    problem::{Conditions, Problem, sentences},
    resources::{
        common::{GATEWAY_GROUP, ParentReference},
        route::BackendRef,
    },
    status::{RouteParentStatus, RouteStatus},
    view::View,
};

/// A rule with its references resolved, before the plugins of a Gateway are added.
struct ResolvedRule<'a> {
    draft: &'a RuleDraft,
    outcome: Outcome<'a>,
    /// Attached to the route or this rule of it.
    attached: Vec<&'a Arc<PluginModel>>,
    /// Named by the rule's own filters.
    named: Vec<&'a Arc<PluginModel>>,
}

/// What becomes of a request, before the plugins are asked.
enum Outcome<'a> {
    /// To one of these, those with a weight of zero included.
    Forward(Vec<WeightedBackend>),
    Redirect(&'a Redirect),
    Fail(Failure),
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
    let mut tls = Vec::new();
    let mut resolver =
        Resolver { view, draft, attached, unresolved: &mut unresolved, backends, tls: &mut tls, registry };
    let rules: Vec<ResolvedRule<'_>> =
        draft.rules.iter().filter(|rule| !rule.matches.is_empty()).map(|rule| resolver.rule(rule)).collect();
    output.route_plugins = rules.iter().filter_map(|rule| route_use(draft, rule)).collect();
    let mut routes = Vec::<(Vec<Arc<PluginModel>>, Arc<Route>)>::new();
    for (_, outcome) in &outcomes {
        if let ParentOutcome::Attached(gateway, listeners) = outcome {
            attach_to(view, draft, gateway, listeners, &rules, &mut routes, &mut output);
            output.tls.extend(tls.iter().map(|service| (service.clone(), gateway.clone())));
        }
    }
    output.status = Some(Arc::new(Status::Route(status(view, draft, &outcomes, &unresolved, &rules))));
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
    // Plugins of a Gateway apply to its ListenerSets too; those of one listener to that listener of the Gateway alone.
    let outer = view.attached(&gateway.gateway).map(|attached| attached.as_slice()).unwrap_or_default();
    for &listener in listeners {
        let there = |it: &Attachment| Arc::ptr_eq(&it.gateway, gateway) && it.listener == listener;
        if output.attachments.iter().any(there) {
            continue; // by another parentRef
        }
        let section = (gateway.id == gateway.gateway).then(|| gateway.listeners[listener].name.clone());
        let plugins: Vec<Arc<PluginModel>> =
            of_section(outer, section.as_deref()).filter(|it| !it.is_route()).cloned().collect();
        let known = routes.iter().find(|(others, _)| same(others, &plugins)).map(|(_, route)| route.clone());
        let route = known.unwrap_or_else(|| {
            let route = Arc::new(route(draft, rules, &plugins));
            routes.push((plugins, route.clone()));
            route
        });
        output.attachments.push(Attachment {
            gateway: gateway.clone(),
            listener,
            accepted: draft.works(),
            last: false,
            route,
        });
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
    let id = RuleId {
        route: draft.id.clone(),
        index: u32::try_from(resolved.draft.index).unwrap_or(u32::MAX),
        name: resolved.draft.name.clone(),
    };
    let (Chain { policies, route }, action) = calls(&id, resolved, outer);
    let filters = resolved.draft.filters.as_ref().ok();
    Rule {
        id,
        matches: resolved.draft.matches.clone(),
        request_headers: filters.and_then(|filters| filters.request_headers.clone()),
        response_headers: filters.and_then(|filters| filters.response_headers.clone()),
        rewrite: filters.and_then(|filters| filters.rewrite.clone()),
        policies,
        route_plugin: route,
        action,
    }
}

/// The plugins of a rule, and what it does.
fn calls(id: &RuleId, resolved: &ResolvedRule<'_>, outer: &[Arc<PluginModel>]) -> (Chain, Action) {
    let plugins = ordered(outer.iter().chain(resolved.attached.iter().copied()), resolved.named.iter().copied());
    match &resolved.outcome {
        // A rule that is broken in itself says so, whatever its plugins do.
        Outcome::Fail(failure) => (Chain::default(), Action::Fail(failure.clone())),
        Outcome::Redirect(redirect) => match chain(&plugins, || 0) {
            Ok(chain) => (Chain { route: None, ..chain }, Action::Redirect((*redirect).clone())),
            Err(failure) => (Chain::default(), Action::Fail(failure)),
        },
        Outcome::Forward(backends) => forward(id, &plugins, backends.clone()),
    }
}

/// The route plugins of a rule, if it has any that could choose.
fn route_use(draft: &RouteDraft, resolved: &ResolvedRule<'_>) -> Option<RouteUse> {
    let Outcome::Forward(_) = resolved.outcome else { return None };
    let plugins = ordered(resolved.attached.iter().copied(), resolved.named.iter().copied());
    let plugins: Vec<_> = plugins.iter().filter(|plugin| plugin.is_route()).map(|plugin| plugin.id.clone()).collect();
    let name = match &resolved.draft.name {
        Some(name) => format!("`{name}`"),
        None => resolved.draft.index.to_string(),
    };
    let RouteDraft { id, .. } = draft;
    let rule = format!("rule {name} of {} `{}/{}`", id.kind, id.namespace, id.name);
    (!plugins.is_empty()).then_some(RouteUse { rule, plugins })
}

/// Follows the references of a route, and collects what is wrong with them.
struct Resolver<'a, 'b, 'm> {
    view: &'b View<'a>,
    draft: &'b RouteDraft,
    attached: &'b [AttachedPlugin],
    unresolved: &'m mut Vec<Problem>,
    /// Each backend once.
    backends: &'m mut Vec<BackendKey>,
    /// Services with BackendTLSPolicies, each once.
    tls: &'m mut Vec<Arc<ServiceTls>>,
    registry: &'m mut BackendRegistry,
}

impl<'a: 'b, 'b> Resolver<'a, 'b, '_> {
    fn rule(&mut self, rule: &'b RuleDraft) -> ResolvedRule<'b> {
        let attached = of_section(self.attached, rule.name.as_deref()).collect();
        let filters = match &rule.filters {
            Ok(filters) => filters,
            Err(problem) => {
                let outcome = Outcome::Fail(failure(Reason::InvalidFilter, problem));
                return ResolvedRule { draft: rule, outcome, attached, named: Vec::new() };
            }
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
        let outcome = match (lost, &filters.redirect) {
            (Some(problem), _) => Outcome::Fail(failure(Reason::InvalidFilter, &problem)),
            (None, Some(redirect)) => Outcome::Redirect(redirect),
            (None, None) => Outcome::Forward(backends),
        };
        ResolvedRule { draft: rule, outcome, attached, named }
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

    fn backends(&mut self, rule: &RuleDraft) -> Vec<WeightedBackend> {
        let backends = rule.backends.iter().enumerate().map(|(index, backend)| {
            let at = format!("rules[{}].backendRefs[{index}]", rule.index);
            self.backend(&at, backend)
        });
        backends.collect()
    }

    fn backend(&mut self, at: &str, backend: &BackendDraft) -> WeightedBackend {
        let target = match (self.target(at, backend), &backend.filters) {
            (_, Err(problem)) => Target::Fail(failure(Reason::InvalidFilter, problem)),
            (target, Ok(_)) => target,
        };
        let filters = backend.filters.as_ref().ok();
        WeightedBackend {
            name: self.name(&target, &backend.reference),
            weight: weight(backend.reference.weight.unwrap_or(1)),
            target,
            request_headers: filters.and_then(|filters| filters.request_headers.clone()),
            response_headers: filters.and_then(|filters| filters.response_headers.clone()),
            rewrite: filters.and_then(|filters| filters.rewrite.clone()),
        }
    }

    /// As route plugins know it.
    fn name(&self, target: &Target, reference: &BackendRef) -> Arc<str> {
        match target {
            Target::Backend(backend) => backend.key.to_string().into(),
            Target::Fail(_) => {
                let namespace = reference.namespace.as_deref().unwrap_or(&self.draft.id.namespace);
                let port = reference.port.map(|port| format!(":{port}")).unwrap_or_default();
                format!("{namespace}/{}{port}", reference.name).into()
            }
        }
    }

    fn target(&mut self, at: &str, backend: &BackendDraft) -> Target {
        match backends::find(self.view, backends::Referrer::route(self.draft), &backend.reference, self.tls) {
            Ok(Found::Backend(key, origin)) => {
                if !self.backends.contains(&key) {
                    self.backends.push(key.clone());
                }
                Target::Backend(self.registry.get(key, origin))
            }
            // The reference resolves, so the route is in order; the status of the policy says what is wrong.
            Ok(Found::Unsafe(problem)) => Target::Fail(failure(Reason::InvalidBackend, &problem.within(at))),
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

fn failure(reason: Reason, problem: &Problem) -> Failure {
    Failure { reason, message: problem.message.as_str().into() }
}

fn status(
    view: &View<'_>,
    draft: &RouteDraft,
    outcomes: &[(&ParentReference, ParentOutcome)],
    unresolved: &[Problem],
    rules: &[ResolvedRule<'_>],
) -> RouteStatus {
    let parents = outcomes.iter().map(|(parent, outcome)| RouteParentStatus {
        parent_ref: ParentReference {
            group: Some(parent.group.clone().unwrap_or_else(|| GATEWAY_GROUP.to_owned())),
            kind: Some(parent.kind.clone().unwrap_or_else(|| "Gateway".to_owned())),
            ..(*parent).clone()
        },
        controller_name: view.settings().controller_name.clone(),
        conditions: conditions(draft, outcome, unresolved, rules),
    });
    RouteStatus { parents: parents.collect() }
}

fn conditions(
    draft: &RouteDraft,
    outcome: &ParentOutcome,
    unresolved: &[Problem],
    rules: &[ResolvedRule<'_>],
) -> Vec<Condition> {
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
    if let ParentOutcome::Attached(..) = outcome {
        // Those of the Gateway are said there: its routes are many, and others'.
        let plugins = rules.iter().flat_map(|rule| rule.attached.iter().chain(&rule.named).copied());
        plugin::degraded(plugins, &mut conditions);
    }
    conditions.finish()
}
