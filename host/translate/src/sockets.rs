//! From Gateways and attached routes to sockets, listeners and the snapshot. What is equal keeps its allocation.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use penstock_core::{
    Kind, Snapshot,
    hostname::HostPattern,
    listener::{Listener, ListenerId, Socket, SocketProtocol},
    matching::RouteTable,
    route::Route,
};
use rustc_hash::FxHashMap;

use crate::{
    Table,
    gateway::{GatewayModel, GatewayState},
    ingress::{Place, PlaceListener},
    route::RouteCache,
};

/// What attached to the listeners of all Gateways. Borrowed: most of it turns out to be what it was.
pub(crate) struct Attached<'a> {
    /// Where the listeners of a Gateway begin, by the address of its model.
    base: FxHashMap<*const GatewayModel, usize>,
    routes: Vec<Vec<&'a Arc<Route>>>,
    counts: Vec<i32>,
}

impl<'a> Attached<'a> {
    /// Distribute the routes to the listeners.
    pub(crate) fn collect(gateways: &Table<GatewayModel>, routes: &'a RouteCache) -> Self {
        let mut base = FxHashMap::default();
        let mut total = 0;
        for (_, gateway) in gateways.iter() {
            base.insert(Arc::as_ptr(gateway), total);
            total += gateway.listeners.len();
        }
        let mut attached = Self { base, routes: vec![Vec::new(); total], counts: vec![0; total] };
        for output in routes.outputs() {
            for attachment in &output.attachments {
                let Some(base) = attached.base.get(&Arc::as_ptr(&attachment.gateway)) else { continue };
                let at = base + attachment.listener;
                attached.routes[at].push(&attachment.route);
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

    fn routes(&self, model: &Arc<GatewayModel>) -> &[Vec<&'a Arc<Route>>] {
        &self.routes[self.range(model)]
    }

    /// Those of all Ingresses, whatever their class.
    fn of_ingress(&self, models: &Table<GatewayModel>) -> Vec<&'a Arc<Route>> {
        let classes = models.iter().filter(|(id, _)| id.kind == Kind::IngressClass);
        classes.flat_map(|(_, model)| self.routes(model)).flatten().copied().collect()
    }
}

/// The last snapshot, to share what did not change.
#[derive(Debug, Default)]
pub(crate) struct SnapshotCache {
    listeners: BTreeMap<ListenerId, Arc<Listener>>,
    /// Those of Ingress, by name and hostname, which all have the same routes.
    ingress: BTreeMap<(Arc<str>, HostPattern), Arc<Listener>>,
    snapshot: Arc<Snapshot>,
}

impl SnapshotCache {
    /// Arrange everything that stands into sockets.
    pub(crate) fn refresh(
        &mut self,
        gateways: &[GatewayState<'_>],
        models: &Table<GatewayModel>,
        place: Option<&Place>,
        attached: &Attached<'_>,
    ) -> Arc<Snapshot> {
        let mut previous = std::mem::take(&mut self.listeners);
        let mut sockets = BTreeMap::<SocketAddr, Seats>::new();
        for state in gateways.iter().filter(|state| state.stands()) {
            let Some(model) = models.get(&state.id) else { continue };
            let routes = attached.routes(model);
            for (at, listener) in state.listeners.iter().enumerate().filter(|(_, listener)| listener.stands()) {
                let Some(protocol) = listener.protocol else { continue };
                let id = ListenerId { parent: state.id.clone(), name: model.listeners[at].name.clone() };
                let value = built(&id, state, at, &routes[at], previous.remove(&id));
                for address in state.sockets(listener) {
                    let seats = sockets.entry(address).or_insert_with(|| Seats::new(protocol));
                    seats.serves |= listener.serves();
                    seats.exposed = (address.port() != listener.port).then_some(listener.port);
                    seats.listeners.push(value.clone());
                }
                self.listeners.insert(id, value);
            }
        }
        self.add_ingress(place, &attached.of_ingress(models), &mut sockets);
        // A socket on which nothing can answer is not opened. One that serves keeps its broken listeners too: their hosts must not fall to a
        // less specific listener.
        sockets.retain(|_, seats| seats.serves);
        let sockets: Vec<Arc<Socket>> =
            sockets.into_iter().map(|(address, seats)| self.socket(address, seats)).collect();
        if !same(&sockets, &self.snapshot.sockets) {
            self.snapshot = Arc::new(Snapshot { sockets });
        }
        self.snapshot.clone()
    }

    /// All listeners of Ingress share one table, so that a connection that was made for one host may be used for another.
    fn add_ingress(
        &mut self,
        place: Option<&Place>,
        routes: &[&Arc<Route>],
        sockets: &mut BTreeMap<SocketAddr, Seats>,
    ) {
        let mut previous = std::mem::take(&mut self.ingress);
        let Some(place) = place else { return };
        let table = table(routes, previous.values().next().map(|before| &before.routes));
        for PlaceListener { id, protocol, hostname, certificate, sockets: addresses } in place.listeners() {
            let certificates: Vec<_> = certificate.into_iter().cloned().collect();
            let serves = protocol == SocketProtocol::Http || !certificates.is_empty();
            let key = (id.name.clone(), hostname.clone());
            let before = previous
                .remove(&key)
                .filter(|before| same(&before.certificates, &certificates) && Arc::ptr_eq(&before.routes, &table));
            let value = before.unwrap_or_else(|| {
                Arc::new(Listener { id, hostname: hostname.clone(), certificates, routes: table.clone() })
            });
            for address in addresses {
                let seats = sockets.entry(address).or_insert_with(|| Seats::new(protocol));
                seats.serves |= serves;
                seats.listeners.push(value.clone());
            }
            self.ingress.insert(key, value);
        }
    }

    fn socket(&self, address: SocketAddr, seats: Seats) -> Arc<Socket> {
        let exposed = seats.exposed;
        let socket = Socket { exposed, ..Socket::new(address, seats.protocol, seats.listeners) };
        match self.snapshot.socket(address) {
            Some(before)
                if before.protocol == socket.protocol
                    && before.exposed == exposed
                    && same(&before.listeners, &socket.listeners) =>
            {
                before.clone()
            }
            _ => Arc::new(socket),
        }
    }
}

/// A socket in the making.
struct Seats {
    protocol: SocketProtocol,
    /// The port that clients see, if it is another one.
    exposed: Option<u16>,
    serves: bool,
    listeners: Vec<Arc<Listener>>,
}

impl Seats {
    fn new(protocol: SocketProtocol) -> Self {
        Self { protocol, exposed: None, serves: false, listeners: Vec::new() }
    }
}

fn built(
    id: &ListenerId,
    state: &GatewayState<'_>,
    at: usize,
    routes: &[&Arc<Route>],
    before: Option<Arc<Listener>>,
) -> Arc<Listener> {
    let hostname = state.model.listeners[at].hostname.clone().unwrap_or(HostPattern::Any);
    let certificates = &state.listeners[at].certificates;
    let table = table(routes, before.as_ref().map(|before| &before.routes));
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

fn table(routes: &[&Arc<Route>], before: Option<&Arc<RouteTable>>) -> Arc<RouteTable> {
    let is_the_same = |before: &&Arc<RouteTable>| {
        before.len() == routes.len() && before.iter_routes().zip(routes).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    if let Some(before) = before.filter(is_the_same) {
        return before.clone();
    }
    let routes: Vec<Arc<Route>> = routes.iter().map(|route| Arc::clone(route)).collect();
    Arc::new(RouteTable::build(&routes, before.map(|before| &**before)))
}

/// The same allocations in the same order.
fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}
