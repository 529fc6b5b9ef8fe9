//! The plugin `route-by` as a component, through the host.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

mod support;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, Response, header, request};
use penstock_core::{
    backend::{Backend, BackendKey, BackendProtocol, Endpoint, EndpointSet},
    plugin::{ActiveRevision, Choice, FailurePolicy, PluginSpec, PolicyWorker, RouteCall},
    route::{Action, Rule, Target, WeightedBackend, WeightedBackends},
};
use penstock_testing::guests::{self, ROUTE_BY};
use serde_json::{Value, json};
use support::{
    exchange::{facts, request, rule},
    facts::{Host, plugin, spec},
};

/// Backends whose endpoints a test may take away.
struct Shop {
    rule: Arc<Rule>,
    endpoints: Vec<Arc<ArcSwap<EndpointSet>>>,
}

fn shop(backends: &[(&str, u32)]) -> Shop {
    let sets: Vec<_> = backends.iter().map(|_| Arc::new(ArcSwap::from_pointee(ready()))).collect();
    let weighted = backends.iter().zip(&sets).map(|((name, weight), endpoints)| {
        let key = BackendKey { name: (*name).into(), port: 80, protocol: BackendProtocol::Http1, tls: None };
        WeightedBackend::new(
            format!("{name}:80").as_str(),
            *weight,
            Target::Backend(Arc::new(Backend { key, endpoints: Arc::clone(endpoints) })),
        )
    });
    let rule = Rule::new(rule(), vec![], Action::Forward(WeightedBackends::all(weighted.collect())));
    Shop { rule: Arc::new(rule), endpoints: sets }
}

fn ready() -> EndpointSet {
    EndpointSet { endpoints: vec![Endpoint::Name("pod".into(), 80)] }
}

struct World {
    _host: Host,
    active: ActiveRevision,
    worker: Box<dyn PolicyWorker>,
}

impl World {
    fn new(rules: Value) -> Self {
        let host = Host::start();
        let config = Arc::new(json!({ "rules": rules }));
        let active = host.activate(&PluginSpec { config, ..spec("route-by", guests::bytes(ROUTE_BY)) });
        let worker = host.host.runtime().worker();
        Self { _host: host, active, worker }
    }

    fn choose(&self, shop: &Shop, number: u64, mut head: request::Parts) -> Choice {
        let call = RouteCall {
            outbound: Arc::default(),
            redis: Arc::default(),
            plugin: plugin("route-by"),
            revision: self.active.revision.clone(),
            failure_policy: FailurePolicy::Closed,
            rule: number,
        };
        self.worker.choose(&call, &facts(&rule()), &shop.rule, &mut head).at_once().unwrap()
    }

    /// The index of the backend, and the cookie that is set.
    #[track_caller]
    fn candidate(&self, shop: &Shop, number: u64, head: request::Parts) -> (usize, Option<String>) {
        let Choice::Candidate { index, response_edits } = self.choose(shop, number, head) else {
            panic!("no candidate")
        };
        let mut response = Response::new(()).into_parts().0;
        if let Some(edits) = response_edits {
            edits.apply(&mut response).unwrap();
        }
        (index, response.headers.get(header::SET_COOKIE).map(|cookie| cookie.to_str().unwrap().to_owned()))
    }
}

fn with(name: &'static str, value: &str) -> request::Parts {
    let mut head = request();
    head.headers.insert(name, HeaderValue::from_str(value).unwrap());
    head
}

#[test]
fn a_named_backend_is_chosen_and_the_rest_left_to_the_weights() {
    let world = World::new(json!([{"when": [{"header": "x-channel", "regex": "^beta"}], "to": {"backend": "canary"}}]));
    let shop = shop(&[("default/stable", 1), ("default/canary", 0)]);
    assert_eq!(world.candidate(&shop, 1, with("x-channel", "beta-2")), (1, None));
    assert!(matches!(world.choose(&shop, 1, request()), Choice::Default));
    shop.endpoints[1].store(Arc::default());
    let choice = world.choose(&shop, 1, with("x-channel", "beta-2"));
    assert!(matches!(choice, Choice::Default), "not ready: {choice:?}");
}

#[test]
fn only_keys_of_a_backend_without_endpoints_move() {
    let world = World::new(json!([{"to": {"hash": {"key": [{"header": "x-user"}]}}}]));
    let shop = shop(&[("default/a", 1), ("default/b", 2), ("default/c", 1)]);
    let spread =
        || (0..400).map(|user| world.candidate(&shop, 1, with("x-user", &user.to_string())).0).collect::<Vec<_>>();
    let before = spread();
    let share = |backend| before.iter().filter(|index| **index == backend).count();
    assert!(share(0) > 60 && share(1) > 140 && share(2) > 60, "{} {} {}", share(0), share(1), share(2));
    shop.endpoints[0].store(Arc::default());
    let after = spread();
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == 0));
    assert!(!after.contains(&0));
    shop.endpoints[0].store(Arc::new(ready()));
    assert_eq!(spread(), before);
}

#[test]
fn a_cookie_sticks_until_its_backend_is_gone() {
    let world = World::new(json!([{"to": {"sticky": {"cookie": "shop", "maxAge": "1h"}}}]));
    let shop = shop(&[("default/a", 1), ("default/b", 1)]);
    let (first, cookie) = world.candidate(&shop, 1, request());
    let cookie = cookie.unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=3600; SameSite=Lax; HttpOnly; Secure"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    for _ in 0..4 {
        assert_eq!(world.candidate(&shop, 1, with("cookie", pair)), (first, None));
    }
    shop.endpoints[first].store(Arc::default());
    let (second, anew) = world.candidate(&shop, 1, with("cookie", pair));
    assert_ne!(second, first);
    let anew = anew.unwrap();
    shop.endpoints[first].store(Arc::new(ready()));
    assert_eq!(world.candidate(&shop, 1, with("cookie", anew.split(';').next().unwrap())), (second, None));
    // Another rule with other backends: the same cookie serves both.
    let other = self::shop(&[("default/x", 1)]);
    let (_, both) = world.candidate(&other, 2, with("cookie", pair));
    let both = both.unwrap();
    let both = both.split(';').next().unwrap();
    assert_eq!(world.candidate(&shop, 1, with("cookie", both)), (first, None));
    assert_eq!(world.candidate(&other, 2, with("cookie", both)), (0, None));
}
