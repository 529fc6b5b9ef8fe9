//! A route plugin that does what the request's `x-choose` says.
//!
//! ```text
//! x-choose: default/a:80            that backend, with a cookie that says so
//! x-choose: list                    a reply with the candidates: name, weight, ready endpoints (asked for twice), a line each
//! x-choose: index 7                 that index, whether it exists or not
//! x-choose: undeclared              an edit of a header that the plan does not declare
//! x-choose: trap
//! ```
//!
//! Anything else, and no such header: the weights decide.

use penstock_plugin::{Candidate, Edits, prelude::*};

/// Chooses as the request says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chooser {}

impl Route for Chooser {
    type Config = Self;

    fn configure(config: Self) -> Result<Self, Problems> {
        Ok(config)
    }

    fn plan(&self) -> Plan {
        Plan::new().request_reads(["x-choose"]).response_writes(["set-cookie"])
    }

    fn choose(&self, request: &RouteRequest) -> Choice {
        let wanted = request.read(0);
        let Some(wanted) = wanted.to_str() else { return Choice::Default };
        match wanted.split_once(' ').unwrap_or((wanted, "")) {
            ("list", _) => Reply::new(200).body(list(request)).into(),
            ("index", index) => index.parse().map_or(Choice::Default, Choice::candidate),
            ("undeclared", _) => Choice::Candidate { index: 0, response_edits: Edits::new().set("x-undeclared", "1") },
            ("trap", _) => panic!("as asked"),
            _ => by_name(request, wanted),
        }
    }
}

fn by_name(request: &RouteRequest, wanted: &str) -> Choice {
    let at = request.candidates().iter().position(|candidate| candidate.name == wanted);
    let Some(index) = at.and_then(|at| u32::try_from(at).ok()) else { return Choice::Default };
    Choice::Candidate { index, response_edits: Edits::new().append("set-cookie", format!("backend={wanted}")) }
}

fn list(request: &RouteRequest) -> String {
    let line = |(index, it): (u32, &Candidate)| {
        format!("{} {} {} {}\n", it.name, it.weight, it.ready_endpoints, request.ready_endpoints(index))
    };
    (0..).zip(&request.candidates()).map(line).collect()
}

plugin!(route: Chooser);
