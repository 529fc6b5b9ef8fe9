//! Calls from head to trailers.

mod support;

use penstock_plugin::Hooks;
use support::{BASE64, BINARY, TEXT, call, decode, framed, harness, trailers};

use base64::Engine;

const ALL: [Hooks; 4] = [Hooks::REQUEST_BODY, Hooks::RESPONSE_HEADERS, Hooks::RESPONSE_BODY, Hooks::RESPONSE_TRAILERS];

#[test]
fn a_binary_call_becomes_grpc_and_its_trailers_a_frame() {
    let harness = harness();
    let mut live = call(&harness, BINARY);
    assert_eq!(live.request().unwrap().all("content-type"), ["application/grpc+proto"]);
    assert!(!live.calls(Hooks::REQUEST_BODY), "a binary body does not enter the plugin");
    live.send(&framed(b"hello"), true).unwrap();
    assert_eq!(live.request_body(), framed(b"hello"));
    live.respond(200, &[("content-type", "application/grpc")]).unwrap();
    assert_eq!(live.response().unwrap().all("content-type"), [BINARY]);
    assert!(!live.calls(Hooks::RESPONSE_BODY));
    live.receive(&framed(b"world"), true).unwrap();
    live.receive_trailers(&[("grpc-status", "0"), ("grpc-message", ""), ("x-cost", "7"), ("x-cost", "8")]).unwrap();
    let end = trailers("grpc-status:0\r\ngrpc-message:\r\nx-cost:7\r\nx-cost:8\r\n");
    assert_eq!(live.response_body(), [framed(b"world"), end].concat());
    assert_eq!(*live.response_trailers(), penstock_plugin::testing::Message::default(), "they are moved, not copied");
}

#[test]
fn a_text_call_is_decoded_and_encoded() {
    let harness = harness();
    let mut live = call(&harness, TEXT);
    assert_eq!(live.request().unwrap().all("content-type"), ["application/grpc"]);
    live.send(BASE64.encode(framed(b"hello")).as_bytes(), true).unwrap();
    assert_eq!(live.request_body(), framed(b"hello"));
    live.respond(200, &[("content-type", "application/grpc+proto")]).unwrap();
    assert_eq!(live.response().unwrap().all("content-type"), ["application/grpc-web-text+proto"]);
    live.receive(&framed(b"one"), false).unwrap();
    assert_eq!(decode(live.response_body()), framed(b"one"), "a message does not wait for the next");
    live.receive(&framed(b"three"), true).unwrap();
    live.receive_trailers(&[("grpc-status", "0")]).unwrap();
    let end = trailers("grpc-status:0\r\n");
    assert_eq!(decode(live.response_body()), [framed(b"one"), framed(b"three"), end].concat());
}

#[test]
fn what_the_client_accepts_decides_how_it_is_answered() {
    let harness = harness();
    for (sent, accepted, answered) in [
        (BINARY, TEXT, "application/grpc-web-text+proto"),
        (TEXT, BINARY, BINARY),
        (TEXT, "*/*", "application/grpc-web-text+proto"),
    ] {
        let request = harness.request("POST", "/s/M").header("content-type", sent).header("accept", accepted);
        let mut live = request.start().unwrap();
        live.respond(200, &[("content-type", "application/grpc")]).unwrap();
        assert_eq!(live.response().unwrap().all("content-type"), [answered], "{sent} accepting {accepted}");
    }
}

#[test]
fn formats_are_kept() {
    let harness = harness();
    let mut live = call(&harness, "application/grpc-web-text+json");
    assert_eq!(live.request().unwrap().all("content-type"), ["application/grpc+json"]);
    live.respond(200, &[("content-type", "application/grpc+json")]).unwrap();
    assert_eq!(live.response().unwrap().all("content-type"), ["application/grpc-web-text+json"]);
}

#[test]
fn what_is_not_grpc_web_is_left_alone() {
    let harness = harness();
    for (method, content_type) in [("POST", "application/grpc"), ("POST", "application/json"), ("GET", BINARY)] {
        let mut live = harness.request(method, "/").header("content-type", content_type).start().unwrap();
        assert_eq!(live.request().unwrap().all("content-type"), [content_type]);
        for hook in ALL {
            assert!(!live.calls(hook), "{hook:?} for {method} {content_type}");
        }
        live.send(b"body", true).unwrap();
        live.respond(200, &[("content-type", content_type)]).unwrap();
        live.receive(b"back", true).unwrap();
        live.receive_trailers(&[("grpc-status", "0")]).unwrap();
        assert_eq!((live.request_body(), live.response_body()), (&b"body"[..], &b"back"[..]));
        assert!(live.response_trailers().has("grpc-status"));
    }
    assert!(!harness.request("GET", "/").start().unwrap().calls(Hooks::RESPONSE_HEADERS), "without a content type");
}

#[test]
fn other_headers_go_on_as_they_are() {
    let harness = harness();
    let request = harness.request("POST", "/s/M").header("content-type", BINARY);
    let live =
        request.header("grpc-timeout", "1S").header("x-grpc-web", "1").header("x-user-agent", "a").start().unwrap();
    let head = live.request().unwrap();
    for (name, value) in [("grpc-timeout", "1S"), ("x-grpc-web", "1"), ("x-user-agent", "a")] {
        assert_eq!(head.all(name), [value]);
    }
}

#[test]
fn a_status_in_the_headers_stays_there() {
    let harness = harness();
    for content_type in [BINARY, TEXT] {
        let mut live = call(&harness, content_type);
        let headers = [("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "no such shop")];
        live.respond(200, &headers).unwrap();
        live.receive(b"", true).unwrap();
        live.receive_trailers(&[]).unwrap();
        let head = live.response().unwrap();
        assert_eq!(
            (head.all("grpc-status"), head.all("grpc-message")),
            (vec!["5".into()], vec!["no such shop".into()])
        );
        assert!(head.first("content-type").unwrap().starts_with("application/grpc-web"));
        assert_eq!(live.response_body(), b"", "and there is no second one");
    }
}

#[test]
fn answers_that_are_not_grpc_become_a_status() {
    let harness = harness();
    for (status, code) in
        [(503, "14"), (404, "12"), (401, "16"), (403, "7"), (400, "13"), (429, "14"), (500, "2"), (200, "2")]
    {
        let mut live = call(&harness, BINARY);
        live.respond(status, &[("content-type", "text/html"), ("content-encoding", "br"), ("retry-after", "3")])
            .unwrap();
        live.receive(b"<h1>", false).unwrap();
        live.receive(b"sorry", true).unwrap();
        live.receive_trailers(&[]).unwrap();
        let head = live.response().unwrap();
        assert_eq!((head.status(), head.all("grpc-status")), (200, vec![code.into()]), "HTTP {status}");
        assert_eq!(head.all("grpc-message"), [format!("the call was answered with HTTP status {status}")]);
        assert_eq!((head.all("content-type"), head.all("retry-after")), (vec![BINARY.into()], vec!["3".into()]));
        assert!(!head.has("content-encoding") && live.response_body().is_empty(), "the page is dropped");
    }
}

#[test]
fn a_response_without_a_status_gets_one() {
    let harness = harness();
    let mut live = call(&harness, BINARY);
    live.respond(200, &[("content-type", "application/grpc")]).unwrap();
    live.receive(&framed(b"half"), true).unwrap();
    live.receive_trailers(&[]).unwrap();
    let end = trailers("grpc-status:13\r\ngrpc-message:the backend ended the response without a status\r\n");
    assert_eq!(live.response_body(), [framed(b"half"), end].concat());
}

#[test]
fn a_body_that_is_not_base64_is_answered() {
    let harness = harness();
    for (body, end) in [("AAA?", false), ("AAAAAA", true), ("=", false)] {
        let mut live = call(&harness, TEXT);
        live.send(body.as_bytes(), end).unwrap();
        let reply = live.reply().unwrap();
        assert_eq!((reply.status(), reply.all("grpc-status")), (200, vec!["3".into()]), "{body}");
        assert_eq!(reply.all("content-type"), ["application/grpc-web-text+proto"]);
        assert_eq!(reply.all("grpc-message"), ["the body of the request is not base64"]);
    }
}

#[test]
fn trailers_that_no_plugin_may_name_do_no_harm() {
    let harness = harness();
    let mut live = call(&harness, BINARY);
    live.respond(200, &[("content-type", "application/grpc")]).unwrap();
    live.receive(b"", true).unwrap();
    live.receive_trailers(&[("content-length", "7"), ("grpc-status", "0"), ("te", "x")]).unwrap();
    assert_eq!(live.response_body(), trailers("grpc-status:0\r\n"));
}
