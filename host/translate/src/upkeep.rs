//! One Service for each Gateway, and what it takes to get there from what is.
//!
//! ```text
//! Gateway `web`, port 80 ──► Service `web-penstock`: port 80 ──► EndpointSlices: the instances, port 17350 ──► socket 0.0.0.0:17350
//! ```
//!
//! The instances serve all Gateways. So that no Gateway is in another's way, each of its ports leads to a port of the instances that is its
//! own ([`ports`]). A Service can select pods of its own namespace alone, and belongs into that of its Gateway, with which it goes; so it
//! selects nothing, and its EndpointSlices are copies of those of the Service that the installation has before its instances.
//!
//! What is yielded is the difference between what should be and what is: nothing, when nothing is to be done.

mod manifest;
mod ports;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use penstock_core::{Kind, ResourceRef};
use serde_json::Value;

use self::manifest::{Maker, contains};
pub(crate) use self::{
    manifest::{fnv, label_value},
    ports::assign,
};
use crate::{Resources, gateway::GatewayState, ownership::Ownership, resources::Gateway, settings::GatewayServices};

/// What is to be done in the cluster, by object.
pub type Upkeep = BTreeMap<ResourceRef, Action>;

/// What is to be done with one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create it, or make it so.
    Apply(Value),
    /// Create it, unless it is there.
    Create(Value),
    /// Delete it, if it still has this identity.
    Delete(String),
}

/// Objects with this label are made here, …
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "penstock");
/// … by the installations with this controller name …
pub(crate) const CONTROLLER: &str = "penstock.dev/controller";
/// … for this Gateway.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Tells another version of what was applied, also one that only lacks something.
const APPLIED: &str = "penstock.dev/applied";

/// The name of the Service of a Gateway.
pub(crate) fn service_of(id: &ResourceRef, gateway: &Gateway) -> ResourceRef {
    let name = manifest::service_name(&id.name, &gateway.spec.gateway_class_name);
    ResourceRef::new(Kind::Service, id.namespace.clone(), name)
}

/// What is to be done for all Gateways.
pub(crate) fn upkeep(ownership: Ownership<'_>, gateways: &[GatewayState<'_>]) -> Upkeep {
    let Ownership { resources, settings } = ownership;
    let GatewayServices::Each { type_, instances } = &settings.services else { return Upkeep::new() };
    let controller = label_value(&settings.controller_name);
    let mut wanted = BTreeMap::new();
    let mut kept = Vec::new();
    for state in gateways.iter().filter(|state| state.set.is_none()) {
        let service = service_of(&state.id, state.gateway);
        let ports = served_ports(&state.id, gateways);
        if ports.is_empty() {
            // A Service must have a port, and the address of one that is there must not be lost by a mistake.
            kept.push(service);
            continue;
        }
        let maker = Maker { state, service: &service, controller: &controller, ports: &ports };
        wanted.insert(service.clone(), (service.clone(), maker.service(*type_)));
        let instances = resources.endpoint_slices.get(instances);
        for slice in instances.iter().flat_map(|slices| slices.values()) {
            let (id, slice) = maker.slice(slice);
            wanted.insert(id, (service.clone(), slice));
        }
    }
    let mut upkeep: Upkeep = stale(ownership, &controller, |id| wanted.contains_key(id), &kept);
    for (id, (service, manifest)) in wanted {
        if !live(resources, &service, &id).is_some_and(|live| contains(&live, &manifest)) {
            upkeep.insert(id, Action::Apply(manifest));
        }
    }
    upkeep
}

/// Ports of a Gateway and its ListenerSets on which anything may serve, with those of the instances.
fn served_ports(gateway: &ResourceRef, gateways: &[GatewayState<'_>]) -> BTreeMap<u16, u16> {
    let parts = gateways.iter().filter(|state| state.model.gateway == *gateway && state.stands());
    let listeners = parts.flat_map(|state| {
        state.listeners.iter().filter(|listener| listener.stands()).map(move |listener| (state, listener.port))
    });
    listeners.map(|(state, port)| (port, state.addresses.instance_port(port))).collect()
}

/// What is there of a Service or of one of its EndpointSlices.
fn live(resources: &Resources, service: &ResourceRef, id: &ResourceRef) -> Option<Value> {
    let object = match id.kind {
        Kind::Service => serde_json::to_value(&**resources.services.get(id)?),
        _ => serde_json::to_value(&**resources.endpoint_slices.get(service)?.get(id)?),
    };
    object.ok()
}

/// What was made here and is not wanted any more. What belongs to a Gateway that is gone goes with it, without us; and what belongs to one
/// that another installation of our name looks after is its matter.
fn stale(
    ownership: Ownership<'_>,
    controller: &str,
    is_wanted: impl Fn(&ResourceRef) -> bool,
    kept: &[ResourceRef],
) -> Upkeep {
    let resources = ownership.resources;
    let is_kept = |service: &ResourceRef| kept.contains(service);
    let gone = made_here(resources, controller).filter(|(id, service, metadata)| {
        !is_wanted(id)
            && !is_kept(service)
            && owner(resources, metadata).is_some_and(|gateway| !ownership.is_others(gateway))
    });
    gone.map(|(id, _, metadata)| (id.clone(), Action::Delete(metadata.uid.clone().unwrap_or_default()))).collect()
}

/// Services and EndpointSlices that were made here, each with the Service that it belongs to.
fn made_here<'a>(
    resources: &'a Resources,
    controller: &str,
) -> impl Iterator<Item = (&'a ResourceRef, &'a ResourceRef, &'a ObjectMeta)> {
    let services = resources.services.iter().map(|(id, service)| (id, id, &service.metadata));
    let slices = resources
        .endpoint_slices
        .iter()
        .flat_map(|(service, slices)| slices.iter().map(move |(id, slice)| (id, service, &slice.metadata)));
    services.chain(slices).filter(move |(_, _, metadata)| is_made_here(metadata, controller))
}

/// Whether anything was made here for a Gateway of this name, whoever has it now.
pub(crate) fn has_made_for(ownership: Ownership<'_>, gateway: &ResourceRef) -> bool {
    let Ownership { resources, settings } = ownership;
    let is_for = |metadata: &ObjectMeta| {
        metadata.namespace.as_deref() == Some(&*gateway.namespace)
            && owner_reference(metadata).is_some_and(|owner| *owner.name == *gateway.name)
    };
    settings.services.of_each().is_some()
        && made_here(resources, &label_value(&settings.controller_name)).any(|(_, _, metadata)| is_for(metadata))
}

/// Whether an object was made by the installations with this mark.
pub(crate) fn is_made_here(metadata: &ObjectMeta, controller: &str) -> bool {
    let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    label(CONTROLLER) == Some(controller) && label(MANAGED_BY.0) == Some(MANAGED_BY.1)
}

/// The Gateway that it was made for, if it is still there.
fn owner<'a>(resources: &'a Resources, metadata: &ObjectMeta) -> Option<&'a Gateway> {
    let owner = owner_reference(metadata)?;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let gateway = resources.gateways.get(&ResourceRef::new(Kind::Gateway, namespace, owner.name.as_str()))?;
    (gateway.metadata.uid.as_deref() == Some(&owner.uid)).then_some(&**gateway)
}

fn owner_reference(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Gateway")
}
