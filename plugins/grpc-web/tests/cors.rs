//! Calls from pages of other origins.

#![allow(clippy::unwrap_used, reason = "a test may, and so may what it is made of")]

mod support;

use penstock_plugin::testing::{Message, Received};
use serde_json::{Value, json};
use support::{BINARY, TEXT, Translating, framed, with_cors};

const SHOP: &str = "https://shop.example";

fn shop() -> Translating {
    with_cors(json!({"allowOrigins": [SHOP, "https://*.shop.example"]}))
}

/// The answer to a preflight.
fn preflight(harness: &Translating, origin: &str, method: &str, headers: &str) -> Option<Received> {
    let request = harness.request("OPTIONS", "/shop.Shop/Buy").header("origin", origin);
    let request =
        request.header("access-control-request-method", method).header("access-control-request-headers", headers);
    request.start().unwrap().reply().cloned()
}

#[test]
fn a_preflight_is_answered() {
    let reply = preflight(&shop(), SHOP, "POST", "content-type,x-grpc-web,x-user-agent").unwrap();
    assert_eq!(reply.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", SHOP),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "content-type,x-grpc-web,x-user-agent"),
        ("vary", "origin"),
    ] {
        assert_eq!(reply.all(name), [value], "{name}");
    }
    assert!(!reply.has("access-control-allow-credentials") && !reply.has("access-control-max-age"));
    let reply = preflight(&shop(), "https://a.shop.example", "POST", "X-Grpc-Web").unwrap();
    assert_eq!(reply.all("access-control-allow-origin"), ["https://a.shop.example"]);
}

#[test]
fn an_origin_has_the_length_of_an_origin() {
    let page = |labels: usize| format!("https://{}a.shop.example", "a.".repeat(labels));
    let status = |origin: &str| preflight(&shop(), origin, "POST", "X-Grpc-Web").unwrap().status();
    assert_eq!(status(&page(100)), 204);
    assert_eq!(status(&page(30_000)), 403, "256 patterns would look at 60,000 bytes each");
}

#[test]
fn everything_is_configurable() {
    let harness = with_cors(json!({
        "allowOrigins": [SHOP], "allowHeaders": ["X-Tenant"], "exposeHeaders": ["x-cost"], "allowCredentials": true, "maxAge": 600,
    }));
    let reply = preflight(&harness, SHOP, "POST", "x-grpc-web").unwrap();
    let allowed = reply.first("access-control-allow-headers").unwrap();
    assert!(allowed.starts_with("content-type, x-grpc-web, ") && allowed.ends_with(", X-Tenant"), "{allowed}");
    assert_eq!(reply.all("access-control-allow-credentials"), ["true"]);
    assert_eq!(reply.all("access-control-max-age"), ["600"]);
    let head = response(&harness, Some(SHOP));
    assert_eq!(head.all("access-control-allow-credentials"), ["true"]);
    assert_eq!(
        head.all("access-control-expose-headers"),
        ["grpc-status, grpc-message, grpc-status-details-bin, x-cost"]
    );
}

#[test]
fn other_origins_and_other_preflights_are_not_answered_so() {
    let reply = preflight(&shop(), "https://evil.example", "POST", "x-grpc-web").unwrap();
    assert_eq!(reply.status(), 403);
    assert!(!reply.has("access-control-allow-origin"));
    assert_eq!(preflight(&shop(), SHOP, "POST", "content-type"), None, "not of gRPC-Web: it goes to the backend");
    assert_eq!(preflight(&shop(), SHOP, "PUT", "x-grpc-web"), None);
    assert!(shop().request("OPTIONS", "/").start().unwrap().reply().is_none(), "no preflight at all");
    let all = with_cors(json!({"allowOrigins": [SHOP], "preflights": "All"}));
    assert_eq!(preflight(&all, SHOP, "PUT", "content-type").unwrap().status(), 204);
    let without = Translating::new(json!({}));
    assert_eq!(preflight(&without, SHOP, "POST", "x-grpc-web"), None);
}

/// The head of the response to a call from this page.
fn response(harness: &Translating, origin: Option<&str>) -> Message {
    let mut request = harness.request("POST", "/shop.Shop/Buy").header("content-type", BINARY);
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    let mut live = request.start().unwrap();
    live.send(&framed(b"x"), true).unwrap();
    live.respond(200, &[("content-type", "application/grpc"), ("vary", "accept")]).unwrap();
    live.response().unwrap().clone()
}

#[test]
fn pages_may_read_responses() {
    let head = response(&shop(), Some(SHOP));
    assert_eq!(head.all("access-control-allow-origin"), [SHOP]);
    assert_eq!(head.all("access-control-expose-headers"), ["grpc-status, grpc-message, grpc-status-details-bin"]);
    assert_eq!(head.all("vary"), ["accept", "origin"]);
    for origin in [None, Some("https://evil.example")] {
        let head = response(&shop(), origin);
        assert!(!head.has("access-control-allow-origin") && !head.has("access-control-expose-headers"), "{origin:?}");
    }
    let all = response(&with_cors(json!({"allowOrigins": ["*"]})), Some("null"));
    assert_eq!((all.all("access-control-allow-origin"), all.all("vary")), (vec!["*".into()], vec!["accept".into()]));
}

#[test]
fn errors_can_be_read_too() {
    let harness = shop();
    let call = || harness.request("POST", "/s/M").header("content-type", TEXT).header("origin", SHOP).start().unwrap();
    let mut live = call();
    live.respond(503, &[("content-type", "text/plain")]).unwrap();
    assert_eq!(live.response().unwrap().all("access-control-allow-origin"), [SHOP]);
    let mut live = call();
    live.send(b"?", false).unwrap();
    let reply = live.reply().unwrap();
    assert_eq!(reply.all("access-control-allow-origin"), [SHOP]);
    assert_eq!(reply.all("access-control-expose-headers"), ["grpc-status, grpc-message, grpc-status-details-bin"]);
}

#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]
fn refused(cors: Value, pointer: &str, message: &str) {
    let problems = Translating::try_new(json!({ "cors": cors })).err().unwrap();
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.pointer.as_str(), pointer, "{problems}");
    assert!(problem.message.contains(message), "{problems}");
}

#[test]
fn mistakes_are_told_with_their_place() {
    refused(json!({"allowOrigins": []}), "/cors/allowOrigins", "there is no origin");
    refused(json!({"allowOrigins": ["shop.example"]}), "/cors/allowOrigins/0", "is no origin: write scheme, host");
    refused(json!({"allowOrigins": ["*"], "allowCredentials": true}), "/cors/allowCredentials", "browsers refuse `*`");
    refused(
        json!({"allowOrigins": ["*"], "allowHeaders": ["a b"]}),
        "/cors/allowHeaders/0",
        "`a b` is not a header name",
    );
    refused(
        json!({"allowOrigins": ["*"], "exposeHeaders": ["a", ""]}),
        "/cors/exposeHeaders/1",
        "is not a header name",
    );
    refused(json!({"allowOrigin": ["*"]}), "/cors/allowOrigin", "did you mean `allowOrigins`?");
}
