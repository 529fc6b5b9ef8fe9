//! What the tests of this crate share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

use std::time::Duration;

use penstock_plugin::testing::{Gateway, Harness, Received, RequestBuilder};
use rate_limit::RateLimit;
use serde_json::{Value, json};

pub type Limited = Harness<RateLimit>;

pub const MINUTE: Duration = Duration::from_secs(60);

/// The buckets `two` (2 a minute), `five` (5 an hour) and `hundred` (100 a minute).
pub fn gateway() -> Gateway {
    let hour = Duration::from_secs(3600);
    Gateway::new().bucket("two", 2, MINUTE).bucket("five", 5, hour).bucket("hundred", 100, MINUTE)
}

#[track_caller]
pub fn limited(config: Value) -> Limited {
    Harness::on(gateway(), &config).unwrap_or_else(|problems| panic!("{config} is refused:\n{problems}"))
}

/// One policy of two requests a minute with this key.
#[track_caller]
pub fn keyed(key: Value) -> Limited {
    limited(json!({"policies": [{"bucket": "two", "key": key}]}))
}

pub trait Outcome {
    /// The answer of the plugin, if it denies.
    fn denied(self) -> Option<Received>;
    fn passes(self) -> bool;
}

impl Outcome for RequestBuilder<'_, RateLimit> {
    fn denied(self) -> Option<Received> {
        self.run().reply().cloned()
    }

    fn passes(self) -> bool {
        self.denied().is_none()
    }
}

/// Two requests use up the limit of [`keyed`]; then `same` is denied and `other` passes.
#[track_caller]
pub fn check_counts<'h>(
    harness: &'h Limited,
    first: impl Fn(&'h Limited) -> RequestBuilder<'h, RateLimit>,
    same: impl Fn(&'h Limited) -> RequestBuilder<'h, RateLimit>,
    other: impl Fn(&'h Limited) -> RequestBuilder<'h, RateLimit>,
) {
    assert!(first(harness).passes() && first(harness).passes(), "within the limit");
    assert!(!same(harness).passes(), "the same key is over the limit");
    assert!(other(harness).passes(), "another key is not");
}
