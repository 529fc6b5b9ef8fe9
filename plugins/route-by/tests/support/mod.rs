//! What the tests of this crate share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

use penstock_plugin::testing::{Chosen, RouteBuilder, RouteHarness};
use route_by::RouteBy;
use serde_json::{Value, json};

pub type Routed = RouteHarness<RouteBy>;

/// Two backends of equal weight, and one that only the plugin chooses.
pub const SHOP: [(&str, u32, u32); 3] = [("web/blue:80", 1, 2), ("web/green:80", 1, 1), ("web/canary:8080", 0, 1)];

#[track_caller]
pub fn routed(rules: Value) -> Routed {
    RouteHarness::new(json!({ "rules": rules }), &SHOP)
}

pub trait Outcome {
    /// The name of the backend; empty when the weights decide.
    fn backend(self) -> String;
    /// The cookie that is set.
    fn cookie(self) -> Option<String>;
}

impl Outcome for Chosen {
    #[track_caller]
    fn backend(self) -> String {
        match self {
            Self::Default => String::new(),
            Self::Candidate { name, .. } => name,
            Self::Reply(reply) => panic!("answered {}", reply.status()),
        }
    }

    fn cookie(self) -> Option<String> {
        let Self::Candidate { response_edits, .. } = self else { return None };
        response_edits.into_iter().next().map(|edit| match edit {
            penstock_plugin::testing::Edit::Append(name, value) => {
                assert_eq!(name, "set-cookie");
                String::from_utf8(value).unwrap()
            }
            other => panic!("{other:?}"),
        })
    }
}

impl Outcome for RouteBuilder<'_, RouteBy> {
    fn backend(self) -> String {
        self.run().backend()
    }

    fn cookie(self) -> Option<String> {
        self.run().cookie()
    }
}
