//! The published schema, and what the documentation shows.

use penstock_plugin::testing::{RouteHarness, check_schema};
use route_by::{RouteBy, config::Config};
use serde_json::{Value, json};

#[test]
fn the_published_schema_is_that_of_the_configuration() {
    check_schema::<Config>(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json"));
}

/// The configurations in fenced YAML.
fn configurations(text: &str) -> Vec<Value> {
    let blocks = text.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let parsed =
        blocks.map(|block| serde_yaml_ng::from_str::<Value>(block).unwrap_or_else(|error| panic!("{error}:\n{block}")));
    parsed.map(|value| value.pointer("/spec/config").cloned().unwrap_or(value)).collect()
}

#[test]
fn what_the_documentation_shows_is_accepted() {
    let shown = configurations(include_str!("../README.md"));
    assert_eq!(shown.len(), 2);
    let schema = jsonschema::draft202012::new(&penstock_plugin::schema::<Config>()).unwrap();
    for config in shown {
        let errors: Vec<_> = schema.iter_errors(&config).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}:\n{config:#}");
        let _ = RouteHarness::<RouteBy>::new(config, &[("web/shop:80", 1, 1)]).get("/").run();
    }
}

#[test]
fn the_schema_refuses_what_nobody_means() {
    let schema = jsonschema::draft202012::new(&penstock_plugin::schema::<Config>()).unwrap();
    for config in [
        json!({"rules": []}),
        json!({"rules": [{"when": []}]}),
        json!({"rules": [{"to": {"jwtClaim": {"claim": "a"}}}]}),
        json!({"rules": [{"to": {"backend": "a"}, "ifNotReady": "next"}]}),
        json!({"rules": [{"to": {"percentages": {"key": [{"query": "q"}], "shares": [{"backend": "a", "percent": 101}]}}}]}),
    ] {
        assert!(!schema.is_valid(&config), "{config}");
    }
}
