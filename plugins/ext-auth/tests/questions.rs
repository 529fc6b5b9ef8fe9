//! What the service is asked and told.

#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

mod support;

use serde_json::{Value, json};
use support::{Service, says};

fn service() -> Service {
    Service::answering(says(204, &[], ""))
}

/// The method, path, hosts and timeout of the question about a `POST` of `/a%20b?c=d`.
#[track_caller]
fn question(config: Value) -> (String, String, Vec<String>, Option<u32>) {
    let service = service();
    let harness = service.guards(json!({ "service": config }));
    let sent = harness.request("POST", "/a%20b?c=d").header("content-type", "text/plain").run();
    assert!(sent.reply().is_none());
    let asked = service.asked();
    let [asked] = asked.as_slice() else { panic!("one question: {asked:?}") };
    assert!(asked.body.is_empty(), "bodies are never sent");
    (asked.method.clone(), asked.path.clone(), service.told("host"), asked.timeout_ms)
}

fn asks(
    method: &str,
    path: &str,
    host: Option<&str>,
    timeout: Option<u32>,
) -> (String, String, Vec<String>, Option<u32>) {
    (method.to_owned(), path.to_owned(), host.map(str::to_owned).into_iter().collect(), timeout)
}

#[test]
fn a_path_is_asked_with_get() {
    assert_eq!(question(json!({"backend": "auth"})), asks("GET", "/", None, None));
    let config = json!({"backend": "auth", "path": "/verify?app=shop", "timeout": "1s500ms"});
    assert_eq!(question(config), asks("GET", "/verify?app=shop", None, Some(1500)));
    let config = json!({"backend": "auth", "path": "/verify", "method": "HEAD", "host": "auth.example:8080"});
    assert_eq!(question(config), asks("HEAD", "/verify", Some("auth.example:8080"), None));
}

#[test]
fn a_prefix_asks_for_what_the_client_asked() {
    let config = json!({"backend": "auth", "pathPrefix": "/check"});
    assert_eq!(question(config), asks("POST", "/check/a%20b?c=d", Some("gateway.test"), None));
    let config = json!({"backend": "auth", "pathPrefix": "", "method": "GET", "host": "auth.example"});
    assert_eq!(question(config), asks("GET", "/a%20b?c=d", Some("auth.example"), None));
}

#[test]
fn bytes_that_no_target_may_hold_are_encoded() {
    let service = service();
    let harness = service.guards(json!({"service": {"backend": "auth", "pathPrefix": ""}}));
    assert!(harness.get("/?q=é").run().reply().is_none());
    assert_eq!(service.asked()[0].path, "/?q=%C3%A9");
    assert_eq!(service.told("x-forwarded-uri"), ["/?q=é"]);
}

#[test]
fn the_service_is_told_what_was_asked_for() {
    let service = service();
    let harness = service.guards(json!({}));
    let _ = harness.request("PUT", "/a?b").run();
    assert_eq!(service.told("x-forwarded-method"), ["PUT"]);
    assert_eq!(service.told("x-forwarded-uri"), ["/a?b"]);
    assert_eq!(service.told("x-original-method"), ["PUT"]);
    assert_eq!(service.told("x-original-url"), ["http://gateway.test/a?b"]);
}

#[test]
fn what_the_gateway_says_of_the_client_is_passed_on() {
    let service = service();
    let harness = service.guards(json!({"request": {"headers": []}}));
    let request =
        harness.get("/a").header("x-forwarded-for", "192.0.2.7, 10.0.0.1").header("x-forwarded-proto", "https");
    let request = request.header("x-forwarded-host", "shop.example").header("x-forwarded-port", "8443");
    let _ = request.header("x-request-id", "r1").header("forwarded", "for=192.0.2.7").run();
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.7, 10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-port", "8443"),
        ("x-request-id", "r1"),
        ("forwarded", "for=192.0.2.7"),
        ("x-original-url", "https://shop.example/a"),
    ] {
        assert_eq!(service.told(name), [value], "{name}");
    }
}

#[test]
fn all_headers_of_the_client_go_but_those_that_would_mislead() {
    let service = service();
    let harness = service.guards(json!({}));
    let passed = ["authorization", "accept", "x-own", "origin"];
    let kept = [
        "content-type",
        "content-length",
        "content-encoding",
        "expect",
        "if-none-match",
        "range",
        "te",
        "connection",
        "x-real-ip",
        "x-forwarded-user",
        "x-original-uri",
        "x-rewrite-url",
    ];
    let request = passed.iter().chain(&kept).fold(harness.get("/"), |request, name| request.header(name, "1"));
    // Written again, and not beside what the client says.
    let request = request.header("x-forwarded-uri", "/free").header("x-original-url", "http://free/");
    assert!(request.run().reply().is_none());
    for name in passed {
        assert_eq!(service.told(name), ["1"], "{name}");
    }
    for name in kept {
        assert!(service.told(name).is_empty(), "{name}");
    }
    assert_eq!(
        (service.told("x-forwarded-uri"), service.told("x-original-url")),
        (vec!["/".into()], vec!["http://gateway.test/".into()])
    );
}

#[test]
fn repeated_headers_stay_repeated_and_cookies_are_joined() {
    for config in [json!({}), json!({"request": {"headers": ["cookie", "X-Own"]}})] {
        let service = service();
        let harness = service.guards(config);
        let request = harness.get("/").header("cookie", "a=1").header("x-own", "1");
        let _ = request.header("cookie", "b=2").header("x-own", "2").run();
        assert_eq!(service.told("cookie"), ["a=1; b=2"]);
        assert_eq!(service.told("x-own"), ["1", "2"]);
    }
}

#[test]
fn named_headers_go_and_no_others() {
    let service = service();
    let harness = service.guards(json!({"request": {"headers": ["Authorization"]}}));
    let _ = harness.get("/").header("authorization", "Bearer x").header("cookie", "a=1").run();
    assert_eq!(service.told("authorization"), ["Bearer x"]);
    assert!(service.told("cookie").is_empty());
    let reads = &harness.plan().wire().request_reads;
    assert!(reads.iter().any(|name| name == "authorization"), "what is named is read with the plan: {reads:?}");
}

#[test]
fn constants_replace_what_the_client_sent() {
    let service = service();
    let harness = service.guards(json!({"request": {"set": {"X-Gateway": "secret"}}}));
    let _ = harness.get("/").header("x-gateway", "guess").run();
    assert_eq!(service.told("x-gateway"), ["secret"]);
}
