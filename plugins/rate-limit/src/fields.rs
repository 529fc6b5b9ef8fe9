//! What responses say about limits: `RateLimit` and `RateLimit-Policy` as in draft-ietf-httpapi-ratelimit-headers-10, and the older
//! `X-RateLimit-*`.
//!
//! `RateLimit-Policy` lists every policy that counted the request. `RateLimit` names the one that has least left, or those that deny: the one that
//! a client must heed, at the size of one item.

use std::fmt::Write as _;

use penstock_plugin::{Reply, Response};

use crate::{
    config::HeaderStyle,
    program::{Limit, Quota},
    settle::{Charge, Standing},
    token::Token,
};

const RATE_LIMIT: &str = "ratelimit";
const POLICY: &str = "ratelimit-policy";
const LEGACY: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// Which headers are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    standard: bool,
    legacy: bool,
}

impl Fields {
    pub(crate) fn new(style: HeaderStyle) -> Self {
        Self {
            standard: matches!(style, HeaderStyle::Standard | HeaderStyle::Both),
            legacy: matches!(style, HeaderStyle::Legacy | HeaderStyle::Both),
        }
    }

    /// For the plan.
    pub(crate) fn names(self) -> Vec<&'static str> {
        let standard = self.standard.then_some([RATE_LIMIT, POLICY]);
        let legacy = self.legacy.then_some(LEGACY);
        standard.into_iter().flatten().chain(legacy.into_iter().flatten()).collect()
    }

    /// Into a response of the backend. Both fields are lists, so a limit that the backend announces itself stays.
    pub(crate) fn write(self, response: &Response, limits: &[Limit], token: Token) {
        let Some(tightest) = limits.get(usize::from(token.tightest)) else { return };
        if self.standard {
            // A client may wait before it follows a redirection, so an empty quota is not announced there (draft, section 5).
            if !(token.remaining == 0 && (300..400).contains(&response.status())) {
                response.append(RATE_LIMIT, item(&tightest.name, token.remaining, token.reset));
            }
            let policies = policies(limits.iter().filter(|limit| token.policies & 1 << limit.index != 0));
            if !policies.is_empty() {
                response.append(POLICY, policies);
            }
        }
        if self.legacy {
            for (name, value) in LEGACY.into_iter().zip([tightest.quota.limit, token.remaining, token.reset]) {
                response.set(name, value);
            }
        }
    }

    /// Into the answer to a request that was denied.
    pub(crate) fn deny(self, mut reply: Reply, charges: &[Charge<'_>], denied: &[Standing<'_>]) -> Reply {
        if self.standard {
            let items: Vec<_> = denied
                .iter()
                .map(|standing| item(&standing.limit.name, standing.decision.remaining, standing.reset()))
                .collect();
            let enforced = charges.iter().map(|charge| charge.limit).filter(|limit| !limit.dry_run);
            reply = reply.header(RATE_LIMIT, items.join(", "));
            let policies = policies(enforced);
            if !policies.is_empty() {
                reply = reply.header(POLICY, policies);
            }
        }
        let longest = denied.iter().max_by_key(|standing| standing.decision.reset_ms);
        if let Some(standing) = longest.filter(|_| self.legacy) {
            let values = [standing.limit.quota.limit, standing.decision.remaining, standing.reset()];
            for (name, value) in LEGACY.into_iter().zip(values) {
                reply = reply.header(name, value);
            }
        }
        reply
    }
}

/// Names of policies have no character that a string of RFC 9651 would have to escape.
fn item(name: &str, remaining: u64, reset: u64) -> String {
    format!("\"{name}\";r={};t={}", integer(remaining), integer(reset))
}

/// Without policies whose bucket did not answer when the plugin was configured: what is not known is not told.
fn policies<'l>(limits: impl Iterator<Item = &'l Limit>) -> String {
    let mut list = String::new();
    for Limit { name, quota, .. } in limits.filter(|limit| limit.quota.limit > 0) {
        let separator = if list.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(list, "{separator}\"{name}\";q={}", integer(quota.limit));
        if let Some(seconds) = seconds(*quota) {
            let _ = write!(list, ";w={seconds}");
        }
    }
    list
}

/// The window, where it is one of whole seconds: the draft knows no others.
fn seconds(quota: Quota) -> Option<u64> {
    (quota.window_ms > 0 && quota.window_ms.is_multiple_of(1000)).then_some(quota.window_ms / 1000)
}

/// Integers of RFC 9651 have at most 15 digits.
fn integer(number: u64) -> u64 {
    number.min(999_999_999_999_999)
}
