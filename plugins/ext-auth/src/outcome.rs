//! What becomes of the request: what it takes along, what the client gets, and what is counted.

use std::collections::BTreeSet;

use penstock_plugin::{
    Direction, Reply, Request, Verdict,
    capability::{
        exchange,
        metrics::{Counter, InvalidMetric},
        outbound::Answer,
    },
    header,
};

use crate::names::Names;

/// Headers that only the service may write: what a backend takes for the truth about a client.
#[derive(Debug)]
pub(crate) struct Vouched(pub(crate) Names);

/// Names of one request that are forgotten. The gateway takes 1024 edits, and would refuse more as a fault of the plugin.
const MOST_FORGOTTEN: usize = 512;

/// The request has more names to forget than that. Nobody sends so many in good faith.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Vouched {
    /// Nobody vouches for what the client said.
    pub(crate) fn forget(&self, request: &Request) -> Result<(), TooMany> {
        for name in self.sent()? {
            request.remove(&name);
        }
        Ok(())
    }

    /// What the service said, in place of what the client did.
    pub(crate) fn copy(&self, answer: &Answer, request: &Request) -> Result<(), TooMany> {
        self.forget(request)?;
        for name in &self.0.exact {
            answer.values(name).for_each(|value| request.append(name, value));
        }
        let prefixed = answer.headers().filter(|(name, _)| self.0.covers_by_prefix(name));
        for (name, value) in prefixed.filter(|(name, _)| header::check_write(name, Direction::Request).is_ok()) {
            request.append(name, value);
        }
        Ok(())
    }

    /// The names of headers that the client sent and the backend could take for what the service says.
    fn sent(&self) -> Result<BTreeSet<String>, TooMany> {
        if self.0.is_empty() {
            return Ok(BTreeSet::new());
        }
        let sent = exchange::request_headers().into_iter().map(|(name, _)| name);
        let sent: BTreeSet<_> = sent.filter(|name| self.0.is_taken_for(name)).collect();
        if sent.len() > MOST_FORGOTTEN { Err(TooMany) } else { Ok(sent) }
    }
}

impl From<TooMany> for Verdict {
    fn from(TooMany: TooMany) -> Self {
        Reply::new(431).text("too many header fields of this request are for others to write\n").into()
    }
}

/// What of a refusal the client gets.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// None: every header.
    pub(crate) shown: Option<Names>,
}

/// Headers of a reply.
const MOST_HEADERS: usize = 256;

impl Refusal {
    /// The service's answer, for the client.
    pub(crate) fn reply(&self, answer: &Answer) -> Reply {
        let shown = answer.headers().filter(|(name, _)| self.shows(name)).take(MOST_HEADERS);
        let reply = shown.fold(Reply::new(answer.status()), |reply, (name, value)| reply.header(name, value));
        reply.body(answer.body())
    }

    fn shows(&self, name: &str) -> bool {
        let is_allowed = header::check_write(name, Direction::Response).is_ok();
        let is_needed = matches!(name, "location" | "www-authenticate") || name.starts_with("content-");
        is_allowed && (is_needed || self.shown.as_ref().is_none_or(|shown| shown.covers(name)))
    }
}

/// When there is no decision that could be told.
pub(crate) fn failure(status: u16) -> Reply {
    Reply::new(status).text("it cannot be decided whether this request may pass\n")
}

/// What is counted: requests by what became of them.
pub(crate) struct Metrics(Counter);

impl Metrics {
    pub(crate) fn register() -> Result<Self, InvalidMetric> {
        let help = "Requests that were allowed, denied, exempt, or without a decision passed (failed_open) or refused (failed_closed)";
        Counter::register("decisions", help, &["outcome"]).map(Self)
    }

    pub(crate) fn count(&self, outcome: &str) {
        self.0.add(1, &[outcome]);
    }
}
