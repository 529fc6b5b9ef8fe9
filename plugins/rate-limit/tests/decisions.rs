//! Which requests pass.

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Limited, MINUTE, Outcome, limited};

#[test]
fn a_limit_holds_until_its_window_ends() {
    let harness = limited(json!({"policies": [{"bucket": "two"}]}));
    let get = || harness.get("/").passes();
    assert_eq!([get(), get(), get()], [true, true, false]);
    harness.gateway().advance(MINUTE - Duration::from_millis(1));
    assert!(!get());
    harness.gateway().advance(Duration::from_millis(1));
    assert_eq!([get(), get(), get()], [true, true, false]);
}

#[test]
fn every_policy_must_allow() {
    let harness = limited(json!({"policies": [{"bucket": "two"}, {"bucket": "five"}]}));
    let window = || [(); 3].map(|()| harness.get("/").passes());
    assert_eq!(window(), [true, true, false]);
    harness.gateway().advance(MINUTE);
    assert_eq!(window(), [true, true, false]);
    harness.gateway().advance(MINUTE);
    assert_eq!(window(), [true, false, false], "five an hour are gone");
}

#[test]
fn a_denied_request_takes_nothing_from_other_policies() {
    let harness = limited(json!({"policies": [{"bucket": "five"}, {"bucket": "two"}]}));
    for _ in 0..20 {
        let _ = harness.get("/").run();
    }
    harness.gateway().advance(MINUTE);
    let window = [(); 3].map(|()| harness.get("/").passes());
    assert_eq!(window, [true, true, false], "18 denied requests have not used up the five of the hour");
}

#[test]
fn policies_of_one_bucket_count_for_themselves() {
    let harness = limited(json!({"policies": [
        {"name": "reads", "bucket": "two", "when": {"methods": ["GET"]}},
        {"name": "writes", "bucket": "two", "when": {"methods": ["POST"]}},
    ]}));
    assert!(harness.get("/").passes() && harness.get("/").passes() && !harness.get("/").passes());
    assert!(harness.request("POST", "/").passes());
    assert!(harness.request("DELETE", "/").passes(), "no policy is for it");
}

#[test]
fn a_policy_is_not_evaded_by_spelling() {
    let policy = |when| limited(json!({"policies": [{"bucket": "two", "when": when}]}));
    for host in ["api.example", "API.example", "api.example:80", "api.example.:4711"] {
        let harness = policy(json!({"headers": [{"name": "host", "exact": "api.example"}]}));
        let passes = [(); 3].map(|()| harness.get("/").header("host", host).passes());
        assert_eq!(passes, [true, true, false], "{host}");
        assert!(harness.get("/").header("host", "b.example").passes());
    }
    for path in ["/login", "/login/", "/login/?a"] {
        let harness = policy(json!({"paths": ["/login"]}));
        assert_eq!([(); 3].map(|()| harness.get(path).passes()), [true, true, false], "{path}");
        assert!(harness.get("/login/a").passes());
    }
}

#[test]
fn who_is_exempt_is_taken_by_its_word() {
    let harness = limited(json!({"policies": [{"bucket": "two"}], "exempt": [{"paths": ["/healthz"]}]}));
    assert_eq!([(); 3].map(|()| harness.get("/healthz").passes()), [true; 3]);
    assert_eq!([(); 3].map(|()| harness.get("/healthz/").passes()), [true, true, false]);
}

#[test]
fn all_parts_of_a_condition_must_hold() {
    let harness = limited(json!({"policies": [{"bucket": "two", "when": {
        "clientAddresses": ["192.0.2.0/24", "2001:db8::/32"],
        "methods": ["GET", "POST"],
        "paths": ["/api/**"],
        "headers": [{"name": "X-A", "present": true}, {"name": "x-b", "present": false}, {"name": "x-c", "exact": "1"}],
    }}]}));
    let request = |method: &str, path: &str| harness.request(method, path).header("x-a", "").header("x-c", "1");
    for _ in 0..4 {
        let others = [
            request("GET", "/api/x").header(":client-address", "198.51.100.1"),
            request("PUT", "/api/x"),
            request("GET", "/other"),
            harness.get("/api/x").header("x-c", "1"),
            request("GET", "/api/x").header("x-b", "1"),
            harness.get("/api/x").header("x-a", "1").header("x-c", "2"),
        ];
        for (index, other) in others.into_iter().enumerate() {
            assert!(other.passes(), "part {index} does not hold");
        }
    }
    assert!(request("GET", "/api/x").passes());
    assert!(request("POST", "/api").header(":client-address", "2001:db8::1").passes());
    assert!(!request("GET", "/api/x").passes());
}

#[test]
fn one_value_of_a_repeated_header_is_enough() {
    let harness =
        limited(json!({"policies": [{"bucket": "two", "when": {"headers": [{"name": "x-c", "exact": "1"}]}}]}));
    let request = || harness.get("/").header("x-c", "0").header("x-c", "1").passes();
    assert!(request() && request() && !request());
}

#[test]
fn exempt_requests_are_not_counted() {
    let harness = limited(json!({
        "policies": [{"bucket": "two"}],
        "exempt": [{"clientAddresses": ["10.0.0.0/8"]}, {"paths": ["/healthz"], "methods": ["GET"]}],
    }));
    for _ in 0..5 {
        assert!(harness.get("/").header(":client-address", "10.1.2.3").passes());
        assert!(harness.get("/healthz").passes());
    }
    assert!(harness.request("POST", "/healthz").passes() && harness.get("/").passes());
    assert!(!harness.get("/").passes());
    assert!(harness.get("/healthz").passes());
    assert_eq!(harness.gateway().metric("decisions", &["", "exempt"]), Some(11.0));
    assert_eq!(harness.gateway().metric("decisions", &["two", "denied"]), Some(1.0));
}

fn used(harness: &Limited) -> u64 {
    let response = harness.get("/").run().respond(200).run().first("ratelimit");
    let remaining =
        response.as_deref().and_then(|field| field.split(";r=").nth(1)?.split(';').next()?.parse::<u64>().ok());
    // The request that asks takes one itself.
    99 - remaining.expect("the response says what remains")
}

#[test]
fn costs_come_from_header_method_and_default() {
    let harness = limited(json!({"policies": [{"bucket": "hundred", "cost": {
        "default": 2, "methods": {"GET": 1, "POST": 5}, "header": {"name": "X-Cost", "max": 10},
    }}]}));
    let mut expected = 0;
    for (method, header, cost) in [
        ("GET", None, 1),
        ("POST", None, 5),
        ("PUT", None, 2),
        ("POST", Some("3"), 3),
        ("POST", Some("0"), 0),
        ("GET", Some("11"), 10),
        ("GET", Some("99999999999999999999"), 10),
        ("PUT", Some("-1"), 2),
        ("POST", Some("x"), 5),
        ("POST", Some(""), 5),
    ] {
        let request = harness.request(method, "/");
        let request = if let Some(header) = header { request.header("x-cost", header) } else { request };
        assert!(request.passes());
        expected += cost;
        assert_eq!(used(&harness), expected, "{method} {header:?}");
        expected += 1;
    }
}

#[test]
fn a_request_that_costs_more_than_is_left_is_denied_and_takes_nothing() {
    let harness = limited(json!({"policies": [{"bucket": "five", "cost": {"methods": {"POST": 4}}}]}));
    assert!(harness.request("POST", "/").passes());
    assert!(!harness.request("POST", "/").passes());
    assert!(harness.get("/").passes());
    assert!(!harness.get("/").passes());
}

#[test]
fn free_requests_pass_when_nothing_is_left() {
    let harness = limited(json!({"policies": [{"bucket": "two", "cost": {"methods": {"OPTIONS": 0}}}]}));
    assert!(harness.get("/").passes() && harness.get("/").passes() && !harness.get("/").passes());
    let sent = harness.request("OPTIONS", "/").run();
    assert!(sent.reply().is_none());
    assert!(!sent.respond(200).run().has("ratelimit"), "it was not counted");
}

#[test]
fn a_dry_run_denies_nothing_and_says_what_it_would_deny() {
    let harness =
        limited(json!({"policies": [{"name": "trial", "bucket": "two", "dryRun": true}, {"bucket": "five"}]}));
    for _ in 0..5 {
        assert!(harness.get("/").passes());
    }
    assert_eq!(harness.gateway().metric("decisions", &["trial", "would_deny"]), Some(3.0));
    assert!(!harness.get("/").passes());
    assert_eq!(
        harness.gateway().metric("decisions", &["trial", "would_deny"]),
        Some(3.0),
        "what others deny is not counted"
    );
    assert_eq!(harness.gateway().metric("decisions", &["five", "denied"]), Some(1.0));
}

#[test]
fn a_dry_run_is_not_announced() {
    let harness =
        limited(json!({"policies": [{"name": "trial", "bucket": "two", "dryRun": true}, {"bucket": "five"}]}));
    let response = harness.get("/").run().respond(200).run();
    assert_eq!(response.all("ratelimit-policy"), ["\"five\";q=5;w=3600"]);
    let harness = limited(json!({"policies": [{"name": "trial", "bucket": "two", "dryRun": true}]}));
    assert!(harness.plan().wire().response_writes.is_empty());
}

#[test]
fn counts_survive_a_change_of_the_configuration() {
    let gateway = support::gateway();
    let on = |config: serde_json::Value| Limited::on(gateway.clone(), &config).unwrap();
    let before = on(json!({"policies": [{"name": "a", "bucket": "two", "key": [{"clientAddress": {}}]}]}));
    assert!(before.get("/").passes() && before.get("/").passes());
    let after = on(json!({"policies": [
        {"name": "new", "bucket": "five"},
        {"name": "a", "bucket": "two", "key": [{"clientAddress": {}}]},
    ]}));
    assert!(!after.get("/").passes());
}

#[test]
fn without_the_counts_requests_pass_or_do_not_as_configured() {
    for (config, status) in [(json!("Allow"), None), (json!("Deny"), Some(503))] {
        let policies =
            json!([{"bucket": "two"}, {"bucket": "five"}, {"name": "trial", "bucket": "two", "dryRun": true}]);
        let harness = limited(json!({"policies": policies, "onUnavailable": config}));
        harness.gateway().fail_buckets(true);
        for _ in 0..5 {
            let sent = harness.get("/").run();
            assert_eq!(sent.reply().map(|reply| reply.status()), status);
            assert!(sent.respond(200).run().edits().is_empty(), "nothing is known that could be told");
        }
        assert_eq!(harness.gateway().metric("decisions", &["two", "unavailable"]), Some(5.0));
        harness.gateway().fail_buckets(false);
        assert_eq!(harness.get("/").run().respond(200).run().all("ratelimit"), ["\"two\";r=1;t=60"]);
    }
}

#[test]
fn a_configuration_is_accepted_while_the_counts_do_not_answer() {
    let gateway = support::gateway();
    gateway.fail_buckets(true);
    let harness = Limited::on(gateway, &json!({"policies": [{"bucket": "two"}]})).expect("the store may come back");
    harness.gateway().fail_buckets(false);
    let response = harness.get("/").run().respond(200).run();
    assert_eq!(response.all("ratelimit"), ["\"two\";r=1;t=60"]);
    assert!(!response.has("ratelimit-policy"), "the quota is not known");
}
