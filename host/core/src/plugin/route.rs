//! Route plugins: they choose among the backends of a rule, before its weights do.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Response, response};
use serde::Serialize;

use super::{FailurePolicy, OutboundBackend, PluginFault, RedisBucket, Revision, outbound, redis};
use crate::ResourceRef;

/// The route plugin of a rule. A rule has one at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RouteCall {
    /// The WasmPlugin.
    pub plugin: ResourceRef,
    /// The revision that serves.
    #[serde(skip)]
    pub revision: Revision,
    /// What a fault means for the exchange: `Closed` is 503, with `Open` the weights decide.
    pub failure_policy: FailurePolicy,
    /// Names the rule for as long as its backends are the same.
    #[serde(skip)]
    pub rule: u64,
    /// Backends that it may call.
    #[serde(skip_serializing_if = "outbound::is_none")]
    pub outbound: Arc<[OutboundBackend]>,
    /// Its buckets that are in Redis.
    #[serde(skip_serializing_if = "redis::is_none")]
    pub redis: Arc<[RedisBucket]>,
}

/// What a route plugin chose.
#[derive(Debug)]
pub enum Choice {
    /// The weights of the rule decide.
    Default,
    /// The answer was wrong in a way for which the contract has an answer: the weights decide, and it counts as a fault.
    Misfit(PluginFault),
    /// A backend of the rule.
    Candidate {
        /// Into the backends of the rule; within range.
        index: usize,
        /// For the response of that backend.
        response_edits: Option<ResponseEdits>,
    },
    /// Answer with this in place of a backend.
    Reply(Response<Bytes>),
}

/// Edits of a response that there is not yet. They were judged already.
pub struct ResponseEdits(Box<Apply>);

type Apply = dyn FnOnce(&mut response::Parts) -> Result<(), PluginFault>;

impl ResponseEdits {
    /// `apply` leaves the head as it was if it fails.
    pub fn new(apply: impl FnOnce(&mut response::Parts) -> Result<(), PluginFault> + 'static) -> Self {
        Self(Box::new(apply))
    }

    /// Edit the head of the response.
    ///
    /// # Errors
    /// The response cannot take them; it is as it was.
    pub fn apply(self, head: &mut response::Parts) -> Result<(), PluginFault> {
        (self.0)(head)
    }
}

impl fmt::Debug for ResponseEdits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseEdits")
    }
}
