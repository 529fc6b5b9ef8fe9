//! Clients choose how long their headers are, not how much work they make.

mod support;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use penstock_plugin::testing::RequestBuilder;
use rate_limit::RateLimit;
use serde_json::{Value, json};
use support::{Limited, Outcome, check_counts, keyed, limited};

const LONG: usize = 60_000;

fn with<'h>(value: &[u8]) -> impl Fn(&'h Limited) -> RequestBuilder<'h, RateLimit> {
    let value = value.to_vec();
    move |harness| harness.get("/").header("x-tenant", value.clone())
}

#[test]
fn keys_stay_short_and_apart() {
    let long = |end: &str| format!("{}{end}", "x".repeat(LONG)).into_bytes();
    let harness = keyed(json!([{"header": "x-tenant"}]));
    check_counts(&harness, with(&long("a")), with(&long("a")), with(&long("b")));
    let several =
        |end: &'static [u8]| move |harness: &Limited| with(&long("a"))(harness).header("x-tenant", end).passes();
    assert!(several(b"1")(&harness) && several(b"1")(&harness) && !several(b"1")(&harness));
    assert!(several(b"2")(&harness), "the last value counts as well");
    let keys = harness.gateway().bucket_keys("two");
    assert!(keys.iter().all(|key| key.len() < 300), "{:?}", keys.iter().map(Vec::len).collect::<Vec<_>>());
}

#[test]
fn more_values_than_anybody_means_count_as_one() {
    let harness = keyed(json!([{"cookie": "s"}]));
    let with = |values: u32| move |harness| with_cookie(harness, &"s=1;".repeat(values as usize));
    check_counts(&harness, with(33), with(1000), with(32));
    check_counts(&harness, with(31), with(31), with(30));
}

fn with_cookie<'h>(harness: &'h Limited, cookie: &str) -> RequestBuilder<'h, RateLimit> {
    harness.get("/").header("cookie", cookie.to_owned())
}

#[test]
fn many_policies_hash_a_long_header_once() {
    let part = json!({"header": "x-tenant"});
    let policy = |index: u32| json!({"bucket": "hundred", "name": index.to_string(), "key": vec![&part; 8]});
    let harness = limited(json!({ "policies": (0..16).map(policy).collect::<Vec<_>>() }));
    assert!(with(&[b'x'; LONG])(&harness).passes());
    // What crosses to the gateway, twice for each policy, was 16 times 8 times 60,000.
    let bytes: usize = harness.gateway().bucket_keys("hundred").iter().map(Vec::len).sum();
    assert!(bytes < 40_000, "{bytes}");
}

#[test]
fn what_is_too_long_counts_as_one() {
    let token = |padding: usize| {
        let claims = json!({"sub": "anna", "padding": "x".repeat(padding)}).to_string();
        format!("Bearer x.{}.y", BASE64_URL_SAFE_NO_PAD.encode(claims))
    };
    let skips = |key: Value| limited(json!({"policies": [{"bucket": "two", "key": [key], "onMissingKey": "Skip"}]}));
    let counts = |harness: &Limited, name: &str, value: String| {
        (0..3).any(|_| !harness.get("/").header(name, value.clone()).passes())
    };
    let harness = skips(json!({"jwtClaimVerifiedByEarlierFilter": {"claim": "sub"}}));
    assert!(counts(&harness, "authorization", token(6000)));
    assert!(counts(&harness, "authorization", token(LONG)), "hiding the claim is no way not to be counted");
    assert!(!counts(&harness, "authorization", "Bearer x.e30.y".to_owned()), "a token without the claim is");
    let harness = skips(json!({"cookie": "s"}));
    assert!(counts(&harness, "cookie", format!("a={}; s=1", "x".repeat(8000))));
    let hidden = |value: u32| format!("s={value}; a={}; s=1", "x".repeat(8200));
    assert!(
        harness.get("/").header("cookie", hidden(1)).passes() && harness.get("/").header("cookie", hidden(2)).passes()
    );
    assert!(!harness.get("/").header("cookie", hidden(3)).passes(), "all of them share one count");
    assert!(!counts(&harness, "cookie", "a=1".to_owned()));
    let harness = skips(json!({"query": "k"}));
    let target = |length: usize| format!("/?a={}&k=1", "x".repeat(length));
    assert!((0..3).any(|_| !harness.get(&target(8200)).passes()));
}
