//! A gateway under test: the proxy with a hand-made snapshot.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use penstock_core::{
    Kind, ResourceRef, Snapshot,
    backend::{Backend, BackendKey, BackendProtocol, BackendTls, Endpoint, EndpointSet},
    fact::{Fact, FactSink, SocketState},
    filter::HeaderEdits,
    hostname::HostPattern,
    listener::{Certificate, Listener, ListenerId, Socket, SocketProtocol},
    matching::RouteTable,
    plugin::{NoPolicies, PolicyCall, PolicyRuntime},
    route::{Action, PathMatch, Route, Rule, RuleId, RuleMatch, Target, WeightedBackend, WeightedBackends},
};
use penstock_proxy::{Proxy, ProxySettings};
pub(crate) use penstock_testing::port::free_address;
use prometheus_client::registry::Registry;

/// The proxy, and where it listens.
pub(crate) struct Gateway {
    pub(crate) proxy: Proxy,
    pub(crate) facts: Arc<Facts>,
    pub(crate) registry: Registry,
}

/// Facts that the proxy reported.
#[derive(Default)]
pub(crate) struct Facts(Mutex<Vec<Fact>>);

impl FactSink for Facts {
    fn report(&self, fact: Fact) {
        self.0.lock().unwrap().push(fact);
    }
}

impl Facts {
    pub(crate) fn sockets(&self) -> Vec<(SocketAddr, SocketState)> {
        let facts = self.0.lock().unwrap();
        let sockets = facts.iter().filter_map(|fact| match fact {
            Fact::Socket(address, state) => Some((*address, state.clone())),
            Fact::Plugin(..) => None,
        });
        sockets.collect()
    }
}

/// Two workers, for what differs with several; short only where a test says so.
pub(crate) fn settings() -> ProxySettings {
    ProxySettings { workers: NonZeroUsize::new(2).unwrap(), ..ProxySettings::default() }
}

impl Gateway {
    pub(crate) fn start(settings: ProxySettings, policies: Arc<dyn PolicyRuntime>) -> Self {
        let (facts, mut registry) = (Arc::new(Facts::default()), Registry::default());
        let proxy = Proxy::start(settings, policies, facts.clone(), &mut registry).unwrap();
        Self { proxy, facts, registry }
    }

    /// One listener in clear with these rules.
    pub(crate) fn serving(rules: Vec<Rule>) -> (Self, SocketAddr) {
        Self::serving_with(settings(), rules)
    }

    pub(crate) fn serving_with(settings: ProxySettings, rules: Vec<Rule>) -> (Self, SocketAddr) {
        let gateway = Self::start(settings, Arc::new(NoPolicies));
        let address = gateway.publish(rules);
        (gateway, address)
    }

    pub(crate) fn publish(&self, rules: Vec<Rule>) -> SocketAddr {
        let address = free_address();
        self.proxy.publish(snapshot(vec![socket(address, rules)]));
        address
    }

    /// What a scrape says.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

pub(crate) fn snapshot(mut sockets: Vec<Socket>) -> Arc<Snapshot> {
    sockets.sort_by_key(|socket| socket.address);
    Arc::new(Snapshot { sockets: sockets.into_iter().map(Arc::new).collect() })
}

pub(crate) fn socket(address: SocketAddr, rules: Vec<Rule>) -> Socket {
    Socket::new(address, SocketProtocol::Http, vec![Arc::new(listener("", rules, vec![]))])
}

pub(crate) fn tls_socket(address: SocketAddr, listeners: Vec<Listener>) -> Socket {
    Socket::new(address, SocketProtocol::Https, listeners.into_iter().map(Arc::new).collect())
}

pub(crate) fn listener(hostname: &str, rules: Vec<Rule>, certificates: Vec<Arc<Certificate>>) -> Listener {
    let route = Route {
        id: ResourceRef::new(Kind::HTTPRoute, "default", "route"),
        created: 0,
        hostnames: vec![HostPattern::Any],
        rules: rules.into_iter().map(Arc::new).collect(),
    };
    Listener {
        id: ListenerId {
            parent: ResourceRef::new(Kind::Gateway, "default", "gateway"),
            name: if hostname.is_empty() { "any".into() } else { hostname.into() },
        },
        hostname: HostPattern::parse(hostname).unwrap(),
        certificates,
        routes: Arc::new(RouteTable::build(&[Arc::new(route)], None)),
    }
}

/// A rule for all requests.
pub(crate) fn rule(action: Action) -> Rule {
    rule_on("", action)
}

/// A rule for a path prefix.
pub(crate) fn rule_on(prefix: &str, action: Action) -> Rule {
    let matches = RuleMatch { path: PathMatch::Prefix(prefix.into()), method: None, headers: vec![], query: vec![] };
    Rule::new(
        RuleId { route: ResourceRef::new(Kind::HTTPRoute, "default", "route"), index: 0, name: None },
        vec![matches],
        action,
    )
}

/// To these endpoints over HTTP/1.1.
pub(crate) fn to(endpoints: &[SocketAddr]) -> Rule {
    rule(forward(backend("backend", BackendProtocol::Http1, None, endpoints)))
}

/// To these endpoints over HTTP/2 with prior knowledge.
pub(crate) fn to_h2(endpoints: &[SocketAddr]) -> Rule {
    rule(forward(backend("backend", BackendProtocol::Http2, None, endpoints)))
}

pub(crate) fn forward(backend: Backend) -> Action {
    Action::Forward(WeightedBackends::new([WeightedBackend::new(
        "default/backend:80",
        1,
        Target::Backend(Arc::new(backend)),
    )]))
}

pub(crate) fn backend(
    name: &str,
    protocol: BackendProtocol,
    tls: Option<BackendTls>,
    endpoints: &[SocketAddr],
) -> Backend {
    let key = BackendKey { name: format!("default/{name}").into(), port: 80, protocol, tls: tls.map(Arc::new) };
    let endpoints = EndpointSet { endpoints: endpoints.iter().copied().map(Endpoint::Address).collect() };
    Backend { key, endpoints: Arc::new(ArcSwap::from_pointee(endpoints)) }
}

pub(crate) fn edits(set: &[(&'static str, &'static str)]) -> HeaderEdits {
    let pair =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    HeaderEdits { set: set.iter().map(pair).collect(), ..HeaderEdits::default() }
}

/// A rule with these plugins.
pub(crate) fn with_policies(mut rule: Rule, policies: Vec<PolicyCall>) -> Rule {
    rule.policies = policies;
    rule
}
