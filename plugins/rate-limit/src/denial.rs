//! What a request gets that does not pass.

use penstock_plugin::Reply;
use serde_json::json;

use crate::{
    fields::Fields,
    settle::{Charge, Standing},
};

/// The answer to requests that a policy denies.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// None: a problem that names the policies.
    pub(crate) body: Option<Vec<Piece>>,
}

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Policy,
    RetryAfter,
}

impl Denial {
    pub(crate) fn reply(&self, fields: &Fields, charges: &[Charge<'_>], denied: &[Standing<'_>]) -> Reply {
        let longest = denied.iter().max_by_key(|standing| standing.decision.reset_ms);
        // Not before the `t` of any policy that denies (draft, section 5), and never "at once".
        let retry_after = longest.map_or(1, |standing| standing.reset().max(1));
        let policy = longest.map_or("", |standing| standing.limit.name.as_str());
        let body = match &self.body {
            Some(pieces) => pieces.iter().map(|piece| piece.fill(policy, retry_after)).collect(),
            None => self.problem(denied),
        };
        let reply = Reply::new(self.status).header("retry-after", retry_after);
        fields.deny(reply, charges, denied).header("content-type", &self.content_type).body(body)
    }

    /// The problem type "quota-exceeded" of draft-ietf-httpapi-ratelimit-headers.
    fn problem(&self, denied: &[Standing<'_>]) -> String {
        let policies: Vec<_> = denied.iter().map(|standing| standing.limit.name.as_str()).collect();
        json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": self.status,
            "violated-policies": policies,
        })
        .to_string()
    }
}

impl Piece {
    fn fill(&self, policy: &str, retry_after: u64) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Policy => policy.to_owned(),
            Self::RetryAfter => retry_after.to_string(),
        }
    }

    /// A body with variables.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else { return Err("`${` has no `}`".to_owned()) };
            pieces.push(Self::Text(before.to_owned()));
            pieces.push(match name {
                "policy" => Self::Policy,
                "retryAfter" => Self::RetryAfter,
                _ => return Err(format!("`${{{name}}}` is not known: there are `${{policy}}` and `${{retryAfter}}`")),
            });
            rest = after;
        }
        pieces.push(Self::Text(rest.to_owned()));
        Ok(pieces)
    }
}

/// When the counts cannot be asked and the configuration says that nothing passes then.
pub(crate) fn unavailable() -> Reply {
    Reply::new(503).header("retry-after", 1_u32).text("the rate limit cannot be checked\n")
}
