//! From Gateways and attached routes to sockets, listeners and the snapshot. What is equal keeps its allocation.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use penstock_core::{
    Snapshot,
    listener::{Listener, ListenerId, Socket, SocketProtocol},
    matching::RouteTable,
    route::Route,
};
use rustc_hash::FxHashMap;

use crate::{
    Table,
    gateway::{GatewayModel, GatewayState},
    route::RouteCache,
};

/// What attached to the listeners of all Gateways.
pub(crate) struct Attached {
    /// Where the listeners of a Gateway begin, by the address of its model.
    base: FxHashMap<*const GatewayModel, usize>,
    routes: Vec<Vec<Arc<Route>>>,
    counts: Vec<i32>,
}

impl Attached {
    /// Distribute the routes to the listeners.
    pub(crate) fn collect(gateways: &Table<GatewayModel>, routes: &RouteCache) -> Self {
        let mut base = FxHashMap::default();
        let mut total = 0;
        for (_, gateway) in gateways.iter() {
            base.insert(Arc::as_ptr(gateway), total);
            total += gateway.listeners.len();
        }
        let mut attached = Self { base, routes: vec![Vec::new(); total], counts: vec![0; total] };
        for (_, output) in routes.iter() {
            for attachment in &output.attachments {
                let Some(base) = attached.base.get(&Arc::as_ptr(&attachment.gateway)) else { continue };
                let at = base + attachment.listener;
                attached.routes[at].push(attachment.route.clone());
                attached.counts[at] += i32::from(attachment.accepted);
            }
        }
        attached
    }

    fn range(&self, model: &Arc<GatewayModel>) -> std::ops::Range<usize> {
        let base = self.base.get(&Arc::as_ptr(model)).copied().unwrap_or_default();
        base..base + model.listeners.len()
    }

    /// How many routes are accepted at each listener of a Gateway.
    pub(crate) fn counts(&self, model: &Arc<GatewayModel>) -> &[i32] {
        &self.counts[self.range(model)]
    }

    fn routes(&self, model: &Arc<GatewayModel>) -> &[Vec<Arc<Route>>] {
        &self.routes[self.range(model)]
    }
}

/// The last snapshot, to share what did not change.
#[derive(Debug, Default)]
pub(crate) struct SnapshotCache {
    listeners: BTreeMap<ListenerId, Arc<Listener>>,
    snapshot: Arc<Snapshot>,
}

impl SnapshotCache {
    /// Arrange everything that stands into sockets.
    pub(crate) fn refresh(
        &mut self,
        gateways: &[GatewayState<'_>],
        models: &Table<GatewayModel>,
        attached: &Attached,
    ) -> Arc<Snapshot> {
        let mut previous = std::mem::take(&mut self.listeners);
        let mut sockets = BTreeMap::<SocketAddr, Place>::new();
        for state in gateways.iter().filter(|state| state.stands()) {
            let Some(model) = models.get(&state.id) else { continue };
            let routes = attached.routes(model);
            for (at, listener) in state.listeners.iter().enumerate().filter(|(_, listener)| listener.stands()) {
                let Some(protocol) = listener.protocol else { continue };
                let id = ListenerId { parent: state.id.clone(), name: model.listeners[at].name.clone() };
                let value = built(&id, state, at, &routes[at], previous.remove(&id));
                for address in state.sockets(listener) {
                    let place = sockets.entry(address).or_insert_with(|| Place {
                        protocol,
                        serves: false,
                        listeners: Vec::new(),
                    });
                    place.serves |= listener.serves();
                    place.listeners.push(value.clone());
                }
                self.listeners.insert(id, value);
            }
        }
        // A socket on which nothing can answer is not opened. One that serves keeps its broken listeners too: their hosts must not fall to a
        // less specific listener.
        sockets.retain(|_, place| place.serves);
        let sockets: Vec<Arc<Socket>> =
            sockets.into_iter().map(|(address, place)| self.socket(address, place)).collect();
        if !same(&sockets, &self.snapshot.sockets) {
            self.snapshot = Arc::new(Snapshot { sockets });
        }
        self.snapshot.clone()
    }

    fn socket(&self, address: SocketAddr, place: Place) -> Arc<Socket> {
        let socket = Socket::new(address, place.protocol, place.listeners);
        match self.snapshot.socket(address) {
            Some(before) if before.protocol == socket.protocol && same(&before.listeners, &socket.listeners) => {
                before.clone()
            }
            _ => Arc::new(socket),
        }
    }
}

/// A socket in the making.
struct Place {
    protocol: SocketProtocol,
    serves: bool,
    listeners: Vec<Arc<Listener>>,
}

fn built(
    id: &ListenerId,
    state: &GatewayState<'_>,
    at: usize,
    routes: &[Arc<Route>],
    before: Option<Arc<Listener>>,
) -> Arc<Listener> {
    let hostname = state.model.listeners[at].hostname.clone().unwrap_or(penstock_core::hostname::HostPattern::Any);
    let certificates = &state.listeners[at].certificates;
    let table = match &before {
        Some(before) if before.routes.is_built_from(routes) => before.routes.clone(),
        Some(before) => Arc::new(RouteTable::build(routes, Some(&before.routes))),
        None => Arc::new(RouteTable::build(routes, None)),
    };
    match before {
        Some(before)
            if before.hostname == hostname
                && same(&before.certificates, certificates)
                && Arc::ptr_eq(&before.routes, &table) =>
        {
            before
        }
        _ => {
            let certificates = certificates.clone();
            Arc::new(Listener { id: id.clone(), hostname, certificates, routes: table })
        }
    }
}

/// The same allocations in the same order.
fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}
