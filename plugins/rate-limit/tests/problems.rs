//! Every mistake has a place and says what would be right.

mod support;

use penstock_plugin::testing::{Gateway, Harness};
use rate_limit::RateLimit;
use serde_json::{Value, json};
use support::gateway;

/// The configuration has exactly these problems.
#[track_caller]
fn check_all(config: &Value, expected: &[(&str, &str)]) {
    let Err(problems) = Harness::<RateLimit>::on(gateway(), config) else { panic!("accepted: {config}") };
    let found: Vec<_> = problems.iter().map(|problem| (problem.pointer.as_str(), problem.message.as_str())).collect();
    assert_eq!(found, expected, "{config}");
}

/// A policy with this field has exactly this problem.
#[track_caller]
fn check(field: &str, value: Value, pointer: &str, message: &str) {
    let mut policy = json!({"bucket": "two"});
    policy[field] = value;
    check_all(&json!({"policies": [policy]}), &[(&format!("/policies/0{pointer}"), message)]);
}

#[track_caller]
fn check_root(field: &str, value: Value, pointer: &str, message: &str) {
    let mut config = json!({"policies": [{"bucket": "two"}]});
    config[field] = value;
    check_all(&config, &[(pointer, message)]);
}

#[test]
fn of_shape() {
    check_all(&json!({}), &[("", "missing field `policies`")]);
    check_all(&json!({"policies": []}), &[("/policies", "there is no policy: add one, or remove the plugin")]);
    check_all(&json!({"policies": [{}]}), &[("/policies/0", "missing field `bucket`")]);
    check(
        "dryrun",
        json!(true),
        "/dryrun",
        "unknown field `dryrun`: did you mean `dryRun`? Expected one of `name`, `bucket`, `when`, `key`, `onMissingKey`, `cost`, `dryRun`",
    );
    check("onMissingKey", json!("Deny"), "/onMissingKey", "unknown variant `Deny`, expected `Share` or `Skip`");
}

#[test]
fn of_buckets() {
    check_all(
        &json!({"policies": [{"bucket": "tow"}]}),
        &[("/policies/0/bucket", "there is no bucket `tow` in spec.capabilities.rateLimits: did you mean `two`?")],
    );
    check_all(
        &json!({"policies": [{"bucket": "unlike-any"}]}),
        &[(
            "/policies/0/bucket",
            "there is no bucket `unlike-any` in spec.capabilities.rateLimits, which has five, hundred, two",
        )],
    );
    let Err(problems) = Harness::<RateLimit>::on(Gateway::new(), &json!({"policies": [{"bucket": "two"}]})) else {
        panic!()
    };
    assert_eq!(
        problems.to_string(),
        "/policies/0/bucket: there is no bucket `two`: declare it in spec.capabilities.rateLimits"
    );
}

#[test]
fn of_names() {
    let names = "use 1 to 63 lower case letters, digits, `-`, `_` and `.`";
    check("name", json!("Per Client"), "/name", &format!("`Per Client` is no name of a policy: {names}"));
    check("name", json!(""), "/name", &format!("`` is no name of a policy: {names}"));
    check_all(
        &json!({"policies": [{"bucket": "two"}, {"bucket": "two", "key": [{"method": true}]}]}),
        &[("/policies/1/name", "another policy is named `two`: give this one a name of its own")],
    );
    let many: Vec<_> = (0..17).map(|index| json!({"name": format!("p{index}"), "bucket": "two"})).collect();
    check_all(&json!({"policies": many}), &[("/policies", "17 policies are too many: 16 are the most")]);
}

#[test]
fn of_keys() {
    let one_of = "a part of a key has exactly one of `clientAddress`, `header`, `cookie`, `query`, `pathTemplate`, `method`, \
                  `jwtClaimVerifiedByEarlierFilter`";
    check("key", json!([{}]), "/key/0", one_of);
    check("key", json!([{"header": "a", "cookie": "b"}]), "/key/0", one_of);
    check("key", json!([{"method": true}, {"method": false}]), "/key/1/method", "must be `true`, or left out");
    check("key", json!([{"cookie": ""}]), "/key/0/cookie", "must not be empty");
    check("key", json!([{"query": ""}]), "/key/0/query", "must not be empty");
    check(
        "key",
        json!([{"header": "x y"}]),
        "/key/0/header",
        "`x y` is not a header name: use letters, digits and any of !#$%&'*+-.^_`|~",
    );
    check(
        "key",
        json!([{"clientAddress": {"ipv4PrefixLength": 33}}]),
        "/key/0/clientAddress/ipv4PrefixLength",
        "33 is too long: 32 bits are the most",
    );
    check(
        "key",
        json!([{"jwtClaimVerifiedByEarlierFilter": {"claim": ""}}]),
        "/key/0/jwtClaimVerifiedByEarlierFilter/claim",
        "must not be empty",
    );
    check("key", vec![json!({"method": true}); 9].into(), "/key", "9 parts are too many: 8 are the most");
}

#[test]
fn of_templates() {
    let at = "/key/0/pathTemplate";
    let key = |templates: Value, keep: Value| json!([{"pathTemplate": {"templates": templates, "keep": keep}}]);
    check(
        "key",
        key(json!([]), json!([])),
        &format!("{at}/templates"),
        "there is no template: add one, such as /users/{id}",
    );
    check("key", key(json!(["/a", "b"]), json!([])), &format!("{at}/templates/1"), "`b` does not start with `/`");
    check(
        "key",
        key(json!(["/{a}/{b}"]), json!(["a", "c"])),
        &format!("{at}/keep/1"),
        "no template has a segment `{c}`; there are: a, b",
    );
}

#[test]
fn of_conditions() {
    check(
        "when",
        json!({}),
        "/when",
        "the condition says nothing: add `clientAddresses`, `methods`, `paths` or `headers`",
    );
    check(
        "when",
        json!({"methods": ["get"]}),
        "/when/methods/0",
        "`get` is no method: write it in upper case, such as GET",
    );
    check(
        "when",
        json!({"paths": ["/a*"]}),
        "/when/paths/0",
        "`/a*`: `*` in `a*` means nothing there: a segment is text or `{name}`, the last may be `**`",
    );
    let host = "hosts are compared in lower case, without a port and a last dot: write `a.example` for `A.example:80`";
    check("when", json!({"headers": [{"name": "Host", "exact": "A.example:80"}]}), "/when/headers/0/exact", host);
    let exactly = "a condition on a header has exactly one of `present` and `exact`";
    check("when", json!({"headers": [{"name": "a"}]}), "/when/headers/0", exactly);
    check_root(
        "exempt",
        json!([{"clientAddresses": ["10.0.0.0/8", "10.0.0.1/8"]}]),
        "/exempt/0/clientAddresses/1",
        "`10.0.0.1/8` is no network: there are bits set behind the first 8; write 10.0.0.0/8",
    );
}

#[test]
fn of_costs() {
    check(
        "cost",
        json!({"methods": {"post": 1}}),
        "/cost/methods/post",
        "`post` is no method: write it in upper case, such as GET",
    );
    check("cost", json!({"header": {"name": "x", "max": 0}}), "/cost/header/max", "must be at least 1");
    check("cost", json!({"default": -1}), "/cost/default", "invalid value: integer `-1`, expected u32");
}

#[test]
fn of_denials() {
    check_root(
        "denied",
        json!({"status": 200}),
        "/denied/status",
        "200 is no status of an error: use 400 to 599, best 429",
    );
    check_root(
        "denied",
        json!({"body": "${user}"}),
        "/denied/body",
        "`${user}` is not known: there are `${policy}` and `${retryAfter}`",
    );
    check_root("denied", json!({"body": "${policy"}), "/denied/body", "`${` has no `}`");
    check_root(
        "denied",
        json!({"body": "x".repeat(65537)}),
        "/denied/body",
        "the body is too long: 65536 bytes are the most",
    );
    check_root(
        "denied",
        json!({"contentType": "a\nb"}),
        "/denied/contentType",
        "the value has the control character 0x0a, which no header value may have",
    );
}

#[test]
fn all_mistakes_are_shown_at_once() {
    check_all(
        &json!({"policies": [{"name": "A", "bucket": "none", "key": [{}]}], "denied": {"status": 1}}),
        &[
            (
                "/policies/0/name",
                "`A` is no name of a policy: use 1 to 63 lower case letters, digits, `-`, `_` and `.`",
            ),
            (
                "/policies/0/bucket",
                "there is no bucket `none` in spec.capabilities.rateLimits, which has five, hundred, two",
            ),
            (
                "/policies/0/key/0",
                "a part of a key has exactly one of `clientAddress`, `header`, `cookie`, `query`, `pathTemplate`, `method`, \
                 `jwtClaimVerifiedByEarlierFilter`",
            ),
            ("/denied/status", "1 is no status of an error: use 400 to 599, best 429"),
        ],
    );
}
