//! The plugins of a rule around an exchange: request hooks in order, response hooks in reverse.
//!
//! ```text
//! request   head ─► a.on_request ─► b.on_request ─► endpoint          body ─► stage a ─► stage b ─► endpoint
//! response  head ◄─ a.on_response ◄─ b.on_response ◄─ endpoint        body ◄─ stage a ◄─ stage b ◄─ endpoint
//! ```
//!
//! Policies on headers are called and forgotten. One that sees bodies, trailers or the end takes part in the exchange: it has a stage
//! in the bodies that it declares ([`stages`]), and hears of the end when both directions are over ([`exchange`], [`ends`]).

pub(crate) mod ends;
mod exchange;
pub(crate) mod room;
mod stages;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header, request};
use penstock_core::{
    ResourceRef,
    plugin::{
        BodyMode, ExchangeFacts, FailurePolicy, FaultKind, HeldHead, Message, PluginFault, PolicyCall, Proceed,
        StreamingHooks, Verdict,
    },
    reason::Reason,
    route::Rule,
};
use smallvec::SmallVec;

use self::stages::Stage;
pub(crate) use self::{
    exchange::{Exchange, Participant},
    stages::{Break, Source, Stages},
};
use crate::{
    body::{self, BodyError, RequestBody},
    connection::Connection,
    edits::Before,
    headers,
    record::Record,
    respond::{Aborted, Answer, Rejection},
    target,
};

/// The plugins that an exchange has met so far.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    rule: &'a Arc<Rule>,
    client: std::net::SocketAddr,
    /// None if there is no plugin that could ask.
    request_id: Option<HeaderValue>,
    is_head: bool,
    /// Whose response hooks run, whatever becomes of the request.
    met: SmallVec<[Met; 4]>,
    /// Made for the first plugin that takes part in more than heads.
    exchange: Option<Rc<Exchange>>,
}

/// A plugin that let the request go on.
#[derive(Debug)]
struct Met {
    /// Its place in the rule.
    at: usize,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Header(Proceed),
    Streaming(Rc<Participant>),
}

/// What a plugin made of an exchange that does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It answers.
    Reply(Box<Response<Bytes>>),
    /// It faulted, or a body broke off while it had the head.
    Reject(Rejection),
    /// It gave the exchange up, for this reason.
    Abort(String),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}

impl<'a> Chain<'a> {
    pub(crate) fn new(rule: &'a Arc<Rule>, client: std::net::SocketAddr, method: &Method, headers: &HeaderMap) -> Self {
        let is_asked = !rule.policies.is_empty() || rule.route_plugin.is_some();
        let request_id = is_asked.then(|| headers::request_id(headers)).flatten();
        Self { rule, client, request_id, is_head: method == Method::HEAD, met: SmallVec::new(), exchange: None }
    }

    /// All request hooks, up to the first that does not let the request go on.
    pub(crate) async fn request(
        &mut self,
        connection: &Rc<Connection>,
        head: &mut request::Parts,
        body: &mut RequestBody,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let rule = self.rule;
        for (at, call) in rule.policies.iter().enumerate() {
            take_break(connection).await;
            let before = Before::request(record, head);
            match call.hooks.streaming {
                None => self.header_request(at, call, connection, head, record).await?,
                Some(hooks) => {
                    let entered = Box::pin(self.enter((at, call, hooks), connection, head, body, record)).await;
                    entered.map_err(|broken| self.stopped(connection, broken, record))?;
                }
            }
            before.note_request(record, &call.plugin, head);
        }
        if body.is_bodiless() && body.has_stages() {
            // What is sent without a body is sent with the head, so it must be known by then.
            let completed = Box::pin(body.complete()).await;
            completed.map_err(|broken| self.stopped(connection, broken, record))?;
        }
        Ok(())
    }

    async fn header_request(
        &mut self,
        at: usize,
        call: &PolicyCall,
        connection: &Connection,
        head: &mut request::Parts,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let kept = if call.hooks.request || call.hooks.carries {
            let facts = self.facts(connection);
            match connection.worker.policies.on_request(call, &facts, head).answer().await {
                Ok(Verdict::Proceed(kept)) => kept,
                Ok(Verdict::Reply(reply)) => {
                    note(record, &call.plugin);
                    return Err(Stop::Reply(reply.into()));
                }
                Ok(Verdict::Hold) => {
                    return judge((&call.plugin, call.failure_policy), no_hold(), record).map_or(Ok(()), Err);
                }
                Err(fault) => {
                    return judge((&call.plugin, call.failure_policy), fault, record).map_or(Ok(()), Err);
                }
            }
        } else {
            Proceed::default()
        };
        if !kept.skip.response {
            self.met.push(Met { at, kept: Kept::Header(kept) });
        }
        Ok(())
    }

    /// A plugin takes part in the exchange from here on.
    async fn enter(
        &mut self,
        (at, call, hooks): (usize, &PolicyCall, StreamingHooks),
        connection: &Rc<Connection>,
        head: &mut request::Parts,
        request_body: &mut RequestBody,
        record: &mut Record,
    ) -> Result<(), Break> {
        let exchange = self.take_part(connection, record);
        let begun = connection.worker.policies.begin(call, &exchange.facts());
        let policy = match begun {
            Ok(policy) => policy,
            Err(fault) => {
                note(record, &call.plugin);
                return exchange.judge(at, fault).map_or(Ok(()), Err);
            }
        };
        let participant = exchange.join(at, policy);
        if hooks.response_trailers {
            // Whoever looks at trailers wants the endpoint to send them (RFC 9110 §10.1.4), whatever the client said.
            head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let verdict = participant.policy.on_request(&exchange.facts(), head).answer().await;
        let held = match verdict {
            Ok(Verdict::Proceed(proceed)) => {
                participant.skip(proceed.skip);
                None
            }
            Ok(Verdict::Hold) => Some(hold(Message::Request(body::take(head)))),
            Ok(Verdict::Reply(reply)) => return Err(Break::Plugin { at, stop: Stop::Reply(reply.into()) }),
            Err(fault) => {
                note(record, &call.plugin);
                participant.leave();
                return exchange.judge(at, fault).map_or(Ok(()), Err);
            }
        };
        self.met.push(Met { at, kept: Kept::Streaming(participant.clone()) });
        let hooks = hooks.without(participant.skipped());
        if hooks.request_body == BodyMode::None && !hooks.request_trailers {
            return Ok(());
        }
        let stages = request_body.stages(&exchange);
        let stage = Stage::new(participant, hooks.request_body, hooks.request_trailers, held.clone());
        let place = stages.push(stage);
        request_body.fill(place).await?;
        if let Some(Message::Request(released)) = held.and_then(released) {
            *head = released;
        }
        Ok(())
    }

    /// Response hooks, last plugin first. A reply or a fault in one replaces the response, and the hooks before it see that. `Err` is an
    /// exchange that was given up.
    pub(crate) async fn response(
        &mut self,
        connection: &Connection,
        mut answer: Answer,
        record: &mut Record,
    ) -> Result<Answer, Aborted> {
        while let Some(met) = self.met.pop() {
            take_break(connection).await;
            let call = &self.rule.policies[met.at];
            let before = Before::response(record, &answer.head);
            let ruled = match met.kept {
                Kept::Header(kept) => self.header_response(call, &kept, connection, &mut answer, record).await,
                Kept::Streaming(participant) => {
                    let left = Box::pin(self.leave(participant, &mut answer, record)).await;
                    left.map_err(|broken| self.stopped(connection, broken, record))
                }
            };
            match ruled {
                Ok(()) => before.note_response(record, &call.plugin, &answer.head),
                Err(stop) => answer = Answer::stopped(stop, record)?,
            }
        }
        if answer.has_stages()
            && answer.takes_no_body(self.is_head)
            && let Err(broken) = Box::pin(answer.pass_nothing()).await
        {
            answer = Answer::stopped(self.stopped(connection, broken, record), record)?;
        }
        Ok(answer)
    }

    async fn header_response(
        &self,
        call: &PolicyCall,
        kept: &Proceed,
        connection: &Connection,
        answer: &mut Answer,
        record: &mut Record,
    ) -> Result<(), Stop> {
        if !call.hooks.response {
            return Ok(());
        }
        let facts = self.facts(connection);
        match connection.worker.policies.on_response(call, kept, &facts, &mut answer.head).answer().await {
            Ok(Verdict::Proceed(_)) => Ok(()),
            Ok(Verdict::Reply(reply)) => {
                note(record, &call.plugin);
                Err(Stop::Reply(reply.into()))
            }
            Ok(Verdict::Hold) => judge((&call.plugin, call.failure_policy), no_hold(), record).map_or(Ok(()), Err),
            Err(fault) => judge((&call.plugin, call.failure_policy), fault, record).map_or(Ok(()), Err),
        }
    }

    /// The response on its way back through a plugin that takes part in the exchange.
    async fn leave(&self, participant: Rc<Participant>, answer: &mut Answer, record: &mut Record) -> Result<(), Break> {
        let Some(exchange) = &self.exchange else { return Ok(()) };
        if participant.has_left() {
            return Ok(());
        }
        let at = participant.at;
        let hooks = self.rule.policies[at].hooks.streaming.unwrap_or_default();
        let verdict = if participant.skipped().response {
            Ok(Verdict::Proceed(Proceed::default()))
        } else {
            participant.policy.on_response(&exchange.facts(), &mut answer.head).answer().await
        };
        let held = match verdict {
            Ok(Verdict::Proceed(proceed)) => {
                participant.skip(proceed.skip);
                None
            }
            Ok(Verdict::Hold) => Some(hold(Message::Response(answer.take_head()))),
            Ok(Verdict::Reply(reply)) => return Err(Break::Plugin { at, stop: Stop::Reply(reply.into()) }),
            Err(fault) => {
                note(record, &exchange.call(at).plugin);
                participant.leave();
                return exchange.judge(at, fault).map_or(Ok(()), Err);
            }
        };
        let hooks = hooks.without(participant.skipped());
        if hooks.response_body == BodyMode::None && !hooks.response_trailers {
            return Ok(());
        }
        let stage = Stage::new(participant, hooks.response_body, hooks.response_trailers, held.clone());
        let place = answer.stages(exchange).push(stage);
        answer.fill(place, record).await?;
        if let Some(Message::Response(released)) = held.and_then(released) {
            answer.head = released;
        }
        Ok(())
    }

    /// Why the body of the request broke off while it was sent, if a plugin did it.
    pub(crate) fn interruption(&self, record: &mut Record) -> Option<Stop> {
        let exchange = self.exchange.as_ref()?;
        let (at, stop) = exchange.take_interruption()?;
        note(record, &exchange.call(at).plugin);
        Some(stop)
    }

    /// What a break in a body means for the exchange while its head has not gone on.
    fn stopped(&self, connection: &Connection, broken: Break, record: &mut Record) -> Stop {
        match broken {
            Break::Plugin { at, stop } => {
                note(record, &self.rule.policies[at].plugin);
                stop
            }
            Break::Source(error) => source_failed(connection, &error).into(),
        }
    }

    /// What the plugins that take part share. The record keeps it to the end.
    fn take_part(&mut self, connection: &Rc<Connection>, record: &mut Record) -> Rc<Exchange> {
        let (rule, client, request_id) = (self.rule, self.client, &self.request_id);
        let made = || {
            let exchange = Rc::new(Exchange::new(connection.clone(), rule.clone(), client, request_id.clone()));
            record.set_exchange(exchange.clone());
            exchange
        };
        self.exchange.get_or_insert_with(made).clone()
    }

    pub(crate) fn facts<'f>(&'f self, connection: &'f Connection) -> ExchangeFacts<'f> {
        facts(connection, self.rule, self.client, self.request_id.as_ref())
    }
}

fn facts<'f>(
    connection: &'f Connection,
    rule: &'f Rule,
    client: std::net::SocketAddr,
    request_id: Option<&'f HeaderValue>,
) -> ExchangeFacts<'f> {
    ExchangeFacts {
        client,
        version: connection.version(),
        scheme: connection.scheme().as_str(),
        server_name: connection.server_name(),
        tls_version: connection.tls.as_ref().map(|tls| tls.version),
        rule: &rule.id,
        request_id: request_id.and_then(|id| id.to_str().ok()).unwrap_or_default(),
    }
}

fn hold(head: Message) -> HeldHead {
    Rc::new(RefCell::new(head))
}

/// The head again, once its stage has let it go.
fn released(held: HeldHead) -> Option<Message> {
    Rc::into_inner(held).map(RefCell::into_inner)
}

fn no_hold() -> PluginFault {
    PluginFault { kind: FaultKind::InvalidAnswer, message: "invalid-hold: it sees no body".into() }
}

/// A fault costs the exchange what the plugin's failure policy says.
pub(crate) fn judge(
    (plugin, failure_policy): (&ResourceRef, FailurePolicy),
    fault: PluginFault,
    record: &mut Record,
) -> Option<Stop> {
    note(record, plugin);
    weigh(failure_policy, fault).map(Stop::Reject)
}

/// A chain of plugins that each take as long as they may must not hold the worker for all of it.
async fn take_break(connection: &Connection) {
    if connection.worker.policies.wants_break() {
        tokio::task::yield_now().await;
    }
}

/// None: the exchange goes on without the plugin.
fn weigh(failure_policy: FailurePolicy, fault: PluginFault) -> Option<Rejection> {
    match failure_policy {
        FailurePolicy::Open => None,
        FailurePolicy::Closed if fault.kind.is_uncalled() => {
            Some(Rejection::new(Reason::PluginUnavailable, fault.message))
        }
        FailurePolicy::Closed => Some(Rejection::new(Reason::PluginFault, fault.to_string())),
    }
}

/// Why a message cannot go on whose body broke off while its head waited.
fn source_failed(connection: &Connection, error: &BodyError) -> Rejection {
    match error {
        BodyError::Client(reason) => target::refused_body(&connection.wire).unwrap_or_else(|| (*reason).into()),
        BodyError::Broken(_) | BodyError::Interrupted => Rejection::new(Reason::UpstreamReset, error.to_string()),
        BodyError::Stalled => Rejection::new(Reason::UpstreamTimeout, error.to_string()),
    }
}

pub(crate) fn note(record: &mut Record, plugin: &ResourceRef) {
    if let Some(log) = record.log() {
        log.plugin = Some(plugin.clone());
    }
}
