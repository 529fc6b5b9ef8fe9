//! What becomes of the request: what it takes along, what the client gets, and what is counted.

use penstock_plugin::{
    Direction, Reply, Request,
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

impl Vouched {
    /// Nobody vouches for what the client said.
    pub(crate) fn forget(&self, request: &Request) {
        for name in &self.0.exact {
            request.remove(name);
        }
        self.forget_prefixed(request);
    }

    /// What the service said, in place of what the client did.
    pub(crate) fn copy(&self, answer: &Answer, request: &Request) {
        for name in &self.0.exact {
            let mut values = answer.values(name);
            match values.next() {
                Some(first) => request.set(name, first),
                None => request.remove(name),
            }
            values.for_each(|value| request.append(name, value));
        }
        self.forget_prefixed(request);
        let prefixed = answer.headers().filter(|(name, _)| self.0.covers_by_prefix(name));
        for (name, value) in prefixed.filter(|(name, _)| header::check_write(name, Direction::Request).is_ok()) {
            request.append(name, value);
        }
    }

    fn forget_prefixed(&self, request: &Request) {
        if self.0.prefixes.is_empty() {
            return;
        }
        let sent = exchange::request_headers().into_iter().map(|(name, _)| name);
        for name in sent.filter(|name| self.0.covers_by_prefix(name)) {
            request.remove(&name);
        }
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
