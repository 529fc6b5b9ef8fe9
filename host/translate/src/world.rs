//! The world: every resource and every fact that translation may read.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use penstock_core::{
    Kind, ResourceRef,
    fact::{Fact, SocketState},
    plugin::PluginState,
};

use crate::{
    resources::{
        BackendTLSPolicy, ConfigMap, ControllerRevision, EndpointSlice, GRPCRoute, Gateway, GatewayClass, HTTPRoute,
        Ingress, IngressClass, ListenerSet, Namespace, Object, ReferenceGrant, Secret, Service, WasmPlugin, XBackend,
    },
    table::Table,
};

/// The label by which an EndpointSlice names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Something that became different.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A resource was created or changed.
    Upsert(Object),
    /// A resource is gone.
    Delete(ResourceRef),
    /// The proxy or the plugin host found something out.
    Observe(Fact),
    /// The version of Gateway API that a CustomResourceDefinition is of; none if it does not say, or is gone.
    Bundle(Arc<str>, Option<Arc<str>>),
    /// The content of a file that a WasmPlugin names as its source; an opaque identity, or none if it cannot be read.
    File(PathBuf, Option<Arc<str>>),
}

/// All resources by kind, and the facts. Equal values keep their allocation, so pointers tell what changed.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the names are those of the kinds")]
pub struct Resources {
    pub gateway_classes: Table<GatewayClass>,
    pub gateways: Table<Gateway>,
    pub listener_sets: Table<ListenerSet>,
    pub http_routes: Table<HTTPRoute>,
    pub grpc_routes: Table<GRPCRoute>,
    pub backend_tls_policies: Table<BackendTLSPolicy>,
    pub reference_grants: Table<ReferenceGrant>,
    pub x_backends: Table<XBackend>,
    pub wasm_plugins: Table<WasmPlugin>,
    pub ingress_classes: Table<IngressClass>,
    pub ingresses: Table<Ingress>,
    pub services: Table<Service>,
    pub secrets: Table<Secret>,
    pub config_maps: Table<ConfigMap>,
    pub controller_revisions: Table<ControllerRevision>,
    pub namespaces: Table<Namespace>,
    /// By Service: what one Service's endpoints are is one question.
    pub endpoint_slices: Table<ServiceSlices>,
    /// What is observed to be so.
    pub facts: Facts,
    /// EndpointSlice → its Service, to find it again when the label changes or the slice goes.
    slice_owner: BTreeMap<ResourceRef, ResourceRef>,
}

/// The EndpointSlices of one Service by name.
pub type ServiceSlices = BTreeMap<ResourceRef, Arc<EndpointSlice>>;

/// What is observed to be so. Facts become status and, for plugins, the revision that serves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Sockets that are wanted or were until now.
    pub sockets: BTreeMap<SocketAddr, SocketState>,
    /// What runs of each plugin.
    pub plugins: BTreeMap<ResourceRef, Arc<PluginState>>,
    /// Content identity of module files.
    pub files: BTreeMap<PathBuf, Arc<str>>,
    /// Versions of Gateway API by CustomResourceDefinition, of those that say it.
    pub bundles: BTreeMap<Arc<str>, Arc<str>>,
}

impl Facts {
    /// The content identity of a module file, if it can be read.
    pub fn file(&self, path: &Path) -> Option<&Arc<str>> {
        self.files.get(path)
    }

    fn observe(&mut self, fact: Fact) -> bool {
        match fact {
            Fact::Socket(address, SocketState::Closed) => self.sockets.remove(&address).is_some(),
            Fact::Socket(address, state) => set(&mut self.sockets, address, state),
            // A plugin of which nothing runs and nothing is tried: the host forgot it.
            Fact::Plugin(plugin, state) if *state == PluginState::default() => self.plugins.remove(&plugin).is_some(),
            Fact::Plugin(plugin, state) => set(&mut self.plugins, plugin, state),
        }
    }
}

/// Insert, and say whether that changed anything.
fn set<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}

impl Resources {
    /// Apply a change. False if nothing that translation reads became different: then there is nothing to translate.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Upsert(object) => self.upsert(object),
            Change::Delete(reference) => self.delete(&reference),
            Change::Observe(fact) => self.facts.observe(fact),
            Change::Bundle(definition, Some(version)) => set(&mut self.facts.bundles, definition, version),
            Change::Bundle(definition, None) => self.facts.bundles.remove(&definition).is_some(),
            Change::File(path, Some(stamp)) => set(&mut self.facts.files, path, stamp),
            Change::File(path, None) => self.facts.files.remove(&path).is_some(),
        }
    }

    fn upsert(&mut self, object: Object) -> bool {
        let key = object.reference();
        match object {
            Object::GatewayClass(it) => self.gateway_classes.insert(key, it),
            Object::Gateway(it) => self.gateways.insert(key, it),
            Object::ListenerSet(it) => self.listener_sets.insert(key, it),
            Object::HTTPRoute(it) => self.http_routes.insert(key, it),
            Object::GRPCRoute(it) => self.grpc_routes.insert(key, it),
            Object::BackendTLSPolicy(it) => self.backend_tls_policies.insert(key, it),
            Object::ReferenceGrant(it) => self.reference_grants.insert(key, it),
            Object::XBackend(it) => self.x_backends.insert(key, it),
            Object::WasmPlugin(it) => self.wasm_plugins.insert(key, it),
            Object::IngressClass(it) => self.ingress_classes.insert(key, it),
            Object::Ingress(it) => self.ingresses.insert(key, it),
            Object::Service(it) => self.services.insert(key, it),
            Object::Secret(it) => self.secrets.insert(key, it),
            Object::ConfigMap(it) => self.config_maps.insert(key, it),
            Object::ControllerRevision(it) => self.controller_revisions.insert(key, it),
            Object::Namespace(it) => self.namespaces.insert(key, it),
            Object::EndpointSlice(it) => self.upsert_slice(key, it),
        }
    }

    fn delete(&mut self, key: &ResourceRef) -> bool {
        match key.kind {
            Kind::GatewayClass => self.gateway_classes.remove(key),
            Kind::Gateway => self.gateways.remove(key),
            Kind::ListenerSet => self.listener_sets.remove(key),
            Kind::HTTPRoute => self.http_routes.remove(key),
            Kind::GRPCRoute => self.grpc_routes.remove(key),
            Kind::BackendTLSPolicy => self.backend_tls_policies.remove(key),
            Kind::ReferenceGrant => self.reference_grants.remove(key),
            Kind::XBackend => self.x_backends.remove(key),
            Kind::WasmPlugin => self.wasm_plugins.remove(key),
            Kind::IngressClass => self.ingress_classes.remove(key),
            Kind::Ingress => self.ingresses.remove(key),
            Kind::Service => self.services.remove(key),
            Kind::Secret => self.secrets.remove(key),
            Kind::ConfigMap => self.config_maps.remove(key),
            Kind::ControllerRevision => self.controller_revisions.remove(key),
            Kind::Namespace => self.namespaces.remove(key),
            Kind::EndpointSlice => self.remove_slice(key),
            Kind::TLSRoute | Kind::TCPRoute | Kind::UDPRoute => false,
        }
    }

    fn upsert_slice(&mut self, key: ResourceRef, slice: Arc<EndpointSlice>) -> bool {
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|labels| labels.get(SERVICE_LABEL)) else {
            return self.remove_slice(&key); // it names no Service (any more)
        };
        let service = ResourceRef::new(Kind::Service, key.namespace.clone(), service.as_str());
        let moved = self.slice_owner.get(&key).is_some_and(|owner| *owner != service) && self.remove_slice(&key);
        let mut slices = self.endpoint_slices.get(&service).map(|slices| (**slices).clone()).unwrap_or_default();
        slices.insert(key.clone(), slice);
        self.slice_owner.insert(key, service.clone());
        self.endpoint_slices.insert(service, Arc::new(slices)) || moved
    }

    fn remove_slice(&mut self, key: &ResourceRef) -> bool {
        let Some(service) = self.slice_owner.remove(key) else { return false };
        let mut slices = self.endpoint_slices.get(&service).map(|slices| (**slices).clone()).unwrap_or_default();
        slices.remove(key);
        if slices.is_empty() {
            self.endpoint_slices.remove(&service)
        } else {
            self.endpoint_slices.insert(service, Arc::new(slices))
        }
    }
}
