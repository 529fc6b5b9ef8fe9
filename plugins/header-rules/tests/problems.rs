//! Every mistake has a place and says what would be right.

#![expect(clippy::needless_pass_by_value, reason = "tests write json!(…) here")]

use header_rules::HeaderRules;
use penstock_plugin::testing::Harness;
use serde_json::{Value, json};

/// The configuration has exactly this problem.
#[track_caller]
fn check(config: Value, pointer: &str, message: &str) {
    let shown = config.to_string();
    let Err(problems) = Harness::<HeaderRules>::try_new(config) else { panic!("accepted: {shown}") };
    let found: Vec<_> = problems.iter().map(|problem| (problem.pointer.as_str(), problem.message.as_str())).collect();
    assert_eq!(found, [(pointer, message)], "{shown}");
}

/// A rule with this request section has exactly this problem.
#[track_caller]
fn check_request(section: Value, pointer: &str, message: &str) {
    check(json!({"rules": [{"request": section}]}), &format!("/rules/0/request{pointer}"), message);
}

#[track_caller]
fn check_when(when: Value, pointer: &str, message: &str) {
    let config = json!({"rules": [{"when": when, "request": {"set": {"x-a": "1"}}}]});
    check(config, &format!("/rules/0/when{pointer}"), message);
}

#[track_caller]
fn check_value(value: &str, message: &str) {
    check_request(json!({"set": {"x-a": value}}), "/set/x-a", message);
}

#[test]
fn of_shape() {
    check(json!({}), "", "missing field `rules`");
    check(json!({"rules": []}), "/rules", "there is no rule: add one, or remove the plugin");
    check(json!({"rules": [{}]}), "/rules/0", "the rule does nothing: add `request` or `response`");
    check(
        json!({"rules": [{"when": 1}]}),
        "/rules/0/when",
        "invalid type: integer `1`, expected struct RequestCondition",
    );
    check_request(
        json!({"sets": {}}),
        "/sets",
        "unknown field `sets`: did you mean `set`? Expected one of `rename`, `rewrite`, `set`, `append`, `remove`",
    );
    check_request(json!({}), "", "the section changes nothing: add `rename`, `rewrite`, `set`, `append` or `remove`");
    check_request(json!({"set": {"x-a": 1}}), "/set/x-a", "invalid type: integer `1`, expected a string");
    check_request(
        json!({"append": {"x-a": {}}}),
        "/append/x-a",
        "invalid type: map, expected a string or a list of strings",
    );
    check_request(
        json!({"append": {"x-a": []}}),
        "/append/x-a",
        "there is no value to append: add one, or remove the entry",
    );
    let rules: Vec<_> = (0..65).map(|_| json!({"request": {"set": {"x-a": "1"}}})).collect();
    let names: serde_json::Map<_, _> = (0..257).map(|i| (format!("x-{i}"), json!("1"))).collect();
    check(
        json!({"rules": [{"request": {"set": names}}]}),
        "/rules",
        "the rules name 257 headers, at most 256 work: attach another plugin",
    );
    let values = vec!["1"; 513];
    check(
        json!({"rules": [{"response": {"append": {"x-a": values}}}]}),
        "/rules",
        "the rules make 513 changes, at most 512 work: attach another plugin",
    );
    check(json!({"rules": rules}), "/rules", "there are 65 rules, at most 64 work: attach another plugin");
}

#[test]
fn of_conditions() {
    check_when(json!({"methods": ["get"]}), "/methods/0", "methods are case-sensitive: write `GET` for `get`");
    check_when(json!({"methods": ["GET", "DELTE"]}), "/methods/1", "`DELTE` is no method: did you mean `DELETE`?");
    check_when(json!({"methods": ["A B"]}), "/methods/0", "`A B` is no method: write one such as `GET`");
    check_when(json!({"path": {}}), "/path", "write exactly one of `exact`, `prefix` and `regex`");
    check_when(
        json!({"path": {"exact": "/a", "prefix": "/a"}}),
        "/path",
        "write exactly one of `exact`, `prefix` and `regex`",
    );
    check_when(json!({"path": {"exact": "a"}}), "/path/exact", "a path starts with `/`: write `/a`");
    check_when(json!({"path": {"prefix": "/a?b"}}), "/path/prefix", "conditions see the path alone: write `/a`");
    check_when(json!({"headers": [{"present": true}]}), "/headers/0", "missing field `name`");
    check_when(
        json!({"headers": [{"name": "x-a"}]}),
        "/headers/0",
        "write exactly one of `present`, `exact` and `regex`",
    );
    check_when(
        json!({"headers": [{"name": "x a", "present": true}]}),
        "/headers/0/name",
        "`x a` is not a header name: use letters, digits and any of !#$%&'*+-.^_`|~",
    );
    check_when(
        json!({"headers": [{"name": ":status", "present": true}]}),
        "/headers/0/name",
        "`:status` is no pseudo-header that can be read: there are `:method`, `:scheme`, `:authority`, `:path` and `:client-address`",
    );
    for status in ["6xx", "99", "600", "503-500", "4x", "", "2xx-3xx"] {
        check(
            json!({"rules": [{"response": {"when": {"status": [status]}, "remove": ["server"]}}]}),
            "/rules/0/response/when/status/0",
            &format!("`{status}` is no status: write a code (`404`), a class (`5xx`) or a range (`500-503`)"),
        );
    }
    check(
        json!({"rules": [{"response": {"when": {"headers": [{"name": ":status", "exact": "200"}]}, "remove": ["server"]}}]}),
        "/rules/0/response/when/headers/0/name",
        "`:status` is no header of a response; for the status use `status`",
    );
}

#[test]
fn of_patterns() {
    check_when(
        json!({"path": {"regex": "(a"}}),
        "/path/regex",
        "`(a` is no regular expression: found open group without closing ')'",
    );
    check_when(json!({"path": {"regex": ""}}), "/path/regex", "the pattern is empty, so it would be found everywhere");
    check_request(
        json!({"rewrite": [{"name": "x-a", "pattern": "(a)", "replacement": "$2"}]}),
        "/rewrite/0/replacement",
        "`$2` is no group of the pattern, whose last one is `$1`",
    );
    check_request(
        json!({"rewrite": [{"name": "x-a", "pattern": "(?<major>a)", "replacement": "${mayor}"}]}),
        "/rewrite/0/replacement",
        "`mayor` is no variable: did you mean `major`?",
    );
}

#[test]
fn of_names() {
    check_request(
        json!({"set": {"x a": "1"}}),
        "/set/x a",
        "`x a` is not a header name: use letters, digits and any of !#$%&'*+-.^_`|~",
    );
    check_request(
        json!({"remove": ["x-a", "Transfer-Encoding"]}),
        "/remove/1",
        "`transfer-encoding` belongs to the connection, which the gateway manages itself",
    );
    check_request(
        json!({"set": {"content-length": "1"}}),
        "/set/content-length",
        "`content-length` follows from the body, which the gateway counts itself",
    );
    check_request(json!({"remove": ["host"]}), "/remove/0", "`:authority` can only be set or rewritten");
    check_request(json!({"rename": {"x-a": ":path"}}), "/rename/x-a", "`:path` can only be set or rewritten");
    check_request(
        json!({"set": {":method": "GET"}}),
        "/set/:method",
        "`:method` cannot be changed: of the pseudo-headers only `:path` and `:authority` (`host`) of requests can",
    );
    check(
        json!({"rules": [{"response": {"set": {":status": "200"}}}]}),
        "/rules/0/response/set/:status",
        "`:status` cannot be changed: of the pseudo-headers only `:path` and `:authority` (`host`) of requests can",
    );
}

#[test]
fn of_contradictions() {
    check_request(
        json!({"set": {"x-a": "1"}, "remove": ["X-A"]}),
        "/remove/0",
        "`x-a` is set and removed in one section: keep one, or use two rules",
    );
    check_request(json!({"set": {"X-A": "1", "x-a": "2"}}), "/set/x-a", "`x-a` is set twice: keep one");
    check_request(
        json!({"rename": {"a": "c", "b": "c"}}),
        "/rename/b",
        "`c` is the new name of another header twice: keep one",
    );
    check_request(
        json!({"rename": {"a": "b", "b": "c"}}),
        "/rename/b",
        "`b` is the new name of another header and renamed in one section: keep one, or use two rules",
    );
    check_request(
        json!({"rename": {"a": "A"}}),
        "/rename/a",
        "`a` is renamed and the new name of another header in one section: keep one, or use two rules",
    );
    check_request(
        json!({"rewrite": [{"name": "x-a", "pattern": "a", "replacement": "b"}], "set": {"x-a": "1"}}),
        "/set/x-a",
        "`x-a` is rewritten and set in one section: keep one, or use two rules",
    );
    check_request(
        json!({"append": {"x-a": "1"}, "remove": ["x-a"]}),
        "/remove/0",
        "`x-a` is appended to and removed in one section: keep one, or use two rules",
    );
}

#[test]
fn of_values() {
    check_value("a\nb", "the value has the control character 0x0a, which no header value may have");
    check_value(
        "${request.header.x:-a\0b}",
        "the value has the control character 0x00, which no header value may have",
    );
    check_value("${request.path", "`${` has no `}`: close it, or write `$$` for a dollar sign");
    check_value("${request.paht}", "`request.paht` is no variable: did you mean `request.path`?");
    check_value("${request.heder.x-a}", "`request.heder.x-a` is no variable: did you mean `request.header.<name>`?");
    check_value("${Request.Path}", "`Request.Path` is no variable: did you mean `request.path`?");
    check_value(
        "${x}",
        "`x` is no variable; there are `request.method`, `request.scheme`, `request.authority`, `request.path`, `request.query`, \
         `request.header.<name>`, `response.status`, `response.header.<name>`, `client.address`",
    );
    check_value(
        "${request.header.}",
        "`` in `request.header.` is not a header name: use letters, digits and any of !#$%&'*+-.^_`|~",
    );
    check_value(
        "${request.header.:path}",
        "`:path` in `request.header.:path` is not a header name: use letters, digits and any of !#$%&'*+-.^_`|~",
    );
    for variable in ["response.status", "response.header.server"] {
        check_value(
            &format!("${{{variable}}}"),
            &format!("`{variable}` is not known yet while the request is on its way: use it under `response`"),
        );
    }
    check_request(
        json!({"set": {":path": "a"}}),
        "/set/:path",
        "the value of `:path` is not a valid path: it starts with `/`, has no segments `.` and `..`, and what a URI cannot hold is percent-encoded",
    );
    check_request(
        json!({"append": {"x-a": ["1", "${x-b}"]}}),
        "/append/x-a/1",
        "`x-b` is no variable; there are `request.method`, `request.scheme`, `request.authority`, `request.path`, `request.query`, \
         `request.header.<name>`, `response.status`, `response.header.<name>`, `client.address`",
    );
}

#[test]
fn all_are_reported_at_once() {
    let problems = Harness::<HeaderRules>::try_new(json!({"rules": [
        {"when": {"methods": ["get"], "path": {"regex": "("}}, "request": {"set": {"te": "1", "x-a": "${x}"}}},
        {},
    ]}))
    .err()
    .unwrap();
    let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/rules/0/when/methods/0",
            "/rules/0/when/path/regex",
            "/rules/0/request/set/te",
            "/rules/0/request/set/x-a",
            "/rules/1"
        ]
    );
}
