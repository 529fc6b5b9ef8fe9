//! Policies on bodies, trailers and the end of exchanges.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Plan, Problems, Reply, Request, Response, Trailers,
    edit::Edits,
    wire::{self, Summary},
};

/// A policy that sees bodies, trailers or the end of exchanges. Each exchange has a value of its own, which may keep what it likes.
///
/// Lives as [`crate::Policy`] does; costs about half a microsecond more for each exchange.
pub trait StreamingPolicy: Sized + 'static {
    /// The configuration. Its JSON Schema is published with the plugin, and the gateway checks against it.
    type Config: DeserializeOwned + JsonSchema;
    /// The state of one exchange.
    type Exchange: Exchange<Self>;

    /// Makes the policy of a configuration. Do here what need not be done for each exchange.
    ///
    /// # Errors
    /// Every mistake in the configuration, with its place.
    fn configure(config: Self::Config) -> Result<Self, Problems>;

    /// What this configuration needs of every exchange.
    fn plan(&self) -> Plan;

    /// An exchange begins.
    fn exchange(&self) -> Self::Exchange;

    /// Called by the validator after `configure`, never on live traffic.
    ///
    /// # Errors
    /// The text becomes the status of the resource, and the plugin is rejected.
    fn self_test(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The hooks of one exchange, in the order in which they are called. Only those of the plan are.
pub trait Exchange<P>: Sized + 'static {
    /// Called before the request's headers go to a backend.
    fn on_request(&mut self, _policy: &P, _request: &Request) -> HeadVerdict {
        HeadVerdict::Proceed
    }

    /// Called for each chunk of the request's body, or once for all of it.
    fn on_request_body(&mut self, _policy: &P, _chunk: Chunk) -> BodyVerdict {
        BodyVerdict::Pass
    }

    /// Called when the request has trailers.
    fn on_request_trailers(&mut self, _policy: &P, _trailers: &Trailers) {}

    /// Called before the response's headers go to the client.
    fn on_response(&mut self, _policy: &P, _response: &Response) -> HeadVerdict {
        HeadVerdict::Proceed
    }

    /// Called for each chunk of the response's body, or once for all of it.
    fn on_response_body(&mut self, _policy: &P, _chunk: Chunk) -> BodyVerdict {
        BodyVerdict::Pass
    }

    /// Called behind the response's body, whether it has trailers or not.
    fn on_response_trailers(&mut self, _policy: &P, _trailers: &Trailers) {}

    /// The exchange is over. Nothing of it can be changed any more.
    fn end(self, _policy: &P, _summary: &Summary) {}
}

/// The answer of a header hook. Edits that the hook has recorded apply if it proceeds.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum HeadVerdict {
    /// Go on.
    Proceed,
    /// Answer in place of the backend.
    Reply(Reply),
    /// Keep the headers back until a body hook answers [`BodyVerdict::Release`]. The plan must declare that body.
    Hold,
}

impl From<Reply> for HeadVerdict {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// A piece of a body, or all of it, as the plan says.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// The bytes; maybe none.
    pub bytes: &'a [u8],
    /// Whether this is the last one. A message without a body is one empty chunk.
    pub end: bool,
}

/// The answer of a body hook.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum BodyVerdict {
    /// Pass the chunk on as it is.
    Pass,
    /// Pass these bytes on in its place.
    Replace(Vec<u8>),
    /// Keep the chunk back: it is seen again in front of the next one.
    Hold,
    /// Let the held headers go.
    Release(Release),
    /// Answer in place of the rest, as long as no response headers have been sent.
    Reply(Reply),
    /// Reset the exchange, with this text in the access record.
    Abort(String),
}

/// Lets held headers go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Release {
    /// Changes to the held headers.
    pub edits: Edits,
    /// In place of the chunk. None: the chunk itself.
    pub body: Option<Vec<u8>>,
}

impl BodyVerdict {
    pub(crate) fn into_wire(self) -> wire::BodyVerdict {
        match self {
            Self::Pass => wire::BodyVerdict::Pass,
            Self::Replace(bytes) => wire::BodyVerdict::Replace(bytes),
            Self::Hold => wire::BodyVerdict::Hold,
            Self::Release(release) => {
                wire::BodyVerdict::Release(wire::Release { edits: release.edits.into_wire(), body: release.body })
            }
            Self::Reply(reply) => wire::BodyVerdict::Reply(reply.into_wire()),
            Self::Abort(why) => wire::BodyVerdict::Abort(why),
        }
    }
}
