#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! ```text
//! Config ──compile──► Program { rules, slots }          once, in `configure`; every mistake becomes a problem
//!                        │
//!            plan ◄──────┤                              the headers that slots read and write, and no others
//!                        │
//! request ──► Pass ──► edits, token (which rules held)  per exchange; looks headers up by index
//! response ─► Pass ──► edits
//! ```
//!
//! Invariants: nothing is compiled or looked up by name while an exchange waits; a header's state is kept only if a later step reads what an
//! earlier one wrote (`slot::Slots`), and then the gateway hears of it once, at the end; what clients send takes no more time and memory than a hook
//! has (`pass::Pass::is_spent`).

mod compile;
mod condition;
pub mod config;
mod operation;
mod pass;
mod slot;
mod template;

use penstock_plugin::prelude::*;

use crate::{compile::Program, config::Config, pass::Pass};

/// The policy: see the crate's documentation.
pub struct HeaderRules(Program);

impl Policy for HeaderRules {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Problems> {
        compile::compile(&config).map(Self)
    }

    fn plan(&self) -> Plan {
        self.0.plan()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let mut pass = Pass::new(request, &self.0.request, 0);
        let mut held = 0;
        for (index, rule) in self.0.rules.iter().enumerate() {
            match &rule.when {
                Some(when) if !when.holds(&pass) => continue,
                Some(_) => held |= 1 << index,
                None => {}
            }
            for operation in &rule.request {
                operation.apply(&mut pass);
            }
        }
        if pass.finish() {
            return Verdict::ProceedWith(held);
        }
        Reply::new(431).text("the header fields are more than the rules of this route can look at\n").into()
    }

    fn on_response(&self, response: &Response) -> Verdict {
        let mut pass = Pass::new(response, &self.0.response, self.0.response.reads().len());
        for (index, rule) in self.0.rules.iter().enumerate() {
            let Some(part) = &rule.response else { continue };
            let held = match &rule.when {
                None => true,
                Some(_) if self.0.request_hook => response.token() & (1 << index) != 0,
                Some(when) => when.holds(&pass),
            };
            if held && part.holds(&pass) {
                for operation in &part.operations {
                    operation.apply(&mut pass);
                }
            }
        }
        if pass.finish() {
            return Verdict::Proceed;
        }
        Reply::new(502)
            .text("the header fields of the response are more than the rules of this route can look at\n")
            .into()
    }
}

plugin!(policy: HeaderRules, schema: include_str!("../schema.json"));
