//! A route plugin's choice, and what it does to the response.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::response;
use penstock_core::{
    backend::{Backend, BackendKey, BackendProtocol, Endpoint, EndpointSet},
    check::CandidateGiven,
    plugin::{Choice, PolicyCall, PolicyWorker, RouteCall},
    route::{Action, Rule, RuleId, Target, WeightedBackend, WeightedBackends},
};

use super::{Early, Passed, Rehearsal, answer, in_hook, streaming::Stop};

/// A rule with these backends, as a route plugin sees it.
pub(super) fn rule(id: &RuleId, candidates: &[CandidateGiven]) -> Arc<Rule> {
    Arc::new(Rule::new(
        id.clone(),
        Vec::new(),
        Action::Forward(WeightedBackends::all(candidates.iter().map(backend).collect())),
    ))
}

fn backend(given: &CandidateGiven) -> WeightedBackend {
    let (service, port) = given.name.rsplit_once(':').unwrap_or((&given.name, "80"));
    let key = BackendKey {
        name: service.into(),
        port: port.parse().unwrap_or(80),
        protocol: BackendProtocol::Http1,
        tls: None,
    };
    let endpoint = |index| Endpoint::Name(format!("endpoint-{index}").into(), 80);
    let endpoints = EndpointSet { endpoints: (0..given.ready_endpoints).map(endpoint).collect() };
    WeightedBackend::new(
        given.name.as_str(),
        given.weight,
        Target::Backend(Arc::new(Backend { key, endpoints: Arc::new(ArcSwap::from_pointee(endpoints)) })),
    )
}

impl Rehearsal {
    /// A route plugin: it chooses, and may edit the response of its choice. `chosen` becomes the name of the backend, or `default`.
    pub(super) fn choice(
        &self,
        worker: &dyn PolicyWorker,
        call: &PolicyCall,
        chosen: &mut Option<String>,
    ) -> Result<Passed<response::Parts>, Early> {
        let PolicyCall { plugin, revision, failure_policy, outbound, redis, .. } = call.clone();
        let names = backends(&self.rule);
        let identity = names.map_or(0, |backends| backends.identity(&self.rule.id));
        let call = RouteCall { plugin, revision, failure_policy, outbound, redis, rule: identity };
        let (facts, mut head) = (self.facts.view(), self.request.head.clone());
        let answered = answer(worker.choose(&call, &facts, &self.rule, &mut head));
        let mut response = self.response.passed();
        match answered.map_err(in_hook("the choice"))? {
            Choice::Default => *chosen = Some("default".into()),
            Choice::Misfit(fault) => return Err(Early::Fault("the choice", fault)),
            Choice::Reply(reply) => return Err(Stop::Reply(reply.into()).into()),
            Choice::Candidate { index, response_edits } => {
                *chosen =
                    names.and_then(|backends| backends.backends.get(index)).map(|backend| backend.name.to_string());
                if let Some(edits) = response_edits {
                    edits.apply(&mut response.head).map_err(in_hook("the edits of the response"))?;
                }
            }
        }
        Ok(response)
    }
}

fn backends(rule: &Rule) -> Option<&WeightedBackends> {
    match &rule.action {
        Action::Forward(backends) => Some(backends),
        _ => None,
    }
}
