//! From what a request should take to whether it passes.

use penstock_plugin::capability::rate_limit::{self, Decision, RateLimitError};

use crate::{
    program::{Limit, Metrics},
    token::Token,
};

/// What a policy takes for a request.
#[derive(Debug)]
pub(crate) struct Charge<'p> {
    pub(crate) limit: &'p Limit,
    pub(crate) key: Vec<u8>,
    pub(crate) cost: u32,
}

/// How a policy stands after it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing<'p> {
    pub(crate) limit: &'p Limit,
    pub(crate) decision: Decision,
}

/// Whether the request passes.
#[derive(Debug)]
pub(crate) enum Settled<'p> {
    /// With the policy that has least left, if any counted.
    Allowed(Option<Standing<'p>>),
    /// By these.
    Denied(Vec<Standing<'p>>),
    /// The store of the counts did not answer.
    Unavailable,
}

/// Ask all policies, and take from all if all allow it.
///
/// With one policy that is one call. With several, each is asked before any is taken from, so that a client that is over its hourly limit
/// does not use up its daily one. Another worker may take the last unit in between: then the request is denied although it has taken from
/// the policies before. Nothing is ever allowed that a bucket did not give.
pub(crate) fn settle<'p>(charges: &[Charge<'p>], metrics: &Metrics) -> Settled<'p> {
    let settled = match enforce(charges, metrics) {
        Ok(settled) => settled,
        Err(Unavailable) => Settled::Unavailable,
    };
    match &settled {
        Settled::Denied(denied) => denied.iter().for_each(|standing| metrics.denied(&standing.limit.name)),
        Settled::Allowed(_) | Settled::Unavailable => watch(charges, metrics),
    }
    settled
}

fn enforce<'p>(charges: &[Charge<'p>], metrics: &Metrics) -> Result<Settled<'p>, Unavailable> {
    let enforced = || charges.iter().filter(|charge| !charge.limit.dry_run);
    if enforced().count() > 1 {
        let mut denied = Vec::new();
        for charge in enforced() {
            let standing = charge.ask(rate_limit::peek, metrics)?;
            if !standing.decision.allowed {
                denied.push(standing);
            }
        }
        if !denied.is_empty() {
            return Ok(Settled::Denied(denied));
        }
    }
    let mut tightest: Option<Standing> = None;
    for charge in enforced() {
        let standing = charge.ask(rate_limit::take, metrics)?;
        if !standing.decision.allowed {
            return Ok(Settled::Denied(vec![standing]));
        }
        if tightest.is_none_or(|known| standing.is_tighter_than(known)) {
            tightest = Some(standing);
        }
    }
    Ok(Settled::Allowed(tightest))
}

/// Policies in a dry run count what passes, and report what they would deny of it.
fn watch(charges: &[Charge<'_>], metrics: &Metrics) {
    for charge in charges.iter().filter(|charge| charge.limit.dry_run) {
        if let Ok(Standing { decision: Decision { allowed: false, .. }, .. }) = charge.ask(rate_limit::take, metrics) {
            metrics.would_deny(&charge.limit.name);
        }
    }
}

/// No answer from the store.
#[derive(Debug)]
struct Unavailable;

impl<'p> Charge<'p> {
    fn ask(
        &self,
        how: impl FnOnce(&str, &[u8], u32) -> Result<Decision, RateLimitError>,
        metrics: &Metrics,
    ) -> Result<Standing<'p>, Unavailable> {
        match how(&self.limit.bucket, &self.key, self.cost) {
            Ok(decision) => Ok(Standing { limit: self.limit, decision }),
            Err(RateLimitError::Unavailable(_) | RateLimitError::UnknownBucket(_)) => {
                metrics.unavailable(&self.limit.name);
                Err(Unavailable)
            }
        }
    }

    /// The policies that count, as bits.
    pub(crate) fn policies(charges: &[Self]) -> u16 {
        let enforced = charges.iter().filter(|charge| !charge.limit.dry_run);
        enforced.fold(0, |policies, charge| policies | 1 << charge.limit.index)
    }
}

impl Standing<'_> {
    /// Whether a smaller part of the limit is left here.
    fn is_tighter_than(&self, other: Self) -> bool {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let (this, other) = (self.decision, other.decision);
        product(this.remaining, other.limit) < product(other.remaining, this.limit)
    }

    /// Seconds until there is more, rounded up: a client that waits so long does not come too early.
    pub(crate) fn reset(&self) -> u64 {
        self.decision.reset_ms.div_ceil(1000)
    }

    pub(crate) fn token(&self, policies: u16) -> Token {
        Token { policies, tightest: self.limit.index, remaining: self.decision.remaining, reset: self.reset() }
    }
}
