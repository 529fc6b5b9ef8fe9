//! Everything of an exchange that can be made before it.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Version, request, response};
use penstock_core::{
    Kind, ResourceRef,
    check::{BodyGiven, Check, InvalidExchange, Passed},
    plugin::ExchangeFacts,
    route::{Rule, RuleId},
};

use super::routing;

/// An exchange that has not begun.
pub struct Rehearsal {
    pub(super) facts: Facts,
    /// What a route plugin chooses from.
    pub(super) rule: Arc<Rule>,
    pub(super) request: Given<request::Parts>,
    pub(super) response: Given<response::Parts>,
}

/// Why an exchange cannot take place.
#[derive(Debug, thiserror::Error)]
pub enum CannotRehearse {
    /// HTTP has no such message.
    #[error(transparent)]
    Invalid(#[from] InvalidExchange),
    /// A body that its owner has not read.
    #[error("the body of the {0} is a file that nobody has read")]
    File(&'static str),
}

/// A message as it arrives.
pub(super) struct Given<H> {
    pub(super) head: H,
    pub(super) pieces: Vec<Bytes>,
    pub(super) trailers: HeaderMap,
}

impl<H: Clone> Given<H> {
    /// As it would come out if nobody touched it.
    pub(super) fn passed(&self) -> Passed<H> {
        Passed { head: self.head.clone(), body: self.pieces.concat().into(), trailers: self.trailers.clone() }
    }
}

/// [`ExchangeFacts`] with its values.
pub(super) struct Facts {
    client: SocketAddr,
    scheme: String,
    rule: RuleId,
}

impl Facts {
    pub(super) fn view(&self) -> ExchangeFacts<'_> {
        let is_tls = self.scheme == "https";
        ExchangeFacts {
            client: self.client,
            version: Version::HTTP_11,
            scheme: &self.scheme,
            server_name: is_tls.then_some("gateway.test"),
            tls_version: is_tls.then_some("TLSv1.3"),
            rule: &self.rule,
            request_id: "test",
        }
    }
}

impl Rehearsal {
    /// Prepare what a check says. Bodies in files must have been read.
    ///
    /// # Errors
    /// When a message is none.
    pub fn new(check: &Check) -> Result<Self, CannotRehearse> {
        let rule = RuleId { route: ResourceRef::new(Kind::HTTPRoute, "default", "test"), index: 0, name: None };
        let (request, response) = (&check.request, &check.response);
        let pieces = |name, body: &BodyGiven| body.pieces().ok_or(CannotRehearse::File(name));
        Ok(Self {
            rule: routing::rule(&rule, &check.candidates),
            facts: Facts { client: request.address()?, scheme: request.scheme.clone(), rule },
            request: Given {
                head: request.head()?,
                pieces: pieces("request", &request.body)?,
                trailers: request.trailers.0.clone(),
            },
            response: Given {
                head: response.head()?,
                pieces: pieces("response", &response.body)?,
                trailers: response.trailers.0.clone(),
            },
        })
    }
}
