//! One exchange through a plugin without a proxy, in the order of the proxy: for checks before a candidate is accepted, and for the tools of
//! plugin authors. There is no network: whatever would wait answers at once.

mod prepare;
mod routing;
mod streaming;

use std::time::Instant;

use bytes::Bytes;
use http::{request, response};
use penstock_core::{
    check::{End, Outcome, Passed},
    plugin::{Called, Direction, PluginFault, PolicyCall, PolicyWorker, Verdict},
};

pub use self::prepare::{CannotRehearse, Rehearsal};
use self::streaming::{Message, Stop, Streaming};
use crate::instance::at_once;

/// The answer of a hook.
///
/// # Errors
/// The plugin did not answer properly.
pub fn answer<T>(called: Called<'_, T>) -> Result<T, PluginFault> {
    match called {
        Called::Answered(answer) => answer,
        Called::Waiting(answer) => at_once(answer),
    }
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

impl Rehearsal {
    /// Run it.
    #[must_use]
    pub fn run(&self, worker: &dyn PolicyWorker, call: &PolicyCall) -> Outcome {
        let (mut request, mut chosen) = (None, None);
        let start = Instant::now();
        let result = match call.hooks.streaming {
            _ if call.hooks.choose => self.choice(worker, call, &mut chosen),
            None => self.headers(worker, call, &mut request),
            Some(_) => self.streaming(worker, call, &mut request),
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
        worker: &dyn PolicyWorker,
        call: &PolicyCall,
        passed: &mut Option<Passed<request::Parts>>,
    ) -> Result<Passed<response::Parts>, Early> {
        let facts = self.facts.view();
        let mut request = self.request.passed();
        let mut kept = Default::default();
        if call.hooks.request || call.hooks.carries {
            match answer(worker.on_request(call, &facts, &mut request.head)).map_err(in_hook("the request hook"))? {
                Verdict::Proceed(proceed) => kept = proceed,
                Verdict::Reply(reply) => return Err(Stop::Reply(reply.into()).into()),
                Verdict::Hold => {}
            }
        }
        *passed = Some(request);
        let mut response = self.response.passed();
        if call.hooks.response {
            let answered = answer(worker.on_response(call, &kept, &facts, &mut response.head));
            if let Verdict::Reply(reply) = answered.map_err(in_hook("the response hook"))? {
                return Err(Stop::Reply(reply.into()).into());
            }
        }
        Ok(response)
    }

    /// A policy on bodies, trailers or the end.
    fn streaming(
        &self,
        worker: &dyn PolicyWorker,
        call: &PolicyCall,
        passed: &mut Option<Passed<request::Parts>>,
    ) -> Result<Passed<response::Parts>, Early> {
        let facts = self.facts.view();
        let exchange = Streaming::begin(worker, call, &facts).map_err(in_hook("the beginning of the exchange"))?;
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
