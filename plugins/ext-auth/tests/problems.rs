//! Every mistake in the configuration is told with its place.

#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

mod support;

use serde_json::{Value, json};
use support::Guarded;

#[track_caller]
fn check(config: Value, expected: &[&str]) {
    let problems = Guarded::try_new(config.clone()).err().unwrap_or_else(|| panic!("{config} is accepted"));
    let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nshould begin with\n{expected}");
    }
}

#[track_caller]
fn service(config: Value, expected: &[&str]) {
    check(json!({ "service": config }), expected);
}

#[track_caller]
fn beside(mut config: Value, expected: &[&str]) {
    config["service"] = json!({"backend": "auth"});
    check(config, expected);
}

#[test]
fn there_is_a_service() {
    check(json!({}), &["/: missing field `service`"]);
    service(json!({"backend": ""}), &["/service/backend: must be the name of a backend in spec.capabilities.outbound"]);
    service(json!({"backnd": "a"}), &["/service/backnd: unknown field `backnd`: did you mean `backend`?"]);
    service(json!({"backend": "a", "path": "/", "pathPrefix": ""}), &["/service: has both `path` and `pathPrefix`"]);
    service(json!({"backend": "a", "path": "verify"}), &["/service/path: `verify` is not a valid path"]);
    service(json!({"backend": "a", "path": "http://elsewhere/"}), &["/service/path: `http://elsewhere/` is not"]);
    service(json!({"backend": "a", "pathPrefix": "/a/"}), &["/service/pathPrefix: `/a/` ends with `/`"]);
    service(json!({"backend": "a", "pathPrefix": "/a?b="}), &["/service/pathPrefix: `/a?b=` has a query"]);
    service(json!({"backend": "a", "pathPrefix": "a"}), &["/service/pathPrefix: `a` is not a valid path"]);
    service(json!({"backend": "a", "method": "get"}), &["/service/method: `get` is no method: write it in upper case"]);
    service(json!({"backend": "a", "method": "CONNECT"}), &["/service/method: `CONNECT` is not a valid method"]);
    service(json!({"backend": "a", "host": "a b"}), &["/service/host: `a b` is not a valid authority"]);
    for timeout in ["", "5", "0s", "61s", "1d"] {
        let expected = format!("/service/timeout: `{timeout}` is no time to wait: write 1ms to 60s");
        service(json!({"backend": "a", "timeout": timeout}), &[&expected]);
    }
}

#[test]
fn headers_that_would_mislead_the_service_are_refused() {
    beside(
        json!({"request": {"headers": ["Content-Type", "if-none-match", "x-forwarded-for", "te", "host", "no name", ":path"]}}),
        &[
            "/request/headers/0: `Content-Type` describes the body",
            "/request/headers/1: `if-none-match` makes the answer depend on what the client has cached",
            "/request/headers/2: `x-forwarded-for` is written by the gateway",
            "/request/headers/3: `te` belongs to the connection",
            "/request/headers/4: `host` is what `service.host` says",
            "/request/headers/5: `no name` is not a header name",
            "/request/headers/6: `:path` is a pseudo-header",
        ],
    );
    beside(
        json!({"request": {"headers": ["x-a"], "set": {"x-a": "1", "X-B": "1", "x-b": "2", "x-c": "a\r\nb", "x-original-url": "/"}}}),
        &[
            "/request/set/x-b: `x-b` is given twice",
            "/request/set/x-c: the value has the control character 0x0d",
            "/request/set/x-original-url: `x-original-url` is written by the gateway",
            "/request/headers/0: `x-a` is in `set` as well",
        ],
    );
    let many: Vec<_> = (0..129).map(|index| format!("x-{index}")).collect();
    beside(json!({"request": {"headers": many}}), &["/request/headers: 129 names are too many: 128 are the most"]);
}

#[test]
fn headers_of_answers_are_names_or_beginnings_of_names() {
    beside(
        json!({"allowed": {"requestHeaders": ["*", "content-length", "host", ":path", "x-a*b", "upgrade"]}}),
        &[
            "/allowed/requestHeaders/0: `*` alone would stand for every header",
            "/allowed/requestHeaders/1: `content-length` follows from the body",
            "/allowed/requestHeaders/2: `host` is a pseudo-header",
            "/allowed/requestHeaders/3: `:path` is a pseudo-header",
            "/allowed/requestHeaders/5: `upgrade` belongs to the connection",
        ],
    );
    beside(
        json!({"denied": {"responseHeaders": ["transfer-encoding", "x y*"]}}),
        &[
            "/denied/responseHeaders/0: `transfer-encoding` belongs to the connection",
            "/denied/responseHeaders/1: `x y*` is not a header name",
        ],
    );
    let many: Vec<_> = (0..65).map(|index| format!("x-{index}")).collect();
    beside(
        json!({"allowed": {"requestHeaders": many}}),
        &["/allowed/requestHeaders: 65 names are too many: 64 are the most"],
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let config = json!({
        "service": {"backend": "", "timeout": "soon"},
        "errorStatus": 200,
        "exempt": [{}, {"paths": ["healthz"]}],
    });
    check(
        config,
        &[
            "/service/backend: must be the name",
            "/service/timeout: `soon` is no time to wait",
            "/errorStatus: 200 is no status of an error",
            "/exempt/0: the condition says nothing",
            "/exempt/1/paths/0: `healthz` does not start with `/`",
        ],
    );
    beside(json!({"onError": "allow"}), &["/onError: unknown variant `allow`"]);
}
