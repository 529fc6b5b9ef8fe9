//! What rules do.

#![expect(clippy::needless_pass_by_value, reason = "tests write json!(…) here")]

use header_rules::HeaderRules;
use penstock_plugin::testing::{Edit, Harness};
use serde_json::{Value, json};

fn request(changes: Value) -> Harness<HeaderRules> {
    Harness::new(json!({"rules": [{"request": changes}]}))
}

fn response(changes: Value) -> Harness<HeaderRules> {
    Harness::new(json!({"rules": [{"response": changes}]}))
}

#[test]
fn set_replaces_all_values() {
    let harness = request(json!({"set": {"X-A": "new"}}));
    assert_eq!(harness.get("/").header("x-a", "1").header("X-A", "2").run().all("x-a"), ["new"]);
    assert_eq!(harness.get("/").run().all("x-a"), ["new"]);
}

#[test]
fn append_keeps_what_is_there_and_its_order() {
    let harness = request(json!({"append": {"x-a": ["3", "4"], "x-b": "1"}}));
    let sent = harness.get("/").header("x-a", "1").header("x-a", "2").run();
    assert_eq!(sent.all("x-a"), ["1", "2", "3", "4"]);
    assert_eq!(sent.all("x-b"), ["1"]);
}

#[test]
fn remove_takes_every_value_and_minds_no_case() {
    let harness = request(json!({"remove": ["X-Internal"]}));
    assert!(!harness.get("/").header("x-INTERNAL", "1").header("x-internal", "2").run().has("x-internal"));
    assert!(!harness.get("/").run().has("x-internal"));
}

#[test]
fn set_then_append_in_one_section() {
    let sent = request(json!({"set": {"x-a": "1"}, "append": {"x-a": "2"}}));
    assert_eq!(sent.get("/").header("x-a", "0").run().all("x-a"), ["1", "2"]);
}

#[test]
fn rename_moves_all_values() {
    let harness = request(json!({"rename": {"X-Old": "x-new"}}));
    let sent = harness.get("/").header("x-old", "1").header("x-old", b"\xff").header("x-new", "gone").run();
    assert_eq!(sent.bytes("x-new"), [&b"1"[..], b"\xff"]);
    assert!(!sent.has("x-old"));
}

#[test]
fn rename_of_what_is_absent_does_nothing() {
    let harness = request(json!({"rename": {"x-old": "x-new"}}));
    let sent = harness.get("/").header("x-new", "stays").run();
    assert_eq!(sent.all("x-new"), ["stays"]);
    assert_eq!(sent.edits(), []);
}

#[test]
fn a_renamed_header_can_be_rewritten_set_anew_and_appended_to() {
    let harness = request(json!({
        "rename": {"x-old": "x-new"},
        "rewrite": [{"name": "x-new", "pattern": "a", "replacement": "b"}],
        "set": {"x-old": "fresh"},
        "append": {"x-new": "z"},
    }));
    let sent = harness.get("/").header("x-old", "aa").run();
    assert_eq!(sent.all("x-new"), ["bb", "z"]);
    assert_eq!(sent.all("x-old"), ["fresh"]);
}

#[test]
fn rewrite_replaces_every_match_in_every_value() {
    let harness = request(json!({"rewrite": [{"name": "x-a", "pattern": "[0-9]+", "replacement": "<$0>"}]}));
    let sent = harness.get("/").header("x-a", "a1b22").header("x-a", "none").header("x-a", "3").run();
    assert_eq!(sent.all("x-a"), ["a<1>b<22>", "none", "<3>"]);
}

#[test]
fn rewrite_without_a_match_changes_nothing() {
    let harness = request(json!({"rewrite": [{"name": "x-a", "pattern": "x", "replacement": "y"}]}));
    assert_eq!(harness.get("/").header("x-a", "1").header("x-a", "2").run().edits(), []);
    assert_eq!(harness.get("/").run().edits(), []);
}

#[test]
fn rewrite_has_groups_by_number_and_name() {
    let harness = response(json!({"rewrite": [{
        "name": "location",
        "pattern": "^(?<scheme>https?)://(internal\\.[a-z]+)(:[0-9]+)?/(.*)$",
        "replacement": "https://${request.authority}/$4?from=${2}&was=${scheme}${3}",
    }]}));
    let sent = harness.get("/").header("host", "shop.example").run();
    let received = sent.respond(302).header("location", "http://internal.svc/cart/7").run();
    assert_eq!(received.all("location"), ["https://shop.example/cart/7?from=internal.svc&was=http"]);
    let received = sent.respond(302).header("location", "/cart").run();
    assert_eq!(received.all("location"), ["/cart"]);
}

#[test]
fn rewrite_keeps_bytes_that_are_not_utf8() {
    let harness = request(json!({"rewrite": [{"name": "x-a", "pattern": "(b.)", "replacement": "[$1]ü"}]}));
    let sent = harness.get("/").header("x-a", b"\xfeab\xffc\xe4").run();
    assert_eq!(sent.bytes("x-a"), [b"\xfea[b\xff]\xc3\xbcc\xe4"]);
}

#[test]
fn several_rewrites_of_one_header_follow_each_other() {
    let harness = request(json!({"rewrite": [
        {"name": "x-a", "pattern": "a", "replacement": "b"},
        {"name": "x-a", "pattern": "b", "replacement": "c"},
    ]}));
    assert_eq!(harness.get("/").header("x-a", "ab").run().all("x-a"), ["cc"]);
}

#[test]
fn path_and_authority_can_be_set_and_rewritten() {
    let harness = request(json!({
        "set": {"Host": "backend.example"},
        "rewrite": [{"name": ":path", "pattern": "^/v1/", "replacement": "/v2/"}],
    }));
    let sent = harness.get("/v1/users?x=1").run();
    assert_eq!(sent.all(":path"), ["/v2/users?x=1"]);
    assert_eq!(sent.all(":authority"), ["backend.example"]);
}

#[test]
fn a_value_that_is_no_path_is_not_set() {
    let harness = request(json!({"set": {":path": "${request.header.x-to}"}}));
    assert_eq!(harness.get("/a").header("x-to", "/b").run().all(":path"), ["/b"]);
    for wrong in ["b", "", "/b c", "/\u{e4}"] {
        assert_eq!(harness.get("/a").header("x-to", wrong).run().all(":path"), ["/a"], "{wrong:?}");
    }
    let harness = request(json!({"rewrite": [{"name": ":path", "pattern": "x", "replacement": ""}]}));
    assert_eq!(harness.get("/.x./admin").run().all(":path"), ["/.x./admin"], "the way up is not made");
    let harness = request(json!({"rewrite": [{"name": ":path", "pattern": "^/", "replacement": ""}]}));
    assert_eq!(harness.get("/a").run().all(":path"), ["/a"]);
}

#[test]
fn rules_are_applied_in_order() {
    let harness = Harness::<HeaderRules>::new(json!({"rules": [
        {"request": {"set": {"x-a": "1"}}},
        {"request": {"append": {"x-a": "2"}}},
        {"request": {"rename": {"x-a": "x-b"}}},
        {"request": {"rewrite": [{"name": "x-b", "pattern": "2", "replacement": "3"}]}},
        {"request": {"set": {"x-c": "${request.header.x-b}", "x-d": "${request.header.x-a:-gone}"}}},
        {"request": {"remove": ["x-b"]}},
        {"request": {"append": {"x-b": "4"}}},
        {"request": {"set": {"x-e": "${request.header.x-b}"}}},
    ]}));
    let sent = harness.get("/").header("x-a", "0").header("x-b", "0").run();
    assert!(!sent.has("x-a"));
    assert_eq!(sent.all("x-b"), ["4"]);
    assert_eq!(sent.all("x-c"), ["1, 3"]);
    assert_eq!(sent.all("x-d"), ["gone"]);
    assert_eq!(sent.all("x-e"), ["4"]);
}

#[test]
fn an_append_is_seen_behind_what_arrived() {
    let harness = Harness::<HeaderRules>::new(json!({"rules": [
        {"request": {"append": {"x-a": "2"}}},
        {"request": {"set": {"x-b": "${request.header.x-a}"}}},
    ]}));
    assert_eq!(harness.get("/").header("x-a", "0").header("x-a", "1").run().all("x-b"), ["0, 1, 2"]);
}

#[test]
fn responses() {
    let harness = response(json!({
        "rename": {"x-powered-by": "x-origin"},
        "set": {"x-served-by": "penstock"},
        "append": {"set-cookie": ["a=1", "b=2"]},
        "remove": ["server"],
    }));
    let received = harness
        .get("/")
        .run()
        .respond(200)
        .header("Server", "origin")
        .header("X-Powered-By", "php")
        .header("Set-Cookie", "c=3")
        .run();
    assert!(!received.has("server") && !received.has("x-powered-by"));
    assert_eq!(received.all("x-origin"), ["php"]);
    assert_eq!(received.all("x-served-by"), ["penstock"]);
    assert_eq!(received.all("set-cookie"), ["c=3", "a=1", "b=2"]);
}

#[test]
fn variables() {
    let harness = request(json!({"set": {
        "x-all": "${request.method} ${request.scheme} ${request.authority} ${request.path} ${request.query} ${client.address}",
        "x-copy": "${request.header.X-Many}",
        "x-default": "${request.header.x-none:-a:-b}",
        "x-empty": "[${request.header.x-none:-}]",
        "x-dollar": "$$5 costs $5, $${not a variable} and $",
    }}));
    let sent = harness.get("/a/b?c=d&e").header("x-many", "1").header("x-many", b"\xff").run();
    assert_eq!(sent.all("x-all"), ["GET http gateway.test /a/b c=d&e 192.0.2.1"]);
    assert_eq!(sent.bytes("x-copy"), [b"1, \xff"]);
    assert_eq!(sent.all("x-default"), ["a:-b"]);
    assert_eq!(sent.all("x-empty"), ["[]"]);
    assert_eq!(sent.all("x-dollar"), ["$5 costs $5, ${not a variable} and $"]);
}

#[test]
fn a_change_whose_variable_is_absent_is_not_made() {
    let harness = request(json!({
        "set": {"x-a": "${request.header.x-none}", "x-b": "${request.query}"},
        "append": {"x-c": "a${request.header.x-none}"},
        "rewrite": [{"name": "x-d", "pattern": "1", "replacement": "${request.header.x-none}"}],
    }));
    let sent = harness.get("/").header("x-a", "stays").header("x-d", "1").run();
    assert_eq!(sent.all("x-a"), ["stays"]);
    assert_eq!(sent.edits(), []);
    assert_eq!(harness.get("/?").run().all("x-b"), [""], "an empty query is one");
}

#[test]
fn variables_of_the_response() {
    let harness = response(json!({"set": {
        "x-was": "${response.status} from ${response.header.server:-nobody} for ${request.method} ${request.path} by ${request.header.x-user}",
    }}));
    let sent = harness.request("PUT", "/a?b").header("x-user", "anna").run();
    assert_eq!(sent.respond(404).run().all("x-was"), ["404 from nobody for PUT /a by anna"]);
    assert_eq!(sent.respond(200).header("server", "x").run().all("x-was"), ["200 from x for PUT /a by anna"]);
}

#[test]
fn in_responses_the_request_is_as_it_arrived() {
    let harness = Harness::<HeaderRules>::new(json!({"rules": [{
        "request": {"set": {"x-user": "hidden"}},
        "response": {"set": {"x-was": "${request.header.x-user}"}},
    }]}));
    let sent = harness.get("/").header("x-user", "anna").run();
    assert_eq!(sent.all("x-user"), ["hidden"]);
    assert_eq!(sent.respond(200).run().all("x-was"), ["anna"]);
}

#[test]
fn edits_use_indexes_and_nothing_is_done_that_need_not() {
    let harness = request(json!({"set": {"x-a": "1"}, "remove": ["x-b"]}));
    let sent = harness.get("/").run();
    assert_eq!(sent.edits(), [Edit::Set("x-a".into(), b"1".into()), Edit::Remove("x-b".into())]);
}

#[test]
fn empty_values_are_values() {
    assert_eq!(request(json!({"set": {"x-a": ""}})).get("/").run().all("x-a"), [""]);
}
