#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! ```text
//! Config ──compile──► Program { rules, names }          once, in `configure`; every mistake becomes a problem
//!                        │
//! request ─► conditions ─► target ─► index of a backend ─► ready? ─► Choice
//!                             │
//!                          Table: names, weights and seeds of the rule's backends, kept by the number of the rule
//! ```
//!
//! Invariants: which backend a key gets depends on the key and on names and weights of the backends alone, so every gateway and every worker
//! chooses the same; a backend without a ready endpoint is never chosen; a request that no rule is for costs no call to the gateway.

mod compile;
mod condition;
pub mod config;
mod hash;
mod source;
mod sticky;
mod table;
mod target;

use penstock_plugin::prelude::*;

use crate::{
    compile::Program,
    config::{Config, IfNotReady},
    table::Tables,
    target::Pick,
};

/// The plugin: see the crate's documentation.
pub struct RouteBy {
    program: Program,
    tables: Tables,
}

impl Route for RouteBy {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Problems> {
        let program = compile::compile(&config)?;
        Ok(Self { program, tables: Tables::default() })
    }

    fn plan(&self) -> Plan {
        self.program.plan()
    }

    fn choose(&self, request: &RouteRequest) -> Choice {
        for rule in &self.program.rules {
            let holds = rule.holds(request);
            if request.effort().is_spent() {
                // A rule may not hold only because nobody has looked.
                return Reply::new(431)
                    .text("the header fields are more than the patterns of this route can look at\n")
                    .into();
            }
            if !holds {
                continue;
            }
            let table = self.tables.of(request, &self.program.names);
            match rule.target.pick(request, &table) {
                Pick::Weights => return Choice::Default,
                Pick::Backend(index) => return Choice::candidate(index),
                Pick::Sticking { index, cookie } => {
                    return Choice::Candidate { index, response_edits: Edits::new().append("set-cookie", cookie) };
                }
                Pick::NotReady if rule.if_not_ready == IfNotReady::Refuse => return refusal().into(),
                Pick::NotReady | Pick::NotHere => {}
            }
        }
        Choice::Default
    }
}

fn refusal() -> Reply {
    Reply::new(503).text("the backend of this request has no ready endpoint\n")
}

plugin!(route: RouteBy, schema: include_str!("../schema.json"));
