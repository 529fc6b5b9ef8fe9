//! Whether a change can make any difference. In a shared cluster most changes are about what belongs to other controllers: they are heard of, and cost
//! nothing more.
//!
//! Whoever cannot be told apart cheaply concerns us. What is left out here must leave every translation as it is, which a test of random worlds holds.

use penstock_core::{Kind, ResourceRef};

use crate::{
    Change, Table, gateway,
    gateway::GatewayModel,
    ingress,
    ownership::{ClassState, Ownership},
    plugin,
    resources::{Gateway, Ingress, ListenerSet, Object, common::ParentReference},
    route, upkeep,
};

/// What decides.
#[derive(Clone, Copy)]
pub(crate) struct Concern<'a> {
    /// The world before the change.
    pub(crate) ownership: Ownership<'a>,
    /// Gateways and ListenerSets of ours, as of the last translation.
    pub(crate) gateways: &'a Table<GatewayModel>,
}

impl Concern<'_> {
    /// Whether a change matters.
    pub(crate) fn has(self, change: &Change) -> bool {
        if self.ownership.alone() {
            return true; // nobody else could speak about what leads nowhere
        }
        match change {
            Change::Upsert(object) => self.has_object(object) || self.has_present(&object.reference()),
            Change::Delete(id) => self.has_present(id),
            Change::Observe(_) | Change::Bundle(..) | Change::File(..) => true,
        }
    }

    /// What is there before the change, and whoever speaks about it.
    fn has_present(self, id: &ResourceRef) -> bool {
        let resources = self.ownership.resources;
        let is_ours = match id.kind {
            Kind::Gateway => {
                resources.gateways.get(id).is_some_and(|gateway| self.has_gateway(gateway))
                    || upkeep::has_made_for(self.ownership, id)
            }
            Kind::ListenerSet => resources.listener_sets.get(id).is_some_and(|set| self.has_listener_set(id, set)),
            Kind::HTTPRoute => {
                resources.http_routes.get(id).is_some_and(|route| self.has_route(id, &route.spec.parent_refs))
            }
            Kind::GRPCRoute => {
                resources.grpc_routes.get(id).is_some_and(|route| self.has_route(id, &route.spec.parent_refs))
            }
            Kind::Ingress => resources.ingresses.get(id).is_some_and(|ingress| self.has_ingress(ingress)),
            _ => return true,
        };
        // A plugin says whether what it is meant for is there, and what else there is.
        is_ours || plugin::may_name(resources, id)
    }

    fn has_object(self, object: &Object) -> bool {
        match object {
            Object::Gateway(gateway) => self.has_gateway(gateway),
            Object::ListenerSet(set) => self.has_listener_set(&object.reference(), set),
            Object::HTTPRoute(route) => self.has_route(&object.reference(), &route.spec.parent_refs),
            Object::GRPCRoute(route) => self.has_route(&object.reference(), &route.spec.parent_refs),
            Object::Ingress(ingress) => self.has_ingress(ingress),
            _ => true,
        }
    }

    fn has_gateway(self, gateway: &Gateway) -> bool {
        self.ownership.class_of(gateway) != ClassState::Foreign || self.ownership.is_others(gateway)
    }

    /// Those of another installation of our name are left alone by name.
    fn has_listener_set(self, id: &ResourceRef, set: &ListenerSet) -> bool {
        gateway::parent_of(id, set).is_some_and(|parent| {
            let gateway = self.ownership.resources.gateways.get(&parent);
            self.gateways.get(&parent).is_some() || gateway.is_some_and(|gateway| self.ownership.is_others(gateway))
        })
    }

    fn has_route(self, id: &ResourceRef, parents: &[ParentReference]) -> bool {
        parents.iter().filter_map(|parent| route::parent(id, parent)).any(|parent| self.gateways.get(&parent).is_some())
    }

    fn has_ingress(self, ingress: &Ingress) -> bool {
        ingress::may_be_ours(self.ownership, ingress)
    }
}
