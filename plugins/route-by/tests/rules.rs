//! Which rule decides, and for which requests.

#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

mod support;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use penstock_plugin::testing::{Chosen, RouteBuilder};
use route_by::RouteBy;
use serde_json::{Value, json};
use support::{Outcome, Routed, SHOP, routed};

/// Requests for which the condition holds, and one for which it does not.
#[track_caller]
fn check<'h>(
    harness: &'h Routed,
    holds: &[&dyn Fn(&'h Routed) -> RouteBuilder<'h, RouteBy>],
    not: &[&dyn Fn(&'h Routed) -> RouteBuilder<'h, RouteBy>],
) {
    for (index, request) in holds.iter().enumerate() {
        assert_eq!(request(harness).backend(), "web/canary:8080", "request {index} should match");
    }
    for (index, request) in not.iter().enumerate() {
        assert_eq!(request(harness).backend(), "", "request {index} should not match");
    }
}

fn canary(condition: Value) -> Routed {
    routed(json!([{"when": [condition], "to": {"backend": "canary"}}]))
}

#[test]
fn headers_match_in_all_ways() {
    let with = |value: &'static str| move |harness: &'static Routed| harness.get("/").header("X-Channel", value);
    let leak = |condition| -> &'static Routed { Box::leak(Box::new(canary(condition))) };
    let none = |harness: &'static Routed| harness.get("/");
    check(
        leak(json!({"header": "x-channel", "exact": "beta"})),
        &[&with("beta")],
        &[&with("betas"), &with("Beta"), &none],
    );
    check(leak(json!({"header": "X-Channel", "prefix": "be"})), &[&with("be"), &with("beta")], &[&with("abe"), &none]);
    check(leak(json!({"header": "x-channel", "regex": "^b.*a$"})), &[&with("beta")], &[&with("betas"), &none]);
    check(
        leak(json!({"header": "x-channel", "in": ["z", "beta", "a"]})),
        &[&with("a"), &with("z")],
        &[&with("b"), &none],
    );
    check(leak(json!({"header": "x-channel", "present": true})), &[&with("")], &[&none]);
    check(leak(json!({"header": "x-channel", "present": false})), &[&none], &[&with("")]);
}

#[test]
fn one_of_several_values_is_enough() {
    let harness = canary(json!({"header": "x-channel", "exact": "beta"}));
    assert_eq!(harness.get("/").header("x-channel", "a").header("x-channel", "beta").backend(), "web/canary:8080");
    let host = canary(json!({"header": "host", "exact": "beta.example"}));
    assert_eq!(host.get("/").header("host", "beta.example").backend(), "web/canary:8080");
}

#[test]
fn a_host_is_one_however_it_is_spelled() {
    let harness = canary(json!({"header": "host", "in": ["a.example", "b.example"]}));
    for host in ["b.example", "B.Example", "b.example:8080", "b.example."] {
        assert_eq!(harness.get("/").header("host", host).backend(), "web/canary:8080", "{host}");
    }
    assert_eq!(harness.get("/").header("host", "c.example").backend(), "");
    let lookup = json!([{"to": {"lookup": {"key": [{"header": "host"}], "backends": {"b.example": "canary"}}}}]);
    assert_eq!(routed(lookup).get("/").header("host", "B.example:80").backend(), "web/canary:8080");
}

#[test]
fn cookies_and_queries_match() {
    let harness = canary(json!({"cookie": "plan", "exact": "gold"}));
    assert_eq!(harness.get("/").header("cookie", "a=b; plan=gold").backend(), "web/canary:8080");
    assert_eq!(harness.get("/").header("cookie", "a=b; xplan=gold").backend(), "");
    let harness = canary(json!({"query": "v", "exact": "a b"}));
    assert_eq!(harness.get("/?v=a+b").backend(), "web/canary:8080");
    assert_eq!(harness.get("/?v=a%2520b").backend(), "");
}

fn token(claims: &Value) -> String {
    format!("Bearer e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[test]
fn claims_match_without_being_verified() {
    let harness = canary(json!({"unverifiedJwtClaim": {"claim": "/realm/tenant"}, "prefix": "acme"}));
    let with = |claims: Value| harness.get("/").header("authorization", token(&claims)).backend();
    assert_eq!(with(json!({"realm": {"tenant": "acme-ag"}})), "web/canary:8080", "the signature is not looked at");
    assert_eq!(with(json!({"realm": {"tenant": "other"}})), "");
    assert_eq!(harness.get("/").header("authorization", "Basic YTpi").backend(), "");
    let harness = canary(json!({"unverifiedJwtClaim": {"claim": "beta", "header": "x-token"}, "exact": "true"}));
    assert_eq!(harness.get("/").header("x-token", token(&json!({"beta": true}))).backend(), "web/canary:8080");
}

#[test]
fn all_conditions_must_hold_and_the_first_rule_wins() {
    let harness = routed(json!([
        {"when": [{"header": "a", "present": true}, {"header": "b", "present": true}], "to": {"backend": "blue"}},
        {"when": [{"header": "a", "present": true}], "to": {"backend": "green"}},
        {"when": [{"header": "c", "present": true}], "to": {"weights": true}},
        {"to": {"backend": "canary"}},
    ]));
    let with =
        |names: &[&str]| names.iter().fold(harness.get("/"), |request, name| request.header(name, "1")).backend();
    assert_eq!(with(&["a", "b"]), "web/blue:80");
    assert_eq!(with(&["a"]), "web/green:80");
    assert_eq!(with(&["c"]), "", "the weights, and no further rule");
    assert_eq!(with(&["b"]), "web/canary:8080");
}

#[test]
fn backends_are_named_in_four_ways() {
    let candidates = [("web/shop:80", 1, 1), ("web/shop:8080", 1, 1), ("lab/shop:80", 1, 1)];
    for (name, found) in [
        ("shop", "web/shop:80"),
        ("shop:8080", "web/shop:8080"),
        ("lab/shop", "lab/shop:80"),
        ("web/shop:8080", "web/shop:8080"),
        ("lab/shop:8080", ""),
        ("other", ""),
    ] {
        let harness = Routed::new(json!({"rules": [{"to": {"backend": name}}]}), &candidates);
        assert_eq!(harness.get("/").backend(), found, "{name}");
    }
}

#[test]
fn a_lookup_goes_by_the_first_key_that_is_there() {
    let harness = routed(json!([{"to": {"lookup": {
        "key": [{"header": "x-region"}, {"query": "region"}],
        "backends": {"eu": "blue", "us": "green"},
    }}}]));
    assert_eq!(harness.get("/?region=us").backend(), "web/green:80");
    assert_eq!(harness.get("/?region=us").header("x-region", "eu").backend(), "web/blue:80");
    assert_eq!(
        harness.get("/?region=us").header("x-region", "mars").backend(),
        "",
        "the first key counts, known or not"
    );
    assert_eq!(harness.get("/").backend(), "");
}

#[test]
fn a_backend_that_is_not_ready_is_passed_over_or_refused() {
    let mut candidates = SHOP;
    candidates[0].2 = 0;
    let rules = |if_not_ready| {
        json!({"rules": [
            {"when": [{"header": "x", "present": true}], "to": {"backend": "blue"}, "ifNotReady": if_not_ready},
            {"to": {"backend": "green"}},
        ]})
    };
    let harness = Routed::new(rules("NextRule"), &candidates);
    assert_eq!(harness.get("/").header("x", "1").backend(), "web/green:80");
    let harness = Routed::new(rules("Refuse"), &candidates);
    let Chosen::Reply(reply) = harness.get("/").header("x", "1").run() else { panic!("no reply") };
    assert_eq!(
        (reply.status(), reply.body()),
        (503, Some(&b"the backend of this request has no ready endpoint\n"[..]))
    );
    harness.set_candidates(&SHOP);
    assert_eq!(harness.get("/").header("x", "1").backend(), "web/blue:80", "it is asked for each request");
    harness.set_candidates(&[]);
    assert_eq!(harness.get("/").header("x", "1").rule(2).backend(), "", "a rule without the backend refuses nothing");
}

#[test]
fn each_rule_of_the_route_has_its_own_backends() {
    let harness = routed(json!([{"to": {"backend": "blue"}}]));
    assert_eq!(harness.get("/").rule(1).backend(), "web/blue:80");
    harness.set_candidates(&[("other/green:80", 1, 1), ("other/blue:80", 1, 1)]);
    assert_eq!(harness.get("/").rule(2).backend(), "other/blue:80");
}

#[test]
fn only_what_the_configuration_names_is_read() {
    let harness = routed(json!([
        {"when": [{"header": "x-a", "present": true}, {"cookie": "c", "present": true}], "to": {"backend": "blue"}},
        {"to": {"hash": {"key": [{"query": "q"}, {"clientAddress": {}}, {"cookie": "d"}]}}},
    ]));
    let plan = harness.plan().wire();
    assert_eq!(plan.request_reads, ["x-a", "cookie", ":path", ":client-address"]);
    assert!(plan.response_writes.is_empty());
    assert!(!harness.plan().hooks().is_empty());
}
