//! From the configuration to what runs. Every mistake becomes a problem; none hides another.

mod parts;

use std::collections::HashSet;

use penstock_plugin::{
    Pointer, Problems,
    capability::rate_limit::{self, RateLimitError},
    extract::condition::{Condition, ConditionConfig},
    header::{self, Reads},
    nearest,
};

use crate::{
    config::{Config, DeniedConfig, OnMissingKey, PolicyConfig},
    denial::{Denial, Piece},
    fields::Fields,
    key::KeyShape,
    program::{Limit, Metrics, Program, Quota},
    token::MOST_POLICIES,
};

/// Parts of a key. More say nothing that fewer could not.
const MOST_PARTS: usize = 8;
const LONGEST_NAME: usize = 63;
/// Bytes of the body of a denial: it is sent most when the gateway has least time.
const LONGEST_BODY: usize = 64 << 10;

pub(crate) fn compile(config: &Config) -> Result<Program, Problems> {
    let mut compiler = Compiler::default();
    let root = Pointer::root();
    let policies = compiler.policies(&config.policies, &root.at("policies"));
    let at = root.at("exempt");
    let exempt =
        config.exempt.iter().enumerate().map(|(index, condition)| compiler.condition(condition, &at.at(index)));
    let exempt = exempt.collect();
    let denial = compiler.denial(&config.denied, &root.at("denied"));
    let Compiler { problems, reads } = compiler;
    let problems = problems.into_result(()).and_then(|()| {
        Metrics::register().map_err(|error| format!("the metric cannot be registered: {error:?}").into())
    });
    let metrics = problems?;
    let fields = Fields::new(config.headers);
    Ok(Program {
        policies,
        exempt,
        denial,
        fields,
        on_unavailable: config.on_unavailable,
        metrics,
        reads: reads.into_names(),
    })
}

/// What is known so far.
#[derive(Default)]
struct Compiler {
    problems: Problems,
    reads: Reads,
}

impl Compiler {
    fn problem(&mut self, at: &Pointer, message: impl Into<String>) {
        self.problems.push(at, message);
    }

    /// The place of a header or pseudo-header among the plan's `request_reads`.
    fn read(&mut self, name: &str) -> usize {
        self.reads.place(name)
    }

    /// As [`Compiler::read`], for a name that the configuration gives.
    fn header(&mut self, name: &str, at: &Pointer) -> usize {
        self.reads.given(name, at, &mut self.problems)
    }

    fn condition(&mut self, config: &ConditionConfig, at: &Pointer) -> Condition {
        Condition::compile(config, at, &mut self.reads, &mut self.problems)
    }

    fn policies(&mut self, policies: &[PolicyConfig], at: &Pointer) -> Vec<Limit> {
        if policies.is_empty() {
            self.problem(at, "there is no policy: add one, or remove the plugin");
        }
        if policies.len() > MOST_POLICIES {
            self.problem(at, format!("{} policies are too many: {MOST_POLICIES} are the most", policies.len()));
        }
        let mut names = HashSet::new();
        let mut limits = Vec::new();
        for (policy, index) in policies.iter().take(MOST_POLICIES).zip(0_u8..) {
            let at = at.at(index);
            let limit = self.policy(policy, index, &at);
            if !names.insert(limit.name.clone()) {
                let message = format!("another policy is named `{}`: give this one a name of its own", limit.name);
                self.problem(&at.at("name"), message);
            }
            limits.push(limit);
        }
        limits
    }

    fn policy(&mut self, policy: &PolicyConfig, index: u8, at: &Pointer) -> Limit {
        let name = policy.name.as_ref().unwrap_or(&policy.bucket).clone();
        self.check_name(&name, &at.at(if policy.name.is_some() { "name" } else { "bucket" }));
        let quota = self.quota(&policy.bucket, &at.at("bucket"));
        let when = policy.when.as_ref().map(|when| self.condition(when, &at.at("when")));
        if policy.key.len() > MOST_PARTS {
            let message = format!("{} parts are too many: {MOST_PARTS} are the most", policy.key.len());
            self.problem(&at.at("key"), message);
        }
        let parts = policy.key.iter().enumerate().filter_map(|(index, part)| self.part(part, &at.at("key").at(index)));
        let parts = parts.collect();
        let cost = self.cost(&policy.cost, &at.at("cost"));
        Limit {
            index,
            bucket: policy.bucket.clone(),
            when,
            key: KeyShape::new(&name, parts),
            skip_missing: policy.on_missing_key == OnMissingKey::Skip,
            cost,
            dry_run: policy.dry_run,
            quota,
            name,
        }
    }

    /// Names go into structured fields, where these characters need no escapes.
    fn check_name(&mut self, name: &str, at: &Pointer) {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            let message = format!(
                "`{name}` is no name of a policy: use 1 to {LONGEST_NAME} lower case letters, digits, `-`, `_` and `.`"
            );
            self.problem(at, message);
        }
    }

    /// Ask the bucket what it allows. One that was not granted is a mistake now, not at the first request.
    fn quota(&mut self, bucket: &str, at: &Pointer) -> Quota {
        match rate_limit::peek(bucket, b"", 1) {
            Ok(decision) => decision.into(),
            Err(RateLimitError::UnknownBucket(granted)) => {
                let message = match (granted.as_slice(), nearest(bucket, granted.iter().map(String::as_str))) {
                    ([], _) => format!("there is no bucket `{bucket}`: declare it in spec.capabilities.rateLimits"),
                    (_, Some(near)) => {
                        format!("there is no bucket `{bucket}` in spec.capabilities.rateLimits: did you mean `{near}`?")
                    }
                    (_, None) => {
                        format!(
                            "there is no bucket `{bucket}` in spec.capabilities.rateLimits, which has {}",
                            granted.join(", ")
                        )
                    }
                };
                self.problem(at, message);
                Quota { limit: 0, window_ms: 0 }
            }
            // A store that does not answer now may answer later; until it does, headers say nothing of the quota.
            Err(RateLimitError::Unavailable(_)) => Quota { limit: 0, window_ms: 0 },
        }
    }

    fn denial(&mut self, denied: &DeniedConfig, at: &Pointer) -> Denial {
        let status = denied.status.unwrap_or(429);
        if !(400..=599).contains(&status) {
            self.problem(&at.at("status"), format!("{status} is no status of an error: use 400 to 599, best 429"));
        }
        if denied.body.as_ref().is_some_and(|body| body.len() > LONGEST_BODY) {
            self.problem(&at.at("body"), format!("the body is too long: {LONGEST_BODY} bytes are the most"));
        }
        let body = denied.body.as_ref().map(|body| {
            Piece::parse(body).unwrap_or_else(|message| {
                self.problem(&at.at("body"), message);
                Vec::new()
            })
        });
        let usual = if body.is_some() { "text/plain; charset=utf-8" } else { "application/problem+json" };
        let content_type = denied.content_type.as_deref().unwrap_or(usual);
        if let Err(reason) = header::check_value("content-type", content_type.as_bytes()) {
            self.problem(&at.at("contentType"), format!("the value {reason}"));
        }
        Denial { status, content_type: content_type.to_owned(), body }
    }
}
