//! What clients are told.

mod support;

use std::time::Duration;

use penstock_plugin::testing::Received;
use serde_json::{Value, json};
use support::{Limited, Outcome, limited};

fn exhaust(harness: &Limited) -> Received {
    std::iter::repeat_with(|| harness.get("/").denied()).take(200).flatten().next().expect("the limit is reached")
}

fn body(reply: &Received) -> &str {
    reply.body().and_then(|body| std::str::from_utf8(body).ok()).expect("a reply has a body, which is text")
}

#[test]
fn a_response_tells_what_remains() {
    let harness = limited(json!({"policies": [{"bucket": "five"}]}));
    let response = harness.get("/").run().respond(200).header("server", "origin").run();
    assert_eq!(response.all("ratelimit"), ["\"five\";r=4;t=3600"]);
    assert_eq!(response.all("ratelimit-policy"), ["\"five\";q=5;w=3600"]);
    assert!(!response.has("x-ratelimit-limit") && !response.has("retry-after"));
    harness.gateway().advance(Duration::from_millis(1500));
    let response = harness.get("/").run().respond(500).run();
    assert_eq!(response.all("ratelimit"), ["\"five\";r=3;t=3599"], "seconds are rounded up");
}

#[test]
fn the_tightest_policy_is_told_and_all_are_listed() {
    let harness =
        limited(json!({"policies": [{"bucket": "hundred"}, {"name": "burst", "bucket": "two"}, {"bucket": "five"}]}));
    let response = harness.get("/").run().respond(200).run();
    assert_eq!(response.all("ratelimit"), ["\"burst\";r=1;t=60"]);
    assert_eq!(response.all("ratelimit-policy"), ["\"hundred\";q=100;w=60, \"burst\";q=2;w=60, \"five\";q=5;w=3600"]);
}

#[test]
fn only_policies_that_counted_are_listed() {
    let harness = limited(json!({"policies": [{"bucket": "two", "when": {"methods": ["POST"]}}, {"bucket": "five"}]}));
    let response = harness.get("/").run().respond(200).run();
    assert_eq!(response.all("ratelimit-policy"), ["\"five\";q=5;w=3600"]);
    let harness = limited(json!({"policies": [{"bucket": "two", "when": {"methods": ["POST"]}}]}));
    assert!(harness.get("/").run().respond(200).run().edits().is_empty());
}

#[test]
fn what_the_backend_announces_stays() {
    let harness = limited(json!({"policies": [{"bucket": "two"}]}));
    let response = harness.get("/").run().respond(200).header("ratelimit", "\"own\";r=9").run();
    assert_eq!(response.all("ratelimit"), ["\"own\";r=9", "\"two\";r=1;t=60"]);
}

#[test]
fn an_empty_quota_is_not_announced_in_a_redirection() {
    let harness = limited(json!({"policies": [{"bucket": "two"}]}));
    assert!(harness.get("/").run().respond(302).run().has("ratelimit"));
    let response = harness.get("/").run().respond(302).run();
    assert!(!response.has("ratelimit") && response.has("ratelimit-policy"));
}

#[test]
fn a_denial_says_when_to_come_back() {
    let harness = limited(json!({"policies": [{"bucket": "five"}, {"bucket": "two"}]}));
    let reply = exhaust(&harness);
    assert_eq!(reply.status(), 429);
    assert_eq!(reply.all("retry-after"), ["60"]);
    assert_eq!(reply.all("ratelimit"), ["\"two\";r=0;t=60"]);
    assert_eq!(reply.all("ratelimit-policy"), ["\"five\";q=5;w=3600, \"two\";q=2;w=60"]);
    assert_eq!(reply.all("content-type"), ["application/problem+json"]);
    let problem: Value = serde_json::from_str(body(&reply)).unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["violated-policies"], json!(["two"]));
    assert_eq!(problem["status"], 429);
}

#[test]
fn all_policies_that_deny_are_named_and_the_longest_decides() {
    let harness = limited(json!({
        "policies": [{"bucket": "two"}, {"bucket": "five", "cost": {"default": 2}}],
        "denied": {"body": "${policy}: again in ${retryAfter} s, not $5 {x}\n"},
    }));
    let reply = exhaust(&harness);
    assert_eq!(reply.all("ratelimit"), ["\"two\";r=0;t=60, \"five\";r=1;t=3600"]);
    assert_eq!(reply.all("retry-after"), ["3600"]);
    assert_eq!(body(&reply), "five: again in 3600 s, not $5 {x}\n");
    assert_eq!(reply.all("content-type"), ["text/plain; charset=utf-8"]);
}

#[test]
fn status_content_type_and_body_are_configurable() {
    let harness = limited(json!({
        "policies": [{"bucket": "two"}],
        "denied": {"status": 503, "contentType": "application/json", "body": "{\"error\": \"busy\"}"},
    }));
    let reply = exhaust(&harness);
    assert_eq!((reply.status(), body(&reply)), (503, "{\"error\": \"busy\"}"));
    assert_eq!(reply.all("content-type"), ["application/json"]);
}

#[test]
fn the_older_headers_are_available() {
    for (style, standard, legacy) in
        [("Standard", true, false), ("Legacy", false, true), ("Both", true, true), ("None", false, false)]
    {
        let harness = limited(json!({"policies": [{"bucket": "two"}, {"bucket": "five"}], "headers": style}));
        let check = |message: &Received, values: [&str; 3]| {
            assert_eq!(message.has("ratelimit"), standard, "{style}");
            assert_eq!(message.has("ratelimit-policy"), standard, "{style}");
            let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
            let expected = if legacy { values.map(Some) } else { [None; 3] };
            assert_eq!(
                names.map(|name| message.first(name)),
                expected.map(|value| value.map(str::to_owned)),
                "{style}"
            );
        };
        check(&harness.get("/").run().respond(200).header("x-other", "1").run(), ["2", "1", "60"]);
        let reply = exhaust(&harness);
        check(&reply, ["2", "0", "60"]);
        assert_eq!(reply.all("retry-after"), ["60"], "{style}");
    }
}

#[test]
fn headers_that_are_not_wanted_cost_no_hook() {
    let harness = limited(json!({"policies": [{"bucket": "two", "key": [{"clientAddress": {}}]}], "headers": "None"}));
    let plan = harness.plan().wire();
    assert_eq!(plan.hooks, penstock_plugin::Hooks::REQUEST_HEADERS);
    assert_eq!(plan.request_reads, [":client-address"]);
}

#[test]
fn a_window_that_is_not_of_whole_seconds_is_not_told() {
    let gateway = support::gateway().bucket("fast", 10, Duration::from_millis(1500));
    let harness = Limited::on(gateway, &json!({"policies": [{"bucket": "fast"}]})).unwrap();
    assert_eq!(harness.get("/").run().respond(200).run().all("ratelimit-policy"), ["\"fast\";q=10"]);
}

#[test]
fn exempt_requests_are_told_nothing() {
    let harness = limited(json!({"policies": [{"bucket": "two"}], "exempt": [{"methods": ["GET"]}]}));
    assert!(harness.get("/").run().respond(200).run().edits().is_empty());
}
