//! Rules that never take a request, because an older route has the very same condition on the same listener and host. Gateway API lets the
//! older one win in silence; its owner deserves to be told.
//!
//! An index of all conditions, kept up to date by the routes that changed, so that one change costs what it touches.

use std::{cmp::Ordering, fmt::Write, sync::Arc};

use penstock_core::{
    Kind, ResourceRef,
    hostname::HostPattern,
    route::{RuleMatch, ValueMatch},
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::RouteOutput;
use crate::problem::{Problem, sentences};

/// A condition of a route at one listener and host, written out.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    key: Arc<str>,
    gateway: ResourceRef,
    hostname: HostPattern,
    rule: u32,
    condition: usize,
    /// How an Ingress calls the rule; those of Gateway API are called by their place.
    name: Option<Arc<str>>,
}

impl Claim {
    fn place(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => format!("rules[{}].matches[{}]", self.rule, self.condition),
        }
    }
}

/// Who has a condition.
#[derive(Debug, Clone)]
struct Claimant {
    created: i64,
    route: ResourceRef,
    rule: u32,
    condition: usize,
}

impl Claimant {
    /// As matching orders what is equally specific: age, `namespace/name` as one text, the order in the route.
    fn by_precedence(&self, other: &Self) -> Ordering {
        self.created
            .cmp(&other.created)
            .then_with(|| self.route.by_full_name(&other.route))
            .then_with(|| (self.rule, self.condition).cmp(&(other.rule, other.condition)))
    }
}

/// All conditions with those who have them, the winner first.
#[derive(Debug, Default)]
pub(super) struct OverlapIndex {
    claimants: FxHashMap<Arc<str>, Vec<Claimant>>,
    /// Conditions with another winner than before.
    contested: FxHashSet<Arc<str>>,
}

impl OverlapIndex {
    /// Enter the claims of a route.
    pub(super) fn insert(&mut self, id: &ResourceRef, created: i64, claims: &[Claim]) {
        for claim in claims {
            let claimant = Claimant { created, route: id.clone(), rule: claim.rule, condition: claim.condition };
            let claimants = self.claimants.entry(claim.key.clone()).or_default();
            let at = claimants.partition_point(|other| other.by_precedence(&claimant).is_lt());
            claimants.insert(at, claimant);
            if at == 0 {
                self.contested.insert(claim.key.clone());
            }
        }
    }

    /// Take the claims of a route out again.
    pub(super) fn remove(&mut self, id: &ResourceRef, claims: &[Claim]) {
        for claim in claims {
            let Some(claimants) = self.claimants.get_mut(&claim.key) else { continue };
            if claimants.first().is_some_and(|winner| winner.route == *id) {
                self.contested.insert(claim.key.clone());
            }
            claimants.retain(|claimant| claimant.route != *id);
            if claimants.is_empty() {
                self.claimants.remove(&claim.key);
            }
        }
    }

    /// Add everybody whose losses may have changed since the last call: nobody else's did, for a loss is told by its winner.
    pub(super) fn take_affected(&mut self, affected: &mut FxHashSet<ResourceRef>) {
        for key in self.contested.drain() {
            let claimants = self.claimants.get(&key).map(Vec::as_slice).unwrap_or_default();
            affected.extend(claimants.iter().map(|claimant| claimant.route.clone()));
        }
    }

    /// What a route lost to others (or to an earlier rule of its own) at one Gateway.
    pub(super) fn lost(
        &self,
        id: &ResourceRef,
        created: i64,
        gateway: &ResourceRef,
        claims: &[Claim],
    ) -> Option<Problem> {
        let mut problems = Vec::<Problem>::new();
        for claim in claims.iter().filter(|claim| claim.gateway == *gateway) {
            let Some(winner) = self.claimants.get(&claim.key).and_then(|claimants| claimants.first()) else { continue };
            if winner.route == *id && winner.rule == claim.rule {
                continue; // it wins, or repeats itself
            }
            let who = winner.described(id, created);
            let message =
                format!("{}: {who} has the same match for `{}` and takes the requests", claim.place(), claim.hostname);
            let problem = Problem::new("OtherRuleWins", message);
            if !problems.contains(&problem) {
                problems.push(problem); // once, however many listeners
            }
        }
        (!problems.is_empty()).then(|| Problem::new("OtherRuleWins", sentences(&problems)))
    }
}

impl Claimant {
    /// Who it is, and why it wins over a route of this age.
    fn described(&self, loser: &ResourceRef, created: i64) -> String {
        let ResourceRef { kind, namespace, name } = &self.route;
        match (self.route == *loser, self.created < created) {
            (true, _) if *kind == Kind::Ingress => "an earlier path".to_owned(),
            (true, _) => format!("rules[{}]", self.rule),
            (false, true) => format!("the older {kind} `{namespace}/{name}`"),
            (false, false) => format!("{kind} `{namespace}/{name}`, equally old and first by name,"),
        }
    }
}

/// All claims of a route, in the order of its rules.
pub(super) fn claims(output: &RouteOutput) -> Vec<Claim> {
    let mut claims = Vec::new();
    for attachment in &output.attachments {
        let gateway = &attachment.gateway;
        let listener = &gateway.listeners[attachment.listener].name;
        // What takes the rest vies for it with its like alone.
        let last = if attachment.last { " last" } else { "" };
        for rule in &attachment.route.rules {
            for (condition, one) in rule.matches.iter().enumerate() {
                let what = written(one);
                claims.extend(attachment.route.hostnames.iter().map(|hostname| Claim {
                    key: format!("{}#{listener}{last} {hostname} {what}", gateway.id).into(),
                    gateway: gateway.id.clone(),
                    hostname: hostname.clone(),
                    rule: rule.id.index,
                    condition,
                    name: rule.id.name.clone().filter(|_| rule.id.route.kind == Kind::Ingress),
                }));
            }
        }
    }
    claims
}

/// A condition as text; the order of headers and parameters means nothing.
fn written(condition: &RuleMatch) -> String {
    let RuleMatch { path, method, headers, query } = condition;
    let mut text = format!("{path}");
    if let Some(method) = method {
        let _ = write!(text, " {method}"); // writing to a String cannot fail
    }
    let mut rest: Vec<String> = headers.iter().map(|it| format!(" h {} {}", it.name, value(&it.value))).collect();
    rest.extend(query.iter().map(|it| format!(" q {} {}", it.name, value(&it.value))));
    rest.sort_unstable();
    text.extend(rest);
    text
}

fn value(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(value) => format!("= {value:?}"),
        ValueMatch::Regex(regex) => format!("~ {:?}", regex.as_str()),
    }
}
