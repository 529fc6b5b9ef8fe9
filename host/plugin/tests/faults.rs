//! Plugins that fault on traffic: the exchange gets a fault and an untouched head, everybody else goes on.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::{Duration, Instant};

use penstock_core::plugin::FaultKind;
use support::{
    exchange::{on_request, triggered_request, triggered_response, works},
    facts::{Host, spec},
    guest::{Answer, Edit, Guest, set},
};

/// Both hooks of `guest` fault as expected when they meet the trigger; before and after, and beside it, all is well.
#[track_caller]
fn faults(guest: &Guest, kind: FaultKind, part: &str) {
    let host = Host::start();
    let (neighbour, faulty) = (spec("neighbour", Guest::default().build()), spec("faulty", guest.build()));
    host.apply(&[&neighbour, &faulty]);
    let (neighbour, faulty) = (host.active(&neighbour), host.active(&faulty));
    let worker = host.host.runtime().worker();
    works(&*worker, &faulty);
    for round in 1..=3 {
        let fault = triggered_request(&*worker, &faulty).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.message.contains(part), "{part:?} is not in {fault}");
        works(&*worker, &neighbour);
        works(&*worker, &faulty);
        let fault = triggered_response(&*worker, &faulty).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        works(&*worker, &neighbour);
        works(&*worker, &faulty);
        for hook in ["request", "response"] {
            let series =
                format!(r#"penstock_plugin_faults_total{{plugin="default/faulty",hook="{hook}",kind="{kind}"}}"#);
            assert_eq!(host.metric(&series), f64::from(round));
        }
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
    faults(&Guest::faulty_code("(loop $again (br $again))"), FaultKind::Deadline, "it used more than 2ms of CPU time");
}

#[test]
fn memory_bombs() {
    let bomb = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    faults(&Guest::faulty_code(bomb), FaultKind::Memory, "limits.memory allows 16777216");
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
        assert!(fault.message.contains("faulted too often in a row"), "{fault}");
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
    let count = |worker: &dyn penstock_core::plugin::PolicyWorker| {
        support::exchange::token(&on_request(worker, &active).unwrap().0)
    };
    assert_eq!([count(&*one), count(&*one), count(&*other)], [1, 2, 1]);
    triggered_request(&*one, &active).unwrap_err();
    assert_eq!([count(&*one), count(&*other)], [1, 2]);
}
