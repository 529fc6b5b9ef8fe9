//! What a configuration becomes.

use penstock_plugin::{
    Plan, Request, Verdict,
    capability::{
        metrics::{Counter, InvalidMetric},
        rate_limit::Decision,
    },
    extract::condition::Condition,
};

use crate::{
    config::OnUnavailable,
    cost::Cost,
    denial::Denial,
    fields::Fields,
    key::{Digests, KeyShape},
    settle::{Charge, Standing},
};

/// A configuration, ready for requests.
pub(crate) struct Program {
    pub(crate) policies: Vec<Limit>,
    pub(crate) exempt: Vec<Condition>,
    pub(crate) denial: Denial,
    pub(crate) fields: Fields,
    pub(crate) on_unavailable: OnUnavailable,
    pub(crate) metrics: Metrics,
    /// Of requests, in the order of the places that everything else names.
    pub(crate) reads: Vec<String>,
}

/// One policy.
#[derive(Debug)]
pub(crate) struct Limit {
    /// In the list of policies.
    pub(crate) index: u8,
    pub(crate) name: String,
    pub(crate) bucket: String,
    pub(crate) when: Option<Condition>,
    pub(crate) key: KeyShape,
    pub(crate) skip_missing: bool,
    pub(crate) cost: Cost,
    pub(crate) dry_run: bool,
    /// What the bucket allows, as headers say it.
    pub(crate) quota: Quota,
}

/// What a bucket allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Units.
    pub(crate) limit: u64,
    pub(crate) window_ms: u64,
}

impl From<Decision> for Quota {
    fn from(decision: Decision) -> Self {
        Self { limit: decision.limit, window_ms: decision.window_ms }
    }
}

impl Program {
    pub(crate) fn plan(&self) -> Plan {
        let plan = Plan::new().on_request();
        let plan = if self.reads.is_empty() { plan } else { plan.request_reads(&self.reads) };
        let writes = self.fields.names();
        // Policies that only watch have nothing to tell, and need no response hook.
        let silent = writes.is_empty() || self.policies.iter().all(|limit| limit.dry_run);
        if silent { plan } else { plan.response_writes(writes) }
    }

    /// Let the request go on, and remember for the response how the tightest policy stands.
    pub(crate) fn proceed(&self, charges: &[Charge<'_>], tightest: Option<Standing<'_>>) -> Verdict {
        match tightest {
            Some(standing) if !self.fields.names().is_empty() => {
                Verdict::ProceedWith(standing.token(Charge::policies(charges)).encode())
            }
            _ => Verdict::Proceed,
        }
    }
}

impl Limit {
    /// What the policy takes for a request; none if it is not for it.
    pub(crate) fn charge(&self, request: &Request, digests: &Digests) -> Option<Charge<'_>> {
        if self.when.as_ref().is_some_and(|when| !when.catches(request)) {
            return None;
        }
        let cost = self.cost.of(request);
        if cost == 0 {
            return None;
        }
        let (key, missing) = self.key.of(request, digests);
        (!(missing && self.skip_missing)).then_some(Charge { limit: self, key, cost })
    }
}

/// Counts what is not simply allowed: a call for each request would cost more than the decision, and the gateway counts requests itself.
pub(crate) struct Metrics(Counter);

impl Metrics {
    pub(crate) fn register() -> Result<Self, InvalidMetric> {
        let help =
            "Requests that were denied, would have been denied in a dry run, were exempt, or could not be counted";
        Counter::register("decisions", help, &["policy", "outcome"]).map(Self)
    }

    pub(crate) fn denied(&self, policy: &str) {
        self.0.add(1, &[policy, "denied"]);
    }

    pub(crate) fn would_deny(&self, policy: &str) {
        self.0.add(1, &[policy, "would_deny"]);
    }

    pub(crate) fn unavailable(&self, policy: &str) {
        self.0.add(1, &[policy, "unavailable"]);
    }

    /// By no policy in particular.
    pub(crate) fn exempt(&self) {
        self.0.add(1, &["", "exempt"]);
    }
}
