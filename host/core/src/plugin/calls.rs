//! The one seam through which the proxy calls plugins.
//!
//! ```text
//! PolicyRuntime ──one a worker thread──► PolicyWorker ──► on_request, on_response       policies on headers
//!                                              └─ begin ──► PolicyExchange ──► hooks     policies on bodies, trailers or the end
//! ```

use std::{fmt, pin::Pin, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, request, response};
use smallvec::SmallVec;

use super::{Choice, OutboundClient, PolicyCall, PolicyExchange, RouteCall, Skip};
use crate::{
    ResourceRef,
    route::{Rule, RuleId},
};

/// Facts about the exchange that a plugin may ask for lazily.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeFacts<'a> {
    /// Client address after trusted hops.
    pub client: std::net::SocketAddr,
    /// Protocol towards the client.
    pub version: http::Version,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Server name of the TLS connection.
    pub server_name: Option<&'a str>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub tls_version: Option<&'static str>,
    /// The rule that took the request.
    pub rule: &'a RuleId,
    /// `x-request-id` of the exchange.
    pub request_id: &'a str,
}

/// What a head hook decided; edits are applied already.
#[derive(Debug)]
pub enum Verdict {
    /// Go on.
    Proceed(Proceed),
    /// Answer with this in place of the upstream (or of its response).
    Reply(Response<Bytes>),
    /// Keep the head back until a body hook of the same direction releases it. Only of a [`PolicyExchange`] that sees that body.
    Hold,
}

/// What a plugin says of the rest of the exchange when it lets a head go on. Policies on bodies keep their state themselves: theirs has but
/// `skip`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Proceed {
    /// Opaque.
    pub token: u64,
    /// What it reads of the request later.
    pub carried: Carried,
    /// Hooks that it does not need in this exchange.
    pub skip: Skip,
    /// Outbound calls that it made.
    pub outbound_calls: u32,
}

/// Values of the request that later hooks of a plugin read, as they were when the request reached that plugin: a list for each name of its
/// plan, in that order. Values are shared with the request, not copied.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Carried(pub Vec<SmallVec<[HeaderValue; 1]>>);

/// A plugin did not answer properly. The exchange gets what `failurePolicy` says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin fault {kind}: {message}")]
pub struct PluginFault {
    /// For metrics: a small closed set.
    pub kind: FaultKind,
    /// For the log.
    pub message: String,
}

/// Kinds of faults, as in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// Trap: unreachable, out of bounds, stack overflow, division by zero.
    Trap,
    /// `limits.hookTime` passed.
    Deadline,
    /// `limits.memory` passed.
    Memory,
    /// The answer broke the contract: undeclared or malformed edits, invalid reply.
    InvalidAnswer,
    /// The revision is not loaded (any more), no instance could be made, or it is not called for a while.
    Unavailable,
    /// There was no room for the call: as many exchanges are in the plugin, or as much memory is taken, as may be. Nothing that it did.
    Overloaded,
    /// The instance that kept the state of the exchange ended by a fault in another one.
    Lost,
}

impl FaultKind {
    /// Whether no hook was called.
    #[must_use]
    pub fn is_uncalled(self) -> bool {
        matches!(self, Self::Unavailable | Self::Overloaded)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::InvalidAnswer => "invalid_answer",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Lost => "lost",
        })
    }
}

/// The call of a hook. Nearly every one has answered when it returns; a plugin that waits in an imported call has not.
pub enum Called<'a, T> {
    /// It has answered.
    Answered(Result<T, PluginFault>),
    /// It waits. Dropping the future gives the call up.
    Waiting(Pin<Box<dyn Future<Output = Result<T, PluginFault>> + 'a>>),
}

impl<T> Called<'_, T> {
    /// The answer, when it is there.
    ///
    /// # Errors
    /// The plugin did not answer properly.
    pub async fn answer(self) -> Result<T, PluginFault> {
        match self {
            Self::Answered(answer) => answer,
            Self::Waiting(answer) => answer.await,
        }
    }

    /// The answer, where nobody can wait for it.
    ///
    /// # Errors
    /// The plugin did not answer properly, or it waits.
    pub fn at_once(self) -> Result<T, PluginFault> {
        match self {
            Self::Answered(answer) => answer,
            Self::Waiting(_) => {
                Err(PluginFault { kind: FaultKind::Deadline, message: "it waits where it must not".into() })
            }
        }
    }
}

impl<T> From<Result<T, PluginFault>> for Called<'_, T> {
    fn from(answer: Result<T, PluginFault>) -> Self {
        Self::Answered(answer)
    }
}

impl<T: fmt::Debug> fmt::Debug for Called<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => answer.fmt(f),
            Self::Waiting(_) => f.write_str("Waiting"),
        }
    }
}

/// The seam between proxy and plugin host. Each worker thread asks once for its own [`PolicyWorker`].
pub trait PolicyRuntime: Send + Sync {
    /// State for one worker thread: its instances live and die there.
    fn worker(&self) -> Box<dyn PolicyWorker>;
}

/// Calls hooks on one worker thread.
pub trait PolicyWorker {
    /// The request reached a policy on headers: take down what it carries, run its hook if it has one, and apply its edits to `head`.
    /// After a fault `head` is as it was.
    fn on_request<'a>(
        &'a self,
        call: &'a PolicyCall,
        exchange: &'a ExchangeFacts<'a>,
        head: &'a mut request::Parts,
    ) -> Called<'a, Verdict>;

    /// Run the response hook of a policy on headers and apply its edits to `head`. After a fault `head` is as it was. `kept` is what
    /// the plugin answered to the request.
    fn on_response<'a>(
        &'a self,
        call: &'a PolicyCall,
        kept: &'a Proceed,
        exchange: &'a ExchangeFacts<'a>,
        head: &'a mut response::Parts,
    ) -> Called<'a, Verdict>;

    /// An exchange begins in a policy on bodies, trailers or the end.
    ///
    /// # Errors
    /// There is no instance that could take it.
    fn begin(&self, call: &PolicyCall, exchange: &ExchangeFacts<'_>) -> Result<Rc<dyn PolicyExchange>, PluginFault>;

    /// Whether hooks have used so much CPU time since this was asked last that other exchanges should get their turn.
    fn wants_break(&self) -> bool {
        false
    }

    /// The way out for plugins that may call backends. Given once, before the first call.
    fn connect(&self, _client: Arc<dyn OutboundClient>) {}

    /// Let a route plugin choose among the backends of `rule`. `head` is only lent: it comes back as it was.
    fn choose<'a>(
        &'a self,
        call: &'a RouteCall,
        _exchange: &'a ExchangeFacts<'a>,
        _rule: &'a Arc<Rule>,
        _head: &'a mut request::Parts,
    ) -> Called<'a, Choice> {
        Err(unavailable(&call.plugin)).into()
    }
}

/// A runtime without plugins, for tests and for gateways that have none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPolicies;

impl PolicyRuntime for NoPolicies {
    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(*self)
    }
}

impl PolicyWorker for NoPolicies {
    fn on_request<'a>(
        &'a self,
        call: &'a PolicyCall,
        _: &'a ExchangeFacts<'a>,
        _: &'a mut request::Parts,
    ) -> Called<'a, Verdict> {
        Err(unavailable(&call.plugin)).into()
    }

    fn on_response<'a>(
        &'a self,
        call: &'a PolicyCall,
        _: &'a Proceed,
        _: &'a ExchangeFacts<'a>,
        _: &'a mut response::Parts,
    ) -> Called<'a, Verdict> {
        Err(unavailable(&call.plugin)).into()
    }

    fn begin(&self, call: &PolicyCall, _: &ExchangeFacts<'_>) -> Result<Rc<dyn PolicyExchange>, PluginFault> {
        Err(unavailable(&call.plugin))
    }
}

fn unavailable(plugin: &ResourceRef) -> PluginFault {
    PluginFault { kind: FaultKind::Unavailable, message: format!("{plugin} is not loaded: no plugin host runs") }
}
