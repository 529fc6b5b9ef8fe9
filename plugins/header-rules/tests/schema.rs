//! The published schema, and what the documentation shows.

use header_rules::{HeaderRules, config::Config};
use penstock_plugin::testing::{Harness, check_schema};
use serde_json::{Value, json};

fn validator() -> jsonschema::Validator {
    let schema = serde_json::from_str(include_str!("../schema.json")).expect("the schema is JSON");
    jsonschema::draft202012::new(&schema).expect("the schema is a schema")
}

#[test]
fn the_published_schema_is_that_of_the_configuration() {
    check_schema::<Config>(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json"));
}

#[test]
fn the_example_of_the_documentation_works() {
    let (_, rest) = include_str!("../README.md").split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let resource: Value = serde_yaml_ng::from_str(example).unwrap();
    let config = resource["spec"]["config"].clone();
    validator().validate(&config).unwrap();

    let harness = Harness::<HeaderRules>::new(config);
    let sent = harness.get("/api/users?x").header("x-debug", "1").header("x-internal", "1").run();
    assert_eq!((sent.all("x-gateway"), sent.all("x-client")), (vec!["penstock".into()], vec!["192.0.2.1".into()]));
    assert!(!sent.has("x-internal"));
    let received = sent.respond(503).header("server", "x").header("location", "http://a").run();
    assert_eq!(received.all("x-failed-path"), ["/api/users"]);
    assert_eq!(received.all("location"), ["https://a"]);
    assert!(!received.has("server"));
    assert!(!sent.respond(200).run().has("x-failed-path"));
}

#[test]
fn the_schema_refuses_what_has_another_shape() {
    let validator = validator();
    let rule = |rule: Value| json!({"rules": [rule]});
    for (config, valid) in [
        (rule(json!({"request": {"append": {"a": ["1", "2"], "b": "3"}}})), true),
        (rule(json!({"response": {"when": {"status": [404, "5xx", "200-299"]}}})), true),
        (rule(json!({"when": {"path": {"prefix": "/a"}}, "request": {}})), true),
        (json!({}), false),
        (json!({"rules": []}), false),
        (rule(json!({"requests": {}})), false),
        (rule(json!({"request": {"set": {"a": 1}}})), false),
        (rule(json!({"request": {"append": {"a": []}}})), false),
        (rule(json!({"request": {"rewrite": [{"name": "a", "pattern": "b"}]}})), false),
        (rule(json!({"response": {"when": {"status": ["6xx"]}}})), false),
        (rule(json!({"response": {"when": {"status": [42]}}})), false),
        (rule(json!({"when": {"headers": [{"present": true}]}})), false),
    ] {
        assert_eq!(validator.is_valid(&config), valid, "{config}");
    }
}
