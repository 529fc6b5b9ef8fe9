//! Exchanges through a [`StreamingPolicy`].

use std::ops::Deref;

use super::{
    Fault, Gateway, Message, Received, Stage,
    apply::{self, Part},
    stage::accepted,
};
use crate::{
    BodyMode, Chunk, Direction, Exchange, Hooks, IntoValue, Problems, StreamingPolicy, Summary, Trailers,
    export::Streaming, wire,
};

/// The gateway hands over no larger piece of a body.
const MAX_CHUNK: usize = 64 * 1024;

/// A configured streaming policy, ready for exchanges. Dereferences to its [`Stage`].
pub struct StreamingHarness<P: StreamingPolicy>(Stage<Streaming<P>>);

impl<P: StreamingPolicy> StreamingHarness<P> {
    /// With this configuration, on a gateway that grants nothing by name.
    ///
    /// # Panics
    /// When the configuration has problems, with all of them.
    #[must_use]
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "tests write json!(…) here")]
    pub fn new(config: serde_json::Value) -> Self {
        accepted(Self::on(Gateway::new(), &config))
    }

    /// With this configuration, if it is accepted.
    ///
    /// # Errors
    /// The problems that the gateway would show in the status.
    #[expect(clippy::needless_pass_by_value, reason = "tests write json!(…) here")]
    pub fn try_new(config: serde_json::Value) -> Result<Self, Problems> {
        Self::on(Gateway::new(), &config)
    }

    /// With this configuration, on this gateway.
    ///
    /// # Errors
    /// The problems that the gateway would show in the status.
    pub fn on(gateway: Gateway, config: &serde_json::Value) -> Result<Self, Problems> {
        Stage::on(gateway, config).map(Self)
    }

    /// Begins a request of this path, which may have a query.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> ExchangeBuilder<'_, P> {
        ExchangeBuilder { stage: self, message: Message::request(method, path) }
    }
}

impl<P: StreamingPolicy> Deref for StreamingHarness<P> {
    type Target = Stage<Streaming<P>>;

    fn deref(&self) -> &Stage<Streaming<P>> {
        &self.0
    }
}

/// A request that the policy has not seen yet.
pub struct ExchangeBuilder<'h, P: StreamingPolicy> {
    stage: &'h Stage<Streaming<P>>,
    message: Message,
}

impl<'h, P: StreamingPolicy> ExchangeBuilder<'h, P> {
    /// Adds a header; or sets a pseudo-header, such as `:client-address`.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl IntoValue) -> Self {
        self.message.given(name, value);
        self
    }

    /// The policy sees the request's headers.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn start(self) -> Result<Live<'h, P>, Fault> {
        let loaded = &self.stage.loaded;
        let plan = loaded.plan.wire();
        self.stage.gateway.begin();
        let mut live = Live {
            stage: self.stage,
            exchange: self.stage.gateway.run(|| loaded.plugin.exchange()),
            arrived: self.message.clone(),
            request: Side::new(self.message, plan.request_body),
            response: Side::new(Message::default(), plan.response_body),
            skipped: Hooks::empty(),
            ended: Ended::No,
        };
        if plan.hooks.contains(Hooks::REQUEST_HEADERS) {
            let fields = live.arrived.read(&plan.request_reads);
            live.enter(Direction::Request);
            let verdict = live.stage.gateway.run(|| loaded.head_request(&mut live.exchange, fields));
            live.head(Direction::Request, verdict)?;
        }
        Ok(live)
    }
}

/// An exchange under way.
pub struct Live<'h, P: StreamingPolicy> {
    stage: &'h Stage<Streaming<P>>,
    exchange: P::Exchange,
    arrived: Message,
    request: Side,
    response: Side,
    /// What the policy does not need of this exchange.
    skipped: Hooks,
    ended: Ended,
}

/// One direction of an exchange.
struct Side {
    head: Message,
    held: bool,
    mode: BodyMode,
    /// Bytes that the policy holds, or that are collected for it.
    kept: Vec<u8>,
    out: Vec<u8>,
    trailers: Message,
}

/// How a policy has ended the exchange itself.
enum Ended {
    No,
    Replied(Received),
    Aborted(String),
}

impl Side {
    fn new(head: Message, mode: BodyMode) -> Self {
        Self { head, held: false, mode, kept: Vec::new(), out: Vec::new(), trailers: Message::default() }
    }
}

impl<P: StreamingPolicy> Live<'_, P> {
    /// A piece of the request's body arrives.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn send(&mut self, bytes: &[u8], end: bool) -> Result<(), Fault> {
        self.feed(Direction::Request, bytes, end)
    }

    /// The request's trailers arrive.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn send_trailers(&mut self, trailers: &[(&str, &str)]) -> Result<(), Fault> {
        self.trailers(Direction::Request, trailers)
    }

    /// The backend answers with this status and these headers.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn respond(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<(), Fault> {
        self.response.head = Message::response(status);
        for (name, value) in headers {
            self.response.head.append(&name.to_ascii_lowercase(), value.into_value());
        }
        let loaded = &self.stage.loaded;
        let plan = loaded.plan.wire();
        if !self.calls(Hooks::RESPONSE_HEADERS) {
            return Ok(());
        }
        let mut fields = self.response.head.read(&plan.response_reads);
        fields.extend(self.arrived.read(&plan.carried_reads));
        self.enter(Direction::Response);
        let verdict = self.stage.gateway.run(|| loaded.head_response(&mut self.exchange, status, fields));
        self.head(Direction::Response, verdict)
    }

    /// A piece of the response's body arrives.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn receive(&mut self, bytes: &[u8], end: bool) -> Result<(), Fault> {
        self.feed(Direction::Response, bytes, end)
    }

    /// The response's trailers arrive, or it is known that there are none.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn receive_trailers(&mut self, trailers: &[(&str, &str)]) -> Result<(), Fault> {
        self.trailers(Direction::Response, trailers)
    }

    /// The exchange is over.
    pub fn end(self, summary: &Summary) {
        let loaded = &self.stage.loaded;
        if self.calls(Hooks::END) {
            self.stage.gateway.run(|| self.exchange.end(&loaded.plugin, summary));
        }
    }

    /// The request's headers as they went on; none while they are held.
    #[must_use]
    pub fn request(&self) -> Option<&Message> {
        (!self.request.held).then_some(&self.request.head)
    }

    /// What went on of the request's body.
    #[must_use]
    pub fn request_body(&self) -> &[u8] {
        &self.request.out
    }

    /// The request's trailers as they went on.
    #[must_use]
    pub fn request_trailers(&self) -> &Message {
        &self.request.trailers
    }

    /// The response's headers as they went on; none while they are held.
    #[must_use]
    pub fn response(&self) -> Option<&Message> {
        (!self.response.held).then_some(&self.response.head)
    }

    /// What went on of the response's body.
    #[must_use]
    pub fn response_body(&self) -> &[u8] {
        &self.response.out
    }

    /// The response's trailers as they went on.
    #[must_use]
    pub fn response_trailers(&self) -> &Message {
        &self.response.trailers
    }

    /// What the policy has answered in place of the backend.
    #[must_use]
    pub fn reply(&self) -> Option<&Received> {
        if let Ended::Replied(reply) = &self.ended { Some(reply) } else { None }
    }

    /// Why the policy has given the exchange up.
    #[must_use]
    pub fn aborted(&self) -> Option<&str> {
        if let Ended::Aborted(why) = &self.ended { Some(why) } else { None }
    }

    /// Whether the plan has the hook, and the policy still needs it. Tests that see that a hook is skipped look at this.
    #[must_use]
    pub fn calls(&self, hook: Hooks) -> bool {
        (self.stage.plan().hooks() - self.skipped).contains(hook)
    }

    fn skip(&mut self, hooks: Hooks) {
        self.skipped |= hooks;
        for (hook, side) in [(Hooks::REQUEST_BODY, &mut self.request), (Hooks::RESPONSE_BODY, &mut self.response)] {
            if hooks.contains(hook) {
                side.mode = BodyMode::None;
            }
        }
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// What lazy reads find in hooks of this direction.
    fn enter(&self, direction: Direction) {
        let response = (direction == Direction::Response).then_some(&self.response.head);
        self.stage.gateway.exchange(&self.arrived, response, &self.stage.loaded.plan.wire().carried_reads);
    }

    fn head(&mut self, direction: Direction, verdict: wire::Verdict) -> Result<(), Fault> {
        match verdict {
            wire::Verdict::Proceed(proceed) => {
                self.skip(proceed.skip);
                self.edit(direction, proceed.edits)
            }
            wire::Verdict::Reply(reply) => {
                self.ended = Ended::Replied(Received::replied(reply)?);
                Ok(())
            }
            wire::Verdict::Hold if self.side(direction).mode == BodyMode::None => Err(Fault::InvalidHold),
            wire::Verdict::Hold => {
                self.side(direction).held = true;
                Ok(())
            }
        }
    }

    fn edit(&mut self, direction: Direction, edits: Vec<wire::Edit>) -> Result<(), Fault> {
        let plan = &self.stage.loaded.plan;
        apply::apply(&mut self.side(direction).head, edits, plan, direction, Part::Head).map(drop)
    }

    fn feed(&mut self, direction: Direction, bytes: &[u8], end: bool) -> Result<(), Fault> {
        match self.side(direction).mode {
            BodyMode::None => {
                self.side(direction).out.extend_from_slice(bytes);
                Ok(())
            }
            BodyMode::Stream => {
                let mut pieces = bytes.chunks(MAX_CHUNK).peekable();
                if pieces.peek().is_none() {
                    return self.piece(direction, &[], end);
                }
                while let Some(piece) = pieces.next() {
                    self.piece(direction, piece, end && pieces.peek().is_none())?;
                }
                Ok(())
            }
            BodyMode::Buffer(max) => {
                let side = self.side(direction);
                side.kept.extend_from_slice(bytes);
                if side.kept.len() > max as usize {
                    return Err(Fault::BodyOverflow(max));
                }
                if end { self.piece(direction, &[], true) } else { Ok(()) }
            }
        }
    }

    /// The policy sees what is kept and one piece more.
    fn piece(&mut self, direction: Direction, bytes: &[u8], end: bool) -> Result<(), Fault> {
        if !matches!(self.ended, Ended::No) {
            return Ok(());
        }
        let mut seen = std::mem::take(&mut self.side(direction).kept);
        seen.extend_from_slice(bytes);
        self.enter(direction);
        let plugin = &self.stage.loaded.plugin;
        let chunk = Chunk { bytes: &seen, end };
        let verdict = self.stage.gateway.run(|| match direction {
            Direction::Request => self.exchange.on_request_body(plugin, chunk),
            Direction::Response => self.exchange.on_response_body(plugin, chunk),
        });
        match verdict.into_wire() {
            wire::BodyVerdict::Pass => self.side(direction).out.extend_from_slice(&seen),
            wire::BodyVerdict::Replace(bytes) => self.side(direction).out.extend_from_slice(&bytes),
            wire::BodyVerdict::Hold => self.side(direction).kept = seen,
            wire::BodyVerdict::Release(release) => {
                if !std::mem::take(&mut self.side(direction).held) {
                    return Err(Fault::NotHeld);
                }
                self.edit(direction, release.edits)?;
                self.side(direction).out.extend_from_slice(release.body.as_deref().unwrap_or(&seen));
            }
            wire::BodyVerdict::Reply(reply) => self.ended = Ended::Replied(Received::replied(reply)?),
            wire::BodyVerdict::Abort(why) => self.ended = Ended::Aborted(why),
        }
        let open = matches!(self.ended, Ended::No);
        let side = self.side(direction);
        if end && open && (side.held || !side.kept.is_empty()) { Err(Fault::StillHeld) } else { Ok(()) }
    }

    fn trailers(&mut self, direction: Direction, trailers: &[(&str, &str)]) -> Result<(), Fault> {
        for (name, value) in trailers {
            self.side(direction).trailers.with(name, *value);
        }
        let (hook, absent) = match direction {
            Direction::Request => (Hooks::REQUEST_TRAILERS, trailers.is_empty()),
            Direction::Response => (Hooks::RESPONSE_TRAILERS, false),
        };
        let loaded = &self.stage.loaded;
        if absent || !self.calls(hook) {
            return Ok(());
        }
        self.enter(direction);
        let seen = Trailers::new(&loaded.plan, direction, self.side(direction).trailers.headers());
        self.stage.gateway.run(|| match direction {
            Direction::Request => self.exchange.on_request_trailers(&loaded.plugin, &seen),
            Direction::Response => self.exchange.on_response_trailers(&loaded.plugin, &seen),
        });
        let verdict = seen.into_verdict();
        let side = self.side(direction);
        side.out.extend_from_slice(&verdict.body);
        apply::apply(&mut side.trailers, verdict.edits, &loaded.plan, direction, Part::Trailers).map(drop)
    }
}
