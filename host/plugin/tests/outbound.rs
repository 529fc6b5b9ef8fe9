//! Plugins that call backends, through the host. The client is one that answers when the test says so, and the test polls: nothing here
//! depends on time.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{rc::Rc, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::request;
use penstock_core::{
    plugin::{
        BodyVerdict, Chunk, Direction, FaultKind, OutboundBackend, OutboundFailure, OutboundRequest, PluginFault,
        PluginSpec, PolicyCall, PolicyExchange, Probation, Summary, Verdict,
    },
    reason::Reason,
    route::{Failure, Target},
};
use penstock_testing::guests::{self, ASKER, CALLER};
use support::{
    exchange::{facts, request, response, rule, works},
    facts::spec,
    guest::Guest,
    outbound::{Answer, Waiting, World, backend, granted, poll, status, waiting},
};

/// A plugin that asks this backend.
fn caller(backend: &str) -> PluginSpec {
    let mut spec = spec("caller", guests::bytes(CALLER));
    spec.config = serde_json::json!({ "backend": backend }).into();
    spec.capabilities.outbound = vec![granted("auth")];
    spec
}

impl World {
    /// What the guest says of a call that ends with `answer`.
    fn said(&self, answer: Answer) -> String {
        self.client.answer(answer);
        self.said_at_once()
    }

    fn said_at_once(&self) -> String {
        let mut head = request();
        let verdict = self.at_once(&mut head);
        assert!(matches!(verdict, Ok(Verdict::Proceed(_))), "{verdict:?}");
        said(&head)
    }

    fn counted(&self, backend: &str, outcome: &str) -> f64 {
        let labels = format!("{{plugin=\"default/caller\",backend=\"{backend}\",outcome=\"{outcome}\"}}");
        self.host.metric(&format!("penstock_plugin_outbound_calls_total{labels}"))
    }
}

fn said(head: &request::Parts) -> String {
    head.headers["x-called"].to_str().unwrap().into()
}

#[test]
fn while_one_waits_others_go_on() {
    let world = World::new(&caller("auth"));
    let neighbour = spec("quick", Guest::default().build());
    world.host.apply(&[&caller("auth"), &neighbour]);
    let quick = world.host.active(&neighbour);
    let (rule, mut first, mut second) = (rule(), request(), request());
    let facts = facts(&rule);
    let mut one = waiting(world.worker.on_request(&world.call, &facts, &mut first));
    assert!(poll(&mut one).is_pending());
    let mut two = waiting(world.worker.on_request(&world.call, &facts, &mut second));
    assert!(poll(&mut two).is_pending(), "in the same plugin, with an instance of its own");
    works(&*world.worker, &quick);
    assert_eq!(world.client.asked(), 2);
    world.client.answer(status(204));
    assert!(poll(&mut two).is_ready(), "not in the order of the calls");
    world.client.answer(status(403));
    assert!(poll(&mut one).is_ready());
    drop((one, two));
    assert_eq!((said(&first), said(&second)), ("403".into(), "204".into()));
    assert_eq!(world.counted("auth", "answered"), 2.0);
}

#[test]
fn every_failure_reaches_the_plugin_as_what_it_is() {
    let world = World::new(&caller("auth"));
    for (failure, expected, outcome) in [
        (OutboundFailure::Timeout, "Timeout", "timeout"),
        (OutboundFailure::Connect("refused".into()), "refused", "connect"),
        (OutboundFailure::TooLarge(1000), "1000", "too_large"),
        (OutboundFailure::Protocol("garbage".into()), "garbage", "protocol"),
    ] {
        let said = world.said(Err(failure));
        assert!(said.contains(expected), "{said}");
        assert_eq!(world.counted("auth", outcome), 1.0, "{outcome}");
    }
    assert_eq!(world.said(status(200)), "200", "and the next call is answered");
}

#[test]
fn only_what_is_granted_can_be_called() {
    let world = World::new(&caller("elsewhere"));
    let said = world.said_at_once();
    assert!(said.contains("UnknownBackend") && said.contains("auth"), "{said}");
    assert_eq!((world.client.asked(), world.counted("", "unknown_backend")), (0, 1.0));
}

#[test]
fn a_backend_that_does_not_resolve_cannot_be_connected_to() {
    let mut world = World::new(&caller("auth"));
    let failure = Failure { reason: Reason::InvalidBackend, message: "there is no such Service".into() };
    world.call.outbound = Arc::new([OutboundBackend { target: Target::Fail(failure), ..backend("auth") }]);
    let said = world.said_at_once();
    assert!(said.contains("there is no such Service"), "{said}");
    assert_eq!(world.client.asked(), 0);
}

#[test]
fn calls_of_an_exchange_are_limited_in_number_and_in_time() {
    let mut spec = caller("auth");
    spec.limits.outbound_calls = 0;
    let world = World::new(&spec);
    let said = world.said_at_once();
    assert!(said.contains("Quota"), "{said}");
    assert_eq!((world.client.asked(), world.counted("auth", "quota")), (0, 1.0));

    let mut spec = caller("auth");
    spec.limits.wall_time = Duration::ZERO;
    let world = World::new(&spec);
    let said = world.said_at_once();
    assert!(said.contains("Timeout"), "{said}");
    assert_eq!(world.client.asked(), 0, "there is no time left to wait for an answer");
}

#[test]
fn exchanges_that_wait_are_limited_and_make_room_when_they_are_given_up() {
    let mut spec = caller("auth");
    spec.limits.waiting = 1;
    let world = World::new(&spec);
    let (rule, mut first, mut second) = (rule(), request(), request());
    let facts = facts(&rule);
    let mut one = waiting(world.worker.on_request(&world.call, &facts, &mut first));
    assert!(poll(&mut one).is_pending());
    let mut two = waiting(world.worker.on_request(&world.call, &facts, &mut second));
    let Poll::Ready(Err(fault)) = poll(&mut two) else { panic!("it was let in") };
    assert_eq!(fault.kind, FaultKind::Overloaded);
    assert!(fault.message.contains("limits.waiting"), "{fault}");
    drop((one, two));
    assert_eq!(world.said(status(200)), "200", "the client of the first one left");
}

/// Revisions that nobody wants give up their instances on every worker, also where plugins that wait are all there are.
#[test]
fn instances_of_revisions_that_nobody_wants_are_dropped() {
    let mut spec = caller("auth");
    let mut world = World::new(&spec);
    for generation in 2..=40 {
        world.said(status(200));
        spec = PluginSpec { generation, ..spec };
        spec.limits.outbound_calls += 1;
        world.call.revision = world.host.activate(&spec).revision;
    }
    world.said(status(200));
    // What serves has one that is idle and two that are spare, what served before perhaps as many.
    let live = world.host.metric(r#"penstock_plugin_instances{plugin="default/caller"}"#);
    assert!(live <= 2.0 * 3.0, "{live}");
}

/// That many come at once is no fault of the revision.
#[test]
fn a_revision_on_probation_may_be_popular() {
    let mut spec = caller("auth");
    spec.limits.waiting = 1;
    spec.rollout.probation = Probation { period: Duration::from_secs(3600), max_faults: 0 };
    let world = World::new(&spec);
    let mut next = PluginSpec { generation: 2, ..spec };
    next.limits.outbound_calls += 1;
    let call = PolicyCall { revision: world.host.activate(&next).revision, ..world.call.clone() };
    let (rule, mut heads) = (rule(), [(); 4].map(|()| request()));
    let facts = facts(&rule);
    let mut asking = heads.each_mut().map(|head| waiting(world.worker.on_request(&call, &facts, head)));
    let answers = asking.each_mut().map(|asking| match poll(asking) {
        Poll::Ready(Err(fault)) => Some(fault.kind),
        _ => None,
    });
    assert_eq!(answers, [None, Some(FaultKind::Overloaded), Some(FaultKind::Overloaded), Some(FaultKind::Overloaded)]);
    // What the host was told before this, it has heard.
    let other = PluginSpec { generation: 1, ..support::facts::spec("other", Guest::default().build()) };
    world.host.apply(&[&next, &other]);
    world.host.active(&other);
    let state = world.host.facts.state(&next.plugin);
    assert!(state.candidate.is_none() && state.probation.is_some(), "{state:?}");
}

#[test]
fn a_request_says_how_long_and_how_much() {
    let world = World::new(&caller("auth"));
    world.said(status(200));
    world.client.last(|OutboundRequest { request, timeout, max_response, .. }| {
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("GET", "/"));
        assert_eq!((request.headers()["host"].to_str().unwrap(), *max_response), ("auth.default", 1000));
        assert!(*timeout <= Duration::from_secs(2));
    });
}

/// A policy on bodies that asks in every hook.
fn asker() -> PluginSpec {
    PluginSpec {
        plugin: support::facts::plugin("asker"),
        ..PluginSpec { source: spec("a", guests::bytes(ASKER)).source, ..caller("auth") }
    }
}

fn chunk(exchange: &Rc<dyn PolicyExchange>, direction: Direction) -> Waiting<'static, BodyVerdict> {
    let chunk = Chunk { bytes: Bytes::from_static(b"?"), end: false };
    waiting(exchange.clone().on_body(&facts(&rule()), direction, chunk, None))
}

#[track_caller]
fn replaced(verdict: Poll<Result<BodyVerdict, PluginFault>>) -> String {
    match verdict {
        Poll::Ready(Ok(BodyVerdict::Replace(bytes))) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_hook_of_an_exchange_may_wait() {
    let world = World::new(&asker());
    let (rule, mut head, mut answer) = (rule(), request(), response());
    let facts = facts(&rule);
    let exchange = world.worker.begin(&world.call, &facts).unwrap();
    assert_eq!(world.client.asked(), 0, "where it begins there is no network");
    {
        let mut asking = waiting(exchange.on_request(&facts, &mut head));
        assert!(poll(&mut asking).is_pending());
        world.client.answer(status(201));
        assert!(poll(&mut asking).is_ready());
    }
    assert_eq!(head.headers["x-called"], "201");
    let mut asking = chunk(&exchange, Direction::Request);
    assert!(poll(&mut asking).is_pending());
    world.client.answer(status(202));
    assert_eq!(replaced(poll(&mut asking)), "202");
    world.client.answer(status(203));
    {
        let mut asking = waiting(exchange.on_response(&facts, &mut answer));
        assert!(poll(&mut asking).is_ready());
    }
    assert_eq!(answer.headers["x-called"], "203");
    let told = answer.headers["x-told"].to_str().unwrap();
    assert!(told.contains("there is no network here") && told.ends_with(",202"), "its state is its own: {told}");
    world.client.answer(status(204));
    let mut asking = waiting(exchange.clone().on_trailers(&facts, Direction::Response, Default::default()));
    let Poll::Ready(Ok(trailers)) = poll(&mut asking) else { panic!("it is answered") };
    assert_eq!(trailers.trailers["x-called"], "204");
    exchange.end(&facts, &Summary { status: 200, ..Summary::default() });
    assert_eq!(world.client.asked(), 4, "nor is there one at the end");
    let ended = world.host.metric(r#"penstock_plugin_calls_total{plugin="default/asker",hook="end"}"#);
    assert_eq!(ended, 1.0);
}

#[test]
fn the_two_directions_of_an_exchange_take_turns() {
    let world = World::new(&asker());
    let exchange = world.worker.begin(&world.call, &facts(&rule())).unwrap();
    let (mut up, mut down) = (chunk(&exchange, Direction::Request), chunk(&exchange, Direction::Response));
    assert!(poll(&mut up).is_pending());
    assert!(poll(&mut down).is_pending());
    assert_eq!(world.client.asked(), 1, "the second has not begun");
    world.client.answer(status(201));
    assert_eq!(replaced(poll(&mut up)), "201");
    drop(up);
    world.client.answer(status(202));
    assert_eq!(replaced(poll(&mut down)), "202");
}

#[test]
fn an_exchange_that_is_given_up_while_it_waits_makes_room() {
    let mut spec = asker();
    spec.limits.waiting = 1;
    spec.limits.outbound_calls = 2;
    let world = World::new(&spec);
    let begin = || world.worker.begin(&world.call, &facts(&rule()));
    let exchange = begin().unwrap();
    let full = begin().err().expect("there is room for one");
    assert!(full.kind == FaultKind::Overloaded && full.message.contains("limits.waiting"), "{full}");
    let mut asking = chunk(&exchange, Direction::Request);
    assert!(poll(&mut asking).is_pending());
    drop(asking);
    let mut lost = chunk(&exchange, Direction::Response);
    let Poll::Ready(Err(fault)) = poll(&mut lost) else { panic!("its state is gone") };
    assert_eq!(fault.kind, FaultKind::Lost, "{fault}");
    drop(lost);
    exchange.end(&facts(&rule()), &Summary::default());
    drop(exchange);
    // The next one begins with calls of its own, and has as many as it may over all its hooks.
    let exchange = begin().unwrap();
    let said = || {
        world.client.answer(status(200));
        replaced(poll(&mut chunk(&exchange, Direction::Request)))
    };
    assert_eq!([said(), said()], ["200", "200"]);
    assert!(said().contains("Quota"), "a third one");
}
