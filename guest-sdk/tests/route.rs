//! Route plugins on the harness.

use penstock_plugin::{Edits, prelude::*, testing::*};
use serde_json::json;

/// Sends a tenant to the backend that its cookie names, and makes that stick.
#[derive(Deserialize, JsonSchema)]
struct ByTenant {
    header: String,
}

impl Route for ByTenant {
    type Config = Self;

    fn configure(config: Self) -> Result<Self, Problems> {
        Ok(config)
    }

    fn plan(&self) -> Plan {
        Plan::new().request_reads([&self.header]).response_writes(["set-cookie"])
    }

    fn choose(&self, request: &RouteRequest) -> Choice {
        let wanted = request.header(&self.header);
        let Some(wanted) = wanted.to_str() else { return Choice::Default };
        if wanted == "nobody" {
            return Reply::new(403).into();
        }
        if wanted == "wrong" {
            return Choice::candidate(7);
        }
        let found = request.candidates().iter().position(|candidate| candidate.name == wanted);
        match found.and_then(|index| u32::try_from(index).ok()) {
            Some(index) => Choice::Candidate {
                index,
                response_edits: Edits::new().append("Set-Cookie", format!("tenant={wanted}; rule={}", request.rule())),
            },
            None => Choice::Default,
        }
    }
}

fn harness() -> RouteHarness<ByTenant> {
    RouteHarness::new(json!({"header": "x-tenant"}), &[("shop/a:80", 1, 2), ("shop/b:80", 1, 0)])
}

#[test]
fn a_candidate_is_chosen_by_name() {
    let chosen = harness().get("/").header("x-tenant", "shop/b:80").rule(3).run();
    let cookie = b"tenant=shop/b:80; rule=3".to_vec();
    let response_edits = vec![Edit::Append("set-cookie".to_owned(), cookie)];
    assert_eq!(chosen, Chosen::Candidate { name: "shop/b:80".to_owned(), response_edits });
}

#[test]
fn others_are_left_to_the_weights_or_answered() {
    let harness = harness();
    assert_eq!(harness.get("/").run(), Chosen::Default);
    assert_eq!(harness.get("/").header("x-tenant", "unknown").run(), Chosen::Default);
    let Chosen::Reply(reply) = harness.get("/").header("x-tenant", "nobody").run() else { panic!("no reply") };
    assert_eq!(reply.status(), 403);
}

#[test]
fn a_candidate_that_is_not_there_is_a_fault() {
    let fault = harness().get("/").header("x-tenant", "wrong").try_run();
    assert_eq!(fault, Err(Fault::InvalidChoice { index: 7, candidates: 2 }));
}
