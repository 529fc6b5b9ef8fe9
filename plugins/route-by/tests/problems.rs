//! Every mistake in the configuration is told with its place.

#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

mod support;

use serde_json::{Value, json};
use support::Routed;

#[track_caller]
fn check(config: Value, expected: &[&str]) {
    let problems = Routed::try_new(config.clone()).err().unwrap_or_else(|| panic!("{config} is accepted"));
    let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nshould begin with\n{expected}");
    }
}

#[track_caller]
fn rule(rule: Value, expected: &[&str]) {
    check(json!({ "rules": [rule] }), expected);
}

#[test]
fn rules_have_a_target() {
    check(json!({"rules": []}), &["/rules: there is no rule"]);
    check(json!({}), &["/: missing field `rules`"]);
    rule(json!({"to": {}}), &["/rules/0/to: a target has exactly one of `backend`, `lookup`"]);
    rule(json!({"to": {"backend": "a", "weights": true}}), &["/rules/0/to: a target has exactly one"]);
    rule(json!({"to": {"weights": false}}), &["/rules/0/to/weights: must be `true`"]);
    rule(json!({"to": {"backend": "a:b"}}), &["/rules/0/to/backend: `a:b` is no backend: write name, name:port"]);
    rule(json!({"to": {"backnd": "a"}}), &["/rules/0/to/backnd: unknown field `backnd`: did you mean `backend`?"]);
    let many: Vec<_> = (0..65).map(|_| json!({"to": {"backend": "a"}})).collect();
    check(json!({ "rules": many }), &["/rules: 65 rules are too many: 64 are the most"]);
}

#[test]
fn hosts_are_written_as_they_are_compared() {
    let config = json!({"when": [
        {"header": "host", "exact": "a.example:8080"}, {"header": "Host", "in": ["b.example", "C.example"]},
        {"header": "x-host", "exact": "A:1"},
    ], "to": {"backend": "a"}});
    let message = "hosts are compared in lower case, without a port and a last dot: write";
    rule(
        config,
        &[
            &format!("/rules/0/when/0/exact: {message} `a.example` for `a.example:8080`"),
            &format!("/rules/0/when/1/in/1: {message} `c.example` for `C.example`"),
        ],
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let config = json!({"rules": [
        {"when": [{"header": "a"}, {"exact": "b"}, {"header": "no name", "exact": "b"}], "to": {"backend": "a"}},
        {"when": [{"header": "a", "regex": "("}, {"query": "", "in": []}], "to": {"lookup": {"key": [], "backends": {}}}},
    ]});
    check(
        config,
        &[
            "/rules/0/when/0: a condition has exactly one of `present`, `exact`",
            "/rules/0/when/1: exactly one of `header`, `cookie`, `query`, `unverifiedJwtClaim` says",
            "/rules/0/when/2/header: `no name` is not a header name",
            "/rules/1/when/0/regex: `(` is no regular expression",
            "/rules/1/when/1/query: must not be empty",
            "/rules/1/when/1/in: there is no value",
            "/rules/1/to/lookup/backends: there is no backend",
            "/rules/1/to/lookup/key: there is no key",
        ],
    );
}

#[test]
fn keys_and_shares_are_checked() {
    let key = |key: Value| json!({"to": {"hash": { "key": key }}});
    rule(
        key(json!([{}])),
        &["/rules/0/to/hash/key/0: exactly one of `header`, `cookie`, `query`, `unverifiedJwtClaim`, `clientAddress`"],
    );
    rule(
        key(json!([{"clientAddress": {"ipv4PrefixLength": 33}}])),
        &["/rules/0/to/hash/key/0/clientAddress/ipv4PrefixLength: 33 is too long"],
    );
    let shares = |shares: Value| json!({"to": {"percentages": {"key": [{"query": "q"}], "shares": shares}}});
    rule(
        shares(json!([{"backend": "a", "percent": 60}, {"backend": "b", "percent": 40.5}])),
        &["/rules/0/to/percentages/shares: the shares are 100.5 % together: 100 are the most"],
    );
    rule(
        shares(json!([{"backend": "a", "percent": 0.001}, {"backend": "b", "percent": -1}])),
        &[
            "/rules/0/to/percentages/shares/0/percent: 0.001 is no share",
            "/rules/0/to/percentages/shares/1/percent: -1 is no share",
        ],
    );
    rule(shares(json!([])), &["/rules/0/to/percentages/shares: there is no share"]);
}

#[test]
fn cookies_that_browsers_refuse_are_refused() {
    let sticky = |sticky: Value| json!({"to": { "sticky": sticky }});
    rule(sticky(json!({"cookie": "a b"})), &["/rules/0/to/sticky/cookie: `a b` is no name of a cookie"]);
    rule(sticky(json!({"cookie": "a", "sameSite": "None"})), &["/rules/0/to/sticky/sameSite: browsers refuse `None`"]);
    rule(sticky(json!({"cookie": "__Secure-a"})), &["/rules/0/to/sticky/cookie: browsers refuse `__Secure-a`"]);
    rule(
        sticky(json!({"cookie": "__Host-a", "secure": "Always", "path": "/a"})),
        &["/rules/0/to/sticky/cookie: browsers refuse `__Host-a` with a `domain`"],
    );
    rule(sticky(json!({"cookie": "a", "path": "/a; Secure"})), &["/rules/0/to/sticky/path: `/a; Secure` is no path"]);
    rule(sticky(json!({"cookie": "a", "domain": "a\r\nb"})), &["/rules/0/to/sticky/domain: "]);
    rule(sticky(json!({"cookie": "a", "maxAge": "1d"})), &["/rules/0/to/sticky/maxAge: `1d` is no duration"]);
    rule(sticky(json!({"cookie": "a", "maxAge": "1500ms"})), &["/rules/0/to/sticky/maxAge: `1500ms` is no duration"]);
    rule(sticky(json!({"cookie": "a", "maxAge": "0s"})), &["/rules/0/to/sticky/maxAge: must be longer than nothing"]);
    rule(sticky(json!({"cookie": "a", "maxAge": "9601h"})), &["/rules/0/to/sticky/maxAge: `9601h` is too long"]);
}
