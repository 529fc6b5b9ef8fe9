//! Policies on headers: the cheapest kind of plugin.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Plan, Problems, Reply, Request, Response};

/// A policy that looks at headers only. For bodies, trailers or the end of exchanges see [`crate::StreamingPolicy`].
///
/// One value serves all exchanges of one worker, one after the other. A hook that panics ends this value, and the exchange at hand gets
/// what the resource's `failurePolicy` says; other exchanges continue on a new one.
pub trait Policy: Sized + 'static {
    /// The configuration. Its JSON Schema is published with the plugin, and the gateway checks against it.
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the policy of a configuration. Do here what need not be done for each exchange.
    ///
    /// # Errors
    /// Every mistake in the configuration, with its place.
    fn configure(config: Self::Config) -> Result<Self, Problems>;

    /// What this configuration needs of every exchange.
    fn plan(&self) -> Plan;

    /// Called before the request goes to a backend.
    fn on_request(&self, _request: &Request) -> Verdict {
        Verdict::Proceed
    }

    /// Called before the response goes to the client.
    fn on_response(&self, _response: &Response) -> Verdict {
        Verdict::Proceed
    }

    /// Called by the validator after `configure`, never on live traffic.
    ///
    /// # Errors
    /// The text becomes the status of the resource, and the plugin is rejected.
    fn self_test(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The answer of a header hook. Edits that the hook has recorded apply unless it replies.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Verdict {
    /// Go on.
    Proceed,
    /// Go on, and hand this to the response hook of the same exchange. Only in request hooks.
    ProceedWith(u64),
    /// Answer in place of the backend.
    Reply(Reply),
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}
