//! Clients choose how long and how many their headers are, not how much work they make.

use header_rules::HeaderRules;
use penstock_plugin::testing::{Harness, Sent};
use serde_json::{Value, json};

const LONG: usize = 60_000;

/// One rule for each of these changes.
fn rules(changes: impl Iterator<Item = Value>) -> Harness<HeaderRules> {
    let rules: Vec<_> = changes.map(|changes| json!({ "request": changes })).collect();
    Harness::new(json!({ "rules": rules }))
}

/// What the gateway gets: how many changes, with how many bytes; or the status of the answer.
fn cost(sent: &Sent<'_, HeaderRules>) -> Result<(usize, usize), u16> {
    match sent.reply() {
        Some(reply) => Err(reply.status()),
        None => Ok((sent.edits().len(), sent.edits().iter().map(|edit| format!("{edit:?}").len()).sum())),
    }
}

#[test]
fn many_rewrites_of_many_values_are_one_change_of_each() {
    let harness = rules(
        (0..10).map(|index| json!({"rewrite": [{"name": "x-a", "pattern": format!("^{index};"), "replacement": ""}]})),
    );
    let request = (0..50).fold(harness.get("/"), |request, index| request.header("x-a", format!("{index};{index}")));
    let sent = request.run();
    assert_eq!(cost(&sent).unwrap().0, 50, "ten rules had 500 changes");
    assert_eq!(sent.all("x-a")[..3], ["0", "1", "2"]);
    let appended =
        rules([json!({"append": {"x-a": "1"}}), json!({"append": {"x-a": "${request.header.x-a}"}})].into_iter());
    let sent = appended.get("/").header("x-a", "0").run();
    assert_eq!((cost(&sent).unwrap().0, sent.all("x-a")), (2, vec!["0".into(), "1".into(), "0, 1".into()]));
}

#[test]
fn more_values_than_the_gateway_takes_changes_of_are_refused() {
    let harness = rules([json!({"rewrite": [{"name": "x-a", "pattern": "^1", "replacement": "2"}]})].into_iter());
    let request = (0..1900).fold(harness.get("/"), |request, _| request.header("x-a", "1"));
    assert_eq!(cost(&request.run()), Err(431));
}

#[test]
fn replacing_in_a_long_value_is_no_more_work_than_the_rules_may_have() {
    let rewrite = |pattern: &str, replacement: &str| {
        let harness =
            rules([json!({"rewrite": [{"name": "x-a", "pattern": pattern, "replacement": replacement}]})].into_iter());
        cost(&harness.get("/").header("x-a", "a".repeat(LONG)).header("cookie", "c".repeat(4000)).run())
    };
    // Looks at everything behind each of 60,000 matches.
    assert_eq!(rewrite("a.*b|a", "x"), Err(431));
    // Would make 240 MB.
    assert_eq!(rewrite("a", "${request.header.cookie}"), Err(431));
    assert!(rewrite("^a", "b").is_ok_and(|(changes, _)| changes == 1));
}

#[test]
fn values_that_are_made_have_an_end() {
    let copies = |count: u32| {
        let harness = rules((0..count).map(|index| json!({"set": {format!("x-{index}"): "${request.header.cookie}"}})));
        cost(&harness.get("/").header("cookie", "c".repeat(LONG)).run())
    };
    assert!(copies(3).is_ok_and(|(changes, _)| changes == 3));
    assert_eq!(copies(4), Err(431), "the gateway takes 256 KiB");
}

#[test]
fn a_response_that_is_too_long_is_not_passed_half_changed() {
    let harness: Harness<HeaderRules> = Harness::new(
        json!({"rules": [{"response": {"rewrite": [{"name": "x-a", "pattern": "^1", "replacement": "2"}]}}]}),
    );
    let request = harness.get("/").run();
    let response = (0..1900).fold(request.respond(200), |response, _| response.header("x-a", "1"));
    assert_eq!(response.run().status(), 502);
}
