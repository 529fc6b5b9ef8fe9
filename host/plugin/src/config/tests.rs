use serde_json::json;

use super::*;

/// As schemars writes it: definitions by reference, tagged and untagged alternatives.
fn schema() -> String {
    json!({
        "type": "object",
        "properties": {
            "rules": { "type": "array", "maxItems": 2, "items": { "$ref": "#/$defs/Rule" } },
            "mode": { "enum": ["fast", "safe"] },
            "limit": { "type": "integer", "minimum": 1 },
            "key": { "type": "string", "pattern": "^[a-z]+$" },
            "value": { "anyOf": [{ "type": "string" }, { "type": "integer" }] }
        },
        "additionalProperties": false,
        "$defs": {
            "Rule": {
                "oneOf": [
                    {
                        "type": "object",
                        "properties": { "set": { "type": "object",
                            "properties": { "name": { "type": "string" } },
                            "required": ["name"], "additionalProperties": false } },
                        "required": ["set"], "additionalProperties": false
                    },
                    {
                        "type": "object",
                        "properties": { "remove": { "type": "string" } },
                        "required": ["remove"], "additionalProperties": false
                    }
                ]
            }
        }
    })
    .to_string()
}

#[track_caller]
fn problems(config: &Value, expected: &str) {
    assert_eq!(check(&schema(), config).unwrap().to_string(), expected);
}

#[test]
fn a_good_configuration_has_no_problems() {
    let good = json!({
        "rules": [{ "set": { "name": "a" } }, { "remove": "b" }],
        "mode": "fast", "limit": 1, "key": "a", "value": 3
    });
    assert!(check(&schema(), &good).unwrap().is_empty());
    assert!(check("{}", &json!({})).unwrap().is_empty());
    assert!(check("true", &json!({})).unwrap().is_empty());
}

#[test]
fn every_problem_has_a_pointer_and_says_what_is_allowed() {
    problems(&json!({ "modus": 1 }), "/modus: unknown field `modus`; did you mean `mode`?");
    problems(
        &json!({ "a/b": 1, "limit": 0 }),
        "/limit: the value is less than the minimum of 1; /a~1b: unknown field `a/b`; known fields: rules, mode, limit, key, value",
    );
    problems(&json!({ "mode": "slow" }), r#"/mode: the value is not one of "fast" or "safe""#);
    problems(&json!({ "limit": "1" }), r#"/limit: the value is not of type "integer""#);
    problems(&json!([]), r#"/: the value is not of type "object""#);
}

#[test]
fn values_are_not_shown() {
    problems(&json!({ "key": "S3CRET" }), r#"/key: the value does not match "^[a-z]+$""#);
    problems(
        &json!({ "value": ["S3CRET"] }),
        "/value: the value fits none of the alternatives: it may be of type string, or it may be of type integer",
    );
}

#[test]
fn of_alternatives_the_one_that_was_meant_is_explained() {
    problems(&json!({ "rules": [{ "set": {} }] }), "/rules/0/set: the field `name` is missing");
    problems(
        &json!({ "rules": [{ "set": { "name": "a", "nam": 1 } }] }),
        "/rules/0/set/nam: unknown field `nam`; did you mean `name`?",
    );
    problems(
        &json!({ "rules": [{ "delete": "a" }] }),
        "/rules/0: the value fits none of the alternatives: it may have the field `set`, or it may have the field `remove`",
    );
}

#[test]
fn many_problems_are_counted() {
    let config = json!((0..15).map(|index| (format!("f{index}"), json!(1))).collect::<serde_json::Map<_, _>>());
    let text = check(r#"{"properties": {"known": {}}, "additionalProperties": false}"#, &config).unwrap().to_string();
    assert!(text.ends_with("; and 5 more"), "{text}");
    // None is lost because the others are long.
    let long = (0..15).map(|index| (format!("{}{index}", "f".repeat(400)), json!(1)));
    let long = json!(long.collect::<serde_json::Map<_, _>>());
    let text = check(r#"{"properties": {"known": {}}, "additionalProperties": false}"#, &long).unwrap().to_string();
    assert!(text.len() < 2000 && text.ends_with("; and 13 more"), "{} bytes: {text}", text.len());
    assert_eq!(check(r#"{"additionalProperties": false}"#, &config).unwrap().to_string(), "/: no field is known here");
}

#[test]
fn schemas_that_are_none() {
    assert!(check("", &json!({})).is_err());
    assert!(check("{", &json!({})).is_err());
    assert!(check(r#"{"type": 3}"#, &json!({})).is_err());
    // Nothing is fetched.
    assert!(check(r#"{"$ref": "https://example.com/schema.json"}"#, &json!({})).is_err());
    assert!(check(r#"{"$ref": "file:///etc/passwd"}"#, &json!({})).is_err());
}

/// A schema is what a stranger wrote: it must not take the process down.
#[test]
fn hostile_schemas() {
    for schema in [
        r##"{"$ref": "#"}"##,
        r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}"##,
        r##"{"allOf": [{"$ref": "#"}, {"$ref": "#"}]}"##,
        r##"{"$dynamicAnchor": "a", "$dynamicRef": "#a"}"##,
    ] {
        let _ = check(schema, &json!({}));
    }
    // A long chain of references takes a level of the stack for each.
    let chain: serde_json::Map<_, _> =
        (0..20_000).map(|level| (format!("a{level}"), json!({ "$ref": format!("#/$defs/a{}", level + 1) }))).collect();
    let applied = json!({ "$ref": "#/$defs/a0", "$defs": chain }).to_string();
    assert!(matches!(check(&applied, &json!({})), Err(InvalidSchema::TooComplex)));
    let not_applied = json!({ "properties": { "x": { "$ref": "#/$defs/a0" } }, "$defs": chain }).to_string();
    assert!(matches!(check(&not_applied, &json!({})), Err(InvalidSchema::TooComplex)));
    // What is within the limits fits on the stack, in debug builds too.
    let mut chain: serde_json::Map<_, _> =
        (0..190).map(|level| (format!("a{level}"), json!({ "$ref": format!("#/$defs/a{}", level + 1) }))).collect();
    chain.insert("a190".into(), json!({ "type": "string" }));
    let deep = json!({ "$ref": "#/$defs/a0", "$defs": chain }).to_string();
    assert!(!check(&deep, &json!({})).unwrap().is_empty());
    // Patterns are matched without backtracking.
    let config = json!({ "a": format!("{}!", "a".repeat(10_000)) });
    let slow = r#"{"properties": {"a": {"pattern": "^(a+)+$"}}}"#;
    assert!(!check(slow, &config).unwrap().is_empty());
}
