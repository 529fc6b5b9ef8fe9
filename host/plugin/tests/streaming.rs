//! Policies on bodies, trailers and the end through the host, as the proxy calls them.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use penstock_core::plugin::{
    ActiveRevision, BodyMode, BodyVerdict, Capabilities, Chunk, Direction, FaultKind, HeldHead, Isolation, Message,
    PluginFault, PluginLimits, PluginSpec, PolicyExchange, PolicyWorker, StreamingHooks, Summary, Verdict,
};
use penstock_testing::guests::{self, BODIES};
use serde_json::{Value, json};
use support::{
    exchange::{facts, request, response, rule, with},
    facts::{Host, call, spec},
};

fn bodies(name: &str, config: Value) -> PluginSpec {
    PluginSpec {
        config: Arc::new(config),
        capabilities: Capabilities { metrics: true, ..Capabilities::default() },
        ..spec(name, guests::bytes(BODIES))
    }
}

fn begin(worker: &dyn PolicyWorker, active: &ActiveRevision) -> Rc<dyn PolicyExchange> {
    worker.begin(&call(active), &facts(&rule())).unwrap()
}

/// A chunk through the hook of a direction.
fn chunk(
    exchange: &Rc<dyn PolicyExchange>,
    direction: Direction,
    bytes: &str,
    end: bool,
    held: Option<&HeldHead>,
) -> Result<BodyVerdict, PluginFault> {
    let chunk = Chunk { bytes: Bytes::from(bytes.to_owned()), end };
    exchange.clone().on_body(&facts(&rule()), direction, chunk, held.cloned()).at_once()
}

fn sees(exchange: &Rc<dyn PolicyExchange>, bytes: &str) -> Result<BodyVerdict, PluginFault> {
    chunk(exchange, Direction::Request, bytes, false, None)
}

fn replaced(verdict: Result<BodyVerdict, PluginFault>) -> String {
    match verdict {
        Ok(BodyVerdict::Replace(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_hooks_of_an_exchange() {
    let host = Host::start();
    let config = json!({
        "request": {"mode": "stream"}, "response": {"mode": "stream", "upper": true},
        "trailers": true, "request_trailers": true, "count": true
    });
    let active = host.activate(&bodies("a", config));
    let expected = StreamingHooks {
        request_body: BodyMode::Stream,
        request_trailers: true,
        response_body: BodyMode::Stream,
        response_trailers: true,
        end: true,
    };
    assert_eq!(active.hooks.streaming, Some(expected));
    assert!(active.hooks.request && active.hooks.response && active.hooks.carries);

    let worker = host.host.runtime().worker();
    let (rule, exchange) = (rule(), begin(&*worker, &active));
    let facts = facts(&rule);
    let mut head = request();
    with(&mut head.headers, ("x-mark", "client"));
    assert!(matches!(exchange.on_request(&facts, &mut head).at_once(), Ok(Verdict::Proceed(_))));
    assert_eq!(head.headers["x-mark"], "bodies");
    assert!(matches!(sees(&exchange, "one"), Ok(BodyVerdict::Pass)));
    assert!(matches!(chunk(&exchange, Direction::Request, "three", true, None), Ok(BodyVerdict::Pass)));
    let trailers: HeaderMap = [("x-a".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
    let verdict = exchange.clone().on_trailers(&facts, Direction::Request, trailers).at_once().unwrap();
    assert_eq!((&verdict.trailers["x-seen"], &verdict.trailers["x-a"]), (&"1".parse().unwrap(), &"1".parse().unwrap()));

    let mut answer = response();
    exchange.on_response(&facts, &mut answer).at_once().unwrap();
    assert_eq!(
        (&answer.headers["x-request-bytes"], &answer.headers["x-request-chunks"]),
        (&"8".parse().unwrap(), &"2".parse().unwrap())
    );
    assert_eq!(answer.headers["x-carried"], "client", "as it was when it reached the plugin");
    assert_eq!(replaced(chunk(&exchange, Direction::Response, "back", true, None)), "BACK");
    let trailers: HeaderMap = [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
    let verdict = exchange.clone().on_trailers(&facts, Direction::Response, trailers).at_once().unwrap();
    assert_eq!(verdict.body, "grpc-status=0\n");
    assert_eq!(verdict.trailers.keys().collect::<Vec<_>>(), ["x-moved"]);

    let summary =
        Summary { status: 200, request_bytes: 8, response_bytes: 4, grpc_status: Some(0), ..Summary::default() };
    exchange.end(&facts, &summary);
    exchange.end(&facts, &summary);
    let ended = r#"penstock_plugin_bodies_ended_total{plugin="default/a",status="200",error="",grpc="0"}"#;
    assert_eq!(host.metric(ended), 1.0, "once\n{}", host.metrics());
    let calls =
        |hook: &str| host.metric(&format!(r#"penstock_plugin_calls_total{{plugin="default/a",hook="{hook}"}}"#));
    let hooks = [
        "begin",
        "request",
        "request_body",
        "request_trailers",
        "response",
        "response_body",
        "response_trailers",
        "end",
    ];
    assert_eq!(hooks.map(calls), [1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let seen = |direction: &str| {
        host.metric(&format!(r#"penstock_plugin_body_bytes_total{{plugin="default/a",direction="{direction}"}}"#))
    };
    assert_eq!((seen("request"), seen("response")), (8.0, 4.0));
}

#[test]
fn a_held_head_is_edited_when_it_is_released() {
    let host = Host::start();
    let active = host.activate(&bodies("a", json!({"request": {"mode": "stream", "hold": true, "upper": true}})));
    let worker = host.host.runtime().worker();
    let exchange = begin(&*worker, &active);
    let mut head = request();
    assert!(matches!(exchange.on_request(&facts(&rule()), &mut head).at_once(), Ok(Verdict::Hold)));
    let held = Rc::new(RefCell::new(Message::Request(head)));
    assert!(matches!(chunk(&exchange, Direction::Request, "one", false, Some(&held)), Ok(BodyVerdict::Hold)));
    let Ok(BodyVerdict::Release(Some(body))) = chunk(&exchange, Direction::Request, "onetwo", true, Some(&held)) else {
        panic!("it releases with the last chunk")
    };
    assert_eq!(body, "ONETWO");
    let Message::Request(head) = Rc::into_inner(held).unwrap().into_inner() else { panic!("it is a request") };
    assert_eq!(head.headers["x-length"], "6");
}

#[test]
fn answers_that_the_contract_forbids() {
    let host = Host::start();
    let mut held = bodies("held", json!({"request": {"mode": "stream", "hold": true}}));
    held.limits.body_buffer = 300 << 10;
    let active = host.activate(&held);
    let worker = host.host.runtime().worker();
    let fault = |exchange: &Rc<dyn PolicyExchange>, bytes: &str, end, held: Option<&HeldHead>| {
        let fault = chunk(exchange, Direction::Request, bytes, end, held).unwrap_err();
        assert_eq!(fault.kind, FaultKind::InvalidAnswer, "{fault}");
        fault.message
    };
    let exchange = begin(&*worker, &active);
    // It releases a head that nobody holds.
    assert!(fault(&exchange, "", true, None).contains("headers that are not held"));
    let head: HeldHead = Rc::new(RefCell::new(Message::Request(request())));
    let exchange = begin(&*worker, &active);
    let message = fault(&exchange, &"x".repeat((300 << 10) + 1), false, Some(&head));
    assert!(message.contains("limits.bodyBuffer allows (307200 bytes)"), "{message}");
    // The instance itself is well.
    assert!(matches!(sees(&begin(&*worker, &active), "x"), Ok(BodyVerdict::Hold)));

    let plain = host.activate(&bodies("plain", json!({"request": {"mode": "stream"}})));
    let exchange = begin(&*worker, &plain);
    assert!(fault(&exchange, "x", true, Some(&head)).contains("still held after the last chunk"));
    let held_trailers = host.activate(&bodies("trailers", json!({"response": {"mode": "stream"}, "trailers": true})));
    let exchange = begin(&*worker, &held_trailers);
    let trailers: HeaderMap = [("undeclared".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
    let fault = exchange.on_trailers(&facts(&rule()), Direction::Response, trailers).at_once().unwrap_err();
    assert!(fault.message.contains("undeclared-write: `undeclared`"), "{fault}");
}

#[test]
fn plans_that_ask_for_more_than_the_resource_allows_are_refused() {
    let host = Host::start();
    let mut large = bodies("a", json!({"response": {"mode": "buffer", "max": 2_000_000}}));
    let rejection = host.host.validate(&large).unwrap_err();
    assert_eq!(rejection.reason, "InvalidPlan");
    assert!(rejection.message.contains("response-body: buffer(2000000)"), "{rejection:?}");
    assert!(rejection.message.contains("spec.limits.bodyBuffer is 1048576 bytes"), "{rejection:?}");
    large.limits.body_buffer = 2_000_000;
    host.host.validate(&large).unwrap();
    let held = bodies("a", json!({"response": {"hold": true}}));
    let rejection = host.host.validate(&held).unwrap_err();
    assert_eq!(rejection.reason, "InvalidAnswer");
    assert!(rejection.message.contains("invalid-hold: the plan does not declare the body"), "{rejection:?}");
}

#[test]
fn a_trap_ends_its_exchange_and_no_others() {
    let host = Host::start();
    let active = host.activate(&bodies("a", json!({"request": {"mode": "stream", "upper": true}, "count": true})));
    let worker = host.host.runtime().worker();
    host.until_instances("a", 2);
    let (first, second) = (begin(&*worker, &active), begin(&*worker, &active));
    assert_eq!(replaced(sees(&first, "a")), "A");
    assert_eq!(sees(&first, "!trap").unwrap_err().kind, FaultKind::Trap);
    assert_eq!(sees(&first, "b").unwrap_err().kind, FaultKind::Lost, "its state is gone");
    assert_eq!(replaced(sees(&second, "b")), "B", "its state is in another instance");
    second.end(&facts(&rule()), &Summary { status: 204, ..Summary::default() });
    let third = begin(&*worker, &active);
    assert_eq!(replaced(sees(&third, "c")), "C");
    // Ending what is lost does nothing, and harms nobody.
    for exchange in [&first, &third] {
        exchange.end(&facts(&rule()), &Summary { status: 200, ..Summary::default() });
    }
    let ended = r#"penstock_plugin_bodies_ended_total{plugin="default/a",status="200",error="",grpc=""}"#;
    assert_eq!(host.metric(ended), 1.0);
    let faults = |hook: &str, kind: &str| {
        host.metric(&format!(r#"penstock_plugin_faults_total{{plugin="default/a",hook="{hook}",kind="{kind}"}}"#))
    };
    assert_eq!((faults("request_body", "trap"), faults("request_body", "lost")), (1.0, 1.0));
    assert_eq!(sees(&third, "d").unwrap_err().kind, FaultKind::Unavailable, "it has ended");
}

#[test]
fn memory_goes_with_the_fault_and_not_with_the_last_exchange() {
    const FAULTS: usize = 50;
    let host = Host::start();
    let active = host.activate(&bodies("a", json!({"request": {"mode": "stream"}})));
    let worker = host.host.runtime().worker();
    let open: Vec<_> =
        (0..FAULTS).map(|_| begin(&*worker, &active)).inspect(|it| assert!(sees(it, "!trap").is_err())).collect();
    // What is spare and in the making is not many.
    let alive = host.metric(r#"penstock_plugin_instances{plugin="default/a"}"#);
    assert!(alive < 10.0, "{alive} instances are there for {} exchanges that lost theirs", open.len());
}

#[test]
fn what_a_plugin_says_of_an_exchange_is_short_and_printable() {
    let host = Host::start();
    let active = host.activate(&bodies("a", json!({"request": {"mode": "stream"}})));
    let worker = host.host.runtime().worker();
    let said = format!("!abort\n{}", "x".repeat(1 << 20));
    let Ok(BodyVerdict::Abort(why)) = sees(&begin(&*worker, &active), &said) else { panic!("it was asked to abort") };
    assert!(why.starts_with("!abort\u{fffd}xx") && why.len() < 1100, "{} bytes: {why:?}", why.len());
}

#[test]
fn exchanges_in_isolation_lose_nothing_by_a_fault_of_another() {
    let host = Host::start();
    let mut spec = bodies("a", json!({"request": {"mode": "stream", "upper": true}, "count": true}));
    spec.limits.isolation = Isolation::Exchange;
    let active = host.activate(&spec);
    let worker = host.host.runtime().worker();
    let (first, second) = (begin(&*worker, &active), begin(&*worker, &active));
    assert_eq!(replaced(sees(&first, "a")), "A");
    assert_eq!(sees(&first, "!trap").unwrap_err().kind, FaultKind::Trap);
    assert_eq!(replaced(sees(&second, "b")), "B", "its state is in an instance of its own");
    for exchange in [&first, &second] {
        exchange.end(&facts(&rule()), &Summary { status: 200, ..Summary::default() });
    }
    let ended = r#"penstock_plugin_bodies_ended_total{plugin="default/a",status="200",error="",grpc=""}"#;
    assert_eq!(host.metric(ended), 1.0);
    let lost = r#"penstock_plugin_faults_total{plugin="default/a",hook="request_body",kind="lost"}"#;
    assert_eq!(host.metric(lost), 0.0);
    drop((first, second));
    let places = usize::try_from(spec.limits.waiting).unwrap();
    let open: Vec<_> = (0..places).map(|_| begin(&*worker, &active)).collect();
    let fault = worker.begin(&call(&active), &facts(&rule())).err().expect("there is no room left");
    assert!(fault.message.contains("limits.waiting"), "{fault}");
    drop(open);
    assert!(sees(&begin(&*worker, &active), "x").is_ok());
}

#[test]
fn limits_of_time_and_memory_hold_in_body_hooks() {
    let host = Host::start();
    let mut spec = bodies("a", json!({"request": {"mode": "stream"}}));
    let active = host.activate(&spec);
    let worker = host.host.runtime().worker();
    assert_eq!(sees(&begin(&*worker, &active), "!spin").unwrap_err().kind, FaultKind::Deadline);
    spec.plugin = support::facts::plugin("b");
    spec.limits = PluginLimits { hook_time: Duration::from_secs(5), ..spec.limits };
    let active = host.activate(&spec);
    assert_eq!(sees(&begin(&*worker, &active), "!grow").unwrap_err().kind, FaultKind::Memory);
    assert!(matches!(sees(&begin(&*worker, &active), "x"), Ok(BodyVerdict::Pass)));
}

#[test]
fn an_exchange_has_so_much_time_for_all_its_hooks() {
    let host = Host::start();
    let mut spec = bodies("a", json!({"request": {"mode": "stream"}, "count": true}));
    spec.limits.hook_time = Duration::from_secs(5);
    spec.limits.exchange_time = Duration::from_millis(50);
    let active = host.activate(&spec);
    let worker = host.host.runtime().worker();
    let (busy, other) = (begin(&*worker, &active), begin(&*worker, &active));
    // Each of them takes a part of it; so many of them cannot fit.
    let fault = (0..10_000).find_map(|_| sees(&busy, "!busy").err()).expect("it has used its time by then");
    assert_eq!(fault.kind, FaultKind::Deadline);
    assert!(fault.message.contains("limits.exchangeTime (50ms)"), "{fault}");
    assert!(sees(&busy, "x").is_err(), "none of its hooks is called any more");
    assert!(sees(&other, "x").is_ok(), "others in the same instance are not concerned");
    let summary = Summary { status: 200, ..Summary::default() };
    busy.end(&facts(&rule()), &summary);
    other.end(&facts(&rule()), &summary);
    let ended = r#"penstock_plugin_bodies_ended_total{plugin="default/a",status="200",error="",grpc=""}"#;
    assert_eq!(host.metric(ended), 1.0, "nor is it told of the end");
}

/// How an exchange ends for the others in the instance that it shares, where there are more than instances.
#[test]
fn exchanges_share_where_there_are_too_many() {
    const INSTANCES: usize = 64;
    let host = Host::start();
    let active = host.activate(&bodies("a", json!({"request": {"mode": "stream"}})));
    let worker = host.host.runtime().worker();
    let mut open = Vec::new();
    for instances in 1..=INSTANCES {
        open.push(begin(&*worker, &active));
        host.until_instances("a", u32::try_from(instances).unwrap() + 1);
    }
    assert!(open.iter().all(|exchange| sees(exchange, "x").is_ok()));
    let more: Vec<_> = (0..INSTANCES).map(|_| begin(&*worker, &active)).collect();
    assert_eq!(sees(&more[0], "!trap").unwrap_err().kind, FaultKind::Trap);
    let lost = |exchanges: &[Rc<dyn PolicyExchange>]| {
        exchanges.iter().filter_map(|exchange| sees(exchange, "x").err()).map(|fault| fault.kind).collect::<Vec<_>>()
    };
    assert_eq!((lost(&open), lost(&more[1..])), (vec![FaultKind::Lost], vec![]), "two in each instance");
}

#[test]
fn what_is_over_leaves_its_instance_to_the_next() {
    let host = Host::start();
    let active = host.activate(&bodies("a", json!({"request": {"mode": "stream"}})));
    let worker = host.host.runtime().worker();
    // One for the worker, and one that is spare.
    host.until_instances("a", 2);
    for _ in 0..100 {
        assert!(sees(&begin(&*worker, &active), "x").is_ok());
    }
    assert_eq!(host.metric(r#"penstock_plugin_instantiations_total{plugin="default/a"}"#), 2.0);
}

/// Whoever keeps all instances of a worker busy is told so; others in other plugins are not concerned, and the next one in this gets the room of
/// one that ended.
#[test]
fn a_worker_has_so_many_instances_of_a_plugin() {
    const INSTANCES: usize = 64;
    const EXCHANGES: usize = 256;
    let host = Host::start();
    let specs = ["a", "b"].map(|name| bodies(name, json!({"request": {"mode": "stream"}})));
    host.apply(&[&specs[0], &specs[1]]);
    let [active, neighbour] = specs.each_ref().map(|spec| host.active(spec));
    let worker = host.host.runtime().worker();
    let mut open: Vec<_> = (0..INSTANCES * EXCHANGES).map(|_| begin(&*worker, &active)).collect();
    let fault = worker.begin(&call(&active), &facts(&rule())).err().expect("there is no room left");
    assert_eq!(fault.kind, FaultKind::Overloaded, "{fault}");
    assert!(fault.message.contains("as many exchanges open as its instances can keep"), "{fault}");
    let refused = r#"penstock_plugin_faults_total{plugin="default/a",hook="begin",kind="overloaded"}"#;
    assert_eq!(host.metric(refused), 1.0);
    assert!(sees(&begin(&*worker, &neighbour), "x").is_ok());
    assert!(sees(&open[0], "x").is_ok(), "those that are open go on");
    assert_eq!(sees(&open[INSTANCES * EXCHANGES - 1], "!trap").unwrap_err().kind, FaultKind::Trap);
    open.extend((0..EXCHANGES).map(|_| begin(&*worker, &active)));
    assert!(worker.begin(&call(&active), &facts(&rule())).is_err(), "a fault makes room for one instance, and no more");
    drop(open.pop());
    assert!(sees(&begin(&*worker, &active), "x").is_ok());
}

#[test]
fn an_instance_that_has_grown_takes_no_new_exchanges() {
    let host = Host::start();
    let mut spec = bodies("a", json!({"request": {"mode": "stream"}}));
    // Writing what the guest copies takes the kernel longer than a hook may.
    spec.limits.hook_time = Duration::from_secs(5);
    let active = host.activate(&spec);
    let worker = host.host.runtime().worker();
    let old = begin(&*worker, &active);
    assert!(sees(&old, &"x".repeat(12 << 20)).is_ok(), "most of the 16 MiB that it may have");
    let new = begin(&*worker, &active);
    assert_eq!(sees(&new, "!trap").unwrap_err().kind, FaultKind::Trap);
    assert!(sees(&old, "x").is_ok(), "the old one goes on to its end, in an instance of its own");
}

#[test]
fn the_destructor_is_no_end_hook() {
    let host = Host::start();
    let active = host.activate(&bodies("a", json!({"request": {"mode": "stream"}})));
    let worker = host.host.runtime().worker();
    let exchange = begin(&*worker, &active);
    exchange.end(&facts(&rule()), &Summary::default());
    assert_eq!(sees(&exchange, "x").unwrap_err().kind, FaultKind::Unavailable, "its state is gone all the same");
    drop(exchange);
    assert_eq!(host.metric(r#"penstock_plugin_calls_total{plugin="default/a",hook="end"}"#), 0.0);
}

#[test]
fn a_plugin_that_holds_passes_the_samples_with_a_small_buffer() {
    let host = Host::start();
    let mut spec = bodies("a", json!({"request": {"mode": "stream", "hold": true}}));
    spec.limits.body_buffer = 1024;
    host.host.validate(&spec).unwrap();
}

#[test]
fn exchanges_that_are_dropped_are_given_back_to_the_guest() {
    let host = Host::start();
    let active = host.activate(&bodies("a", json!({"request": {"mode": "stream"}})));
    let worker = host.host.runtime().worker();
    let kept = begin(&*worker, &active);
    // Each takes some memory of the guest; ten thousand of them would not fit if they were not given back.
    for _ in 0..10_000 {
        sees(&begin(&*worker, &active), "x").unwrap();
    }
    assert!(sees(&kept, "x").is_ok());
}
