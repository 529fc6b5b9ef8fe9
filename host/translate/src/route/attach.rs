//! Which listeners a route attaches to.

use std::sync::Arc;

use penstock_core::{Kind, ResourceRef};

use super::draft::RouteDraft;
use crate::{
    gateway::{AllowedNamespaces, GatewayModel, ListenerModel},
    nearest::{did_you_mean, list},
    problem::Problem,
    resources::common::{GATEWAY_GROUP, ParentReference},
    selector::{namespace_labels, selects},
    view::View,
};

/// What a route is for one of its parents.
pub(super) enum ParentOutcome {
    /// The parent does not take it, or there is no such parent and nobody else could say so.
    Refused(Problem),
    /// Attached to these listeners of ours.
    Attached(Arc<GatewayModel>, Vec<usize>),
}

/// None if the parent is somebody else's, or nobody's: then nothing is said about it.
pub(super) fn attach(
    view: &View<'_>,
    route: &RouteDraft,
    index: usize,
    parent: &ParentReference,
) -> Option<ParentOutcome> {
    let alone = view.settings().implied_class.is_some();
    let Some(key) = self::parent(&route.id, parent) else {
        let group = parent.group.as_deref().unwrap_or(GATEWAY_GROUP);
        let kind = parent.kind.as_deref().unwrap_or("Gateway");
        let message = format!(
            "parentRefs[{index}].kind: `{group}/{kind}` cannot be a parent; Gateway and ListenerSet of `{GATEWAY_GROUP}` can"
        );
        return alone.then(|| ParentOutcome::Refused(Problem::new("NoMatchingParent", message)));
    };
    let Some(gateway) = view.gateway(&key) else {
        return if alone { missing(view, index, &key).map(ParentOutcome::Refused) } else { None };
    };
    Some(match listeners(view, route, index, parent, gateway) {
        Ok(listeners) => ParentOutcome::Attached(gateway.clone(), listeners),
        Err(problem) => ParentOutcome::Refused(problem),
    })
}

/// The Gateway or ListenerSet that a route names as its parent; none if it names something else.
pub(crate) fn parent(route: &ResourceRef, parent: &ParentReference) -> Option<ResourceRef> {
    let group = parent.group.as_deref().unwrap_or(GATEWAY_GROUP);
    let kind = parent_kind(group, parent.kind.as_deref().unwrap_or("Gateway"))?;
    let namespace = parent.namespace.as_deref().unwrap_or(&route.namespace);
    Some(ResourceRef::new(kind, namespace, parent.name.as_str()))
}

/// The kind of a parent; none if it cannot be one.
fn parent_kind(group: &str, kind: &str) -> Option<Kind> {
    match (group, kind) {
        (GATEWAY_GROUP, "Gateway") => Some(Kind::Gateway),
        (GATEWAY_GROUP, "ListenerSet") => Some(Kind::ListenerSet),
        _ => None,
    }
}

/// None if it exists, and is somebody else's.
fn missing(view: &View<'_>, index: usize, key: &ResourceRef) -> Option<Problem> {
    let (exists, hint) = match key.kind {
        Kind::ListenerSet => {
            let sets = view.all_listener_sets();
            (sets.get(key).is_some(), did_you_mean(&key.name, sets.names_in(key.kind, &key.namespace)))
        }
        _ => {
            let gateways = view.all_gateways();
            (gateways.get(key).is_some(), did_you_mean(&key.name, gateways.names_in(key.kind, &key.namespace)))
        }
    };
    let message = format!("parentRefs[{index}].name: there is no {} `{}/{}`{hint}", key.kind, key.namespace, key.name);
    (!exists).then(|| Problem::new("NoMatchingParent", message))
}

/// The narrowing steps, each with the reason that it gives if nothing is left.
fn listeners(
    view: &View<'_>,
    route: &RouteDraft,
    index: usize,
    parent: &ParentReference,
    gateway: &GatewayModel,
) -> Result<Vec<usize>, Problem> {
    let mut left: Vec<usize> = (0..gateway.listeners.len()).collect();
    let of = |at: &usize| &gateway.listeners[*at];
    left.retain(|at| parent.section_name.as_deref().is_none_or(|name| name.is_empty() || *of(at).name == *name));
    left.retain(|at| parent.port.is_none_or(|port| of(at).port == port));
    if left.is_empty() {
        return Err(no_such_listener(index, parent, gateway));
    }
    left.retain(|at| of(at).kinds.contains(&route.id.kind));
    if left.is_empty() {
        let message = format!("parentRefs[{index}]: no listener of the {} allows {}s", gateway.id.kind, route.id.kind);
        return Err(Problem::new("NotAllowedByListeners", message));
    }
    left.retain(|at| namespace_allowed(view, route, gateway, of(at)));
    if left.is_empty() {
        let message = format!(
            "parentRefs[{index}]: no listener of the {} allows routes of namespace `{}`; its allowedRoutes.namespaces decides",
            gateway.id.kind, route.id.namespace
        );
        return Err(Problem::new("NotAllowedByListeners", message));
    }
    let hostnames = |listener: &ListenerModel| {
        let own = listener.hostname.as_ref();
        own.is_some_and(|own| route.hostnames.iter().any(|hostname| own.intersect(hostname).is_some()))
    };
    let before: Vec<String> = left.iter().filter_map(|at| of(at).hostname.as_ref()).map(ToString::to_string).collect();
    if route.hostnames.is_empty() {
        return Ok(left); // all malformed: that is the route's own problem, whatever the listeners have
    }
    left.retain(|at| hostnames(of(at)));
    if left.is_empty() {
        let message = match before.as_slice() {
            [] => "hostnames: the listener's own hostname is malformed; see the status of its parent".to_owned(),
            _ => format!(
                "hostnames: none of them is among those of the {}'s listeners: {}",
                gateway.id.kind,
                list(before.iter().map(String::as_str))
            ),
        };
        return Err(Problem::new("NoMatchingListenerHostname", message));
    }
    Ok(left)
}

fn no_such_listener(index: usize, parent: &ParentReference, gateway: &GatewayModel) -> Problem {
    let names = || gateway.listeners.iter().map(|listener| &*listener.name);
    let known = gateway.listeners.iter().map(|listener| format!("{}:{}", listener.name, listener.port));
    let known: Vec<String> = known.collect();
    let (known, kind) = (list(known.iter().map(String::as_str)), gateway.id.kind);
    let message = match (&parent.section_name, parent.port) {
        (Some(name), None) => {
            let hint = did_you_mean(name, names());
            format!("sectionName: the {kind} has no listener `{name}`; it has {known}{hint}")
        }
        (None, Some(port)) => format!("port: the {kind} has no listener on port {port}; it has {known}"),
        (Some(name), Some(port)) => {
            format!("sectionName: the {kind} has no listener `{name}` on port {port}; it has {known}")
        }
        (None, None) => format!("name: the {kind} has no listeners"),
    };
    Problem::new("NoMatchingParent", format!("parentRefs[{index}].{message}"))
}

fn namespace_allowed(view: &View<'_>, route: &RouteDraft, gateway: &GatewayModel, listener: &ListenerModel) -> bool {
    let namespace = &route.id.namespace;
    match &listener.namespaces {
        AllowedNamespaces::All => true,
        AllowedNamespaces::Same => *namespace == gateway.id.namespace,
        AllowedNamespaces::Nobody => false,
        AllowedNamespaces::Selector(selector) => {
            let object = view.namespace(&ResourceRef::new(Kind::Namespace, "", namespace.clone()));
            let labels = namespace_labels(namespace, object.map(|object| &**object));
            selects(selector, &labels)
        }
    }
}
