#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! ```text
//! Config ──compile──► Program { policies, exempt, … }      once, in `configure`; every mistake becomes a problem
//!                        │
//! request ──► charges (policy, key, cost) ──► settle ──► allowed: token ──► response: RateLimit headers
//!                                               │
//!                                               └──► denied: 429 with Retry-After
//! ```
//!
//! Invariants: what is counted is decided by the gateway's buckets alone, the plugin keeps no count; a request that is denied has taken
//! nothing from any policy, unless another worker took the last unit between the question and the taking; keys of two policies, and of two
//! lists of parts, are never equal.

mod compile;
pub mod config;
mod cost;
mod denial;
mod fields;
mod key;
mod program;
mod settle;
mod token;

use penstock_plugin::prelude::*;

use crate::{
    config::{Config, OnUnavailable},
    key::Digests,
    program::Program,
    settle::{Charge, Settled},
    token::Token,
};

/// The policy: see the crate's documentation.
pub struct RateLimit(Program);

impl Policy for RateLimit {
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
            program.metrics.exempt();
            // There is nothing to tell.
            request.skip(Hooks::RESPONSE_HEADERS);
            return Verdict::Proceed;
        }
        let digests = Digests::default();
        let charges = program.policies.iter().filter_map(|policy| policy.charge(request, &digests));
        let charges: Vec<Charge> = charges.collect();
        match settle::settle(&charges, &program.metrics) {
            Settled::Allowed(tightest) => program.proceed(&charges, tightest),
            Settled::Denied(denied) => program.denial.reply(&program.fields, &charges, &denied).into(),
            Settled::Unavailable => match program.on_unavailable {
                OnUnavailable::Allow => Verdict::Proceed,
                OnUnavailable::Deny => denial::unavailable().into(),
            },
        }
    }

    fn on_response(&self, response: &Response) -> Verdict {
        if let Some(token) = Token::decode(response.token()) {
            self.0.fields.write(response, &self.0.policies, token);
        }
        Verdict::Proceed
    }
}

plugin!(policy: RateLimit, schema: include_str!("../schema.json"));
