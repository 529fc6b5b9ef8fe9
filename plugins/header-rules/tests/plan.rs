//! What a configuration asks of every exchange, and no more.

#![expect(clippy::needless_pass_by_value, reason = "tests write json!(…) here")]

use header_rules::HeaderRules;
use penstock_plugin::{Hooks, testing::Harness};
use serde_json::{Value, json};

fn check(rules: Value, hooks: Hooks, names: [&[&str]; 5]) {
    let harness = Harness::<HeaderRules>::new(json!({"rules": rules}));
    let plan = harness.plan().wire();
    assert_eq!(plan.hooks, hooks);
    let found =
        [&plan.request_reads, &plan.request_writes, &plan.response_reads, &plan.response_writes, &plan.carried_reads];
    assert_eq!(found.map(|names| names.iter().map(String::as_str).collect::<Vec<_>>()), names.map(<[&str]>::to_vec));
}

#[test]
fn constant_request_edits_read_nothing() {
    check(
        json!([{"request": {"set": {"x-a": "1"}, "append": {"x-b": "1"}, "remove": ["x-c", "x-d"]}}]),
        Hooks::REQUEST_HEADERS,
        [&[], &["x-a", "x-b", "x-c", "x-d"], &[], &[], &[]],
    );
}

#[test]
fn constant_response_edits_read_nothing() {
    check(
        json!([{"response": {"when": {"status": [200]}, "remove": ["server"]}}]),
        Hooks::RESPONSE_HEADERS,
        [&[], &[], &[], &["server"], &[]],
    );
}

#[test]
fn a_request_condition_for_responses_alone_needs_no_request_hook() {
    check(
        json!([{
            "when": {"methods": ["GET"], "path": {"prefix": "/a"}, "headers": [{"name": "X-A", "present": true}]},
            "response": {"set": {"x-b": "1"}},
        }]),
        Hooks::RESPONSE_HEADERS,
        [&[], &[], &[], &["x-b"], &[":method", ":path", "x-a"]],
    );
}

#[test]
fn a_request_condition_that_is_asked_anyway_is_not_carried() {
    check(
        json!([{
            "when": {"headers": [{"name": "x-a", "present": true}]},
            "request": {"remove": ["x-a"]},
            "response": {"set": {"x-b": "${request.header.x-c}"}},
        }]),
        Hooks::REQUEST_HEADERS | Hooks::RESPONSE_HEADERS,
        [&["x-a"], &["x-a"], &[], &["x-b"], &["x-c"]],
    );
}

#[test]
fn names_are_asked_for_once() {
    check(
        json!([
            {"request": {"rename": {"x-a": "x-b"}, "rewrite": [{"name": "X-B", "pattern": "a", "replacement": "${request.path}"}]}},
            {"request": {"set": {"host": "${request.query:-x}", "x-a": "${request.authority}"}}},
        ]),
        Hooks::REQUEST_HEADERS,
        [&["x-a", "x-b", ":path", ":authority"], &["x-a", "x-b", ":authority"], &[], &[], &[]],
    );
}
