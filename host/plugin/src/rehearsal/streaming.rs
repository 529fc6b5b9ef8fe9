//! Bodies and trailers through a policy that sees them, as the proxy hands them over: pieces of at most 64 KiB, what is held back in front
//! of the next one, and trailers last.

use std::{cell::RefCell, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, Response, request, response};
pub(super) use penstock_core::plugin::Message;
use penstock_core::plugin::{
    BodyMode, BodyOverflow, BodyVerdict, Chunk, Direction, ExchangeFacts, HeldHead, PluginFault, PolicyCall,
    PolicyExchange, PolicyWorker, StreamingHooks, Summary, TrailersVerdict, Verdict,
};

use super::{Early, answer, in_hook};

/// What a plugin sees of a streamed body at once.
const CHUNK: usize = 64 << 10;

/// What a plugin can do to an exchange beside letting it pass.
pub(super) enum Stop {
    /// It answers itself.
    Reply(Box<Response<Bytes>>),
    /// It gives the exchange up, or the gateway does because of it.
    Abort(String),
}

/// An exchange in a policy.
pub(super) struct Streaming<'a> {
    facts: &'a ExchangeFacts<'a>,
    policy: Rc<dyn PolicyExchange>,
    hooks: StreamingHooks,
    overflow: BodyOverflow,
}

/// A message on its way: head, body, trailers.
type Whole = (Message, Bytes, HeaderMap);

impl<'a> Streaming<'a> {
    pub(super) fn begin(
        worker: &dyn PolicyWorker,
        call: &PolicyCall,
        facts: &'a ExchangeFacts<'a>,
    ) -> Result<Self, PluginFault> {
        let policy = worker.begin(call, facts)?;
        let (hooks, overflow) = (call.hooks.streaming.unwrap_or_default(), call.body_overflow);
        Ok(Self { facts, policy, hooks, overflow })
    }

    /// The request hook; whether it keeps the head back.
    pub(super) fn on_request(&self, head: &mut request::Parts) -> Result<bool, Early> {
        let verdict = answer(self.policy.on_request(self.facts, head));
        holds(verdict.map_err(in_hook("the request hook"))?)
    }

    /// The response hook; whether it keeps the head back.
    pub(super) fn on_response(&self, head: &mut response::Parts) -> Result<bool, Early> {
        let verdict = answer(self.policy.on_response(self.facts, head));
        holds(verdict.map_err(in_hook("the response hook"))?)
    }

    /// The rest of a message behind its head hook.
    pub(super) fn message(
        &self,
        direction: Direction,
        holds: bool,
        (head, pieces, trailers): (Message, &[Bytes], &HeaderMap),
    ) -> Result<Whole, Early> {
        let head: HeldHead = Rc::new(RefCell::new(head));
        let mut body = match self.mode(direction) {
            BodyMode::None => pieces.concat(),
            BodyMode::Stream => self.body(direction, holds.then(|| Rc::clone(&head)), &chunks(pieces))?,
            BodyMode::Buffer(most) => {
                let whole: Bytes = pieces.concat().into();
                match (whole.len() <= most as usize, self.overflow) {
                    (true, _) => self.body(direction, holds.then(|| Rc::clone(&head)), &[whole])?,
                    (false, BodyOverflow::Pass) => whole.to_vec(),
                    (false, BodyOverflow::Reject) => return Err(too_large(direction, whole.len(), most).into()),
                }
            }
        };
        let mut trailers = trailers.clone();
        if self.sees_trailers(direction) && (direction == Direction::Response || !trailers.is_empty()) {
            let answered = answer(Rc::clone(&self.policy).on_trailers(self.facts, direction, trailers));
            let TrailersVerdict { body: more, trailers: edited } = answered.map_err(in_hook("the trailers hook"))?;
            body.extend_from_slice(&more);
            trailers = edited;
        }
        // A body hook may still hold a clone; what the head is then has been decided.
        let head = match Rc::try_unwrap(head) {
            Ok(head) => head.into_inner(),
            Err(shared) => clone(&shared.borrow()),
        };
        Ok((head, body.into(), trailers))
    }

    fn body(&self, direction: Direction, mut held: Option<HeldHead>, chunks: &[Bytes]) -> Result<Vec<u8>, Early> {
        let hook = match direction {
            Direction::Request => "the request body hook",
            Direction::Response => "the response body hook",
        };
        let (mut out, mut kept) = (Vec::new(), Vec::new());
        for (index, piece) in chunks.iter().enumerate() {
            kept.extend_from_slice(piece);
            let chunk = Chunk { bytes: std::mem::take(&mut kept).into(), end: index + 1 == chunks.len() };
            let policy = Rc::clone(&self.policy);
            let answered = answer(policy.on_body(self.facts, direction, chunk.clone(), held.clone()));
            match answered.map_err(in_hook(hook))? {
                BodyVerdict::Pass => out.extend_from_slice(&chunk.bytes),
                BodyVerdict::Replace(other) => out.extend_from_slice(&other),
                BodyVerdict::Hold => kept = chunk.bytes.to_vec(),
                BodyVerdict::Release(other) => {
                    held = None;
                    out.extend_from_slice(&other.unwrap_or(chunk.bytes));
                }
                BodyVerdict::Reply(reply) => return Err(Stop::Reply(reply.into()).into()),
                BodyVerdict::Abort(why) => return Err(Stop::Abort(why).into()),
            }
        }
        Ok(out)
    }

    /// The exchange is over.
    pub(super) fn end(&self, status: u16, request_bytes: u64, response_bytes: u64) {
        if self.hooks.end {
            let summary = Summary { status, request_bytes, response_bytes, ..Summary::default() };
            self.policy.end(self.facts, &summary);
        }
    }

    fn mode(&self, direction: Direction) -> BodyMode {
        match direction {
            Direction::Request => self.hooks.request_body,
            Direction::Response => self.hooks.response_body,
        }
    }

    fn sees_trailers(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.hooks.request_trailers,
            Direction::Response => self.hooks.response_trailers,
        }
    }
}

fn holds(verdict: Verdict) -> Result<bool, Early> {
    match verdict {
        Verdict::Proceed(_) => Ok(false),
        Verdict::Hold => Ok(true),
        Verdict::Reply(reply) => Err(Stop::Reply(reply.into()).into()),
    }
}

fn too_large(direction: Direction, size: usize, most: u32) -> Stop {
    let status = match direction {
        Direction::Request => 413,
        Direction::Response => 502,
    };
    Stop::Abort(format!("{status}: a body of {size} bytes; the plugin buffers {most}, and bodyOverflow is Reject"))
}

/// As the proxy cuts them. A message without a body is one empty piece.
fn chunks(pieces: &[Bytes]) -> Vec<Bytes> {
    let mut chunks: Vec<Bytes> =
        pieces.iter().flat_map(|piece| piece.chunks(CHUNK).map(|chunk| piece.slice_ref(chunk))).collect();
    if chunks.is_empty() {
        chunks.push(Bytes::new());
    }
    chunks
}

fn clone(message: &Message) -> Message {
    match message {
        Message::Request(head) => Message::Request(head.clone()),
        Message::Response(head) => Message::Response(head.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_cut_as_the_proxy_cuts_them() {
        let sizes = |pieces: &[usize]| {
            let pieces: Vec<Bytes> = pieces.iter().map(|size| vec![0; *size].into()).collect();
            chunks(&pieces).iter().map(Bytes::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [0]);
        assert_eq!(sizes(&[0]), [0]);
        assert_eq!(sizes(&[3, 0, 4]), [3, 4]);
        assert_eq!(sizes(&[CHUNK + 1]), [CHUNK, 1]);
    }
}
