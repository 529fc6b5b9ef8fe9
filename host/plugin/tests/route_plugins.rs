//! Route plugins through the host.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, Response, request};
use penstock_core::{
    backend::{Backend, BackendKey, BackendProtocol, Endpoint, EndpointSet},
    plugin::{ActiveRevision, Choice, FailurePolicy, FaultKind, Hooks, PluginFault, PolicyWorker, RouteCall},
    reason::Reason,
    route::{Action, Failure, Rule, Target, WeightedBackend, WeightedBackends},
};
use penstock_testing::guests::{self, CHOOSER};
use support::{
    exchange::{facts, request, rule},
    facts::{Host, plugin, spec},
};

fn backend(name: &str, weight: u32, endpoints: usize) -> WeightedBackend {
    let (service, port) = name.split_once(':').unwrap();
    let key =
        BackendKey { name: service.into(), port: port.parse().unwrap(), protocol: BackendProtocol::Http1, tls: None };
    let endpoints = (0..endpoints).map(|index| Endpoint::Name(format!("pod-{index}").into(), 80)).collect();
    let endpoints = Arc::new(ArcSwap::from_pointee(EndpointSet { endpoints }));
    WeightedBackend::new(name, weight, Target::Backend(Arc::new(Backend { key, endpoints })))
}

/// `default/a:80` with two endpoints, `default/b:81` with none, and a reference that does not resolve.
fn three() -> Arc<Rule> {
    let failure = Failure { reason: Reason::InvalidBackend, message: "there is no such Service".into() };
    let broken = WeightedBackend {
        name: "default/broken:82".into(),
        target: Target::Fail(failure),
        ..backend("default/broken:82", 1, 0)
    };
    Arc::new(Rule::new(
        rule(),
        vec![],
        Action::Forward(WeightedBackends::all(vec![
            backend("default/a:80", 9, 2),
            backend("default/b:81", 0, 0),
            broken,
        ])),
    ))
}

fn asking(what: &'static str) -> request::Parts {
    let mut head = request();
    head.headers.insert("x-choose", HeaderValue::from_static(what));
    head
}

struct World {
    host: Host,
    active: ActiveRevision,
    worker: Box<dyn PolicyWorker>,
}

impl World {
    fn new() -> Self {
        let host = Host::start();
        let active = host.activate(&spec("chooser", guests::bytes(CHOOSER)));
        let worker = host.host.runtime().worker();
        Self { host, active, worker }
    }

    fn choose(&self, mut head: request::Parts) -> Result<Choice, PluginFault> {
        let call = RouteCall {
            outbound: Arc::default(),
            redis: Arc::default(),
            plugin: plugin("chooser"),
            revision: self.active.revision.clone(),
            failure_policy: FailurePolicy::Closed,
            rule: 7,
        };
        let before = head.clone();
        let choice = self.worker.choose(&call, &facts(&rule()), &three(), &mut head).at_once();
        assert_eq!((head.method, head.uri, head.headers), (before.method, before.uri, before.headers));
        choice
    }
}

#[test]
fn its_only_hook_is_choose() {
    let world = World::new();
    assert_eq!(world.active.hooks, Hooks { choose: true, ..Hooks::default() });
    assert!(matches!(world.choose(request()), Ok(Choice::Default)));
    assert_eq!(world.host.metric("penstock_plugin_calls_total{plugin=\"default/chooser\",hook=\"choose\"}"), 1.0);
}

#[test]
fn candidates_are_the_backends_of_the_rule() {
    let world = World::new();
    let Ok(Choice::Reply(reply)) = world.choose(asking("list")) else { panic!("no reply") };
    assert_eq!(reply.status(), 200);
    let text = std::str::from_utf8(reply.body()).unwrap();
    assert_eq!(text, "default/a:80 9 2 2\ndefault/b:81 0 0 0\ndefault/broken:82 1 0 0\n");
}

#[test]
fn a_candidate_may_edit_its_response() {
    let world = World::new();
    let Ok(Choice::Candidate { index: 1, response_edits: Some(edits) }) = world.choose(asking("default/b:81")) else {
        panic!("not chosen")
    };
    let mut response = Response::builder().header("set-cookie", "a=1").body(()).unwrap().into_parts().0;
    edits.apply(&mut response).unwrap();
    let cookies: Vec<_> = response.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "backend=default/b:81"]);
    let plain = world.choose(asking("index 0"));
    assert!(matches!(plain, Ok(Choice::Candidate { index: 0, response_edits: None })), "{plain:?}");
}

#[test]
fn an_index_out_of_range_counts_as_a_fault_and_leaves_the_choice_to_the_weights() {
    let world = World::new();
    let Ok(Choice::Misfit(fault)) = world.choose(asking("index 3")) else { panic!("no misfit") };
    assert_eq!((fault.kind, &*fault.message), (FaultKind::InvalidAnswer, "it chose candidate 3 of 3, counted from 0"));
    let series = "penstock_plugin_faults_total{plugin=\"default/chooser\",hook=\"choose\",kind=\"invalid_answer\"}";
    assert_eq!(world.host.metric(series), 1.0);
}

#[test]
fn faults() {
    let world = World::new();
    assert_eq!(world.choose(asking("undeclared")).unwrap_err().kind, FaultKind::InvalidAnswer);
    assert_eq!(world.choose(asking("trap")).unwrap_err().kind, FaultKind::Trap);
    assert!(matches!(world.choose(asking("index 2")), Ok(Choice::Candidate { index: 2, .. })), "the next one");
}

#[test]
fn it_is_no_policy() {
    let world = World::new();
    let mut head = request();
    let mut call = support::facts::call(&world.active);
    call.hooks.request = true;
    let fault = world.worker.on_request(&call, &facts(&rule()), &mut head).at_once().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
}
