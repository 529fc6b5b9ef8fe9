//! Plugins that pass validation, and fault on traffic: the exchange gets a fault and an untouched head, everybody else goes on.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use crate::support::{
    exchange::{on_request, on_response, recovers, token, triggered_request, triggered_response, works},
    facts::{Host, plugin, spec},
    guest::{Answer, Edit, Guest, set},
};
use penstock_core::plugin::{
    Capabilities, FaultKind, PluginSpec, Probation, RateAlgorithm, RateLimit, RateWindow, Rollout,
};

/// Both hooks of `guest` fault as expected when they meet the trigger; before and after, and beside it, all is well.
#[track_caller]
fn faults(guest: &Guest, kind: FaultKind, part: &str) {
    faults_with(Capabilities::default(), guest, kind, part);
}

/// With capabilities.
#[track_caller]
fn faults_with(capabilities: Capabilities, guest: &Guest, kind: FaultKind, part: &str) {
    let host = Host::start();
    let (neighbour, faulty) = (spec("neighbour", Guest::default().build()), spec("faulty", guest.build()));
    let faulty = PluginSpec { capabilities, ..faulty };
    host.apply(&[&neighbour, &faulty]);
    let (neighbour, faulty) = (host.active(&neighbour), host.active(&faulty));
    let worker = host.host.runtime().worker();
    works(&*worker, &faulty);
    for round in 1..=3 {
        let fault = triggered_request(&*worker, &faulty).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.message.contains(part), "{part:?} is not in {fault}");
        works(&*worker, &neighbour);
        recovers(&*worker, &faulty);
        let fault = triggered_response(&*worker, &faulty).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        works(&*worker, &neighbour);
        recovers(&*worker, &faulty);
        for hook in ["request", "response"] {
            let series =
                format!(r#"penstock_plugin_faults_total{{plugin="default/faulty",hook="{hook}",kind="{kind}"}}"#);
            assert_eq!(host.metric(&series), f64::from(round));
        }
        let state = host.facts.state(&plugin("faulty"));
        assert_eq!((state.active.as_ref(), state.candidate), (Some(&faulty), None), "it serves as before");
    }
}

#[test]
fn traps() {
    faults(&Guest::faulty_code("unreachable"), FaultKind::Trap, "unreachable");
    faults(&Guest::faulty_code("(i32.load (i32.const -1)) drop"), FaultKind::Trap, "out of bounds memory access");
    let deep = Guest { fields: "(func $deep (call $deep))".into(), ..Guest::faulty_code("(call $deep)") };
    faults(&deep, FaultKind::Trap, "call stack exhausted");
}

#[test]
fn endless_loops() {
    faults(
        &Guest::faulty_code("(loop $again (br $again))"),
        FaultKind::Deadline,
        "it used more than 200ms of CPU time",
    );
}

#[test]
fn memory_bombs() {
    let bomb = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    faults(&Guest::faulty_code(bomb), FaultKind::Memory, "limits.memory allows 16777216");
}

#[test]
fn keys_that_take_long_to_hash() {
    let counting = Guest {
        imports: "(import \"penstock:plugin/counters@0.1.0\" \"add\"
            (func $call (param i32 i32 i64 i32 i64) (result i64)))"
            .into(),
        ..Guest::faulty_code(
            "(drop (call $call (i32.const 0) (i32.const 4097) (i64.const 1) (i32.const 0) (i64.const 0)))",
        )
    };
    let granted = Capabilities { counters: true, ..Capabilities::default() };
    faults_with(granted, &counting, FaultKind::InvalidAnswer, "a key of 4097 bytes; 4096 are allowed");
    let limiting = Guest {
        imports: "(import \"penstock:plugin/rate-limit@0.1.0\" \"take\"
            (func $call (param i32 i32 i32 i32 i32 i32)))"
            .into(),
        ..Guest::faulty_code(
            "(drop (memory.grow (i32.const 2)))
             (call $call (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 65537) (i32.const 1) (i32.const 128))",
        )
    };
    let granted = Capabilities { rate_limits: vec![bucket()], ..Capabilities::default() };
    faults_with(granted, &limiting, FaultKind::InvalidAnswer, "a key of 65537 bytes; 65536 are allowed");
}

fn bucket() -> RateLimit {
    RateLimit {
        name: "b".into(),
        algorithm: RateAlgorithm::SlidingWindow,
        limit: NonZeroU32::MIN,
        window: RateWindow::new(Duration::from_secs(60)).unwrap(),
        max_keys: NonZeroU32::MIN,
        redis: None,
    }
}

/// What was granted is no way to stay for ever either.
#[test]
fn capabilities_without_end() {
    let import = |interface: &str, function: &str| {
        format!("(import \"penstock:plugin/{interface}@0.1.0\" \"{function}\" (func $call (param i32 i32 i32 i32 i32))")
    };
    let limit = "it used more than 200ms of CPU time";
    let for_ever = |call: &str, imports: String| Guest {
        imports,
        ..Guest::faulty_code(&format!("(loop $again {call} (br $again))"))
    };
    let log = for_ever(
        "(call $call (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 0) (i32.const 0))",
        import("log", "write") + ")",
    );
    faults_with(Capabilities { log: true, ..Capabilities::default() }, &log, FaultKind::Deadline, limit);
    let counter = for_ever(
        "(drop (call $call (i32.const 0) (i32.const 8) (i64.const 1) (i32.const 0) (i64.const 0)))",
        "(import \"penstock:plugin/counters@0.1.0\" \"add\" (func $call (param i32 i32 i64 i32 i64) (result i64)))"
            .into(),
    );
    faults_with(Capabilities { counters: true, ..Capabilities::default() }, &counter, FaultKind::Deadline, limit);
    let exhausting = for_ever(
        "(call $call (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 128))",
        "(data (i32.const 0) \"b\") (import \"penstock:plugin/rate-limit@0.1.0\" \"take\"
            (func $call (param i32 i32 i32 i32 i32 i32)))"
            .into(),
    );
    let granted = Capabilities { rate_limits: vec![bucket()], ..Capabilities::default() };
    faults_with(granted, &exhausting, FaultKind::Deadline, limit);
    let random = Guest {
        imports: "(import \"penstock:plugin/random@0.1.0\" \"bytes\" (func $call (param i32 i32)))".into(),
        ..Guest::faulty_code("(call $call (i32.const 100000) (i32.const 128))")
    };
    faults_with(Capabilities { random: true, ..Capabilities::default() }, &random, FaultKind::InvalidAnswer, "4096");
}

/// It behaves while it is looked at.
#[test]
fn a_plugin_that_waits_for_its_thousandth_request() {
    let patient = Answer::Code(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (if (i32.eq (global.get $calls) (i32.const 1000)) (then unreachable))
         (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
         (i64.store (i32.const 80) (i64.const 0)) i32.const 64"
            .into(),
    );
    let guest =
        Guest { on_request: patient, fields: "(global $calls (mut i32) (i32.const 0))".into(), ..Guest::default() };
    let host = Host::start();
    let (neighbour, patient) = (spec("neighbour", Guest::default().build()), spec("patient", guest.build()));
    host.apply(&[&neighbour, &patient]);
    let (neighbour, patient) = (host.active(&neighbour), host.active(&patient));
    let worker = host.host.runtime().worker();
    for request in 1..=2000 {
        match on_request(&*worker, &patient) {
            Ok(_) => assert_ne!(request % 1000, 0, "{request}"),
            Err(fault) => assert_eq!((fault.kind, request % 1000), (FaultKind::Trap, 0), "{request}: {fault}"),
        }
    }
    works(&*worker, &neighbour);
    // The same as the new revision of a plugin that worked: the old one comes back.
    let rollout =
        Rollout { probation: Probation { period: Duration::from_secs(3600), max_faults: 0 }, ..Rollout::default() };
    let good = spec("upgraded", Guest::default().build());
    let good_active = host.activate(&good);
    let next = PluginSpec { generation: 2, rollout, ..spec("upgraded", guest.build()) };
    let next_active = host.activate(&next);
    let fault = (0..1000).find_map(|_| on_request(&*worker, &next_active).err()).expect("the last one traps");
    assert_eq!(fault.kind, FaultKind::Trap);
    let (rejection, serving) = host.rejected(&next);
    assert_eq!((rejection.reason, serving.as_ref()), ("FaultsInProbation", Some(&good_active)), "{rejection:?}");
    works(&*worker, &good_active);
}

/// A token is the guest's own word to itself: whatever it is, it comes back, and what it breaks is an instance of that guest.
#[test]
fn tokens_that_lead_nowhere() {
    let follow = "(drop (i32.load (i32.wrap_i64 (local.get $token))))
         (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
         (i64.store (i32.const 80) (i64.const 0)) i32.const 64";
    let guest = Guest { on_response: Answer::Code(follow.into()), ..Guest::faulty(Answer::Proceed(vec![], u64::MAX)) };
    let host = Host::start();
    let (neighbour, wild) = (spec("neighbour", Guest::default().build()), spec("wild", guest.build()));
    host.apply(&[&neighbour, &wild]);
    let (neighbour, wild) = (host.active(&neighbour), host.active(&wild));
    let worker = host.host.runtime().worker();
    for _ in 0..3 {
        let wrong = token(&triggered_request(&*worker, &wild).unwrap().0);
        assert_eq!(wrong, u64::MAX, "it is nobody's but the guest's");
        let fault = on_response(&*worker, &wild, wrong, None).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
        works(&*worker, &neighbour);
        let right = token(&on_request(&*worker, &wild).unwrap().0);
        assert!(on_response(&*worker, &wild, right, None).is_ok());
    }
}

#[test]
fn answers_that_are_no_values() {
    let answer = |code: &str| Guest::faulty(Answer::Code(code.into()));
    faults(&answer("i32.const -16"), FaultKind::InvalidAnswer, "out of bounds");
    faults(&answer("i32.const 1"), FaultKind::InvalidAnswer, "not aligned");
    // An edit list beyond the end of memory; a case that does not exist; more edits than any hook makes.
    let list = |at: u32, len: u32| {
        format!(
            "(i64.store (i32.const 64) (i64.const 0)) (i32.store (i32.const 72) (i32.const {at}))
            (i32.store (i32.const 76) (i32.const {len})) i32.const 64"
        )
    };
    faults(&answer(&list(0x000f_fff0, 10)), FaultKind::InvalidAnswer, "out of bounds");
    faults(
        &answer("(i32.store (i32.const 64) (i32.const 9)) i32.const 64"),
        FaultKind::InvalidAnswer,
        "unexpected discriminant",
    );
    let many = Guest { pages: 64, ..answer(&list(300 << 10, 100_000)) };
    faults(&many, FaultKind::InvalidAnswer, "fuel allocated for hostcalls has been exhausted");
    faults(&Guest::faulty(Answer::Proceed(vec![Edit::SetRaw(vec![0xff])], 0)), FaultKind::InvalidAnswer, "utf-8");
}

#[test]
fn edits_that_the_contract_forbids() {
    let forbidden = |edits: Vec<Edit>, part: &str| {
        let mut guest = Guest::faulty(Answer::Proceed(edits, 0));
        guest.plan.request_writes.push("p-*".into());
        guest.plan.response_writes.push("p-*".into());
        faults(&guest, FaultKind::InvalidAnswer, part);
    };
    let value = |value: &[u8]| vec![Edit::SetKnown(0, b"changed".to_vec()), Edit::SetKnown(0, value.to_vec())];
    forbidden(value(b"a\r\nx-smuggled: 1"), "has control characters");
    forbidden(value(b"a\nb"), "has control characters");
    forbidden(value(b"a\0b"), "has control characters");
    let name = |name: &str| vec![Edit::SetKnown(0, b"changed".to_vec()), set(name, "1")];
    forbidden(name("x-undeclared"), "undeclared-write: `x-undeclared`");
    forbidden(name("p-a\r\nx-smuggled"), "is no header name");
    forbidden(name("p-a b"), "is no header name");
    forbidden(name("p-\u{e9}"), "is no header name");
    forbidden(name("P-Upper"), "is no header name");
    forbidden(name("transfer-encoding"), "belongs to the connection");
    forbidden(name("content-length"), "is set by the gateway");
    forbidden(name(":scheme"), "`:scheme` cannot be set");
    let huge = Guest { pages: 64, ..Guest::faulty(Answer::Proceed(vec![Edit::SetKnown(0, vec![b'a'; 1 << 20])], 0)) };
    faults(&huge, FaultKind::InvalidAnswer, "values of more than 262144 bytes together");
    forbidden(vec![Edit::RemoveKnown(1)], "a prefix, which cannot be used as an index");
    forbidden(vec![Edit::RemoveKnown(u32::MAX)], "is beyond the plan's 2 writes");
}

#[test]
fn replies_that_the_contract_forbids() {
    let reply = |status, headers: &[(&str, &str)], body| {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())).collect();
        Guest { pages: 64, ..Guest::faulty(Answer::Reply(status, headers, body)) }
    };
    for status in [0, 99, 100, 101, 600, 1000] {
        faults(&reply(status, &[], vec![]), FaultKind::InvalidAnswer, &format!("invalid-reply: status {status}"));
    }
    faults(&reply(200, &[("x-a", "a\r\nb: c")], vec![]), FaultKind::InvalidAnswer, "invalid-reply: the value of `x-a`");
    faults(&reply(200, &[("connection", "close")], vec![]), FaultKind::InvalidAnswer, "belongs to the connection");
    faults(&Guest::faulty(Answer::Hold), FaultKind::InvalidAnswer, "invalid-hold");
}

#[test]
fn a_plugin_that_always_faults_is_not_called_for_a_while() {
    let host = Host::start();
    let active = host.activate(&spec("faulty", Guest::faulty_code("unreachable").build()));
    let worker = host.host.runtime().worker();
    for _ in 0..10 {
        assert_eq!(triggered_request(&*worker, &active).unwrap_err().kind, FaultKind::Trap);
    }
    // Not even a good request gets through, also on another worker, and the head stays as it was.
    let other = host.host.runtime().worker();
    for worker in [&worker, &other] {
        let fault = on_request(&**worker, &active).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.message.contains("faulted too often"), "{fault}");
    }
    // After the cool-down one answer closes the breaker.
    let deadline = Instant::now() + Duration::from_secs(60);
    while on_request(&*worker, &active).is_err() {
        assert!(Instant::now() < deadline, "the breaker does not close");
        std::thread::yield_now();
    }
    works(&*worker, &active);
    works(&*other, &active);
}

#[test]
fn a_fault_costs_the_state_of_that_instance_only() {
    // Answers how often it was called, in the token.
    let counting = Answer::Code(
        "(global.set $calls (i64.add (global.get $calls) (i64.const 1)))
         (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
         (i64.store (i32.const 80) (global.get $calls)) i32.const 64"
            .into(),
    );
    let guest = Guest {
        on_request: counting,
        fields: "(global $calls (mut i64) (i64.const 0))".into(),
        ..Guest::faulty_code("unreachable")
    };
    let host = Host::start();
    let active = host.activate(&spec("counting", guest.build()));
    let (one, other) = (host.host.runtime().worker(), host.host.runtime().worker());
    let count = |worker: &dyn penstock_core::plugin::PolicyWorker| token(&on_request(worker, &active).unwrap().0);
    assert_eq!([count(&*one), count(&*one), count(&*other)], [1, 2, 1]);
    triggered_request(&*one, &active).unwrap_err();
    assert_eq!([count(&*one), count(&*other)], [1, 2]);
}
