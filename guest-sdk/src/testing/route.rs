//! Choices of a [`Route`].

use std::ops::Deref;

use super::{
    Edit, Fault, Gateway, Message, Received, Stage,
    apply::{self, Part},
    stage::accepted,
};
use crate::{Candidate, Direction, IntoValue, Problems, Route, bindings::routing, export::Routing};

/// A configured route plugin, ready for requests. Dereferences to its [`Stage`].
pub struct RouteHarness<P: Route>(Stage<Routing<P>>);

impl<P: Route> RouteHarness<P> {
    /// With this configuration, and these backends (name, weight, ready endpoints) in the rule.
    ///
    /// # Panics
    /// When the configuration has problems, with all of them.
    #[must_use]
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "tests write json!(…) here")]
    pub fn new(config: serde_json::Value, candidates: &[(&str, u32, u32)]) -> Self {
        accepted(Self::on(Gateway::new(), &config, candidates))
    }

    /// With this configuration, if it is accepted, and no backends.
    ///
    /// # Errors
    /// The problems that the gateway would show in the status.
    #[expect(clippy::needless_pass_by_value, reason = "tests write json!(…) here")]
    pub fn try_new(config: serde_json::Value) -> Result<Self, Problems> {
        Self::on(Gateway::new(), &config, &[])
    }

    /// With this configuration, on this gateway.
    ///
    /// # Errors
    /// The problems that the gateway would show in the status.
    pub fn on(gateway: Gateway, config: &serde_json::Value, candidates: &[(&str, u32, u32)]) -> Result<Self, Problems> {
        let harness = Self(Stage::on(gateway, config)?);
        harness.set_candidates(candidates);
        Ok(harness)
    }

    /// Other backends (name, weight, ready endpoints) from now on. Where names or weights differ, the gateway gives the rule another number:
    /// see [`RouteBuilder::rule`].
    pub fn set_candidates(&self, candidates: &[(&str, u32, u32)]) {
        let candidate = |&(name, weight, ready_endpoints): &(&str, u32, u32)| Candidate {
            name: name.to_owned(),
            weight,
            ready_endpoints,
        };
        self.gateway.state().candidates = candidates.iter().map(candidate).collect();
    }

    /// Begins a `GET` of this path, which may have a query.
    #[must_use]
    pub fn get(&self, path: &str) -> RouteBuilder<'_, P> {
        self.request("GET", path)
    }

    /// Begins a request of this path, which may have a query.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> RouteBuilder<'_, P> {
        RouteBuilder { stage: self, message: Message::request(method, path), rule: 1 }
    }
}

impl<P: Route> Deref for RouteHarness<P> {
    type Target = Stage<Routing<P>>;

    fn deref(&self) -> &Stage<Routing<P>> {
        &self.0
    }
}

/// A request that has no backend yet.
pub struct RouteBuilder<'h, P: Route> {
    stage: &'h Stage<Routing<P>>,
    message: Message,
    rule: u64,
}

/// What a route plugin chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The weights of the rule decide.
    Default,
    /// A backend.
    Candidate {
        /// Its name.
        name: String,
        /// What is changed in the response.
        response_edits: Vec<Edit>,
    },
    /// An answer in place of a backend.
    Reply(Received),
}

impl<P: Route> RouteBuilder<'_, P> {
    /// Adds a header; or sets a pseudo-header, such as `:client-address`.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl IntoValue) -> Self {
        self.message.given(name, value);
        self
    }

    /// In the rule with this number.
    #[must_use]
    pub fn rule(mut self, rule: u64) -> Self {
        self.rule = rule;
        self
    }

    /// The plugin chooses.
    ///
    /// # Panics
    /// When its answer is a [`Fault`].
    #[must_use]
    pub fn run(self) -> Chosen {
        self.try_run().unwrap_or_else(|fault| panic!("the choice: {fault}"))
    }

    /// The plugin chooses.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn try_run(self) -> Result<Chosen, Fault> {
        let Stage { loaded, gateway } = self.stage;
        let fields = self.message.read(&loaded.plan.wire().request_reads);
        gateway.begin();
        gateway.exchange(&self.message, None, &[]);
        match gateway.run(|| loaded.choose(self.rule, fields)) {
            routing::Choice::Default => Ok(Chosen::Default),
            routing::Choice::Candidate(pick) => {
                let state = gateway.state();
                let Some(candidate) = state.candidates.get(pick.index as usize) else {
                    return Err(Fault::InvalidChoice { index: pick.index, candidates: state.candidates.len() });
                };
                let response_edits = apply::apply(
                    &mut Message::response(200),
                    pick.response_edits,
                    &loaded.plan,
                    Direction::Response,
                    Part::Head,
                )?;
                Ok(Chosen::Candidate { name: candidate.name.clone(), response_edits })
            }
            routing::Choice::Reply(reply) => Received::replied(reply).map(Chosen::Reply),
        }
    }
}
