//! ListenerSets: listeners that others add to a Gateway which allows it.
//!
//! To everything after this module a ListenerSet is a Gateway of its own that listens on the addresses of another one.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use penstock_core::{Kind, ResourceRef};

use super::{GatewayModel, GatewayState, certificates::CertificateCache, conflicts, listeners};
use crate::{
    Statuses,
    nearest::{did_you_mean, list},
    ownership::Ownership,
    problem::{Conditions, Problem},
    resources::{Gateway, ListenerSet, common::GATEWAY_GROUP, gateway::FromListenerNamespaces},
    selector::{namespace_labels, selects},
    status::{ListenerSetStatus, Status},
};

/// ListenerSets of these Gateways, in order of their names.
pub(super) fn evaluate<'a>(
    ownership: Ownership<'a>,
    certificates: &mut CertificateCache,
    gateways: &[GatewayState<'a>],
) -> Vec<GatewayState<'a>> {
    let mut states = Vec::new();
    for (id, set) in ownership.resources.listener_sets.iter() {
        let Some(parent) = parent(id, set) else { continue };
        if let Some(gateway) = gateways.iter().find(|gateway| gateway.id == parent) {
            states.push(one(ownership, certificates, gateway, id, set));
        }
    }
    states
}

/// The Gateway that it names; none if that is no Gateway.
pub(crate) fn parent(id: &ResourceRef, set: &ListenerSet) -> Option<ResourceRef> {
    let reference = &set.spec.parent_ref;
    let group = reference.group.as_deref().unwrap_or(GATEWAY_GROUP);
    let kind = reference.kind.as_deref().unwrap_or("Gateway");
    let namespace = reference.namespace.as_deref().unwrap_or(&id.namespace);
    (group == GATEWAY_GROUP && kind == "Gateway")
        .then(|| ResourceRef::new(Kind::Gateway, namespace, reference.name.as_str()))
}

fn one<'a>(
    ownership: Ownership<'a>,
    certificates: &mut CertificateCache,
    gateway: &GatewayState<'a>,
    id: &ResourceRef,
    set: &'a Arc<ListenerSet>,
) -> GatewayState<'a> {
    let (mut models, mut states, notes) = listeners(ownership, certificates, id, &set.spec.listeners);
    super::refuse_client_certificates(gateway.gateway, &mut states);
    conflicts::resolve_within(&models, &mut states);
    let refused = refusal(ownership, gateway, id);
    if refused.is_some() {
        // No route attaches to what is not there.
        models.iter_mut().for_each(|model| model.kinds.clear());
    }
    GatewayState {
        id: id.clone(),
        gateway: gateway.gateway,
        set: Some(set),
        model: GatewayModel { id: id.clone(), gateway: gateway.id.clone(), listeners: models },
        listeners: states,
        addresses: gateway.addresses.clone(),
        refused,
        notes,
    }
}

fn refusal(ownership: Ownership<'_>, gateway: &GatewayState<'_>, id: &ResourceRef) -> Option<Problem> {
    let name = gateway.id.full_name();
    if let Err(message) = allowed(ownership, gateway.gateway, &gateway.id, id) {
        return Some(Problem::new("NotAllowed", format!("spec.parentRef: Gateway `{name}` {message}")));
    }
    let refused = gateway.refused.as_ref().or(gateway.addresses.unsupported.as_ref());
    refused.map(|_| {
        let message = format!("spec.parentRef: Gateway `{name}` is not accepted; see its status");
        Problem::new("ParentNotAccepted", message)
    })
}

fn allowed(
    ownership: Ownership<'_>,
    gateway: &Gateway,
    gateway_id: &ResourceRef,
    id: &ResourceRef,
) -> Result<(), String> {
    let namespaces = gateway.spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    let from = namespaces.and_then(|namespaces| namespaces.from.as_ref()).unwrap_or(&FromListenerNamespaces::Nobody);
    let selected = |selector: &LabelSelector| {
        let namespace =
            ownership.resources.namespaces.get(&ResourceRef::new(Kind::Namespace, "", id.namespace.clone()));
        selects(selector, &namespace_labels(&id.namespace, namespace.map(|namespace| &**namespace)))
    };
    let allows = match (from, namespaces.and_then(|namespaces| namespaces.selector.as_ref())) {
        (FromListenerNamespaces::All, _) => true,
        (FromListenerNamespaces::Same, _) => id.namespace == gateway_id.namespace,
        (FromListenerNamespaces::Selector, Some(selector)) => selected(selector),
        (FromListenerNamespaces::Selector, None) => {
            return Err("has no allowedListeners.namespaces.selector".to_owned());
        }
        (FromListenerNamespaces::Nobody, _) => {
            return Err("allows no ListenerSets; see its allowedListeners".to_owned());
        }
        (FromListenerNamespaces::Unknown(text), _) => {
            let known = list(FromListenerNamespaces::KNOWN.iter().copied());
            return Err(format!("has allowedListeners.namespaces.from `{text}`, which is none of {known}"));
        }
    };
    match allows {
        true => Ok(()),
        false => Err(format!("allows no ListenerSets of namespace `{}`; see its allowedListeners", id.namespace)),
    }
}

/// Without a cluster nobody else could say that the Gateway is not there.
pub(crate) fn lost(ownership: Ownership<'_>, statuses: &mut Statuses) {
    let gateways = &ownership.resources.gateways;
    for (id, set) in ownership.resources.listener_sets.iter().filter(|_| ownership.alone()) {
        let problem = match parent(id, set) {
            None => "spec.parentRef.kind: only a Gateway can be the parent of a ListenerSet".to_owned(),
            Some(parent) if gateways.get(&parent).is_none() => {
                let hint = did_you_mean(&parent.name, gateways.names_in(Kind::Gateway, &parent.namespace));
                format!("spec.parentRef.name: there is no Gateway `{}/{}`{hint}", parent.namespace, parent.name)
            }
            Some(_) => continue,
        };
        let mut conditions = Conditions::new(set.metadata.generation.unwrap_or(0));
        conditions.no("Accepted", &Problem::new("ParentNotAccepted", problem.clone()));
        conditions.no("Programmed", &Problem::new("ParentNotProgrammed", problem));
        let status = ListenerSetStatus { conditions: conditions.finish(), listeners: Vec::new() };
        statuses.entry(id.clone()).or_insert_with(|| Arc::new(Status::ListenerSet(status)));
    }
}

/// Gateways of another installation with our controller name, and their ListenerSets.
pub(crate) fn others(ownership: Ownership<'_>) -> BTreeSet<ResourceRef> {
    if ownership.settings.class_selector.is_none() {
        return BTreeSet::new();
    }
    let gateways = ownership.resources.gateways.iter().filter(|(_, gateway)| ownership.is_others(gateway));
    let mut others: BTreeSet<ResourceRef> = gateways.map(|(id, _)| id.clone()).collect();
    let sets = ownership.resources.listener_sets.iter();
    let sets = sets.filter(|(id, set)| parent(id, set).is_some_and(|parent| others.contains(&parent)));
    let sets: Vec<ResourceRef> = sets.map(|(id, _)| id.clone()).collect();
    others.extend(sets);
    others
}
