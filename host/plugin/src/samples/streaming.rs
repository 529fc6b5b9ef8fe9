//! A sample exchange through a policy on bodies, trailers or the end.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, request, response};
use penstock_core::plugin::{
    BodyMode, BodyVerdict, Carried, Chunk, Direction, ExchangeFacts, HeldHead, Message, PluginFault, Summary, Verdict,
};

use crate::{
    hooks::{self, Behind, BodyCall, HookContext, Known},
    instance::{ExchangeHandle, Instance, at_once},
};

/// A piece of a body, as large as the proxy makes them.
const CHUNK: usize = 64 << 10;

/// Run every hook of the plan once, and body hooks for each chunk of `body`.
pub(super) fn run(
    instance: &mut Instance,
    hook: HookContext<'_>,
    facts: &ExchangeFacts<'_>,
    (request, response): (request::Parts, response::Parts),
    body: &[u8],
) -> Result<(), PluginFault> {
    let handle = instance.exchange(hook.limits.hook_time)?;
    let carried = hooks::carry(hook.plan, facts, &request);
    let mut sample = Sample { instance, hook, facts, handle, carried };
    if sample.request(request, body)?.is_continue() {
        // A reply in place of the response ends it as well as the response itself.
        let _ = sample.response(response, body)?;
    }
    sample.end(body.len() as u64)
}

struct Sample<'a> {
    instance: &'a mut Instance,
    hook: HookContext<'a>,
    facts: &'a ExchangeFacts<'a>,
    handle: ExchangeHandle,
    carried: Carried,
}

/// Whether the exchange goes on, or the plugin has ended it.
type Flow = std::ops::ControlFlow<()>;

/// Nobody asks for the response's headers after its head.
fn known<'a>(handle: ExchangeHandle, facts: &'a ExchangeFacts<'a>, carried: &'a Carried) -> Known<'a> {
    Known { handle, facts, carried, response: None }
}

impl Sample<'_> {
    fn request(&mut self, mut head: request::Parts, body: &[u8]) -> Result<Flow, PluginFault> {
        let verdict = if self.hook.plan.hooks().request {
            let (hook, handle, facts) = (self.hook, self.handle, self.facts);
            at_once(hooks::on_exchange_request(self.instance, hook, handle, facts, &mut head))?
        } else {
            Verdict::Proceed(Default::default())
        };
        self.rest(Direction::Request, verdict, Message::Request(head), body)
    }

    fn response(&mut self, mut head: response::Parts, body: &[u8]) -> Result<Flow, PluginFault> {
        let verdict = if self.hook.plan.hooks().response {
            let known = known(self.handle, self.facts, &self.carried);
            at_once(hooks::on_exchange_response(self.instance, self.hook, known, &mut head))?
        } else {
            Verdict::Proceed(Default::default())
        };
        self.rest(Direction::Response, verdict, Message::Response(head), body)
    }

    /// What follows the head.
    fn rest(
        &mut self,
        direction: Direction,
        verdict: Verdict,
        head: Message,
        body: &[u8],
    ) -> Result<Flow, PluginFault> {
        let held = match hooks::allow_hold(self.hook.plan, verdict, direction)? {
            Verdict::Proceed(_) => None,
            Verdict::Reply(_) => return Ok(Flow::Break(())),
            Verdict::Hold => Some(Rc::new(RefCell::new(head))),
        };
        if self.body(direction, held, body)?.is_break() {
            return Ok(Flow::Break(()));
        }
        let hooks = self.hook.plan.hooks().streaming.unwrap_or_default();
        let sees_trailers = match direction {
            Direction::Request => hooks.request_trailers,
            Direction::Response => hooks.response_trailers,
        };
        if sees_trailers {
            let known = known(self.handle, self.facts, &self.carried);
            at_once(hooks::on_trailers(self.instance, self.hook, known, direction, HeaderMap::new()))?;
        }
        Ok(Flow::Continue(()))
    }

    fn body(&mut self, direction: Direction, mut held: Option<HeldHead>, body: &[u8]) -> Result<Flow, PluginFault> {
        let size = match self.hook.plan.body_mode(direction) {
            None | Some(BodyMode::None) => return Ok(Flow::Continue(())),
            Some(BodyMode::Stream) => CHUNK,
            // The proxy hands over no larger one.
            Some(BodyMode::Buffer(max)) => (max as usize).max(1),
        };
        let (mut kept, mut behind, mut rest) = (Vec::new(), Behind::default(), body);
        loop {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            kept.extend_from_slice(piece);
            let end = rest.is_empty() || size != CHUNK;
            let chunk = Chunk { bytes: Bytes::from(std::mem::take(&mut kept)), end };
            let known = known(self.handle, self.facts, &self.carried);
            let call = BodyCall { direction, chunk: &chunk, held: held.as_ref() };
            match at_once(hooks::on_body(self.instance, self.hook, known, call, &mut behind))? {
                BodyVerdict::Hold => kept = chunk.bytes.to_vec(),
                BodyVerdict::Release(_) => held = None,
                BodyVerdict::Pass | BodyVerdict::Replace(_) => {}
                BodyVerdict::Reply(_) | BodyVerdict::Abort(_) => return Ok(Flow::Break(())),
            }
            if end {
                return Ok(Flow::Continue(()));
            }
        }
    }

    fn end(self, bytes: u64) -> Result<(), PluginFault> {
        let known = Known { handle: self.handle, facts: self.facts, carried: &self.carried, response: None };
        if self.hook.plan.hooks().streaming.is_some_and(|hooks| hooks.end) {
            let duration = Duration::from_millis(1);
            let summary =
                Summary { status: 200, request_bytes: bytes, response_bytes: bytes, duration, ..Summary::default() };
            return at_once(hooks::end_exchange(self.instance, self.hook, known, &summary));
        }
        self.instance.forget(self.handle, self.hook.limits.hook_time)
    }
}
