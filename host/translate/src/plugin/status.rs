//! The status of a WasmPlugin: what it should be, what runs of it, whom it serves.

use std::{collections::BTreeSet, sync::Arc};

use penstock_core::{
    ResourceRef,
    plugin::{ActiveRevision, Candidate, Phase, PluginState},
};

use super::{PluginEvaluation, RouteShare, targets};
use crate::{
    Condition, ConditionStatus, Resources, Settings,
    problem::{Conditions, Problem, sentences},
    resources::{
        WasmPlugin,
        common::{GATEWAY_GROUP, ParentReference},
        wasm_plugin::FailurePolicy,
    },
    status::{ActiveStatus, AncestorStatus, CandidateStatus, MAX_ANCESTORS, WasmPluginStatus},
};

/// The status; `gateways` are ours whose traffic the plugin sees, `share` what a route plugin has of its rules.
pub(crate) fn status(
    resources: &Resources,
    settings: &Settings,
    id: &ResourceRef,
    object: &WasmPlugin,
    evaluation: &PluginEvaluation,
    gateways: &BTreeSet<ResourceRef>,
    share: &RouteShare,
) -> WasmPluginStatus {
    let generation = object.metadata.generation.unwrap_or(0);
    let state = resources.facts.plugins.get(id).map(|state| &**state);
    let mut conditions = Conditions::new(generation);
    accepted(&mut conditions, resources, id, object, evaluation, gateways, share);
    conditions.holds_unless("ResolvedRefs", evaluation.unresolved.as_ref(), "all references are resolved");
    let life = Life::of(state, evaluation, generation);
    life.programmed(&mut conditions);
    life.degraded(&mut conditions, object);
    let conflict = share.conflict();
    let ancestors = gateways.iter().take(MAX_ANCESTORS);
    let ancestors = ancestors.map(|gateway| ancestor(settings, gateway, generation, conflict.as_ref()));
    WasmPluginStatus {
        conditions: conditions.finish(),
        active: state.and_then(|state| state.active.as_ref()).map(active_status),
        candidate: state.and_then(|state| state.candidate.as_ref()).map(candidate_status),
        ancestors: ancestors.collect(),
    }
}

fn accepted(
    conditions: &mut Conditions,
    resources: &Resources,
    id: &ResourceRef,
    object: &WasmPlugin,
    evaluation: &PluginEvaluation,
    gateways: &BTreeSet<ResourceRef>,
    share: &RouteShare,
) {
    let lost = targets::problems(resources, id, object);
    let nowhere = !lost.is_empty() && lost.len() == object.spec.target_refs.len() && gateways.is_empty();
    if let Some(problem) = &evaluation.refused {
        conditions.no("Accepted", problem);
    } else if let Some(first) = lost.first().filter(|_| nowhere) {
        conditions.no("Accepted", &Problem::new(first.reason, sentences(&lost)));
    } else if let Some(conflict) = share.conflict() {
        conditions.no("Accepted", &conflict);
    } else if !lost.is_empty() {
        conditions.yes("Accepted", "Accepted", format!("applies in part; {}", sentences(&lost)));
    } else if let Some(note) = share.note() {
        conditions.yes("Accepted", "Accepted", format!("applies in part; {note}"));
    } else if gateways.is_empty() {
        let message = "valid, but no Gateway serves a target of it, and no rule names it in an ExtensionRef filter";
        conditions.yes("Accepted", "Accepted", message);
    } else {
        conditions.yes("Accepted", "Accepted", "the plugin applies to its targets");
    }
}

/// Where a plugin is between its resource and traffic.
struct Life<'a> {
    active: Option<&'a ActiveRevision>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    /// The resource does not say what to run.
    Unspecified(&'a Problem),
    /// The plugin host did not get to it yet.
    Waiting,
    /// On its way.
    Candidate(&'a Candidate, &'static str),
    /// Not there yet, for a reason that may pass.
    Retrying(&'a Candidate, &'static str, String),
    /// Refused.
    Rejected(&'a Candidate, &'static str, &'a str),
    /// It serves.
    Serving,
}

impl<'a> Life<'a> {
    fn of(state: Option<&'a PluginState>, evaluation: &'a PluginEvaluation, generation: i64) -> Self {
        let active = state.and_then(|state| state.active.as_ref());
        let candidate = state.and_then(|state| state.candidate.as_ref());
        let unspecified = evaluation.refused.as_ref().or(evaluation.unresolved.as_ref());
        let stage = match (unspecified, candidate, active) {
            (Some(problem), _, _) => Stage::Unspecified(problem),
            (None, Some(candidate), _) => match &candidate.phase {
                Phase::Fetching => Stage::Candidate(candidate, "fetched"),
                Phase::Validating => Stage::Candidate(candidate, "validated"),
                Phase::Retrying { rejection, .. } => {
                    Stage::Retrying(candidate, rejection.reason, retrying(&candidate.phase))
                }
                Phase::Rejected(rejection) => Stage::Rejected(candidate, rejection.reason, &rejection.message),
            },
            (None, None, Some(active)) if active.generation >= generation => Stage::Serving,
            (None, None, _) => Stage::Waiting,
        };
        Self { active, stage }
    }

    fn serving(&self) -> String {
        match self.active {
            Some(active) => format!(
                "{} {} of generation {} serves ({})",
                active.name, active.version, active.generation, active.digest
            ),
            None => "nothing serves".to_owned(),
        }
    }

    fn programmed(&self, conditions: &mut Conditions) {
        let serving = self.serving();
        match &self.stage {
            Stage::Serving => conditions.yes("Programmed", "Programmed", serving),
            Stage::Waiting => conditions.set("Programmed", ConditionStatus::Unknown, "Pending", serving),
            Stage::Candidate(candidate, doing) => {
                let message = format!("generation {} is being {doing}; {serving}", candidate.generation);
                conditions.set("Programmed", ConditionStatus::Unknown, "Pending", message);
            }
            Stage::Unspecified(problem) => {
                let message = format!("this generation cannot run: {}; {serving}", problem.message);
                conditions.no("Programmed", &Problem::new("Invalid", message));
            }
            Stage::Retrying(candidate, reason, message) => {
                let done = if candidate.digest.is_some() { "validated" } else { "fetched" };
                let message = format!("generation {} could not be {done}: {message}; {serving}", candidate.generation);
                conditions.no("Programmed", &Problem::new(reason, message));
            }
            Stage::Rejected(candidate, reason, message) => {
                let message = format!("generation {} was refused: {message}; {serving}", candidate.generation);
                conditions.no("Programmed", &Problem::new(reason, message));
            }
        }
    }

    fn degraded(&self, conditions: &mut Conditions, object: &WasmPlugin) {
        let instead = match object.spec.failure_policy {
            Some(FailurePolicy::Open) => "requests go on without the plugin (failurePolicy Open)",
            _ => "requests get 503 (failurePolicy Closed)",
        };
        match (&self.stage, self.active) {
            (Stage::Serving, _) => conditions.set("Degraded", ConditionStatus::False, "AsExpected", ""),
            (Stage::Waiting | Stage::Candidate(..), Some(_)) => {
                conditions.set("Degraded", ConditionStatus::False, "AsExpected", self.serving());
            }
            (Stage::Waiting | Stage::Candidate(..), None) => {
                conditions.set(
                    "Degraded",
                    ConditionStatus::Unknown,
                    "Pending",
                    format!("nothing serves yet; {instead}"),
                );
            }
            (Stage::Unspecified(_) | Stage::Retrying(..) | Stage::Rejected(..), Some(_)) => {
                let message = format!("the last good revision is in use: {}", self.serving());
                conditions.yes("Degraded", "LastGoodServing", message);
            }
            (Stage::Unspecified(_) | Stage::Retrying(..) | Stage::Rejected(..), None) => {
                conditions.yes("Degraded", "NothingServes", format!("there is no good revision; {instead}"));
            }
        }
    }
}

fn active_status(active: &ActiveRevision) -> ActiveStatus {
    ActiveStatus {
        generation: active.generation,
        digest: Arc::clone(&active.digest),
        name: Arc::clone(&active.name),
        version: Arc::clone(&active.version),
        artifact: active.artifact.clone(),
    }
}

fn candidate_status(candidate: &Candidate) -> CandidateStatus {
    let phase = match &candidate.phase {
        Phase::Retrying { .. } if candidate.digest.is_some() => "Validating",
        Phase::Fetching | Phase::Retrying { .. } => "Fetching",
        Phase::Validating => "Validating",
        Phase::Rejected(_) => "Rejected",
    };
    let message = match &candidate.phase {
        Phase::Fetching | Phase::Validating => None,
        Phase::Retrying { .. } => Some(retrying(&candidate.phase)),
        Phase::Rejected(rejection) => Some(rejection.message.clone()),
    };
    CandidateStatus {
        generation: candidate.generation,
        digest: candidate.digest.clone(),
        artifact: candidate.artifact.clone(),
        phase,
        reason: candidate.phase.rejection().map(|rejection| rejection.reason),
        message,
    }
}

/// What went wrong, how often, and when the next attempt comes. Nothing in it changes with the time alone.
fn retrying(phase: &Phase) -> String {
    let Phase::Retrying { rejection, attempts, pause } = phase else { return String::new() };
    let tried = match attempts {
        1 => "1 attempt".to_owned(),
        2..10 => format!("{attempts} attempts"),
        _ => format!("{attempts} or more attempts"),
    };
    format!("{}; {tried} so far, the next one after about {pause:?}", rejection.message)
}

fn ancestor(settings: &Settings, gateway: &ResourceRef, generation: i64, conflict: Option<&Problem>) -> AncestorStatus {
    let mut conditions = Conditions::new(generation);
    conditions.holds_unless("Accepted", conflict, "the plugin applies to traffic of this Gateway");
    let conditions: Vec<Condition> = conditions.finish();
    AncestorStatus {
        ancestor_ref: ParentReference {
            group: Some(GATEWAY_GROUP.to_owned()),
            kind: Some("Gateway".to_owned()),
            namespace: Some(gateway.namespace.to_string()),
            name: gateway.name.to_string(),
            section_name: None,
            port: None,
        },
        controller_name: settings.controller_name.clone(),
        conditions,
    }
}
