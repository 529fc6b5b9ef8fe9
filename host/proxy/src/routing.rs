//! Where a request of a rule goes: what its weights say, or its route plugin.
//!
//! ```text
//! Way::of ─┬─ Redirect                                                          answered here
//!          ├─ Chosen (by the weights) ───────────────► filters ─► policies ─┐
//!          └─ ByPlugin ─► filters ─► policies ─► choose ─► its own filters ─┴─► send
//! ```
//!
//! A route plugin is asked after the policies: it sees the request as they left it, an authenticated one for example, and it is not asked
//! about requests that they answer.

use bytes::Bytes;
use http::{Response, request};
use penstock_core::{
    matching::RuleMatched,
    path::TargetTooLong,
    plugin::{Choice, ResponseEdits, RouteCall},
    reason::Reason,
    route::{Action, Rule, Target, WeightedBackend, WeightedBackends},
};

use crate::{
    connection::Connection,
    policies::{Chain, Stop, judge, note},
    record::Record,
    respond::{Answer, Rejection},
};

/// Where a request goes, as far as it is known before the filters and the policies.
pub(crate) enum Way<'r> {
    Redirect(Response<Bytes>),
    Backend(Chosen<'r>),
    ByPlugin(&'r RouteCall, &'r WeightedBackends),
}

/// A backend of a rule that resolves.
#[derive(Debug)]
pub(crate) struct Chosen<'r> {
    /// Its place in the rule.
    pub(crate) at: usize,
    pub(crate) backend: &'r WeightedBackend,
    response_edits: Option<ResponseEdits>,
}

impl<'r> Way<'r> {
    /// `redirected` makes the answer of a redirect.
    pub(crate) fn of(
        rule: &'r Rule,
        redirected: impl FnOnce(&'r penstock_core::filter::Redirect) -> Response<Bytes>,
    ) -> Result<Self, Rejection> {
        match (&rule.action, &rule.route_plugin) {
            (Action::Fail(failure), _) => Err(failure.into()),
            (Action::Redirect(redirect), _) => Ok(Self::Redirect(redirected(redirect))),
            (Action::Forward(backends), Some(call)) => Ok(Self::ByPlugin(call, backends)),
            (Action::Forward(backends), None) => by_weight(backends).map(Self::Backend),
        }
    }

    /// The backend, if it is known already.
    pub(crate) fn backend(&self) -> Option<&'r WeightedBackend> {
        match self {
            Self::Backend(chosen) => Some(chosen.backend),
            Self::Redirect(_) | Self::ByPlugin(..) => None,
        }
    }
}

impl<'r> Chosen<'r> {
    fn new(
        backends: &'r WeightedBackends,
        at: usize,
        response_edits: Option<ResponseEdits>,
    ) -> Result<Self, Rejection> {
        let backend = &backends.backends[at];
        match &backend.target {
            Target::Backend(_) => Ok(Self { at, backend, response_edits }),
            Target::Fail(failure) => Err(failure.into()),
        }
    }

    /// What the plugin that chose the backend changes in its response.
    pub(crate) fn edit(self, rule: &Rule, mut answer: Answer, record: &mut Record) -> Result<Answer, Stop> {
        let (Some(edits), Some(call)) = (self.response_edits, &rule.route_plugin) else { return Ok(answer) };
        let Err(fault) = edits.apply(&mut answer.head) else { return Ok(answer) };
        judge((&call.plugin, call.failure_policy), fault, record).map_or(Ok(answer), Err)
    }
}

/// The backend that the weights choose.
fn by_weight(backends: &WeightedBackends) -> Result<Chosen<'_>, Rejection> {
    let (at, _) = backends.pick(fastrand::u32(..)).ok_or(Reason::NoBackend)?;
    Chosen::new(backends, at, None)
}

/// The backend that the route plugin chooses, with the filters that are its own applied to the request. Otherwise what is answered.
pub(crate) async fn by_plugin<'r>(
    connection: &Connection,
    chain: &Chain<'_>,
    (call, backends): (&'r RouteCall, &'r WeightedBackends),
    matched: RuleMatched<'r>,
    head: &mut request::Parts,
    record: &mut Record,
) -> Result<Chosen<'r>, Stop> {
    let facts = chain.facts(connection);
    let choice = connection.worker.policies.choose(call, &facts, matched.rule, head).answer().await;
    let chosen = match choice {
        Ok(Choice::Reply(reply)) => {
            note(record, &call.plugin);
            return Err(Stop::Reply(reply.into()));
        }
        Ok(Choice::Candidate { index, response_edits }) if is_ready(backends, index) => {
            Chosen::new(backends, index, response_edits)?
        }
        // A candidate that nobody could reach counts as none.
        Ok(Choice::Default | Choice::Candidate { .. }) => by_weight(backends)?,
        Ok(Choice::Misfit(_)) => {
            note(record, &call.plugin);
            by_weight(backends)?
        }
        Err(fault) => match judge((&call.plugin, call.failure_policy), fault, record) {
            Some(stop) => return Err(stop),
            None => by_weight(backends)?,
        },
    };
    own_filters(matched, chosen.backend, head)?;
    Ok(chosen)
}

fn is_ready(backends: &WeightedBackends, index: usize) -> bool {
    backends.backends.get(index).is_some_and(|backend| backend.target.ready_endpoints() > 0)
}

/// Whether the path is rewritten only when the backend is known: one of them has a rewrite in place of that of the rule.
pub(crate) fn rewrites_late(rule: &Rule) -> bool {
    match (&rule.route_plugin, &rule.action) {
        (Some(_), Action::Forward(backends)) => backends.backends.iter().any(|backend| backend.rewrite.is_some()),
        _ => false,
    }
}

/// Filters of a backend that was chosen after those of the rule were applied.
fn own_filters(
    matched: RuleMatched<'_>,
    backend: &WeightedBackend,
    head: &mut request::Parts,
) -> Result<(), Rejection> {
    if let Some(edits) = &backend.request_headers {
        edits.apply(&mut head.headers);
    }
    let rewrite = backend.rewrite.as_ref().or(matched.rule.rewrite.as_ref());
    if let Some(rewrite) = rewrite.filter(|_| rewrites_late(matched.rule)) {
        rewrite.apply(head, matched.path).map_err(|TargetTooLong| Reason::UriTooLong)?;
    }
    Ok(())
}
