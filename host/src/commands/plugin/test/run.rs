//! One exchange through the plugin, in the order of the proxy.

mod prepare;
mod routing;
mod streaming;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Response, request, response};
use penstock_core::plugin::{Direction, PluginFault, PolicyCall, Verdict};

pub(in crate::commands::plugin) use self::prepare::Prepared;
use self::streaming::{Message, Stop, Streaming};
use crate::commands::plugin::session::Session;

/// A message that came out.
#[derive(Debug, Clone)]
pub(in crate::commands::plugin) struct Passed<H> {
    pub(in crate::commands::plugin) head: H,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

/// What came of an exchange.
#[derive(Debug)]
pub(in crate::commands::plugin) struct Outcome {
    /// What reached the backend; none if nothing did.
    pub(super) request: Option<Passed<request::Parts>>,
    /// What a route plugin chose: the name of a backend, or `default`.
    pub(super) chosen: Option<String>,
    /// How it ended.
    pub(in crate::commands::plugin) end: End,
    /// Time in the plugin's hooks, with what the host does around them.
    pub(in crate::commands::plugin) time: Duration,
}

/// How an exchange ended.
#[derive(Debug)]
pub(in crate::commands::plugin) enum End {
    /// The response of the backend, as it reached the client.
    Response(Passed<response::Parts>),
    /// The plugin answered itself.
    Reply(Response<Bytes>),
    /// It was given up, and why.
    Aborted(String),
    /// A hook did not answer properly.
    Fault(&'static str, PluginFault),
}

/// What ends an exchange before its response has passed.
enum Early {
    Stop(Stop),
    Fault(&'static str, PluginFault),
}

impl From<Stop> for Early {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Names the hook that a fault is of.
fn in_hook(hook: &'static str) -> impl FnOnce(PluginFault) -> Early {
    move |fault| Early::Fault(hook, fault)
}

impl Prepared {
    /// Run it.
    pub(in crate::commands::plugin) fn run(&self, session: &Session, call: &PolicyCall) -> Outcome {
        let (mut request, mut chosen) = (None, None);
        let start = Instant::now();
        let result = match call.hooks.streaming {
            _ if call.hooks.choose => self.choice(session, call, &mut chosen),
            None => self.headers(session, call, &mut request),
            Some(_) => self.streaming(session, call, &mut request),
        };
        let time = start.elapsed();
        let end = match result {
            Ok(response) => End::Response(response),
            Err(Early::Stop(Stop::Reply(reply))) => End::Reply(*reply),
            Err(Early::Stop(Stop::Abort(why))) => End::Aborted(why),
            Err(Early::Fault(hook, fault)) => End::Fault(hook, fault),
        };
        Outcome { request, chosen, end, time }
    }

    /// A policy on headers: bodies pass.
    fn headers(
        &self,
        session: &Session,
        call: &PolicyCall,
        passed: &mut Option<Passed<request::Parts>>,
    ) -> Result<Passed<response::Parts>, Early> {
        let (worker, facts) = (session.worker(), self.facts.view());
        let mut request = self.request.passed();
        let mut kept = Default::default();
        if call.hooks.request || call.hooks.carries {
            match session
                .wait(worker.on_request(call, &facts, &mut request.head))
                .map_err(in_hook("the request hook"))?
            {
                Verdict::Proceed(proceed) => kept = proceed,
                Verdict::Reply(reply) => return Err(Stop::Reply(reply.into()).into()),
                Verdict::Hold => {}
            }
        }
        *passed = Some(request);
        let mut response = self.response.passed();
        if call.hooks.response {
            let answer = session.wait(worker.on_response(call, &kept, &facts, &mut response.head));
            if let Verdict::Reply(reply) = answer.map_err(in_hook("the response hook"))? {
                return Err(Stop::Reply(reply.into()).into());
            }
        }
        Ok(response)
    }

    /// A policy on bodies, trailers or the end.
    fn streaming(
        &self,
        session: &Session,
        call: &PolicyCall,
        passed: &mut Option<Passed<request::Parts>>,
    ) -> Result<Passed<response::Parts>, Early> {
        let facts = self.facts.view();
        let exchange = Streaming::begin(session, call, &facts).map_err(in_hook("the beginning of the exchange"))?;
        let result = self.both_messages(&exchange, call, passed);
        let status = result.as_ref().map_or(0, |response| response.head.status.as_u16());
        let bytes = |body: Option<&Bytes>| body.map_or(0, |body| body.len() as u64);
        let request = bytes(Some(&self.request.pieces.concat().into()));
        exchange.end(status, request, bytes(result.as_ref().ok().map(|response| &response.body)));
        result
    }

    fn both_messages(
        &self,
        exchange: &Streaming<'_>,
        call: &PolicyCall,
        passed: &mut Option<Passed<request::Parts>>,
    ) -> Result<Passed<response::Parts>, Early> {
        let mut head = self.request.head.clone();
        let mut holds = false;
        if call.hooks.request || call.hooks.carries {
            holds = exchange.on_request(&mut head)?;
        }
        let message = (Message::Request(head), &*self.request.pieces, &self.request.trailers);
        let (head, body, trailers) = exchange.message(Direction::Request, holds, message)?;
        if let Message::Request(head) = head {
            *passed = Some(Passed { head, body, trailers });
        }
        let mut head = self.response.head.clone();
        let mut holds = false;
        if call.hooks.response {
            holds = exchange.on_response(&mut head)?;
        }
        let message = (Message::Response(head), &*self.response.pieces, &self.response.trailers);
        match exchange.message(Direction::Response, holds, message)? {
            (Message::Response(head), body, trailers) => Ok(Passed { head, body, trailers }),
            (Message::Request(_), ..) => Err(Stop::Abort("the messages were mixed up".into()).into()),
        }
    }
}
