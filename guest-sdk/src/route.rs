//! Plugins that choose among the backends of a rule.

use std::rc::Rc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Plan, Problems, Reply, Request,
    edit::Edits,
    extract::{claim::Claims, pattern::Effort},
    header::Values,
    imports::exchange_info,
};

pub use crate::bindings::imports::exchange_info::Candidate;

/// Chooses the backend of a request. Lives as [`crate::Policy`] does.
pub trait Route: Sized + 'static {
    /// The configuration. Its JSON Schema is published with the plugin, and the gateway checks against it.
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the plugin of a configuration. Do here what need not be done for each exchange.
    ///
    /// # Errors
    /// Every mistake in the configuration, with its place.
    fn configure(config: Self::Config) -> Result<Self, Problems>;

    /// What this configuration needs of every exchange: `request_reads`, and `response_writes` for [`Choice::Candidate`].
    fn plan(&self) -> Plan;

    /// Called for each request of the rules to which the plugin is attached.
    fn choose(&self, request: &RouteRequest) -> Choice;

    /// Called by the validator after `configure`, never on live traffic.
    ///
    /// # Errors
    /// The text becomes the status of the resource, and the plugin is rejected.
    fn self_test(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A request that needs a backend. It can be read as a [`Request`] can, and not edited: a policy in front of the choice does that.
pub struct RouteRequest<'p> {
    rule: u64,
    request: Request<'p>,
}

impl<'p> RouteRequest<'p> {
    pub(crate) fn new(rule: u64, request: Request<'p>) -> Self {
        Self { rule, request }
    }

    /// Names the rule for as long as its backends are the same: what was made of [`RouteRequest::candidates`] may be kept by it.
    #[must_use]
    pub fn rule(&self) -> u64 {
        self.rule
    }

    /// The backends of the rule. Fetched with a call each time: keep names and weights by [`RouteRequest::rule`].
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        exchange_info::candidates()
    }

    /// How many ready endpoints a backend of the rule has now; 0 if there is no such backend. A call without allocations.
    #[must_use]
    pub fn ready_endpoints(&self, index: u32) -> u32 {
        exchange_info::ready_endpoints(index)
    }

    /// As [`Request::header`].
    #[must_use]
    pub fn header(&self, name: &str) -> Values<'_> {
        self.request.header(name)
    }

    /// As [`Request::read`].
    ///
    /// # Panics
    /// When the plan declares fewer.
    #[must_use]
    pub fn read(&self, index: usize) -> Values<'_> {
        self.request.read(index)
    }

    /// As [`Request::claims`].
    ///
    /// # Panics
    /// When the plan declares fewer.
    #[must_use]
    pub fn claims(&self, index: usize) -> Rc<Claims> {
        self.request.claims(index)
    }

    /// As [`Request::effort`].
    #[must_use]
    pub fn effort(&self) -> &Effort {
        self.request.effort()
    }

    /// As [`Request::method`].
    #[must_use]
    pub fn method(&self) -> String {
        self.request.method()
    }

    /// As [`Request::path`].
    #[must_use]
    pub fn path(&self) -> String {
        self.request.path()
    }

    /// As [`Request::query`].
    #[must_use]
    pub fn query(&self) -> Option<String> {
        self.request.query()
    }

    /// As [`Request::authority`].
    #[must_use]
    pub fn authority(&self) -> String {
        self.request.authority()
    }

    /// As [`Request::host`].
    #[must_use]
    pub fn host(&self) -> String {
        self.request.host()
    }

    /// As [`Request::scheme`].
    #[must_use]
    pub fn scheme(&self) -> String {
        self.request.scheme()
    }

    /// As [`Request::client_address`].
    #[must_use]
    pub fn client_address(&self) -> String {
        self.request.client_address()
    }
}

/// The answer of a route plugin.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Choice {
    /// Let the weights of the rule decide.
    Default,
    /// The candidate with this index.
    Candidate {
        /// Into [`RouteRequest::candidates`]. Without a ready endpoint the weights decide.
        index: u32,
        /// Applied to the response, so that a choice can be made to stick with a cookie.
        response_edits: Edits,
    },
    /// Answer in place of a backend.
    Reply(Reply),
}

impl Choice {
    /// The candidate with this index.
    pub fn candidate(index: u32) -> Self {
        Self::Candidate { index, response_edits: Edits::new() }
    }
}

impl From<Reply> for Choice {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}
