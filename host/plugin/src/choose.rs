//! The one hook of route plugins: fields in, a choice among the backends of a rule out.

use std::sync::Arc;

use http::{request, response};
use penstock_core::{
    plugin::{Choice, ExchangeFacts, FaultKind, PluginFault, ResponseEdits},
    route::{Action, Rule},
};

use crate::{
    contract::types as wit,
    edits::Edits,
    fields::{ClientAddress, RequestHead, Values},
    hooks::{self, HookContext, invalid},
    instance::{ExchangeView, Instance, RequestView},
    reply,
};

/// The rule whose backends are to choose from.
#[derive(Clone, Copy)]
pub(crate) struct Choosing<'a> {
    /// By which the plugin may keep what it made of the candidates.
    pub(crate) number: u64,
    pub(crate) rule: &'a Arc<Rule>,
}

/// Run the hook. `head` is as it was, whatever comes of it.
pub(crate) async fn choose(
    instance: &mut Instance,
    hook: HookContext<'_>,
    exchange: &ExchangeFacts<'_>,
    choosing: Choosing<'_>,
    head: &mut request::Parts,
) -> Result<Choice, PluginFault> {
    let ask = async |instance: &mut Instance, head: RequestHead<'_>| {
        let client = ClientAddress::if_read(&hook.plan.request.reads, exchange.client.ip());
        let mut values = Values::default();
        values.read_request(&hook.plan.request.reads, head, &client);
        instance.choose(choosing.number, &values.fields(), hook.limits.hook_time).await
    };
    hooks::begin(instance, hook, exchange);
    let answer = if hook.imports.exchange_info {
        let lent = Arc::new(hooks::lend(exchange, head));
        let view = ExchangeView::new(exchange, RequestView::Whole(Arc::clone(&lent)), None);
        instance.state().exchange = Some(view.with_candidates(Arc::clone(choosing.rule)));
        let answer = ask(instance, lent.head()).await;
        instance.state().exchange = None;
        head.headers = hooks::take_back(lent, |lent| lent.headers);
        answer
    } else {
        ask(instance, RequestHead::new(head, exchange.scheme)).await
    };
    hooks::end(instance);
    judge(answer?, hook, choosing.rule)
}

/// Everything of an answer is judged at once, also what is for the response: later there would be no other backend to turn to.
fn judge(answer: wit::Choice, hook: HookContext<'_>, rule: &Rule) -> Result<Choice, PluginFault> {
    match answer {
        wit::Choice::Default => Ok(Choice::Default),
        wit::Choice::Reply(answer) => reply::check(answer).map(Choice::Reply).map_err(|error| invalid(&error)),
        wit::Choice::Candidate(wit::Pick { index, response_edits }) => {
            let edits = Edits::check(response_edits, &hook.plan.response.writes).map_err(|error| invalid(&error))?;
            let candidates = match &rule.action {
                Action::Forward(backends) => backends.backends.len(),
                Action::Redirect(_) | Action::Fail(_) => 0,
            };
            let index = match usize::try_from(index) {
                Ok(index) if index < candidates => index,
                _ => return Ok(Choice::Misfit(out_of_range(index, candidates))),
            };
            let response_edits = (!edits.is_empty()).then(|| later(edits));
            Ok(Choice::Candidate { index, response_edits })
        }
    }
}

fn later(edits: Edits) -> ResponseEdits {
    ResponseEdits::new(move |head: &mut response::Parts| edits.apply_to_response(head).map_err(|error| invalid(&error)))
}

#[cold]
fn out_of_range(index: u32, candidates: usize) -> PluginFault {
    let message = format!("it chose candidate {index} of {candidates}, counted from 0");
    PluginFault { kind: FaultKind::InvalidAnswer, message }
}
