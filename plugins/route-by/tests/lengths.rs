//! Clients choose how long their headers are, not how much work they make.

mod support;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use penstock_plugin::testing::Chosen;
use serde_json::json;
use support::{Outcome, routed};

const LONG: usize = 60_000;

fn token(padding: usize) -> String {
    let claims = json!({"sub": "anna", "padding": "x".repeat(padding)}).to_string();
    format!("Bearer x.{}.y", BASE64_URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn a_token_that_is_too_long_has_no_claims() {
    let claim = json!({"unverifiedJwtClaim": {"claim": "sub"}, "exact": "anna"});
    let harness = routed(json!([{"when": [claim], "to": {"backend": "canary"}}]));
    assert_eq!(harness.get("/").header("authorization", token(6000)).backend(), "web/canary:8080");
    assert_eq!(harness.get("/").header("authorization", token(LONG)).backend(), "");
}

#[test]
fn patterns_of_all_rules_have_an_end() {
    let rule = |index: u32| json!({"when": [{"header": "x-a", "regex": format!("{index}[0-9]$")}], "to": {"backend": "canary"}});
    let harness = routed((0..64).map(rule).collect());
    let chosen = |value: String| harness.get("/").header("x-a", value).run();
    assert!(matches!(chosen("a".repeat(200)), Chosen::Default));
    let Chosen::Reply(reply) = chosen("0a".repeat(LONG / 2)) else { panic!("64 patterns searched 60,000 bytes") };
    assert_eq!(reply.status(), 431);
}

#[test]
fn the_beginning_of_a_key_counts() {
    let harness = routed(json!([{"to": {"hash": {"key": [{"header": "x-a"}]}}}]));
    let backend = |value: String| harness.get("/").header("x-a", value).backend();
    let long = |end: u32| format!("{}{end}", "x".repeat(LONG));
    let first = backend(long(0));
    assert!((1..50).all(|end| backend(long(end)) == first));
    let short = |end: u32| format!("{}{end}", "x".repeat(4000));
    assert!((1..50).any(|end| backend(short(end)) != backend(short(0))));
}
