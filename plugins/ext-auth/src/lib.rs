#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! ```text
//! Config ──compile──► Program { service, exempt, … }        once, in `configure`; every mistake becomes a problem
//!                        │
//! request ─► exempt? ─► question ─► service ─► Allowed ─► its headers in place of the client's ─► backend
//!               │                       ├────► Denied ──► its answer ─► client
//!               │                       └────► Undecided, Unusable ─► onError
//!               └── without what only the service may say ─► backend
//! ```
//!
//! Invariants: a header in `allowed.requestHeaders` reaches the backend as the service said it or not at all; what a client can bring about by
//! the size of its request is never a reason to let it pass; there is no response hook, so a response costs nothing.

mod compile;
pub mod config;
mod names;
mod outcome;
mod service;
mod told;

use penstock_plugin::prelude::*;

use crate::{
    compile::Program,
    config::{Config, OnError},
    outcome::TooMany,
    service::Decision,
};

/// The policy: see the crate's documentation.
pub struct ExtAuth(Program);

impl Policy for ExtAuth {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Problems> {
        compile::compile(&config).map(Self)
    }

    fn plan(&self) -> Plan {
        self.0.plan()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let program = &self.0;
        if program.exempt.iter().any(|condition| condition.holds(request)) {
            program.metrics.count("exempt");
            return proceed(program.vouched.forget(request));
        }
        match (program.service.ask(request), program.on_error) {
            (Decision::Allowed(answer), _) => {
                program.metrics.count("allowed");
                proceed(program.vouched.copy(&answer, request))
            }
            (Decision::Denied(answer), _) => {
                program.metrics.count("denied");
                program.refusal.reply(&answer).into()
            }
            (Decision::Undecided, OnError::Allow) => {
                program.metrics.count("failed_open");
                proceed(program.vouched.forget(request))
            }
            (Decision::Undecided | Decision::Unusable, _) => {
                program.metrics.count("failed_closed");
                outcome::failure(program.error_status).into()
            }
        }
    }
}

fn proceed(cleared: Result<(), TooMany>) -> Verdict {
    cleared.map_or_else(Verdict::from, |()| Verdict::Proceed)
}

plugin!(policy: ExtAuth, schema: include_str!("../schema.json"));
