//! Choices of a [`Route`].

use super::{
    Edit, Fault, Gateway, Message, Received,
    apply::{self, Part},
};
use crate::{
    Candidate, Direction, IntoValue, Plan, Problems, Route,
    bindings::routing,
    export::{Loaded, Routing, load},
};

/// A configured route plugin, ready for requests.
pub struct RouteHarness<P: Route> {
    loaded: Loaded<P>,
    gateway: Gateway,
}

impl<P: Route> RouteHarness<P> {
    /// With this configuration, and these backends (name, weight, ready endpoints) in the rule.
    ///
    /// # Panics
    /// When the configuration has problems, with all of them.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "tests write json!(…) here")]
    pub fn new(config: serde_json::Value, candidates: &[(&str, u32, u32)]) -> Self {
        Self::on(Gateway::new(), &config, candidates)
            .unwrap_or_else(|problems| panic!("the configuration is refused:\n{problems}"))
    }

    /// With this configuration, on this gateway.
    ///
    /// # Errors
    /// The problems that the gateway would show in the status.
    pub fn on(gateway: Gateway, config: &serde_json::Value, candidates: &[(&str, u32, u32)]) -> Result<Self, Problems> {
        let loaded = gateway.configure(|| load::<Routing<P>>(&config.to_string()))?;
        gateway.state().candidates = candidates
            .iter()
            .map(|(name, weight, ready)| Candidate {
                name: (*name).to_owned(),
                weight: *weight,
                ready_endpoints: *ready,
            })
            .collect();
        Ok(Self { loaded, gateway })
    }

    /// What the configuration asks of every exchange.
    pub fn plan(&self) -> &Plan {
        &self.loaded.plan
    }

    /// What stands behind the capabilities.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Begins a `GET` of this path, which may have a query.
    #[must_use]
    pub fn get(&self, path: &str) -> RouteBuilder<'_, P> {
        RouteBuilder { harness: self, message: Message::request("GET", path), rule: 1 }
    }
}

/// A request that has no backend yet.
pub struct RouteBuilder<'h, P: Route> {
    harness: &'h RouteHarness<P>,
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
        if name.starts_with(':') {
            self.message.set(name, value.into_value());
        } else {
            self.message.with(name, value);
        }
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
        let RouteHarness { loaded, gateway } = self.harness;
        let fields = self.message.read(&loaded.plan.wire().request_reads);
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
