//! Backends in use and their endpoints. A backend keeps its cell as long as any rule refers to it, whatever else changes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use penstock_core::{
    ResourceRef,
    backend::{Backend, BackendKey, Endpoint, EndpointCell, EndpointSet},
};

use crate::{Resources, ServiceSlices, Stamp};

/// Where the endpoints of a backend come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// EndpointSlices of a Service, by the name of its port.
    Service { service: ResourceRef, port_name: String },
    /// A host to resolve when connecting.
    Name(Arc<str>, u16),
}

/// All backends that rules refer to.
#[derive(Debug, Default)]
pub(crate) struct BackendRegistry {
    entries: BTreeMap<BackendKey, Entry>,
    /// Those whose last user may have gone.
    released: Vec<BackendKey>,
    slices: Option<Stamp>,
}

#[derive(Debug)]
struct Entry {
    backend: Arc<Backend>,
    origin: Origin,
    /// Routes that refer to it.
    users: usize,
    set: Arc<EndpointSet>,
    /// What `set` was made of; none if it is to be made.
    made_of: Option<Option<Arc<ServiceSlices>>>,
    /// Not handed out yet, so nobody reads the cell.
    fresh: bool,
}

impl BackendRegistry {
    /// The backend of this identity, a new one if need be.
    pub(crate) fn get(&mut self, key: BackendKey, origin: Origin) -> Arc<Backend> {
        let entry = self.entries.entry(key).or_insert_with_key(|key| Entry {
            backend: Arc::new(Backend { key: key.clone(), endpoints: Arc::new(ArcSwap::default()) }),
            origin: origin.clone(),
            users: 0,
            set: Arc::default(),
            made_of: None,
            fresh: true,
        });
        if entry.origin != origin {
            entry.origin = origin;
            entry.made_of = None;
        }
        entry.backend.clone()
    }

    /// A route refers to these.
    pub(crate) fn retain(&mut self, keys: &[BackendKey]) {
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.users += 1;
            }
        }
    }

    /// A route does not refer to these any more.
    pub(crate) fn release(&mut self, keys: &[BackendKey]) {
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.users -= 1;
                if entry.users == 0 {
                    self.released.push(key.clone());
                }
            }
        }
    }

    /// Drop what nobody uses, and say what the cells must hold.
    pub(crate) fn refresh(&mut self, resources: &Resources) -> Vec<(Arc<EndpointCell>, Arc<EndpointSet>)> {
        for key in self.released.drain(..) {
            if self.entries.get(&key).is_some_and(|entry| entry.users == 0) {
                self.entries.remove(&key);
            }
        }
        let stamp = resources.endpoint_slices.stamp();
        let same = self.slices.replace(stamp) == Some(stamp);
        for entry in self.entries.values_mut().filter(|entry| !same || entry.made_of.is_none()) {
            entry.refresh(resources);
        }
        self.entries.values().map(|entry| (entry.backend.endpoints.clone(), entry.set.clone())).collect()
    }
}

impl Entry {
    fn refresh(&mut self, resources: &Resources) {
        let slices = match &self.origin {
            Origin::Service { service, .. } => resources.endpoint_slices.get(service),
            Origin::Name(..) => None,
        };
        let unchanged = self.made_of.as_ref().is_some_and(|before| match (before, slices) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        });
        if unchanged {
            return;
        }
        let endpoints = match &self.origin {
            Origin::Service { port_name, .. } => of_service(slices.map(|slices| &**slices), port_name),
            Origin::Name(host, port) => vec![Endpoint::Name(host.clone(), *port)],
        };
        self.made_of = Some(slices.cloned());
        let set = EndpointSet { endpoints };
        if *self.set != set {
            self.set = Arc::new(set);
        }
        if std::mem::take(&mut self.fresh) {
            self.backend.endpoints.store(self.set.clone());
        }
    }
}

/// Ready endpoints. If there are none, those that are on their way out and still serve: better than an error while pods are replaced.
fn of_service(slices: Option<&ServiceSlices>, port_name: &str) -> Vec<Endpoint> {
    let slices = || slices.into_iter().flat_map(BTreeMap::values).map(|slice| &**slice);
    let mut endpoints = pick(slices(), port_name, is_ready);
    if endpoints.is_empty() {
        endpoints = pick(slices(), port_name, is_draining);
    }
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn is_draining(endpoint: &SliceEndpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.is_some_and(|it| it.serving == Some(true) && it.terminating == Some(true))
}

fn pick<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port_name: &str,
    wanted: fn(&SliceEndpoint) -> bool,
) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|port| {
            port.name.as_deref().unwrap_or_default() == port_name && port.protocol.as_deref().unwrap_or("TCP") == "TCP"
        });
        let Some(port) = port.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| wanted(endpoint)) {
            // All addresses of one endpoint are the same endpoint; Kubernetes says to use the first.
            if let Some(ip) = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok()) {
                found.push(Endpoint::Address(SocketAddr::new(ip, port)));
            }
        }
    }
    found
}
