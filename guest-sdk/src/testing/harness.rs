//! Exchanges through a [`Policy`].

use std::ops::Deref;

use super::{
    Edit, Fault, Gateway, Message, Stage,
    apply::{self, Part},
    stage::accepted,
};
use crate::{Direction, Hooks, IntoValue, Policy, Problems, export::Header, wire};

/// A configured policy, ready for exchanges. Dereferences to its [`Stage`].
pub struct Harness<P: Policy>(Stage<Header<P>>);

impl<P: Policy> Harness<P> {
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

    /// Begins a `GET` of this path, which may have a query.
    #[must_use]
    pub fn get(&self, path: &str) -> RequestBuilder<'_, P> {
        self.request("GET", path)
    }

    /// Begins a request of this path, which may have a query.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder<'_, P> {
        RequestBuilder { stage: self, message: Message::request(method, path) }
    }
}

impl<P: Policy> Deref for Harness<P> {
    type Target = Stage<Header<P>>;

    fn deref(&self) -> &Stage<Header<P>> {
        &self.0
    }
}

/// A request that the policy has not seen yet.
pub struct RequestBuilder<'h, P: Policy> {
    stage: &'h Stage<Header<P>>,
    message: Message,
}

impl<'h, P: Policy> RequestBuilder<'h, P> {
    /// Adds a header; or sets a pseudo-header, such as `:client-address`.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl IntoValue) -> Self {
        self.message.given(name, value);
        self
    }

    /// The policy sees the request.
    ///
    /// # Panics
    /// When its answer is a [`Fault`].
    #[must_use]
    pub fn run(self) -> Sent<'h, P> {
        self.try_run().unwrap_or_else(|fault| panic!("the request hook: {fault}"))
    }

    /// The policy sees the request.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn try_run(self) -> Result<Sent<'h, P>, Fault> {
        let Self { stage, message } = self;
        let mut sent = Sent {
            stage,
            arrived: message.clone(),
            message,
            edits: Vec::new(),
            token: 0,
            skipped: Hooks::empty(),
            reply: None,
        };
        stage.gateway.begin();
        let loaded = &stage.loaded;
        if !loaded.plan.hooks().contains(Hooks::REQUEST_HEADERS) {
            return Ok(sent);
        }
        let fields = sent.arrived.read(&loaded.plan.wire().request_reads);
        stage.gateway.exchange(&sent.arrived, None, &[]);
        match stage.gateway.run(|| loaded.on_request(fields)) {
            wire::Verdict::Proceed(proceed) => {
                let message = &mut sent.message;
                sent.edits = apply::apply(message, proceed.edits, &loaded.plan, Direction::Request, Part::Head)?;
                sent.token = proceed.token;
                sent.skipped = proceed.skip;
            }
            wire::Verdict::Reply(reply) => sent.reply = Some(Received::replied(reply)?),
            wire::Verdict::Hold => return Err(Fault::InvalidHold),
        }
        Ok(sent)
    }
}

/// The request as it goes on. Dereferences to its [`Message`].
pub struct Sent<'h, P: Policy> {
    stage: &'h Stage<Header<P>>,
    arrived: Message,
    message: Message,
    edits: Vec<Edit>,
    token: u64,
    skipped: Hooks,
    reply: Option<Received>,
}

impl<'h, P: Policy> Sent<'h, P> {
    /// What the policy has changed, in order.
    #[must_use]
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// What the policy answers in place of the backend.
    #[must_use]
    pub fn reply(&self) -> Option<&Received> {
        self.reply.as_ref()
    }

    /// The backend answers with this status.
    #[must_use]
    pub fn respond(&self, status: u16) -> ResponseBuilder<'_, P> {
        ResponseBuilder {
            stage: self.stage,
            arrived: &self.arrived,
            token: self.token,
            skipped: self.skipped,
            message: Message::response(status),
        }
    }
}

impl<P: Policy> Deref for Sent<'_, P> {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// A response that the policy has not seen yet.
pub struct ResponseBuilder<'h, P: Policy> {
    stage: &'h Stage<Header<P>>,
    arrived: &'h Message,
    token: u64,
    skipped: Hooks,
    message: Message,
}

impl<P: Policy> ResponseBuilder<'_, P> {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl IntoValue) -> Self {
        self.message.append(&name.to_ascii_lowercase(), value.into_value());
        self
    }

    /// The policy sees the response.
    ///
    /// # Panics
    /// When its answer is a [`Fault`].
    #[must_use]
    pub fn run(self) -> Received {
        self.try_run().unwrap_or_else(|fault| panic!("the response hook: {fault}"))
    }

    /// The policy sees the response.
    ///
    /// # Errors
    /// When the gateway would refuse the answer.
    pub fn try_run(self) -> Result<Received, Fault> {
        let Self { stage, arrived, token, skipped, mut message } = self;
        let loaded = &stage.loaded;
        let plan = loaded.plan.wire();
        if !(plan.hooks - skipped).contains(Hooks::RESPONSE_HEADERS) {
            return Ok(Received { message, edits: Vec::new(), body: None });
        }
        let mut fields = message.read(&plan.response_reads);
        fields.extend(arrived.read(&plan.carried_reads));
        stage.gateway.exchange(arrived, Some(&message), &plan.carried_reads);
        match stage.gateway.run(|| loaded.on_response(token, message.status(), fields)) {
            wire::Verdict::Proceed(proceed) => {
                let edits = apply::apply(&mut message, proceed.edits, &loaded.plan, Direction::Response, Part::Head)?;
                Ok(Received { message, edits, body: None })
            }
            wire::Verdict::Reply(reply) => Received::replied(reply),
            wire::Verdict::Hold => Err(Fault::InvalidHold),
        }
    }
}

/// The response as it goes to the client. Dereferences to its [`Message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    message: Message,
    edits: Vec<Edit>,
    body: Option<Vec<u8>>,
}

impl Received {
    pub(super) fn replied(reply: wire::Reply) -> Result<Self, Fault> {
        let (message, body) = apply::reply(reply)?;
        Ok(Self { message, edits: Vec::new(), body: Some(body) })
    }

    /// What the policy has changed, in order.
    #[must_use]
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// The body, when the policy itself has answered.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}
