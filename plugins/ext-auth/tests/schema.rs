//! The published schema, and what the documentation shows.

mod support;

use ext_auth::{ExtAuth, config::Config};
use penstock_plugin::testing::{Harness, check_schema};
use serde_json::{Value, json};
use support::{Service, says};

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
    for config in &shown {
        let errors: Vec<_> = schema.iter_errors(config).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}:\n{config:#}");
        let service = Service::answering(says(200, &[], ""));
        let harness = Harness::<ExtAuth>::on(service.gateway(), config)
            .unwrap_or_else(|problems| panic!("{problems}:\n{config:#}"));
        assert!(harness.get("/").run().reply().is_none());
        assert_eq!(service.asked().len(), 1);
    }
}

#[test]
fn the_schema_refuses_what_nobody_means() {
    let schema = jsonschema::draft202012::new(&penstock_plugin::schema::<Config>()).unwrap();
    let service = json!({"backend": "auth"});
    for config in [
        json!({}),
        json!({"service": {}}),
        json!({"service": {"backend": "auth", "url": "http://auth/"}}),
        json!({"service": service, "onError": "allow"}),
        json!({"service": service, "errorStatus": 200}),
        json!({"service": service, "request": {"headers": "cookie"}}),
        json!({"service": service, "exempt": ["/healthz"]}),
    ] {
        assert!(!schema.is_valid(&config), "{config}");
    }
}
