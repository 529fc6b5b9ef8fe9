//! Which listeners a route attaches to.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use penstock_core::{Kind, ResourceRef};

use super::draft::RouteDraft;
use crate::{
    gateway::{AllowedNamespaces, GatewayModel, ListenerModel},
    nearest::{did_you_mean, list},
    problem::Problem,
    resources::common::{GATEWAY_GROUP, ParentReference},
    view::View,
};

/// The label that every namespace carries.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

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
    let group = parent.group.as_deref().unwrap_or(GATEWAY_GROUP);
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    if group != GATEWAY_GROUP || kind != "Gateway" {
        let message =
            format!("parentRefs[{index}].kind: `{group}/{kind}` cannot be a parent; `{GATEWAY_GROUP}/Gateway` can");
        return alone.then(|| ParentOutcome::Refused(Problem::new("NoMatchingParent", message)));
    }
    let namespace = parent.namespace.as_deref().unwrap_or(&route.id.namespace);
    let key = ResourceRef::new(Kind::Gateway, namespace, parent.name.as_str());
    let Some(gateway) = view.gateway(&key) else {
        let lost = alone && view.all_gateways().get(&key).is_none();
        return lost.then(|| ParentOutcome::Refused(missing(view, index, &key)));
    };
    Some(match listeners(view, route, index, parent, gateway) {
        Ok(listeners) => ParentOutcome::Attached(gateway.clone(), listeners),
        Err(problem) => ParentOutcome::Refused(problem),
    })
}

fn missing(view: &View<'_>, index: usize, key: &ResourceRef) -> Problem {
    let hint = did_you_mean(&key.name, view.all_gateways().names_in(Kind::Gateway, &key.namespace));
    let message = format!("parentRefs[{index}].name: there is no Gateway `{}/{}`{hint}", key.namespace, key.name);
    Problem::new("NoMatchingParent", message)
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
        let message = format!("parentRefs[{index}]: no listener of the Gateway allows {}s", route.id.kind);
        return Err(Problem::new("NotAllowedByListeners", message));
    }
    left.retain(|at| namespace_allowed(view, route, gateway, of(at)));
    if left.is_empty() {
        let message = format!(
            "parentRefs[{index}]: no listener of the Gateway allows routes of namespace `{}`; its allowedRoutes.namespaces decides",
            route.id.namespace
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
            [] => "hostnames: the listener's own hostname is malformed; see the status of the Gateway".to_owned(),
            _ => format!(
                "hostnames: none of them is among those of the Gateway's listeners: {}",
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
    let known = list(known.iter().map(String::as_str));
    let message = match (&parent.section_name, parent.port) {
        (Some(name), None) => {
            let hint = did_you_mean(name, names());
            format!("sectionName: the Gateway has no listener `{name}`; it has {known}{hint}")
        }
        (None, Some(port)) => format!("port: the Gateway has no listener on port {port}; it has {known}"),
        (Some(name), Some(port)) => {
            format!("sectionName: the Gateway has no listener `{name}` on port {port}; it has {known}")
        }
        (None, None) => "name: the Gateway has no listeners".to_owned(),
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
            let mut labels = object.and_then(|object| object.metadata.labels.clone()).unwrap_or_default();
            // Every namespace of a cluster has it; files rarely spell their namespaces out.
            labels.entry(NAME_LABEL.to_owned()).or_insert_with(|| namespace.to_string());
            selects(selector, &labels)
        }
    }
}

/// Label selectors as Kubernetes defines them; an operator that is not known selects nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let values = expression.values.as_deref().unwrap_or_default();
            match expression.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
