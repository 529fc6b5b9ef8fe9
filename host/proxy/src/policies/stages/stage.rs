//! One plugin's look at one body.

use std::{
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use penstock_core::{
    plugin::{BodyMode, BodyOverflow, BodyVerdict, Called, Chunk, Direction, HeldHead, PluginFault, TrailersVerdict},
    reason::Reason,
};

use super::{
    super::{
        Exchange, Participant, Stop,
        room::{NoRoom, Room},
    },
    Break,
};
use crate::respond::Rejection;

/// What a plugin sees of a streamed body at once.
const CHUNK: usize = 64 << 10;

/// What stands between a body and one plugin.
pub(crate) struct Stage {
    participant: Rc<Participant>,
    mode: BodyMode,
    sees_trailers: bool,
    /// The head, while the plugin keeps it back.
    held: Option<HeldHead>,
    /// Bytes that the plugin holds back, or that are buffered for it.
    kept: BytesMut,
    room: Room,
    input: VecDeque<Input>,
    input_ended: bool,
    pub(super) output: VecDeque<Frame<Bytes>>,
    waiting: Option<Waiting>,
    /// Something else than what came has gone on.
    replaced: bool,
}

enum Input {
    Data(Chunk),
    Trailers(HeaderMap),
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, PluginFault>>>>;

/// A hook that waits, with what it was asked about.
enum Waiting {
    Body(Chunk, Answer<BodyVerdict>),
    Trailers(HeaderMap, Answer<TrailersVerdict>),
}

impl Stage {
    pub(in crate::policies) fn new(
        participant: Rc<Participant>,
        mode: BodyMode,
        sees_trailers: bool,
        held: Option<HeldHead>,
    ) -> Self {
        Self {
            participant,
            mode,
            sees_trailers,
            held,
            kept: BytesMut::new(),
            room: Room::default(),
            input: VecDeque::new(),
            input_ended: false,
            output: VecDeque::new(),
            waiting: None,
            replaced: false,
        }
    }

    /// Whether the head of the message waits for this stage.
    pub(super) fn keeps_head(&self) -> bool {
        (self.held.is_some() || matches!(self.mode, BodyMode::Buffer(_))) && !self.is_done()
    }

    /// Whether nothing more comes of it than what it has.
    pub(super) fn is_done(&self) -> bool {
        self.input_ended && self.input.is_empty() && self.waiting.is_none()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_done() && self.output.is_empty()
    }

    /// Go on with what is at hand: a hook that waited, or a piece of what came. None if there is nothing.
    pub(super) fn step(
        &mut self,
        exchange: &Exchange,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(), Break>>> {
        match &mut self.waiting {
            Some(Waiting::Body(_, answer)) => {
                let answer = ready!(answer.as_mut().poll(cx));
                let Some(Waiting::Body(chunk, _)) = self.waiting.take() else { return Poll::Ready(None) };
                return Poll::Ready(Some(self.settle_body(exchange, chunk, answer)));
            }
            Some(Waiting::Trailers(_, answer)) => {
                let answer = ready!(answer.as_mut().poll(cx));
                let Some(Waiting::Trailers(trailers, _)) = self.waiting.take() else { return Poll::Ready(None) };
                return Poll::Ready(Some(self.settle_trailers(exchange, trailers, answer)));
            }
            None => {}
        }
        if !self.input.is_empty() && exchange.wants_break() {
            // Whoever else has something to do comes first.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.input.pop_front().map(|input| match input {
            Input::Data(chunk) => self.take_data(exchange, direction, chunk),
            Input::Trailers(trailers) => self.take_trailers(exchange, direction, trailers),
        }))
    }

    /// A frame came, or the end.
    pub(super) fn accept(&mut self, frame: Option<Frame<Bytes>>, ended: bool) {
        let (bytes, trailers) = match frame.map(Frame::into_data) {
            None => (None, None),
            Some(Ok(bytes)) => (Some(bytes), None),
            Some(Err(frame)) => (None, frame.into_trailers().ok()),
        };
        // Nothing comes behind trailers, and without a frame there is nothing at all.
        self.input_ended = ended || bytes.is_none();
        if self.input_ended || bytes.as_ref().is_some_and(|bytes| !bytes.is_empty()) {
            let chunk = Chunk { bytes: bytes.unwrap_or_default(), end: self.input_ended };
            self.input.push_back(Input::Data(chunk));
        }
        if self.input_ended && (trailers.is_some() || self.sees_trailers) {
            self.input.push_back(Input::Trailers(trailers.unwrap_or_default()));
        }
    }

    fn take_data(&mut self, exchange: &Exchange, direction: Direction, mut chunk: Chunk) -> Result<(), Break> {
        match self.mode {
            BodyMode::None => {
                self.emit(chunk.bytes);
                Ok(())
            }
            BodyMode::Stream => {
                if chunk.bytes.len() > CHUNK {
                    let rest = Chunk { bytes: chunk.bytes.split_off(CHUNK), end: chunk.end };
                    self.input.push_front(Input::Data(rest));
                    chunk.end = false;
                }
                self.call_body(exchange, direction, chunk)
            }
            BodyMode::Buffer(max) => {
                if self.kept.len() + chunk.bytes.len() > max as usize {
                    return self.overflow(exchange, direction, chunk.bytes);
                }
                if chunk.end {
                    return self.call_body(exchange, direction, chunk);
                }
                self.kept.extend_from_slice(&chunk.bytes);
                self.find_room(exchange)
            }
        }
    }

    /// What waits here is part of what may wait everywhere.
    fn find_room(&mut self, exchange: &Exchange) -> Result<(), Break> {
        self.room.set(exchange.rooms(), self.kept.len()).map_err(|NoRoom| {
            self.kept = BytesMut::new();
            self.stop(Rejection::new(
                Reason::Overloaded,
                "bodies that wait for plugins take all the memory that they may",
            ))
        })
    }

    /// More than the plugin wants to see in one piece.
    fn overflow(&mut self, exchange: &Exchange, direction: Direction, bytes: Bytes) -> Result<(), Break> {
        let call = exchange.call(self.participant.at);
        match call.body_overflow {
            BodyOverflow::Pass => {
                self.step_aside();
                self.emit(bytes);
                Ok(())
            }
            BodyOverflow::Reject => {
                let reason = match direction {
                    Direction::Request => Reason::BodyTooLarge,
                    Direction::Response => Reason::ResponseTooLarge,
                };
                let detail = format!("{} buffers no more, and its bodyOverflow is Reject", call.plugin);
                Err(self.stop(Rejection::new(reason, detail)))
            }
        }
    }

    fn call_body(&mut self, exchange: &Exchange, direction: Direction, mut chunk: Chunk) -> Result<(), Break> {
        if !self.kept.is_empty() {
            self.kept.extend_from_slice(&chunk.bytes);
            chunk.bytes = std::mem::take(&mut self.kept).freeze();
        }
        let policy = self.participant.policy.clone();
        match policy.on_body(&exchange.facts(), direction, chunk.clone(), self.held.clone()) {
            Called::Answered(answer) => self.settle_body(exchange, chunk, answer),
            Called::Waiting(answer) => {
                self.waiting = Some(Waiting::Body(chunk, answer));
                Ok(())
            }
        }
    }

    fn settle_body(
        &mut self,
        exchange: &Exchange,
        chunk: Chunk,
        answer: Result<BodyVerdict, PluginFault>,
    ) -> Result<(), Break> {
        let Chunk { bytes, end } = chunk;
        // Nothing waits here any more, unless it is held back again.
        self.room = Room::default();
        match answer {
            Ok(BodyVerdict::Pass) => self.emit(bytes),
            Ok(BodyVerdict::Replace(other)) => self.emit_other(other),
            Ok(BodyVerdict::Hold) => {
                self.kept = BytesMut::from(bytes);
                self.find_room(exchange)?;
            }
            Ok(BodyVerdict::Release(other)) => {
                self.held = None;
                match other {
                    Some(other) => self.emit_other(other),
                    None => self.emit(bytes),
                }
            }
            Ok(BodyVerdict::Reply(reply)) => return Err(self.stop(Stop::Reply(reply.into()))),
            Ok(BodyVerdict::Abort(why)) => return Err(self.stop(Stop::Abort(why))),
            Err(fault) => {
                self.fault(exchange, fault)?;
                self.emit(bytes);
            }
        }
        if end {
            // The hook is not called again.
            (self.mode, self.held) = (BodyMode::None, None);
        }
        Ok(())
    }

    fn take_trailers(&mut self, exchange: &Exchange, direction: Direction, trailers: HeaderMap) -> Result<(), Break> {
        let is_called = self.sees_trailers && (direction == Direction::Response || !trailers.is_empty());
        if !is_called {
            self.emit_trailers(trailers);
            return Ok(());
        }
        let policy = self.participant.policy.clone();
        match policy.on_trailers(&exchange.facts(), direction, trailers.clone()) {
            Called::Answered(answer) => self.settle_trailers(exchange, trailers, answer),
            Called::Waiting(answer) => {
                self.waiting = Some(Waiting::Trailers(trailers, answer));
                Ok(())
            }
        }
    }

    fn settle_trailers(
        &mut self,
        exchange: &Exchange,
        before: HeaderMap,
        answer: Result<TrailersVerdict, PluginFault>,
    ) -> Result<(), Break> {
        match answer {
            Ok(TrailersVerdict { body, trailers }) => {
                self.emit(body);
                self.emit_trailers(trailers);
            }
            Err(fault) => {
                self.fault(exchange, fault)?;
                self.emit_trailers(before);
            }
        }
        Ok(())
    }

    /// The plugin faulted. What it has not seen, or has not let go, passes on unchanged where that is still possible.
    fn fault(&mut self, exchange: &Exchange, fault: PluginFault) -> Result<(), Break> {
        let kind = fault.kind;
        if let Some(broken) = exchange.judge(self.participant.at, fault) {
            self.participant.leave();
            return Err(broken);
        }
        if self.replaced {
            let reason = if kind.is_uncalled() { Reason::PluginUnavailable } else { Reason::PluginFault };
            return Err(
                self.stop(Rejection::new(reason, "the body was begun to be replaced, and cannot go on without"))
            );
        }
        self.participant.leave();
        self.step_aside();
        Ok(())
    }

    /// From here on everything passes.
    fn step_aside(&mut self) {
        (self.mode, self.sees_trailers, self.held) =
            (BodyMode::None, self.sees_trailers && !self.participant.has_left(), None);
        let kept = std::mem::take(&mut self.kept).freeze();
        self.room = Room::default();
        self.emit(kept);
    }

    fn stop(&self, stop: impl Into<Stop>) -> Break {
        self.participant.leave();
        Break::Plugin { at: self.participant.at, stop: stop.into() }
    }

    fn emit(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.output.push_back(Frame::data(bytes));
        }
    }

    fn emit_other(&mut self, bytes: Bytes) {
        self.replaced = true;
        self.emit(bytes);
    }

    fn emit_trailers(&mut self, trailers: HeaderMap) {
        if !trailers.is_empty() {
            self.output.push_back(Frame::trailers(trailers));
        }
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("participant", &self.participant)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
