use http::{Request, Response};
use penstock_core::plugin::PluginLimits;

use super::*;
use crate::{
    contract::types::{BodyMode, Hooks, Plan as WitPlan},
    instance::World,
    plan::Plan,
};

fn plan(request_writes: &[&str], response_writes: &[&str]) -> Plan {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let plan = WitPlan {
        hooks: Hooks::REQUEST_HEADERS,
        request_reads: vec![],
        response_reads: vec![],
        carried_reads: vec![],
        request_writes: names(request_writes),
        response_writes: names(response_writes),
        request_body: BodyMode::None,
        response_body: BodyMode::None,
    };
    Plan::check(plan, World::Header, &PluginLimits::default()).unwrap()
}

fn set(name: &str, value: impl AsRef<[u8]>) -> Edit {
    Edit::Set(Header { name: name.into(), value: value.as_ref().to_vec() })
}

fn append(name: &str, value: &str) -> Edit {
    Edit::Append(Header { name: name.into(), value: value.into() })
}

/// Apply edits to a request; on an error assert that it is untouched.
fn request(edits: Vec<Edit>) -> Result<http::request::Parts, String> {
    request_of(Request::get("/old?q").header("host", "old.example").header("x-a", "1").header("x-a", "2"), edits)
}

fn request_of(builder: http::request::Builder, edits: Vec<Edit>) -> Result<http::request::Parts, String> {
    let plan = plan(&["x-a", "x-b", ":path", ":method", ":authority", "p-*"], &[]);
    let (mut head, ()) = builder.body(()).unwrap().into_parts();
    let before = head.clone();
    let result = Edits::check(edits, &plan.request.writes).and_then(|edits| edits.apply_to_request(&mut head));
    match result {
        Ok(()) => Ok(head),
        Err(error) => {
            assert_eq!((&head.method, &head.uri, &head.headers), (&before.method, &before.uri, &before.headers));
            Err(error.to_string())
        }
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

#[test]
fn edits_apply_in_order() {
    let head = request(vec![
        append("x-a", "3"),
        set("x-b", "\u{e9}"),
        Edit::AppendKnown(KnownHeader { index: 0, value: b"4".to_vec() }),
        set("p-1", "x"),
    ])
    .unwrap();
    assert_eq!(values(&head.headers, "x-a"), [b"1", b"2", b"3", b"4"]);
    assert_eq!(values(&head.headers, "x-b"), ["\u{e9}".as_bytes()]);
    assert_eq!(values(&head.headers, "p-1"), [b"x"]);

    let head = request(vec![
        Edit::RemoveKnown(0),
        append("x-a", "5"),
        Edit::SetKnown(KnownHeader { index: 1, value: vec![] }),
        Edit::Remove("p-absent".into()),
    ])
    .unwrap();
    assert_eq!(values(&head.headers, "x-a"), [b"5"]);
    assert_eq!(values(&head.headers, "x-b"), [b""]);
}

#[test]
fn the_target_of_a_request_can_be_set() {
    let head =
        request(vec![set(":path", "/new?a=b"), set(":method", "POST"), set(":authority", "new.example:81")]).unwrap();
    assert_eq!(head.uri, "/new?a=b");
    assert_eq!(head.method, Method::POST);
    assert_eq!(values(&head.headers, "host"), [b"new.example:81"]);

    // There is one spelling of a path, and it does not lead elsewhere. A query is left alone.
    for (written, passed_on) in [
        ("/a/../b//c/./d?x=/../y", "/b/c/d?x=/../y"),
        ("/%61%2f%c3%a9", "/a%2F%C3%A9"),
        ("/a|b", "/a%7Cb"),
        ("/.x/..x", "/.x/..x"),
    ] {
        assert_eq!(request(vec![set(":path", written)]).unwrap().uri, passed_on, "{written}");
    }

    // HTTP/2 has its authority in the target.
    let absolute = || Request::get("https://old.example/old");
    let head = request_of(absolute(), vec![set(":authority", "new.example")]).unwrap();
    assert_eq!(head.uri, "https://new.example/old");
    assert!(!head.headers.contains_key("host"));
    let head = request_of(absolute().header("host", "old.example"), vec![set(":authority", "new.example")]).unwrap();
    assert_eq!(values(&head.headers, "host"), [b"new.example"]);
    let head = request_of(absolute(), vec![set(":path", "/x")]).unwrap();
    assert_eq!(head.uri, "https://old.example/x");
}

#[test]
fn an_invalid_edit_leaves_the_request_untouched() {
    let check = |edit: Edit, expected: &str| {
        let edits = vec![set("x-a", "changed"), set(":method", "PUT"), set(":path", "/changed"), edit];
        assert_eq!(request(edits).unwrap_err(), expected);
    };
    for value in ["a\r\nb: c", "a\nb", "a\0", "\x7f", "\x1b"] {
        check(set("x-a", value), "the value of `x-a` has control characters");
    }
    check(set("x-c", "1"), "undeclared-write: `x-c` is not covered by the plan's writes");
    check(Edit::Remove("x-c".into()), "undeclared-write: `x-c` is not covered by the plan's writes");
    check(
        append("p-a b", "1"),
        "`p-a b` is no header name: lower case letters, digits and !#$%&'*+-.^_`|~ are allowed",
    );
    check(set("transfer-encoding", "chunked"), "`transfer-encoding` belongs to the connection, not to the message");
    check(set("host", "a"), "`host` cannot be written; `:authority` can");
    check(Edit::RemoveKnown(5), "index 5 of the plan's writes is a prefix, which cannot be used as an index");
    check(Edit::RemoveKnown(6), "index 6 is beyond the plan's 6 writes");
    check(append(":path", "/"), "`:path` can only be set, not appended or removed");
    check(Edit::Remove(":method".into()), "`:method` can only be set, not appended or removed");
    check(set(":path", "new"), "`new` is no path");
    check(set(":path", "/a b"), "`/a b` is no path");
    check(set(":path", "/a#b"), "`/a#b` is no path");
    check(set(":path", "/\r\n"), "`/\\r\\n` is no path");
    check(set(":path", "/é"), "`/\\xc3\\xa9` is no path");
    let above = "`/../a` is no path that can be passed on: the path leads above the root";
    check(set(":path", "/../a"), above);
    check(
        set(":path", "/%zz"),
        "`/%zz` is no path that can be passed on: the path has a '%' without two hexadecimal digits",
    );
    check(set(":method", "CONNECT"), "`CONNECT` is no method that a plugin can set");
    check(set(":method", "a b"), "`a b` is no method that a plugin can set");
    check(set(":authority", "user@a"), "`user@a` is no authority");
    check(set(":authority", ""), "`` is no authority");
    check(set(":authority", "a/b"), "`a/b` is no authority");
    check(set(":status", "200"), "`:status` cannot be set; `:method`, `:authority` and `:path` can, in requests");
}

#[test]
fn answers_are_bounded() {
    let many = (0..=MOST_EDITS).map(|_| Edit::RemoveKnown(0)).collect();
    assert_eq!(request(many).unwrap_err(), "1025 edits; 1024 are allowed");
    let large = vec![set("x-a", vec![b'a'; MOST_BYTES]), set("x-b", "1")];
    assert_eq!(request(large).unwrap_err(), "values of more than 262144 bytes together");
    let mut crowded = Request::get("/");
    for _ in 0..MOST_HEADERS - 1 {
        crowded = crowded.header("x-a", "1");
    }
    assert_eq!(
        request_of(crowded, vec![append("x-b", "1")]).unwrap_err(),
        "the message would have more than 8192 headers"
    );
}

#[test]
fn the_status_of_a_response_can_be_set() {
    let plan = plan(&[], &["x-a", ":status"]);
    let respond = |value: &str| {
        let (mut head, ()) = Response::new(()).into_parts();
        let edits = vec![set("x-a", "1"), set(":status", value)];
        let result = Edits::check(edits, &plan.response.writes).and_then(|edits| edits.apply_to_response(&mut head));
        (result.map_err(|error| error.to_string()), head.status.as_u16(), head.headers.len())
    };
    assert_eq!(respond("404"), (Ok(()), 404, 1));
    for status in ["99", "199", "600", "1000", "", "abc", "2000"] {
        assert_eq!(respond(status), (Err(format!("`{status}` is no status between 200 and 599")), 200, 0));
    }
}
