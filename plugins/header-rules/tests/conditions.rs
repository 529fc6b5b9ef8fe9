//! When rules apply.

use header_rules::HeaderRules;
use penstock_plugin::testing::{Harness, Sent};
use serde_json::{Value, json};

/// A rule with this condition that marks requests.
fn marker(when: &Value) -> Harness<HeaderRules> {
    Harness::new(json!({"rules": [{"when": when, "request": {"set": {"x-mark": "1"}}}]}))
}

fn marked(sent: &Sent<HeaderRules>) -> bool {
    sent.has("x-mark")
}

#[track_caller]
fn check_path(path: &Value, target: &str, want: bool) {
    let harness = marker(&json!({"path": path}));
    assert_eq!(marked(&harness.get(target).run()), want, "{path} for {target}");
}

#[test]
fn a_rule_without_condition_is_for_every_request() {
    let harness = Harness::<HeaderRules>::new(json!({"rules": [{"request": {"set": {"x-mark": "1"}}}]}));
    assert!(marked(&harness.get("/").run()));
    assert!(marked(&harness.request("BREW", "/pot?a").run()));
}

#[test]
fn methods() {
    let harness = marker(&json!({"methods": ["GET", "POST", "BREW"]}));
    for (method, want) in [("GET", true), ("POST", true), ("BREW", true), ("PUT", false), ("get", false)] {
        assert_eq!(marked(&harness.request(method, "/").run()), want, "{method}");
    }
}

#[test]
fn exact_paths() {
    check_path(&json!({"exact": "/a"}), "/a", true);
    check_path(&json!({"exact": "/a"}), "/a?x=/a", true);
    check_path(&json!({"exact": "/a"}), "/a/", false);
    check_path(&json!({"exact": "/a"}), "/A", false);
    check_path(&json!({"exact": "/a"}), "/b?/a", false);
}

#[test]
fn prefixes_take_whole_segments() {
    check_path(&json!({"prefix": "/api"}), "/api", true);
    check_path(&json!({"prefix": "/api"}), "/api?x", true);
    check_path(&json!({"prefix": "/api"}), "/api/", true);
    check_path(&json!({"prefix": "/api"}), "/api/users", true);
    check_path(&json!({"prefix": "/api"}), "/apix", false);
    check_path(&json!({"prefix": "/api"}), "/x/api", false);
    check_path(&json!({"prefix": "/api/"}), "/api", true);
    check_path(&json!({"prefix": "/"}), "/", true);
    check_path(&json!({"prefix": "/"}), "/anything", true);
}

#[test]
fn path_patterns_are_searched_for() {
    check_path(&json!({"regex": "/v[0-9]+/"}), "/api/v12/users", true);
    check_path(&json!({"regex": "^/v[0-9]+$"}), "/v1", true);
    check_path(&json!({"regex": "^/v[0-9]+$"}), "/v1?a=b", true);
    check_path(&json!({"regex": "^/v[0-9]+$"}), "/v1/x", false);
    check_path(&json!({"regex": "b"}), "/a?b", false);
}

#[test]
fn headers() {
    let cases = [
        (json!({"name": "X-A", "present": true}), vec!["x"], true),
        (json!({"name": "x-a", "present": true}), vec![""], true),
        (json!({"name": "x-a", "present": true}), vec![], false),
        (json!({"name": "x-a", "present": false}), vec![], true),
        (json!({"name": "x-a", "present": false}), vec!["x"], false),
        (json!({"name": "x-a", "exact": "x"}), vec!["x"], true),
        (json!({"name": "x-a", "exact": "x"}), vec!["X"], false),
        (json!({"name": "x-a", "exact": "x"}), vec!["xx"], false),
        (json!({"name": "x-a", "exact": "x"}), vec!["y", "x"], true),
        (json!({"name": "x-a", "exact": ""}), vec![], false),
        (json!({"name": "x-a", "regex": "^b"}), vec!["abc", "bcd"], true),
        (json!({"name": "x-a", "regex": "^b"}), vec!["abc"], false),
        (json!({"name": "x-a", "regex": "(?i)^BOT$"}), vec!["bot"], true),
    ];
    for (condition, values, want) in cases {
        let harness = marker(&json!({"headers": [condition]}));
        let request = values.iter().fold(harness.get("/"), |request, value| request.header("X-A", *value));
        assert_eq!(marked(&request.run()), want, "{condition} for {values:?}");
    }
}

#[test]
fn header_values_need_not_be_utf8() {
    let harness = marker(&json!({"headers": [{"name": "x-a", "regex": "^a.b$"}]}));
    assert!(marked(&harness.get("/").header("x-a", b"a\xffb").run()));
    assert!(!marked(&harness.get("/").header("x-a", b"a\xff\xffb").run()));
    let harness = marker(&json!({"headers": [{"name": "x-a", "exact": "ä"}]}));
    assert!(marked(&harness.get("/").header("x-a", "ä").run()));
    assert!(!marked(&harness.get("/").header("x-a", b"\xe4").run()), "Latin-1 is something else");
}

#[test]
fn pseudo_headers_can_be_asked_for() {
    let harness = marker(&json!({"headers": [
        {"name": "host", "exact": "shop.example"},
        {"name": ":scheme", "exact": "https"},
        {"name": ":client-address", "regex": "^10\\."},
    ]}));
    let request = || harness.get("/").header(":authority", "shop.example").header(":client-address", "10.0.0.7");
    assert!(marked(&request().header(":scheme", "https").run()));
    assert!(!marked(&request().header(":scheme", "http").run()));
}

#[test]
fn a_host_is_one_however_it_is_spelled() {
    for condition in [json!({"exact": "shop.example"}), json!({"regex": "^shop\\.example$"})] {
        let mut condition = condition;
        condition["name"] = json!("Host");
        let harness = marker(&json!({"headers": [condition]}));
        for host in ["shop.example", "SHOP.example", "shop.example:8080", "shop.example."] {
            assert!(marked(&harness.get("/").header("host", host).run()), "{host}");
        }
        assert!(!marked(&harness.get("/").header("host", "shop.example.org").run()));
    }
}

#[test]
fn all_parts_must_hold() {
    let harness = marker(&json!({
        "methods": ["GET"],
        "path": {"prefix": "/a"},
        "headers": [{"name": "x-1", "present": true}, {"name": "x-2", "present": false}],
    }));
    assert!(marked(&harness.get("/a").header("x-1", "").run()));
    assert!(!marked(&harness.request("PUT", "/a").header("x-1", "").run()));
    assert!(!marked(&harness.get("/b").header("x-1", "").run()));
    assert!(!marked(&harness.get("/a").run()));
    assert!(!marked(&harness.get("/a").header("x-1", "").header("x-2", "").run()));
}

#[test]
fn statuses() {
    let harness = Harness::<HeaderRules>::new(json!({"rules": [
        {"response": {"when": {"status": [404, "201", "5xx", "300-303"]}, "set": {"x-mark": "1"}}},
    ]}));
    for (status, want) in [
        (404, true),
        (201, true),
        (500, true),
        (599, true),
        (300, true),
        (303, true),
        (304, false),
        (200, false),
        (499, false),
    ] {
        assert_eq!(harness.get("/").run().respond(status).run().has("x-mark"), want, "{status}");
    }
}

#[test]
fn response_headers() {
    let harness = Harness::<HeaderRules>::new(json!({"rules": [{"response": {
        "when": {"headers": [{"name": "content-type", "regex": "^text/"}, {"name": "cache-control", "present": false}]},
        "set": {"cache-control": "no-store"},
    }}]}));
    let answer = |content_type: &str| harness.get("/").run().respond(200).header("content-type", content_type).run();
    assert_eq!(answer("text/html").all("cache-control"), ["no-store"]);
    assert!(!answer("image/png").has("cache-control"));
    let own =
        harness.get("/").run().respond(200).header("content-type", "text/html").header("cache-control", "public").run();
    assert_eq!(own.all("cache-control"), ["public"]);
}

/// With a request hook the decision travels as a token, without one it is made from carried headers: nobody should notice.
#[test]
fn request_conditions_hold_for_responses() {
    let rule = json!({
        "when": {"methods": ["GET"], "path": {"prefix": "/a"}, "headers": [{"name": "x-a", "exact": "1"}]},
        "response": {"set": {"x-mark": "1"}},
    });
    let request_too = json!({"request": {"set": {"x-other": "1"}}});
    for rules in [json!([rule]), json!([request_too, rule]), json!([rule, request_too])] {
        let harness = Harness::<HeaderRules>::new(json!({"rules": rules}));
        let marked = |request: Sent<HeaderRules>| request.respond(200).run().has("x-mark");
        assert!(marked(harness.get("/a/b?c").header("x-a", "1").run()), "{rules}");
        assert!(!marked(harness.get("/b").header("x-a", "1").run()), "{rules}");
        assert!(!marked(harness.get("/a").header("x-a", "2").run()), "{rules}");
        assert!(!marked(harness.request("PUT", "/a").header("x-a", "1").run()), "{rules}");
    }
}

#[test]
fn the_last_of_64_rules_has_its_bit() {
    let mut rules: Vec<_> = (0..63).map(|i| json!({"request": {"set": {format!("x-{i}"): "1"}}})).collect();
    rules.push(json!({"when": {"methods": ["GET"]}, "response": {"set": {"x-mark": "1"}}}));
    let harness = Harness::<HeaderRules>::new(json!({"rules": rules}));
    assert!(harness.get("/").run().respond(200).run().has("x-mark"));
    assert!(!harness.request("PUT", "/").run().respond(200).run().has("x-mark"));
}

#[test]
fn conditions_see_what_earlier_rules_left() {
    let harness = Harness::<HeaderRules>::new(json!({"rules": [
        {"when": {"headers": [{"name": "x-tier", "present": false}]}, "request": {"set": {"x-tier": "free"}}},
        {"when": {"headers": [{"name": "x-tier", "exact": "free"}]}, "request": {"set": {"x-mark": "1"}}},
        {"when": {"headers": [{"name": "x-mark", "present": true}]}, "request": {"remove": ["x-tier"]}},
        {"when": {"headers": [{"name": "x-tier", "present": false}]}, "request": {"set": {"x-last": "1"}}},
    ]}));
    let free = harness.get("/").run();
    assert!(free.has("x-mark") && free.has("x-last") && !free.has("x-tier"));
    let paid = harness.get("/").header("x-tier", "paid").run();
    assert!(!paid.has("x-mark") && !paid.has("x-last") && paid.has("x-tier"));
}
