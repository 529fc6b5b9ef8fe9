//! What is counted separately, and what is not.

mod support;

use rate_limit::RateLimit;
use serde_json::json;
use support::{Limited, Outcome, check_counts, keyed, limited};

type Request<'h> = penstock_plugin::testing::RequestBuilder<'h, RateLimit>;

fn from<'h>(address: &'static str) -> impl Fn(&'h Limited) -> Request<'h> {
    move |harness| harness.get("/").header(":client-address", address)
}

fn with<'h>(name: &'static str, value: &'static str) -> impl Fn(&'h Limited) -> Request<'h> {
    move |harness| harness.get("/").header(name, value)
}

fn get<'h>(path: &'static str) -> impl Fn(&'h Limited) -> Request<'h> {
    move |harness| harness.get(path)
}

#[test]
fn without_a_key_all_requests_share_one_count() {
    let harness = keyed(json!([]));
    assert!(from("192.0.2.1")(&harness).passes());
    assert!(from("192.0.2.2")(&harness).passes());
    assert!(!from("192.0.2.3")(&harness).passes());
}

#[test]
fn an_ipv4_address_counts_whole() {
    let harness = keyed(json!([{"clientAddress": {}}]));
    check_counts(&harness, from("192.0.2.1"), from("::ffff:192.0.2.1"), from("192.0.2.2"));
}

#[test]
fn an_ipv6_address_counts_by_its_network() {
    let harness = keyed(json!([{"clientAddress": {}}]));
    check_counts(&harness, from("2001:db8::1"), from("2001:db8::ffff:1"), from("2001:db8:0:1::1"));
}

#[test]
fn prefix_lengths_are_configurable() {
    let harness = keyed(json!([{"clientAddress": {"ipv4PrefixLength": 24, "ipv6PrefixLength": 48}}]));
    check_counts(&harness, from("192.0.2.1"), from("192.0.2.200"), from("192.0.3.1"));
    check_counts(&harness, from("2001:db8::1"), from("2001:db8:0:ffff::1"), from("2001:db8:1::1"));
}

#[test]
fn all_values_of_a_header_count() {
    let harness = keyed(json!([{"header": "X-Tenant"}]));
    check_counts(&harness, with("x-tenant", "a"), with("x-tenant", "a"), with("x-tenant", "b"));
    let twice = |harness: &Limited| with("x-tenant", "a")(harness).header("x-tenant", "b").passes();
    assert!(twice(&harness), "a and b are neither a nor b");
    assert!(with("x-tenant", "a, b")(&harness).passes(), "nor are they one value of both");
}

#[test]
fn host_is_the_authority() {
    let harness = keyed(json!([{"header": "Host"}]));
    check_counts(&harness, with("host", "a.example"), with("host", "a.example"), with("host", "b.example"));
}

#[test]
fn a_host_is_one_however_it_is_spelled() {
    for spelling in
        ["API.Example", "api.example.", "api.example:80", "api.example:", "api.example:4711", "Api.example.:1"]
    {
        let harness = keyed(json!([{"header": "host"}]));
        check_counts(&harness, with("host", "api.example"), with("host", spelling), with("host", "b.example"));
    }
}

#[test]
fn all_values_of_a_cookie_and_of_a_parameter_count() {
    let harness = keyed(json!([{"cookie": "s"}]));
    let (anna, both) = (with("cookie", "s=anna"), with("cookie", "s=1; s=anna"));
    check_counts(&harness, both, with("cookie", "s=1;s=anna"), anna);
    let harness = keyed(json!([{"query": "k"}]));
    check_counts(&harness, get("/?k=1&k=2"), get("/?a=b&k=1&%6b=%32"), get("/?k=1"));
    assert!(get("/?k=2&k=1")(&harness).passes() && get("/?k=2")(&harness).passes());
}

#[test]
fn of_two_tokens_nobody_knows_which_counts() {
    let harness = limited(json!({"policies": [
        {"bucket": "two", "key": [{"jwtClaimVerifiedByEarlierFilter": {"claim": "sub"}}], "onMissingKey": "Skip"},
    ]}));
    let (anna, ben) = ("Bearer e30.eyJzdWIiOiJhbm5hIn0.c2ln", "Bearer e30.eyJzdWIiOiJiZW4ifQ.c2ln");
    let twice = |first, second| with("authorization", first)(&harness).header("authorization", second).passes();
    assert!(twice(anna, ben) && twice(ben, anna) && !twice("x", anna), "they share one count");
    assert!(with("authorization", anna)(&harness).passes());
}

#[test]
fn a_cookie_counts_wherever_it_stands() {
    let harness = keyed(json!([{"cookie": "session"}]));
    check_counts(
        &harness,
        with("cookie", "session=a; x=1"),
        with("cookie", "y=2;session=a"),
        with("cookie", "session=b"),
    );
}

#[test]
fn a_query_parameter_counts_decoded() {
    let harness = keyed(json!([{"query": "api key"}]));
    check_counts(&harness, get("/x?api+key=a"), get("/y?z=1&api%20key=%61"), get("/x?api+key=b"));
}

#[test]
fn paths_of_a_template_count_as_one() {
    let harness = keyed(json!([{"pathTemplate": {"templates": ["/users/me", "/users/{id}", "/static/**"]}}]));
    check_counts(&harness, get("/users/1"), get("/users/2?x=1"), get("/users/me"));
    check_counts(&harness, get("/static/a"), get("/static/b/c"), get("/other"));
}

#[test]
fn segments_can_be_kept() {
    let config =
        json!([{"pathTemplate": {"templates": ["/t/{tenant}/items/{id}", "/t/{tenant}"], "keep": ["tenant"]}}]);
    let harness = keyed(config);
    check_counts(&harness, get("/t/a/items/1"), get("/t/a/items/2"), get("/t/b/items/1"));
    assert!(get("/t/a")(&harness).passes(), "another template");
}

#[test]
fn methods_count_separately() {
    let harness = keyed(json!([{"method": true}]));
    check_counts(&harness, get("/"), get("/other"), |harness| harness.request("POST", "/"));
}

/// `{"sub":"anna"}`, `{"sub":"ben"}` with other signatures.
#[test]
fn a_claim_counts_whatever_the_rest_of_the_token() {
    let harness = keyed(json!([{"jwtClaimVerifiedByEarlierFilter": {"claim": "sub"}}]));
    check_counts(
        &harness,
        with("authorization", "Bearer e30.eyJzdWIiOiJhbm5hIn0.c2ln"),
        with("authorization", "Bearer e30.eyJzdWIiOiJhbm5hIiwiaWF0IjoxfQ.b3RoZXI"),
        with("authorization", "Bearer e30.eyJzdWIiOiJiZW4ifQ.c2ln"),
    );
}

#[test]
fn a_claim_may_stand_in_another_header() {
    let harness = keyed(json!([{"jwtClaimVerifiedByEarlierFilter": {"claim": "/sub", "header": "x-token"}}]));
    let (anna, ben) = ("e30.eyJzdWIiOiJhbm5hIn0.c2ln", "e30.eyJzdWIiOiJiZW4ifQ.c2ln");
    check_counts(&harness, with("x-token", anna), with("x-token", anna), with("x-token", ben));
}

#[test]
fn parts_combine_and_do_not_run_together() {
    let harness = keyed(json!([{"header": "x-a"}, {"header": "x-b"}]));
    let both = |a: &'static str, b: &'static str| move |harness| with("x-a", a)(harness).header("x-b", b);
    check_counts(&harness, both("1", "23"), both("1", "23"), both("12", "3"));
    assert!(both("1", "2")(&harness).passes());
}

#[test]
fn requests_that_lack_a_part_share_a_count() {
    let harness = keyed(json!([{"header": "x-tenant"}]));
    check_counts(&harness, get("/"), get("/other"), with("x-tenant", ""));
}

#[test]
fn requests_that_lack_a_part_can_be_skipped() {
    let harness = limited(json!({
        "policies": [{"bucket": "two", "key": [{"header": "x-a"}, {"query": "b"}], "onMissingKey": "Skip"}],
    }));
    for _ in 0..5 {
        assert!(get("/")(&harness).passes());
        assert!(with("x-a", "1")(&harness).passes());
        assert!(get("/?b=1")(&harness).passes());
    }
    let whole = |harness: &Limited| harness.get("/?b=1").header("x-a", "1").passes();
    assert!(whole(&harness) && whole(&harness) && !whole(&harness));
}

#[test]
fn an_unreadable_token_address_or_path_is_a_missing_part() {
    for (key, request) in [
        (json!({"clientAddress": {}}), (":client-address", "unknown")),
        (json!({"jwtClaimVerifiedByEarlierFilter": {"claim": "sub"}}), ("authorization", "Basic YTpi")),
        (json!({"pathTemplate": {"templates": ["/a"]}}), (":path", "*")),
        (json!({"cookie": "a"}), ("cookie", "b=1")),
    ] {
        let harness = limited(json!({"policies": [{"bucket": "two", "key": [key], "onMissingKey": "Skip"}]}));
        for _ in 0..5 {
            assert!(with(request.0, request.1)(&harness).passes(), "{key} of {request:?}");
        }
    }
}
