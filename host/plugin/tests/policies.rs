//! Policies through the host, as the proxy and the controller use it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{sync::Arc, time::Duration};

use http::Response;
use penstock_core::plugin::{ActiveRevision, Capabilities, FaultKind, Isolation, PluginSpec, Proceed, Verdict};
use support::{
    exchange::{facts, on_request, on_response, request, rule, token, triggered_request},
    facts::{Host, call, spec},
    guest::{Answer, Edit, Guest, REQUEST_HEADERS, set},
    log::logged,
};

#[test]
fn a_policy_edits_both_heads() {
    let host = Host::start();
    let active = host.activate(&spec("a", Guest::default().build()));
    assert_eq!((&*active.name, &*active.version), ("test", "1.0.0"));
    assert!(active.digest.starts_with("sha256:") && active.digest.len() == 71);
    assert!(active.hooks.request && active.hooks.response && !active.hooks.carries);

    let worker = host.host.runtime().worker();
    let (verdict, head) = on_request(&*worker, &active).unwrap();
    assert_eq!(token(&verdict), 7);
    assert_eq!(head.headers["x-request"], "1");
    let (_, head) = on_response(&*worker, &active, 7, None).unwrap();
    assert_eq!(head.headers["x-response"], "1");
    assert_eq!(host.metric(r#"penstock_plugin_calls_total{plugin="default/a",hook="request"}"#), 1.0);
    assert_eq!(host.metric(r#"penstock_plugin_calls_total{plugin="default/a",hook="response"}"#), 1.0);
    assert_eq!(host.metric(r#"penstock_plugin_revisions_total{plugin="default/a",result="ready"}"#), 1.0);
    assert_eq!(host.metric(r#"penstock_plugin_call_seconds_count{plugin="default/a",hook="request"}"#), 1.0);
    assert_eq!(host.metric("penstock_plugin_compile_seconds_count"), 1.0);
}

#[test]
fn every_hook_is_among_the_calls_that_are_timed() {
    let host = Host::start();
    let active = host.activate(&spec("a", Guest::default().build()));
    let worker = host.host.runtime().worker();
    for _ in 0..100 {
        on_request(&*worker, &active).unwrap();
        on_response(&*worker, &active, 7, None).unwrap();
    }
    for hook in ["request", "response"] {
        let timed = host.metric(&format!(r#"penstock_plugin_call_seconds_count{{plugin="default/a",hook="{hook}"}}"#));
        assert!((1.0..10.0).contains(&timed), "{hook}: {timed}");
    }
}

/// A guest that counts its calls in its memory, and tells the number as the token.
fn counting() -> Guest {
    let count = "(global.set $calls (i64.add (global.get $calls) (i64.const 1)))
         (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
         (i64.store (i32.const 80) (global.get $calls)) i32.const 64";
    let fields = "(global $calls (mut i64) (i64.const 0))".into();
    Guest { on_request: Answer::Code(count.into()), fields, ..Guest::default() }
}

#[test]
fn in_isolation_no_call_meets_what_another_has_left() {
    let host = Host::start();
    let tokens = |active: &ActiveRevision| {
        let worker = host.host.runtime().worker();
        [(); 3].map(|()| token(&on_request(&*worker, active).unwrap().0))
    };
    let mut spec = spec("a", counting().build());
    assert_eq!(tokens(&host.activate(&spec)), [1, 2, 3]);
    spec.limits.isolation = Isolation::Exchange;
    spec.generation = 2;
    assert_eq!(tokens(&host.activate(&spec)), [1, 1, 1]);
}

/// Making an instance takes longer than a hook may, so only spares serve, and nobody else waits.
#[test]
fn a_worker_stands_still_no_longer_for_a_new_instance_than_for_a_hook() {
    let host = Host::start();
    let slow = "(local $left i32) (local.set $left (i32.const 400000000))
         (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    let guest = Guest { configure: slow.into(), ..Guest::faulty_code("unreachable") };
    let mut spec = spec("a", guest.build());
    spec.limits.hook_time = Duration::from_millis(50);
    spec.limits.configure_time = Duration::from_secs(60);
    let active = host.activate(&spec);
    let worker = host.host.runtime().worker();
    let mut faults = (0..1000).map(|_| triggered_request(&*worker, &active).unwrap_err());
    let fault = faults.find(|fault| fault.message.contains("no instance is spare")).unwrap();
    assert!(fault.message.contains("takes longer than limits.hookTime (50ms)"), "{fault}");
    assert_eq!(fault.kind, FaultKind::Overloaded, "it is no fault of the plugin");
}

#[test]
fn the_time_of_long_hooks_is_counted() {
    let host = Host::start();
    let active = host.activate(&spec("a", Guest::faulty_code("(loop $again (br $again))").build()));
    let worker = host.host.runtime().worker();
    let used = || host.metric(r#"penstock_plugin_cpu_seconds_total{plugin="default/a"}"#);
    assert_eq!(used(), 0.0);
    assert_eq!(triggered_request(&*worker, &active).unwrap_err().kind, FaultKind::Deadline);
    // Its limit is 200 ms, of which one tick may be somebody else's.
    assert!(used() > 0.19, "{} s", used());
}

#[test]
fn every_kind_of_edit() {
    let host = Host::start();
    let mut guest = Guest {
        on_request: Answer::Proceed(
            vec![
                set(":path", "/new?x=y"),
                set(":method", "PUT"),
                set(":authority", "b.example"),
                Edit::Append("x-in".into(), b"3".to_vec()),
                Edit::Remove("x-request".into()),
                Edit::SetKnown(5, b"by index".to_vec()),
                Edit::AppendKnown(5, b"twice".to_vec()),
                set("p-any", b"\xff"),
            ],
            0,
        ),
        on_response: Answer::Proceed(vec![set(":status", "418"), Edit::RemoveKnown(0)], 0),
        ..Guest::default()
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    guest.plan.request_writes = names(&[":path", ":method", ":authority", "x-in", "x-request", "x-known", "p-*"]);
    guest.plan.response_writes = names(&["server", ":status"]);
    let active = host.activate(&spec("a", guest.build()));
    let worker = host.host.runtime().worker();
    let (_, head) = on_request(&*worker, &active).unwrap();
    assert_eq!((head.uri.to_string(), head.method.as_str()), ("/new?x=y".into(), "PUT"));
    let values = |name| head.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect::<Vec<_>>();
    assert_eq!(values("host"), [b"b.example"]);
    assert_eq!(values("x-in"), [b"1", b"2", b"3"]);
    assert!(values("x-request").is_empty());
    assert_eq!(values("x-known"), [&b"by index"[..], b"twice"]);
    assert_eq!(values("p-any"), [b"\xff"]);
    let (_, head) = on_response(&*worker, &active, 0, None).unwrap();
    assert_eq!(head.status, 418);
    assert!(!head.headers.contains_key("server"));
}

#[test]
fn a_reply_in_place_of_the_upstream() {
    let host = Host::start();
    let headers = vec![("content-type".to_string(), b"text/plain".to_vec())];
    let guest = Guest { on_request: Answer::Reply(403, headers, b"no".to_vec()), ..Guest::default() };
    let active = host.activate(&spec("a", guest.build()));
    let worker = host.host.runtime().worker();
    let (verdict, head) = on_request(&*worker, &active).unwrap();
    let Verdict::Reply(reply) = verdict else { panic!("{verdict:?}") };
    assert_eq!((reply.status().as_u16(), reply.body().as_ref()), (403, &b"no"[..]));
    assert_eq!(reply.headers()["content-type"], "text/plain");
    assert_eq!(head.headers, request().headers, "a reply leaves the request alone");
}

#[test]
fn only_the_hooks_of_the_plan_are_asked_for() {
    let host = Host::start();
    let mut guest = Guest { on_response: Answer::Code("unreachable".into()), ..Guest::default() };
    guest.plan.hooks = REQUEST_HEADERS;
    let active = host.activate(&spec("a", guest.build()));
    assert!(active.hooks.request && !active.hooks.response);
}

/// Copies what it received into the edits: the first field as it is.
const ECHO_FIRST_FIELD: &str = "
    (i32.store (i32.const 128) (i32.const 3)) (i32.store (i32.const 132) (i32.const 0))
    (i64.store (i32.const 136) (i64.load offset=4 (local.get $fields)))
    (i64.store (i32.const 64) (i64.const 0)) (i32.store (i32.const 72) (i32.const 128))
    (i32.store (i32.const 76) (i32.eq (i32.load8_u (local.get $fields)) (i32.const 1)))
    (i64.store (i32.const 80) (i64.extend_i32_u (i32.load8_u (local.get $fields))))
    i32.const 64";

#[test]
fn fields_reach_the_hooks_in_the_order_of_the_plan() {
    let host = Host::start();
    let seen = |read: &str| {
        let mut guest = Guest { on_request: Answer::Code(ECHO_FIRST_FIELD.into()), ..Guest::default() };
        guest.plan.request_reads = vec![read.into(), "x-request".into()];
        let active = host.activate(&PluginSpec { generation: 2, ..spec(read.trim_start_matches(':'), guest.build()) });
        let (verdict, head) = on_request(&*host.host.runtime().worker(), &active).unwrap();
        (token(&verdict), head.headers["x-request"].to_str().unwrap().to_string())
    };
    assert_eq!(seen(":path"), (1, "/a?b=c".into()));
    assert_eq!(seen(":method"), (1, "GET".into()));
    assert_eq!(seen(":scheme"), (1, "https".into()));
    assert_eq!(seen(":authority"), (1, "a.example".into()));
    assert_eq!(seen(":client-address"), (1, "192.0.2.7".into()));
    assert_eq!(seen("host"), (1, "a.example".into()));
    assert_eq!(seen("x-in"), (2, "before".into()), "two values are `many`");
    assert_eq!(seen("x-absent"), (0, "before".into()));
}

#[test]
fn carried_fields_reach_the_response_hook_behind_its_own() {
    let host = Host::start();
    let mut guest =
        Guest { on_response: Answer::Code(ECHO_FIRST_FIELD.replace("$fields)", "$fields))")), ..Guest::default() };
    // Point at the second field: each takes twelve bytes.
    let second = ECHO_FIRST_FIELD.replace("(local.get $fields)", "(i32.add (local.get $fields) (i32.const 12))");
    guest.on_response = Answer::Code(second);
    guest.plan.response_reads = vec!["server".into()];
    guest.plan.carried_reads = vec![":path".into()];
    let active = host.activate(&spec("a", guest.build()));
    assert!(active.hooks.carries);
    let worker = host.host.runtime().worker();
    let (_, head) = on_response(&*worker, &active, 0, Some(&request())).unwrap();
    assert_eq!(head.headers["x-response"], "/a?b=c");
    // Without a request to carry from, everything is absent.
    let (verdict, _) = on_response(&*worker, &active, 0, None).unwrap();
    assert_eq!(token(&verdict), 0);
}

#[test]
fn the_token_comes_back() {
    let host = Host::start();
    let answer = "(i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
        (i64.store (i32.const 80) (i64.add (local.get $token) (i64.extend_i32_u (local.get $status)))) i32.const 64";
    let guest = Guest { on_response: Answer::Code(answer.into()), ..Guest::default() };
    let active = host.activate(&spec("a", guest.build()));
    let (verdict, _) = on_response(&*host.host.runtime().worker(), &active, u64::MAX - 200, None).unwrap();
    assert_eq!(token(&verdict), u64::MAX, "token and status as they were given");
}

const INFO: &str = r#"
    (import "penstock:plugin/exchange-info@0.1.0" "request-header" (func $request-header (param i32 i32 i32)))
    (import "penstock:plugin/exchange-info@0.1.0" "response-header" (func $response-header (param i32 i32 i32)))
    (import "penstock:plugin/exchange-info@0.1.0" "client" (func $client (param i32)))
    (import "penstock:plugin/exchange-info@0.1.0" "route" (func $route (param i32)))"#;

/// Sets the known header to the string or list of bytes whose pointer and length stand at `at`, if `count` is not zero.
fn answer_with(at: &str, count: &str) -> String {
    format!(
        "(i32.store (i32.const 128) (i32.const 3)) (i32.store (i32.const 132) (i32.const 0))
         (i64.store (i32.const 64) (i64.const 0)) (i32.store (i32.const 72) (i32.const 128))
         (i32.store (i32.const 76) (i32.ne {count} (i32.const 0)))
         (i64.store (i32.const 80) (i64.extend_i32_u {count}))
         (if {count} (then (i64.store (i32.const 136) (i64.load {at})))) i32.const 64"
    )
}

fn info(code: &str, on_response: bool) -> Guest {
    let (request, response) = (Guest::default().on_request, Guest::default().on_response);
    let code = Answer::Code(code.into());
    let (on_request, on_response) = if on_response { (request, code) } else { (code, response) };
    let fields = r#"(data (i32.const 16) "x-insecretserver:path")"#.into();
    Guest { imports: INFO.into(), fields, on_request, on_response, ..Guest::default() }
}

#[test]
fn the_exchange_can_be_asked_for_what_the_plan_does_not_read() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let list = answer_with("(i32.load (i32.const 256))", "(i32.load (i32.const 260))");
    let header = |name: &str, at: u32, len: u32| {
        let code = format!("(call $request-header (i32.const {at}) (i32.const {len}) (i32.const 256)) {list}");
        let active = host.activate(&spec(name, info(&code, false).build()));
        let (verdict, head) = on_request(&*worker, &active).unwrap();
        // The head came back whole from where it was lent to.
        assert_eq!(head.headers.get_all("x-in").iter().count(), 2);
        assert_eq!(head.headers.len(), request().headers.len());
        (token(&verdict), head.headers["x-request"].to_str().unwrap().to_string())
    };
    assert_eq!(header("x-in", 16, 4), (2, "1".into()));
    assert_eq!(header("absent", 20, 6), (0, "before".into()));
    assert_eq!(header("path", 32, 5), (1, "/a?b=c".into()));

    let client =
        format!("(call $client (i32.const 256)) {}", answer_with("(i32.const 256)", "(i32.load16_u (i32.const 264))"));
    let active = host.activate(&spec("client", info(&client, false).build()));
    let (verdict, head) = on_request(&*worker, &active).unwrap();
    assert_eq!((token(&verdict), &head.headers["x-request"]), (4711, &"192.0.2.7".parse().unwrap()));

    let route =
        format!("(call $route (i32.const 256)) {}", answer_with("(i32.const 256)", "(i32.load (i32.const 260))"));
    let active = host.activate(&spec("route", info(&route, false).build()));
    let (_, head) = on_request(&*worker, &active).unwrap();
    assert_eq!(head.headers["x-request"], "HTTPRoute/default/web");
}

#[test]
fn in_a_response_hook_the_request_is_what_the_plan_carries() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let list = answer_with("(i32.load (i32.const 256))", "(i32.load (i32.const 260))");
    let ask = |name: &str, function: &str, at: u32, len: u32, carried: &[&str]| {
        let code = format!("(call ${function} (i32.const {at}) (i32.const {len}) (i32.const 256)) {list}");
        let mut guest = info(&code, true);
        guest.plan.carried_reads = carried.iter().map(ToString::to_string).collect();
        let active = host.activate(&spec(name, guest.build()));
        let (verdict, head) = on_response(&*worker, &active, 0, Some(&request())).unwrap();
        (token(&verdict), head.headers["x-response"].to_str().unwrap().to_string())
    };
    assert_eq!(ask("own", "response-header", 26, 6, &[]), (1, "origin".into()));
    assert_eq!(ask("carried", "request-header", 16, 4, &["x-in"]), (2, "1".into()));
    assert_eq!(ask("not-carried", "request-header", 16, 4, &[":path"]), (0, "before".into()));
}

#[test]
fn the_exchange_is_gone_between_hooks_and_after_a_fault() {
    let host = Host::start();
    let code =
        "(call $client (i32.const 256)) (if (i32.eqz (i32.load16_u (i32.const 264))) (then unreachable)) unreachable";
    let mut guest = info("i32.const 0", false);
    guest.on_trigger = Some(Answer::Code(code.into()));
    guest.on_request = Guest::default().on_request;
    guest.plan.request_reads = vec!["x-fault".into()];
    guest.plan.response_reads = vec!["x-fault".into()];
    // Outside hooks it answers as if the message were empty: `configure` sees no client.
    guest.configure = "(call $client (i32.const 256)) (if (i32.load16_u (i32.const 264)) (then unreachable))".into();
    let active = host.activate(&spec("a", guest.build()));
    let worker = host.host.runtime().worker();
    // The helper asserts that the head, which was lent to the store, came back whole.
    assert_eq!(triggered_request(&*worker, &active).unwrap_err().kind, FaultKind::Trap);
    assert_eq!(support::exchange::triggered_response(&*worker, &active).unwrap_err().kind, FaultKind::Trap);
    support::exchange::works(&*worker, &active);
}

fn granted(name: &str, guest: &Guest) -> PluginSpec {
    PluginSpec {
        capabilities: Capabilities { log: true, clock: true, random: true, ..Capabilities::default() },
        ..spec(name, guest.build())
    }
}

#[test]
fn time_does_not_move_during_a_hook() {
    let host = Host::start();
    let code = "(local.set $now (call $now)) (local.set $monotonic (call $monotonic))
        (loop $again (if (i64.ne (call $monotonic) (local.get $monotonic)) (then unreachable))
            (local.set $count (i32.add (local.get $count) (i32.const 1))) (br_if $again (i32.lt_u (local.get $count) (i32.const 1000))))
        (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
        (i64.store (i32.const 80) (local.get $now)) i32.const 64";
    let guest = Guest {
        imports: r#"(import "penstock:plugin/clock@0.1.0" "now" (func $now (result i64)))
            (import "penstock:plugin/clock@0.1.0" "monotonic" (func $monotonic (result i64)))"#
            .into(),
        on_request: Answer::Code(format!("(local $now i64) (local $monotonic i64) (local $count i32) {code}")),
        ..Guest::default()
    };
    let active = host.activate(&granted("clock", &guest));
    let worker = host.host.runtime().worker();
    let now = || u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let before = now();
    let told = token(&on_request(&*worker, &active).unwrap().0);
    assert!((before..=now()).contains(&told), "{told}");
}

#[test]
fn random_bytes_are_bounded() {
    let host = Host::start();
    let mut guest = Guest::faulty(Answer::Code("(call $bytes (i32.const 4097) (i32.const 256)) i32.const 0".into()));
    guest.imports = r#"(import "penstock:plugin/random@0.1.0" "bytes" (func $bytes (param i32 i32)))
        (import "penstock:plugin/random@0.1.0" "next" (func $next (result i64)))"#
        .into();
    guest.on_request = Answer::Code(
        "(call $bytes (i32.const 4096) (i32.const 256))
         (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
         (i64.store (i32.const 80) (i64.xor (call $next) (i64.load (i32.load (i32.const 256))))) i32.const 64"
            .into(),
    );
    let active = host.activate(&granted("random", &guest));
    let worker = host.host.runtime().worker();
    let draw = || token(&on_request(&*worker, &active).unwrap().0);
    assert_ne!(draw(), draw());
    let fault = triggered_request(&*worker, &active).unwrap_err();
    assert!(fault.message.contains("4097 random bytes"), "{fault}");
}

#[test]
fn lines_of_plugins_are_tagged_and_bounded() {
    let host = Host::start();
    let guest = Guest {
        imports: r#"(import "penstock:plugin/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))"#.into(),
        fields: r#"(data (i32.const 16) "hello\0aforged")"#.into(),
        on_request: Answer::Code(
            "(call $write (i32.const 2) (i32.const 16) (i32.const 12) (i32.const 0) (i32.const 0))
             (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0)) i32.const 64"
                .into(),
        ),
        ..Guest::default()
    };
    let mut spec = granted("chatty", &guest);
    spec.limits.log_lines = 3;
    let active = host.activate(&spec);
    let worker = host.host.runtime().worker();
    let text = logged(|| {
        for _ in 0..5 {
            on_request(&*worker, &active).unwrap();
        }
    });
    let lines: Vec<&str> = text.lines().collect();
    // More than three only if the test took longer than a second.
    assert!((3..=5).contains(&lines.len()), "{text}");
    assert!(lines[0].contains("WARN plugin: hello\u{fffd}forged"), "{text}");
    assert!(lines[0].contains(r#"plugin="default/chatty" request_id="r1""#), "{text}");
}

#[test]
fn a_revision_of_another_host_is_unavailable() {
    let (host, other) = (Host::start(), Host::start());
    let active = host.activate(&spec("a", Guest::default().build()));
    // Loaded by a host of the same kind, it works anywhere in the process; anything else does not.
    support::exchange::works(&*other.host.runtime().worker(), &active);
    let mut strange = call(&active);
    strange.revision = penstock_core::plugin::Revision::new(1, Arc::new(()));
    let (mut head, ()) = Response::new(()).into_parts();
    let worker = host.host.runtime().worker();
    let fault = worker.on_response(&strange, &Proceed::default(), &facts(&rule()), &mut head).at_once().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
}
