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

mod stage;

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use penstock_core::{ResourceRef, plugin::Direction};

pub(super) use self::stage::Stage;
use super::{Exchange, Stop};
use crate::body::BodyError;

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
        if let Some(stepped) = ready!(self.stages[place].step(&self.exchange, self.direction, cx)) {
            return Poll::Ready(stepped);
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
