//! `spec.checks`: candidates that pass everything else, and what checks may cost.

use std::time::Duration;

use penstock_core::{check::Checks, plugin::Rollout};
use serde_json::{Value, json};

use crate::{
    Case, guest, refuses,
    support::guest::{Answer, Edit, Guest, TRIGGER},
};

/// A candidate with this one check.
fn checked(guest_: &Guest, name: &str, check: Value, part: &'static str) -> Case {
    let mut case = guest(name, guest_, "CheckFailed", part);
    let mut check = check;
    check["name"] = name.into();
    let checks = Checks::read(&[check]).unwrap();
    case.spec.rollout = Rollout { checks, ..case.spec.rollout };
    case
}

/// A request that makes guests fault.
fn triggered() -> Value {
    json!({ "headers": { TRIGGER.0: TRIGGER.1 } })
}

#[test]
fn what_comes_out_is_compared() {
    let good = Guest::default();
    let replying = Guest { on_request: Answer::Reply(403, vec![], b"no".to_vec()), ..Guest::default() };
    refuses(vec![
        checked(
            &good,
            "a header",
            json!({ "expect": { "request": { "headers": { "x-request": "2" } } } }),
            "the check `a header` failed: expect.request.headers.x-request: expected \"2\", found \"1\"",
        ),
        checked(
            &good,
            "a reply",
            json!({ "expect": { "reply": { "status": 403 } } }),
            "expect.reply: expected an answer of the plugin itself, found the response of the backend (200)",
        ),
        checked(
            &replying,
            "a status",
            json!({ "expect": { "reply": { "status": 401, "body": { "contains": "yes" } } } }),
            "expect.reply.status: expected 401, found 403; expect.reply.body: expected something that contains \"yes\", found \"no\"",
        ),
        checked(&replying, "no reply", json!({}), "expect.reply: expected no answer of the plugin itself, found"),
        checked(
            &good,
            "no route plugin",
            json!({ "candidates": [{ "name": "a:1" }], "expect": { "candidate": "a:1" } }),
            "expect.candidate: expected a:1, found none was chosen",
        ),
    ]);
}

#[test]
fn faults_in_checks() {
    let check = || json!({ "request": triggered() });
    let third = Guest {
        fields: "(global $calls (mut i32) (i32.const 0))".into(),
        ..Guest::faulty_code(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (if (i32.eq (global.get $calls) (i32.const 3)) (then unreachable))",
        )
    };
    let repeated = json!({ "request": triggered(), "repeat": 1000 });
    refuses(vec![
        checked(&Guest::faulty_code("unreachable"), "traps", check(), "a fault in the request hook: trap: wasm trap"),
        checked(
            &Guest::faulty_code("(loop $again (br $again))"),
            "never ends",
            check(),
            "the check `never ends` failed: expect.fault: expected no fault, found a fault in the request hook: deadline: it used \
             more than 200ms of CPU time",
        ),
        checked(
            &Guest::faulty_code(
                "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            ),
            "grows",
            check(),
            "memory: it asked for",
        ),
        checked(
            &Guest::faulty(Answer::Proceed(vec![Edit::RemoveKnown(9)], 0)),
            "undeclared",
            check(),
            "invalid_answer: ",
        ),
        checked(
            &Guest::faulty_code("unreachable"),
            "on the way back",
            json!({ "response": triggered() }),
            "a fault in the response hook: trap",
        ),
        checked(&third, "the third time", repeated, "(time 3 of 1000)"),
    ]);
}

/// Each of them is within the limit of a hook; together they are not within that of validation.
#[test]
fn checks_that_take_all_day() {
    let busy = Guest::faulty_code(
        "(local.set $len (i32.const 3000000))
         (loop $again (br_if $again (local.tee $len (i32.sub (local.get $len) (i32.const 1)))))",
    );
    let mut case = checked(
        &busy,
        "busy",
        json!({ "request": triggered(), "repeat": 1000 }),
        "the check `busy` failed: by its end the checks had used more than limits.configureTime (200ms) of CPU time",
    );
    case.spec.limits.hook_time = Duration::from_secs(1);
    refuses(vec![case]);
}
