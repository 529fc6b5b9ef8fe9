//! One hook of one instance: fields in, verdict out, edits applied after it succeeded.
//!
//! ```text
//! head ──plan.reads──► fields ──► guest ──► verdict ──check──► edits ──► head
//!   └── lent to the store for the call, if the component imports exchange-info
//! ```
//!
//! Workers and the validator's sample exchanges come through here, so what was validated is what runs.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};
use penstock_core::plugin::{ExchangeFacts, FaultKind, PluginFault, Verdict};

use crate::{
    contract::types::{self as wit},
    edits::Edits,
    fields::{ClientAddress, Read, RequestHead, Values},
    instance::{ExchangeView, Instance, LentRequest, RequestView},
    plan::Plan,
    reply,
    static_check::Imports,
};

/// What a revision knows of its hooks.
#[derive(Clone, Copy)]
pub(crate) struct HookContext<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) imports: Imports,
    /// CPU time of one hook.
    pub(crate) limit: Duration,
}

/// Run the request hook. After an `Err`, `head` is as it was.
pub(crate) fn on_request(
    instance: &mut Instance,
    hook: HookContext<'_>,
    exchange: &ExchangeFacts<'_>,
    head: &mut http::request::Parts,
) -> Result<Verdict, PluginFault> {
    begin(instance, hook, exchange);
    let answer = if hook.imports.exchange_info {
        let lent = Arc::new(lend(exchange, head));
        let view = ExchangeView::new(exchange, RequestView::Whole(Arc::clone(&lent)), None);
        instance.state().exchange = Some(view);
        let answer = ask_request(instance, hook, exchange, lent.head());
        instance.state().exchange = None;
        head.headers = take_back(lent, |lent| lent.headers);
        answer
    } else {
        ask_request(instance, hook, exchange, RequestHead::new(head, exchange.scheme))
    };
    end(instance);
    match answer? {
        wit::Verdict::Proceed(proceed) => {
            let edits = Edits::check(proceed.edits, &hook.plan.request.writes);
            edits.and_then(|edits| edits.apply_to_request(head)).map_err(|error| invalid(&error))?;
            Ok(Verdict::Proceed { token: proceed.token })
        }
        wit::Verdict::Reply(answer) => reply::check(answer).map(Verdict::Reply).map_err(|error| invalid(&error)),
        wit::Verdict::Hold => Err(invalid_hold()),
    }
}

/// Run the response hook. After an `Err`, `head` is as it was.
pub(crate) fn on_response(
    instance: &mut Instance,
    hook: HookContext<'_>,
    token: u64,
    exchange: &ExchangeFacts<'_>,
    request: Option<&http::request::Parts>,
    head: &mut http::response::Parts,
) -> Result<Verdict, PluginFault> {
    begin(instance, hook, exchange);
    let request = request.map(|request| RequestHead::new(request, exchange.scheme));
    let ask = |instance: &mut Instance, headers: &HeaderMap| {
        let client = ClientAddress::if_read(&hook.plan.carried, exchange.client.ip());
        let mut values = Values::default();
        values.read_response(&hook.plan.response.reads, headers);
        match request {
            Some(request) => values.read_request(&hook.plan.carried, request, &client),
            None => values.read_nothing(&hook.plan.carried),
        }
        instance.on_response(token, head.status.as_u16(), &values.fields(), hook.limit)
    };
    let answer = if hook.imports.exchange_info {
        let lent = Arc::new(std::mem::take(&mut head.headers));
        let carried = request.map_or_else(Vec::new, |request| carried(hook.plan, exchange, request));
        let view = ExchangeView::new(exchange, RequestView::Carried(carried), Some(Arc::clone(&lent)));
        instance.state().exchange = Some(view);
        let answer = ask(instance, &lent);
        instance.state().exchange = None;
        head.headers = take_back(lent, |headers| headers);
        answer
    } else {
        ask(instance, &head.headers)
    };
    end(instance);
    match answer? {
        wit::Verdict::Proceed(proceed) => {
            let edits = Edits::check(proceed.edits, &hook.plan.response.writes);
            edits.and_then(|edits| edits.apply_to_response(head)).map_err(|error| invalid(&error))?;
            Ok(Verdict::Proceed { token: proceed.token })
        }
        wit::Verdict::Reply(answer) => reply::check(answer).map(Verdict::Reply).map_err(|error| invalid(&error)),
        wit::Verdict::Hold => Err(invalid_hold()),
    }
}

fn ask_request(
    instance: &mut Instance,
    hook: HookContext<'_>,
    exchange: &ExchangeFacts<'_>,
    head: RequestHead<'_>,
) -> Result<wit::Verdict, PluginFault> {
    let client = ClientAddress::if_read(&hook.plan.request.reads, exchange.client.ip());
    let mut values = Values::default();
    values.read_request(&hook.plan.request.reads, head, &client);
    instance.on_request(&values.fields(), hook.limit)
}

fn begin(instance: &mut Instance, hook: HookContext<'_>, exchange: &ExchangeFacts<'_>) {
    if hook.imports.log {
        instance.state().log.begin(exchange.request_id);
    }
}

fn end(instance: &mut Instance) {
    instance.state().clock = None;
}

/// Move what the store must own for the call out of `head`; only the headers are not cheap to clone.
fn lend(exchange: &ExchangeFacts<'_>, head: &mut http::request::Parts) -> LentRequest {
    LentRequest {
        method: head.method.clone(),
        uri: head.uri.clone(),
        headers: std::mem::take(&mut head.headers),
        scheme: exchange.scheme.into(),
    }
}

fn take_back<T, U>(lent: Arc<T>, unwrap: impl FnOnce(T) -> U) -> U {
    unwrap(Arc::into_inner(lent).expect("the store's own Arc was dropped when the call ended, and nobody else had one"))
}

/// What the plan carries of the request, for `exchange-info`.
fn carried(plan: &Plan, exchange: &ExchangeFacts<'_>, request: RequestHead<'_>) -> Vec<(Read, Vec<HeaderValue>)> {
    let client = ClientAddress::new(exchange.client.ip());
    let values = |read: &Read| {
        let mut values = Vec::new();
        request.each(read, &client, |value| values.extend(HeaderValue::from_bytes(value)));
        (read.clone(), values)
    };
    plan.carried.iter().map(values).collect()
}

#[cold]
fn invalid(error: &dyn std::error::Error) -> PluginFault {
    PluginFault { kind: FaultKind::InvalidAnswer, message: error.to_string() }
}

#[cold]
fn invalid_hold() -> PluginFault {
    let message = "invalid-hold: a policy on headers cannot hold them back".into();
    PluginFault { kind: FaultKind::InvalidAnswer, message }
}
