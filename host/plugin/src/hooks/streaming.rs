//! Hooks on bodies and trailers, and what the contract asks of their answers.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use penstock_core::plugin::{
    BodyVerdict, Carried, Chunk, Direction, ExchangeFacts, FaultKind, HeldHead, Message, PluginFault, Summary,
    TrailersVerdict, Verdict,
};
use smallvec::SmallVec;

use super::{HookContext, ask_on_request, ask_on_response, begin, end, invalid, invalid_hold};
use crate::{
    contract::types::{self as wit, Field, HeaderRef},
    edits::Edits,
    instance::{ExchangeHandle, ExchangeView, Instance},
    printable::remark,
    reply,
};

/// What of one message waits for the plugin, or behind it.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// Bytes that were passed on while the head was held: they wait behind it.
    passed: u64,
}

/// The exchange that a hook is about, and what it may ask of it beyond its arguments.
pub(crate) struct Known<'a> {
    pub(crate) handle: ExchangeHandle,
    pub(crate) facts: &'a ExchangeFacts<'a>,
    pub(crate) carried: &'a Carried,
    /// Only in response hooks of components that import `exchange-info`.
    pub(crate) response: Option<Arc<HeaderMap>>,
}

/// A piece of a body for its hook.
#[derive(Clone, Copy)]
pub(crate) struct BodyCall<'a> {
    pub(crate) direction: Direction,
    pub(crate) chunk: &'a Chunk,
    /// The head of the message while this plugin keeps it back; a release edits it.
    pub(crate) held: Option<&'a HeldHead>,
}

/// Run the request hook.
pub(crate) async fn on_exchange_request(
    instance: &mut Instance,
    hook: HookContext<'_>,
    handle: ExchangeHandle,
    facts: &ExchangeFacts<'_>,
    head: &mut http::request::Parts,
) -> Result<Verdict, PluginFault> {
    let ask = async |instance: &mut Instance, fields: &[Field<'_>]| {
        instance.exchange_on_request(handle, fields, hook.limits.hook_time).await
    };
    ask_on_request(instance, hook, facts, head, ask).await
}

/// Run the response hook.
pub(crate) async fn on_exchange_response(
    instance: &mut Instance,
    hook: HookContext<'_>,
    known: Known<'_>,
    head: &mut http::response::Parts,
) -> Result<Verdict, PluginFault> {
    let ask = async |instance: &mut Instance, status, fields: &[Field<'_>]| {
        instance.exchange_on_response(known.handle, status, fields, hook.limits.hook_time).await
    };
    ask_on_response(instance, hook, known.carried, known.facts, head, ask).await
}

/// Run a body hook.
pub(crate) async fn on_body(
    instance: &mut Instance,
    hook: HookContext<'_>,
    known: Known<'_>,
    call: BodyCall<'_>,
    behind: &mut Behind,
) -> Result<BodyVerdict, PluginFault> {
    let BodyCall { direction, chunk, held } = call;
    let answer = informed(instance, hook, known, async |instance, handle| {
        instance.exchange_on_body(handle, direction, &chunk.bytes, chunk.end, hook.limits.hook_time).await
    });
    let verdict = judge(answer.await?, hook, direction, held)?;
    check_held(&verdict, chunk, held.is_some(), hook.limits.body_buffer, behind)?;
    Ok(verdict)
}

/// Run a trailer hook.
pub(crate) async fn on_trailers(
    instance: &mut Instance,
    hook: HookContext<'_>,
    known: Known<'_>,
    direction: Direction,
    mut trailers: HeaderMap,
) -> Result<TrailersVerdict, PluginFault> {
    let answer = informed(instance, hook, known, async |instance, handle| {
        let list: SmallVec<[HeaderRef<'_>; 4]> =
            trailers.iter().map(|(name, value)| HeaderRef { name: name.as_str(), value: value.as_bytes() }).collect();
        instance.exchange_on_trailers(handle, direction, &list, hook.limits.hook_time).await
    });
    let answer = answer.await?;
    let edits = Edits::check(answer.edits, &hook.plan.message(direction).writes);
    edits.and_then(|edits| edits.apply_to_trailers(&mut trailers)).map_err(|error| invalid(&error))?;
    Ok(TrailersVerdict { body: answer.body.into(), trailers })
}

/// Run the end hook, which takes the exchange.
pub(crate) async fn end_exchange(
    instance: &mut Instance,
    hook: HookContext<'_>,
    known: Known<'_>,
    summary: &Summary,
) -> Result<(), PluginFault> {
    let summary = wit::Summary {
        status: summary.status,
        request_bytes: summary.request_bytes,
        response_bytes: summary.response_bytes,
        duration_us: u64::try_from(summary.duration.as_micros()).unwrap_or(u64::MAX),
        upstream: summary.upstream.as_deref(),
        grpc_status: summary.grpc_status,
        error: summary.error,
    };
    let end = async |instance: &mut Instance, handle| instance.end(handle, summary, hook.limits.hook_time);
    informed(instance, hook, known, end).await
}

/// Call the guest with what it may ask for at hand.
async fn informed<T>(
    instance: &mut Instance,
    hook: HookContext<'_>,
    known: Known<'_>,
    ask: impl AsyncFnOnce(&mut Instance, ExchangeHandle) -> Result<T, PluginFault>,
) -> Result<T, PluginFault> {
    begin(instance, hook, known.facts);
    if hook.imports.exchange_info {
        let request = super::known(hook.plan, known.carried);
        instance.state().exchange = Some(ExchangeView::new(known.facts, request, known.response));
    }
    let answer = ask(instance, known.handle).await;
    instance.state().exchange = None;
    end(instance);
    answer
}

fn judge(
    answer: wit::BodyVerdict,
    hook: HookContext<'_>,
    direction: Direction,
    held: Option<&HeldHead>,
) -> Result<BodyVerdict, PluginFault> {
    Ok(match answer {
        wit::BodyVerdict::Pass => BodyVerdict::Pass,
        wit::BodyVerdict::Replace(bytes) => BodyVerdict::Replace(bytes.into()),
        wit::BodyVerdict::Hold => BodyVerdict::Hold,
        wit::BodyVerdict::Release(release) => {
            let head = held.ok_or_else(|| invalid_hold("`release` answers for headers that are not held"))?;
            let edits = Edits::check(release.edits, &hook.plan.message(direction).writes);
            edits.and_then(|edits| edits.apply_to(&mut head.borrow_mut())).map_err(|error| invalid(&error))?;
            BodyVerdict::Release(release.body.map(Bytes::from))
        }
        wit::BodyVerdict::Reply(answer) => BodyVerdict::Reply(reply::check(answer).map_err(|error| invalid(&error))?),
        wit::BodyVerdict::Abort(why) => BodyVerdict::Abort(remark(&why)),
    })
}

/// What is held is bounded, and ends with the body.
fn check_held(
    verdict: &BodyVerdict,
    chunk: &Chunk,
    head_is_held: bool,
    limit: u64,
    behind: &mut Behind,
) -> Result<(), PluginFault> {
    let too_much = |what: &str| {
        let message = format!("invalid-hold: {what} more than limits.bodyBuffer allows ({limit} bytes)");
        Err(PluginFault { kind: FaultKind::InvalidAnswer, message })
    };
    let passed = match verdict {
        BodyVerdict::Hold if chunk.end => return Err(invalid_hold("the last chunk of a body cannot be held")),
        BodyVerdict::Hold if chunk.bytes.len() as u64 > limit => return too_much("it holds back"),
        BodyVerdict::Pass => chunk.bytes.len(),
        BodyVerdict::Replace(bytes) => bytes.len(),
        _ => return Ok(()),
    };
    if !head_is_held {
        return Ok(());
    }
    if chunk.end {
        return Err(invalid_hold("headers are still held after the last chunk of the body"));
    }
    behind.passed += passed as u64;
    if behind.passed > limit { too_much("behind held headers there is") } else { Ok(()) }
}

impl Edits {
    /// Apply to a head of either direction, or leave it untouched.
    fn apply_to(self, head: &mut Message) -> Result<(), crate::edits::InvalidEdit> {
        match head {
            Message::Request(head) => self.apply_to_request(head),
            Message::Response(head) => self.apply_to_response(head),
        }
    }
}
