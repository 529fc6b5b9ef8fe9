//! The data plane alone, with a hand-made snapshot: for profiling and for comparing with other proxies.
//!
//! `plain 127.0.0.1:8080 127.0.0.1:9000 [h2c]`: everything that comes to the first address goes to the second.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc};

use arc_swap::ArcSwap;
use penstock_core::{
    Kind, ResourceRef, Snapshot,
    backend::{Backend, BackendKey, BackendProtocol, Endpoint, EndpointSet},
    fact::{Fact, FactSink},
    hostname::HostPattern,
    listener::{Listener, ListenerId, Socket, SocketProtocol},
    matching::RouteTable,
    plugin::NoPolicies,
    route::{Action, PathMatch, Route, Rule, RuleId, RuleMatch, Target, WeightedBackend, WeightedBackends},
};
use penstock_proxy::{Proxy, ProxySettings};
use prometheus_client::registry::Registry;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct Print;

impl FactSink for Print {
    fn report(&self, fact: Fact) {
        println!("{fact:?}");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut address = || arguments.next().and_then(|text| text.parse::<SocketAddr>().ok()).expect("two addresses");
    let (listen, origin) = (address(), address());
    let protocol = match arguments.next().as_deref() {
        Some("h2c") => BackendProtocol::Http2,
        _ => BackendProtocol::Http1,
    };
    let settings = ProxySettings { workers: NonZeroUsize::MIN, ..ProxySettings::default() };
    let proxy = Proxy::start(settings, Arc::new(NoPolicies), Arc::new(Print), &mut Registry::default());
    let proxy = proxy.expect("threads can be started");
    proxy.publish(Arc::new(snapshot(listen, origin, protocol)));
    loop {
        std::thread::park();
    }
}

fn snapshot(listen: SocketAddr, origin: SocketAddr, protocol: BackendProtocol) -> Snapshot {
    let route = Route {
        id: ResourceRef::new(Kind::HTTPRoute, "default", "plain"),
        created: 0,
        hostnames: vec![HostPattern::Any],
        rules: vec![Arc::new(rule(origin, protocol))],
    };
    let listener = Listener {
        id: ListenerId { parent: ResourceRef::new(Kind::Gateway, "default", "plain"), name: "http".into() },
        hostname: HostPattern::Any,
        certificates: vec![],
        routes: Arc::new(RouteTable::build(&[Arc::new(route)], None)),
    };
    Snapshot { sockets: vec![Arc::new(Socket::new(listen, SocketProtocol::Http, vec![Arc::new(listener)]))] }
}

fn rule(origin: SocketAddr, protocol: BackendProtocol) -> Rule {
    let key = BackendKey { name: "default/origin".into(), port: origin.port(), protocol, tls: None };
    let endpoints = EndpointSet { endpoints: vec![Endpoint::Address(origin)] };
    let backend = WeightedBackend::new(
        "default/backend:80",
        1,
        Target::Backend(Arc::new(Backend { key, endpoints: Arc::new(ArcSwap::from_pointee(endpoints)) })),
    );
    Rule::new(
        RuleId { route: ResourceRef::new(Kind::HTTPRoute, "default", "plain"), index: 0, name: None },
        vec![RuleMatch { path: PathMatch::Prefix("".into()), method: None, headers: vec![], query: vec![] }],
        Action::Forward(WeightedBackends::new([backend])),
    )
}
