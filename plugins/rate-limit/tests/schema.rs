//! The published schema, and what the documentation shows.

use penstock_plugin::testing::check_schema;
use rate_limit::config::Config;

#[test]
fn the_published_schema_is_that_of_the_configuration() {
    check_schema::<Config>(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json"));
}
