//! Bodies on their way through plugins: one stage for each plugin that sees them, in the order in which they do.
//!
//! ```text
//! source ──frames──► stage ──frames──► stage ──frames──► the other side, which asks for one when it has room
//!                      │ ▲
//!                 chunk ▼ │ verdict
//!                     plugin
//! ```
//!
//! Nothing runs ahead: a stage asks for its next frame when it has nothing left to give, so back-pressure goes through all of them, and
//! what waits is one frame, what the plugin holds back, and what it buffers.
//!
//! Faults: with `failurePolicy: Open` a body that the plugin has not changed passes on unchanged, from the first byte that has not left. One
//! that it has begun to replace cannot be mended, and breaks off as it does with `Closed`.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use penstock_core::{
    ResourceRef,
    plugin::{BodyMode, BodyOverflow, BodyVerdict, Called, Chunk, Direction, HeldHead, PluginFault, TrailersVerdict},
    reason::Reason,
};

use super::{
    Exchange, Participant, Stop,
    room::{NoRoom, Room},
};
use crate::{body::BodyError, respond::Rejection};

/// What a plugin sees of a streamed body at once.
const CHUNK: usize = 64 << 10;

/// Where a body comes from.
pub(crate) trait Source {
    /// The next frame; none at the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;

    /// Whether it is known that none follows.
    fn is_end(&self) -> bool;
}

/// Why a body goes no further.
#[derive(Debug)]
pub(crate) enum Break {
    /// Its sender failed.
    Source(BodyError),
    /// A plugin did it.
    Plugin {
        /// Its place in the rule.
        at: usize,
        stop: Stop,
    },
}

/// The stages of one body.
#[derive(Debug)]
pub(crate) struct Stages {
    direction: Direction,
    exchange: Rc<Exchange>,
    stages: Vec<Stage>,
}

/// One plugin's look at one body.
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
    output: VecDeque<Frame<Bytes>>,
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

impl Stages {
    pub(crate) fn new(direction: Direction, exchange: Rc<Exchange>) -> Self {
        Self { direction, exchange, stages: Vec::new() }
    }

    /// Which plugin stands at a place of the rule.
    pub(crate) fn plugin(&self, at: usize) -> &ResourceRef {
        &self.exchange.call(at).plugin
    }

    pub(crate) fn exchange(&self) -> &Rc<Exchange> {
        &self.exchange
    }

    /// Add a stage behind the others; answers with its place.
    pub(super) fn push(&mut self, stage: Stage) -> usize {
        self.stages.push(stage);
        self.stages.len() - 1
    }

    /// The next frame behind all stages.
    pub(crate) fn poll_frame(
        &mut self,
        source: &mut dyn Source,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Break>>> {
        self.poll_behind(self.stages.len(), source, cx)
    }

    /// Go on until a stage lets the head of its message pass: the plugin has released it, and has seen what it buffers. `is_too_late` is
    /// asked whenever there is nothing to do but wait.
    pub(crate) async fn fill(
        &mut self,
        place: usize,
        source: &mut dyn Source,
        mut is_too_late: impl FnMut(&Context<'_>) -> bool,
    ) -> Result<(), Break> {
        poll_fn(|cx| {
            while self.stages[place].keeps_head() {
                match self.advance(place, source, cx) {
                    Poll::Ready(advanced) => advanced?,
                    Poll::Pending if is_too_late(cx) => return Poll::Ready(Err(Break::Source(BodyError::Stalled))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Go on to the end of a body that is known to be empty.
    pub(crate) async fn complete(&mut self, source: &mut dyn Source) -> Result<(), Break> {
        let last = self.stages.len().saturating_sub(1);
        poll_fn(|cx| {
            while self.stages.get(last).is_some_and(|stage| !stage.is_done()) {
                ready!(self.advance(last, source, cx))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// All of the body, if all of it has passed the stages and it has no trailers.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        let last = self.stages.last_mut()?;
        // It is done only when those before it are, and have given it everything.
        if !last.is_done() || last.output.iter().any(Frame::is_trailers) {
            return None;
        }
        let mut pieces = last.output.drain(..).filter_map(|frame| frame.into_data().ok());
        let first = pieces.next().unwrap_or_default();
        let Some(second) = pieces.next() else { return Some(first) };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        pieces.for_each(|piece| whole.extend_from_slice(&piece));
        Some(whole.freeze())
    }

    /// Whether nothing follows behind the last stage.
    pub(crate) fn is_end(&self) -> bool {
        self.stages.last().is_some_and(Stage::is_over)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.stages.last() {
            Some(stage) if stage.is_done() => SizeHint::with_exact(
                stage.output.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum(),
            ),
            _ => SizeHint::default(),
        }
    }

    /// The next frame behind so many stages.
    fn poll_behind(
        &mut self,
        count: usize,
        source: &mut dyn Source,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Break>>> {
        let Some(place) = count.checked_sub(1) else {
            return source.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Break::Source)));
        };
        loop {
            if let Some(frame) = self.stages[place].output.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.stages[place].is_done() {
                return Poll::Ready(None);
            }
            if let Err(broken) = ready!(self.advance(place, source, cx)) {
                return Poll::Ready(Some(Err(broken)));
            }
        }
    }

    /// One step of a stage: a hook that waited, a piece of what came, or the next frame from before it.
    fn advance(&mut self, place: usize, source: &mut dyn Source, cx: &mut Context<'_>) -> Poll<Result<(), Break>> {
        let (direction, exchange) = (self.direction, &self.exchange);
        let stage = &mut self.stages[place];
        match &mut stage.waiting {
            Some(Waiting::Body(_, answer)) => {
                let answer = ready!(answer.as_mut().poll(cx));
                let Some(Waiting::Body(chunk, _)) = stage.waiting.take() else { return Poll::Ready(Ok(())) };
                return Poll::Ready(stage.settle_body(exchange, chunk, answer));
            }
            Some(Waiting::Trailers(_, answer)) => {
                let answer = ready!(answer.as_mut().poll(cx));
                let Some(Waiting::Trailers(trailers, _)) = stage.waiting.take() else { return Poll::Ready(Ok(())) };
                return Poll::Ready(stage.settle_trailers(exchange, trailers, answer));
            }
            None => {}
        }
        if !stage.input.is_empty() && exchange.wants_break() {
            // Whoever else has something to do comes first.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(input) = stage.input.pop_front() {
            return Poll::Ready(match input {
                Input::Data(chunk) => stage.take_data(exchange, direction, chunk),
                Input::Trailers(trailers) => stage.take_trailers(exchange, direction, trailers),
            });
        }
        let frame = ready!(self.poll_behind(place, source, cx)).transpose()?;
        let ended = match place.checked_sub(1) {
            None => source.is_end(),
            Some(before) => self.stages[before].is_over(),
        };
        self.stages[place].accept(frame, ended);
        Poll::Ready(Ok(()))
    }
}

impl Stage {
    pub(super) fn new(
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
    fn keeps_head(&self) -> bool {
        (self.held.is_some() || matches!(self.mode, BodyMode::Buffer(_))) && !self.is_done()
    }

    /// Whether nothing more comes of it than what it has.
    fn is_done(&self) -> bool {
        self.input_ended && self.input.is_empty() && self.waiting.is_none()
    }

    fn is_over(&self) -> bool {
        self.is_done() && self.output.is_empty()
    }

    /// A frame came, or the end.
    fn accept(&mut self, frame: Option<Frame<Bytes>>, ended: bool) {
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
