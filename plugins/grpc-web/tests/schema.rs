//! The published schema, and what the documentation shows.

use grpc_web::{GrpcWeb, config::Config};
use penstock_plugin::testing::{StreamingHarness, check_schema};
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
        assert!(StreamingHarness::<GrpcWeb>::try_new(config).is_ok());
    }
}

#[test]
fn the_schema_refuses_what_nobody_means() {
    let schema = jsonschema::draft202012::new(&penstock_plugin::schema::<Config>()).unwrap();
    for config in [
        json!({"cors": {}}),
        json!({"cors": {"allowOrigins": []}}),
        json!({"cors": {"allowOrigins": ["*"], "maxAge": "1h"}}),
        json!({"cros": null}),
    ] {
        assert!(!schema.is_valid(&config), "{config}");
    }
}
