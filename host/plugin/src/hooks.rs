//! One hook of one instance: fields in, verdict out, edits applied after it succeeded.
//!
//! ```text
//! head ──plan.reads──► fields ──► guest ──► verdict ──check──► edits ──► head
//!   └── lent to the store for the call, if the component imports exchange-info
//! ```
//!
//! Workers and the validator's sample exchanges come through here, so what was validated is what runs. How the guest itself is asked is a
//! parameter: a policy on headers has two functions, one on bodies a resource with methods.

mod streaming;

use std::sync::Arc;

use http::HeaderMap;
use penstock_core::plugin::{
    Carried, Direction, ExchangeFacts, FaultKind, PluginFault, PluginLimits, Proceed, Skip, Verdict,
};

pub(crate) use self::streaming::{
    Behind, BodyCall, Known, end_exchange, on_body, on_exchange_request, on_exchange_response, on_trailers,
};
use crate::{
    contract::types::{self as wit, Field},
    edits::{Edits, InvalidEdit},
    fields::{ClientAddress, RequestHead, Values},
    instance::{ExchangeView, Instance, LentRequest, RequestView},
    plan::{Plan, Writes},
    printable::remark,
    reply,
    static_check::Imports,
};

/// What a revision knows of its hooks.
#[derive(Clone, Copy)]
pub(crate) struct HookContext<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) imports: Imports,
    pub(crate) limits: &'a PluginLimits,
}

/// Run the request hook of a policy on headers. After an `Err`, `head` is as it was.
pub(crate) async fn on_request(
    instance: &mut Instance,
    hook: HookContext<'_>,
    exchange: &ExchangeFacts<'_>,
    head: &mut http::request::Parts,
) -> Result<Verdict, PluginFault> {
    let limit = hook.limits.hook_time;
    let ask = async |instance: &mut Instance, fields: &[Field<'_>]| instance.on_request(fields, limit).await;
    ask_on_request(instance, hook, exchange, head, ask).await.and_then(refuse_hold)
}

/// Run the response hook of a policy on headers. After an `Err`, `head` is as it was.
pub(crate) async fn on_response(
    instance: &mut Instance,
    hook: HookContext<'_>,
    kept: &Proceed,
    exchange: &ExchangeFacts<'_>,
    head: &mut http::response::Parts,
) -> Result<Verdict, PluginFault> {
    let limit = hook.limits.hook_time;
    let ask = async |instance: &mut Instance, status, fields: &[Field<'_>]| {
        instance.on_response(kept.token, status, fields, limit).await
    };
    ask_on_response(instance, hook, &kept.carried, exchange, head, ask).await.and_then(refuse_hold)
}

/// `ask` the guest about a request, then apply what it answered. After an `Err`, `head` is as it was.
async fn ask_on_request(
    instance: &mut Instance,
    hook: HookContext<'_>,
    exchange: &ExchangeFacts<'_>,
    head: &mut http::request::Parts,
    ask: impl AsyncFnOnce(&mut Instance, &[Field<'_>]) -> Result<wit::Verdict, PluginFault>,
) -> Result<Verdict, PluginFault> {
    begin(instance, hook, exchange);
    let ask = async |instance: &mut Instance, head: RequestHead<'_>| {
        let client = ClientAddress::if_read(&hook.plan.request.reads, exchange.client.ip());
        let mut values = Values::default();
        values.read_request(&hook.plan.request.reads, head, &client);
        ask(instance, &values.fields()).await
    };
    let answer = if hook.imports.exchange_info {
        let lent = Arc::new(lend(exchange, head));
        let view = ExchangeView::new(exchange, RequestView::Whole(Arc::clone(&lent)), None);
        instance.state().exchange = Some(view);
        let answer = ask(instance, lent.head()).await;
        instance.state().exchange = None;
        head.headers = take_back(lent, |lent| lent.headers);
        answer
    } else {
        ask(instance, RequestHead::new(head, exchange.scheme)).await
    };
    end(instance);
    carry_out(answer?, &hook.plan.request.writes, |edits| edits.apply_to_request(head))
}

/// [`ask_on_request`] about a response.
async fn ask_on_response(
    instance: &mut Instance,
    hook: HookContext<'_>,
    carried: &Carried,
    exchange: &ExchangeFacts<'_>,
    head: &mut http::response::Parts,
    ask: impl AsyncFnOnce(&mut Instance, u16, &[Field<'_>]) -> Result<wit::Verdict, PluginFault>,
) -> Result<Verdict, PluginFault> {
    begin(instance, hook, exchange);
    let status = head.status.as_u16();
    let ask = async |instance: &mut Instance, headers: &HeaderMap| {
        let mut values = Values::default();
        values.read_response(&hook.plan.response.reads, headers);
        values.read_carried(&hook.plan.carried, carried);
        ask(instance, status, &values.fields()).await
    };
    let answer = if hook.imports.exchange_info {
        let lent = Arc::new(std::mem::take(&mut head.headers));
        let view = ExchangeView::new(exchange, known(hook.plan, carried), Some(Arc::clone(&lent)));
        instance.state().exchange = Some(view);
        let answer = ask(instance, &lent).await;
        instance.state().exchange = None;
        head.headers = take_back(lent, |headers| headers);
        answer
    } else {
        ask(instance, &head.headers).await
    };
    end(instance);
    carry_out(answer?, &hook.plan.response.writes, |edits| edits.apply_to_response(head))
}

/// Do what the guest answered, if it may.
fn carry_out(
    answer: wit::Verdict,
    writes: &Writes,
    apply: impl FnOnce(Edits) -> Result<(), InvalidEdit>,
) -> Result<Verdict, PluginFault> {
    match answer {
        wit::Verdict::Proceed(proceed) => {
            let edits = Edits::check(proceed.edits, writes);
            edits.and_then(apply).map_err(|error| invalid(&error))?;
            Ok(Verdict::Proceed(Proceed { token: proceed.token, skip: skip(proceed.skip), ..Proceed::default() }))
        }
        wit::Verdict::Reply(answer) => reply::check(answer).map(Verdict::Reply).map_err(|error| invalid(&error)),
        wit::Verdict::Hold => Ok(Verdict::Hold),
    }
}

/// Take down what later hooks read of the request, before this plugin edits it. Costs nothing if they read nothing.
pub(crate) fn carry(plan: &Plan, exchange: &ExchangeFacts<'_>, head: &http::request::Parts) -> Carried {
    if !plan.hooks().carries {
        return Carried::default();
    }
    let head = RequestHead::new(head, exchange.scheme);
    let client = ClientAddress::if_read(&plan.carried, exchange.client.ip());
    Carried(plan.carried.iter().map(|read| head.values(read, &client)).collect())
}

fn skip(hooks: wit::Hooks) -> Skip {
    let skips = |hook: wit::Hooks| (hooks & hook) == hook;
    Skip {
        request_body: skips(wit::Hooks::REQUEST_BODY),
        request_trailers: skips(wit::Hooks::REQUEST_TRAILERS),
        response: skips(wit::Hooks::RESPONSE_HEADERS),
        response_body: skips(wit::Hooks::RESPONSE_BODY),
        response_trailers: skips(wit::Hooks::RESPONSE_TRAILERS),
        end: skips(wit::Hooks::END),
    }
}

/// A policy on headers cannot hold them back.
fn refuse_hold(verdict: Verdict) -> Result<Verdict, PluginFault> {
    match verdict {
        Verdict::Hold => Err(invalid_hold("a policy on headers cannot hold them back")),
        other => Ok(other),
    }
}

/// Headers can be held only for a body that the plan declares.
pub(crate) fn allow_hold(plan: &Plan, verdict: Verdict, direction: Direction) -> Result<Verdict, PluginFault> {
    match verdict {
        Verdict::Hold if plan.body_mode(direction).is_none() => {
            Err(invalid_hold("the plan does not declare the body that would release the headers"))
        }
        other => Ok(other),
    }
}

pub(crate) fn begin(instance: &mut Instance, hook: HookContext<'_>, exchange: &ExchangeFacts<'_>) {
    if hook.imports.log {
        instance.state().log.begin(exchange.request_id);
    }
}

pub(crate) fn end(instance: &mut Instance) {
    instance.state().clock = None;
}

/// Move what the store must own for the call out of `head`; only the headers are not cheap to clone.
pub(crate) fn lend(exchange: &ExchangeFacts<'_>, head: &mut http::request::Parts) -> LentRequest {
    LentRequest {
        method: head.method.clone(),
        uri: head.uri.clone(),
        headers: std::mem::take(&mut head.headers),
        scheme: exchange.scheme.into(),
    }
}

pub(crate) fn take_back<T, U>(lent: Arc<T>, unwrap: impl FnOnce(T) -> U) -> U {
    unwrap(Arc::into_inner(lent).expect("the store's own Arc was dropped when the call ended, and nobody else had one"))
}

/// What `exchange-info` answers about the request after its hook.
fn known(plan: &Plan, carried: &Carried) -> RequestView {
    RequestView::Carried(plan.carried.iter().cloned().zip(carried.0.iter().cloned()).collect())
}

#[cold]
pub(crate) fn invalid(error: &dyn std::error::Error) -> PluginFault {
    PluginFault { kind: FaultKind::InvalidAnswer, message: remark(&error.to_string()) }
}

#[cold]
fn invalid_hold(why: &str) -> PluginFault {
    PluginFault { kind: FaultKind::InvalidAnswer, message: format!("invalid-hold: {why}") }
}
