//! The published schema, and what the documentation shows.

use std::time::Duration;

use penstock_plugin::testing::{Gateway, Harness, check_schema};
use rate_limit::{RateLimit, config::Config};
use serde_json::Value;

#[test]
fn the_published_schema_is_that_of_the_configuration() {
    check_schema::<Config>(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json"));
}

/// The configurations in fenced YAML.
fn configurations(text: &str) -> Vec<Value> {
    let blocks = text.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let parsed =
        blocks.map(|block| serde_yaml_ng::from_str::<Value>(block).unwrap_or_else(|error| panic!("{error}:\n{block}")));
    // What shows a capability is of the resource, not of this plugin.
    let all = parsed.map(|value| value.pointer("/spec/config").cloned().unwrap_or(value));
    all.filter(|value| value.get("rateLimits").is_none()).collect()
}

#[test]
fn what_the_documentation_shows_is_accepted() {
    let shown = configurations(include_str!("../README.md"));
    assert_eq!(shown.len(), 3);
    let schema = jsonschema::draft202012::new(&penstock_plugin::schema::<Config>()).unwrap();
    for config in &shown {
        let errors: Vec<_> = schema.iter_errors(config).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}:\n{config:#}");
        let day = Duration::from_secs(24 * 3600);
        let gateway = Gateway::new().bucket("minute", 100, Duration::from_secs(60)).bucket("day", 10_000, day);
        let harness =
            Harness::<RateLimit>::on(gateway, config).unwrap_or_else(|problems| panic!("{problems}:\n{config:#}"));
        assert!(harness.get("/login").run().reply().is_none());
    }
}

#[test]
fn the_schema_refuses_what_nobody_means() {
    let schema = jsonschema::draft202012::new(&penstock_plugin::schema::<Config>()).unwrap();
    for config in [
        serde_json::json!({"policies": []}),
        serde_json::json!({"policies": [{"bucket": "a", "keys": []}]}),
        serde_json::json!({"policies": [{"bucket": "a", "key": [{"jwtClaim": {"claim": "sub"}}]}]}),
        serde_json::json!({"policies": [{"bucket": "a"}], "headers": "standard"}),
        serde_json::json!({"policies": [{"bucket": "a"}], "denied": {"status": 200}}),
    ] {
        assert!(!schema.is_valid(&config), "{config}");
    }
}

#[test]
fn claims_say_everywhere_that_they_are_not_verified_here() {
    let schema = penstock_plugin::schema::<Config>();
    let claim = schema.pointer("/$defs/KeyPartConfig/properties/jwtClaimVerifiedByEarlierFilter").unwrap();
    let described = claim["description"].as_str().unwrap();
    assert!(described.contains("This plugin verifies nothing"), "{described}");
    assert!(include_str!("../README.md").contains("**Claims are not verified here.**"));
    for name in ["jwtClaim", "claim", "jwt"] {
        let config = serde_json::json!({"policies": [{"bucket": "minute", "key": [{ name: {"claim": "sub"} }]}]});
        let problems = Harness::<RateLimit>::try_new(config).err().unwrap().to_string();
        assert!(problems.contains("jwtClaimVerifiedByEarlierFilter"), "{name}: {problems}");
    }
}
