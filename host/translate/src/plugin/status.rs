//! The status of a WasmPlugin: what it should be, what runs of it, whom it serves.
//!
//! Messages have neither times nor counts in them, nor where an instance has from what serves: another instance, or this one after a restart, says the
//! same in the same words, and has nothing to write.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use jiff::{Timestamp, Unit};
use penstock_core::{
    Kind, ResourceRef,
    plugin::{ActiveRevision, Awaited, Candidate, Hold, LastGoodState, OnProbation, Phase, PluginState, RevisionName},
};

use super::{PluginEvaluation, RouteShare, targets};
use crate::{
    Condition, ConditionStatus, Resources, Settings,
    problem::{Conditions, Problem, sentences},
    resources::{WasmPlugin, wasm_plugin::FailurePolicy},
    status::{
        ActiveStatus, AncestorStatus, CandidateStatus, MAX_ANCESTORS, ProbationStatus, RetryStatus, WasmPluginStatus,
        not_named,
    },
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
    let state = resources.facts.plugins.get(id).map(Arc::as_ref);
    let mut conditions = Conditions::new(generation);
    accepted(&mut conditions, resources, id, object, evaluation, gateways, share);
    let unresolved = evaluation.unresolved.as_ref().or(evaluation.lost.as_ref());
    conditions.holds_unless("ResolvedRefs", unresolved, "all references are resolved");
    let life = Life::of(state, evaluation, generation);
    life.programmed(&mut conditions);
    life.degraded(&mut conditions, object);
    let (conditions, conflict) = (conditions.finish(), share.conflict());
    let ancestors = gateways.iter().take(MAX_ANCESTORS);
    let ancestors = ancestors.map(|gateway| ancestor(settings, gateway, generation, conflict.as_ref(), &conditions));
    let ancestors = ancestors.collect();
    WasmPluginStatus {
        conditions,
        active: state.and_then(|state| Some(active_status(state.active.as_ref()?, state.last_good.restored.is_some()))),
        candidate: state.and_then(|state| state.candidate.as_ref()).map(candidate_status),
        probation: state.and_then(|state| state.probation.as_ref()).map(probation_status),
        ancestors,
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
    let rest = not_named(gateways.len());
    let nowhere = !lost.is_empty() && lost.len() == object.spec.target_refs.len() && gateways.is_empty();
    if let Some(problem) = &evaluation.refused {
        conditions.no("Accepted", problem);
    } else if let Some(first) = lost.first().filter(|_| nowhere) {
        conditions.no("Accepted", &Problem::new(first.reason, sentences(&lost)));
    } else if let Some(conflict) = share.conflict() {
        conditions.no("Accepted", &conflict);
    } else if !lost.is_empty() {
        conditions.yes("Accepted", "Accepted", format!("applies in part; {}{rest}", sentences(&lost)));
    } else if let Some(note) = share.note() {
        conditions.yes("Accepted", "Accepted", format!("applies in part; {note}{rest}"));
    } else if gateways.is_empty() {
        let message = "valid, but no Gateway serves a target of it, and no rule names it in an ExtensionRef filter";
        conditions.yes("Accepted", "Accepted", message);
    } else {
        conditions.yes("Accepted", "Accepted", format!("the plugin applies to its targets{rest}"));
    }
}

/// Where a plugin is between its resource and traffic.
struct Life<'a> {
    active: Option<&'a ActiveRevision>,
    probation: Option<&'a OnProbation>,
    last_good: Option<&'a LastGoodState>,
    /// Why what the cluster has on record cannot be used.
    record_problem: Option<&'a str>,
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
    Retrying(&'a Candidate, &'static str, &'a str),
    /// Ready, and held back by others of its group.
    Held(&'a Candidate, &'a [Awaited]),
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
                Phase::Retrying { rejection, .. } => Stage::Retrying(candidate, rejection.reason, &rejection.message),
                Phase::Waiting(awaited) => Stage::Held(candidate, awaited),
                Phase::Rejected(rejection) => Stage::Rejected(candidate, rejection.reason, &rejection.message),
            },
            (None, None, Some(active)) if active.generation >= generation => Stage::Serving,
            (None, None, _) => Stage::Waiting,
        };
        let probation = state.and_then(|state| state.probation.as_ref());
        let last_good = state.map(|state| &state.last_good);
        Self { active, probation, last_good, record_problem: evaluation.recorded.problem.as_deref(), stage }
    }

    fn serving(&self) -> String {
        let Some(active) = self.active else { return "nothing serves".to_owned() };
        let probation = self.probation.map_or_else(String::new, |probation| {
            let OnProbation { max_faults, fallback, .. } = probation;
            let fallback = fallback.generation;
            format!(", on probation: after more than {max_faults} faults generation {fallback} comes back")
        });
        let ActiveRevision { name, version, generation, digest, .. } = active;
        format!("{name} {version} of generation {generation} serves ({digest}){probation}")
    }

    /// What an operator should know of the last good set on disk and on record, behind what else is said.
    fn kept(&self) -> String {
        let unusable = self.record_problem.map(|why| format!("; the record in the cluster cannot be used: {why}"));
        let Some(state) = self.last_good else { return unusable.unwrap_or_default() };
        let restored = state.not_restored.as_ref().map(|why| format!("; not restored from disk: {why}"));
        let recalled =
            state.not_recalled.as_ref().map(|why| format!("; not restored from the record in the cluster: {why}"));
        let kept = state.not_kept.as_ref().map(|why| format!("; a restart could not restore it: {why}"));
        restored.into_iter().chain(unusable).chain(recalled).chain(kept).collect()
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
            Stage::Held(candidate, awaited) => {
                let message =
                    format!("generation {} is ready, and {}; {serving}", candidate.generation, waits(awaited));
                conditions.set("Programmed", ConditionStatus::Unknown, WAITING, message);
            }
            Stage::Unspecified(problem) => {
                let message = format!("this generation cannot run: {}; {serving}", problem.message);
                conditions.no("Programmed", &Problem::invalid(message));
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
        let kept = self.kept();
        let not_kept = self.last_good.is_some_and(|it| it.not_kept.is_some());
        match (&self.stage, self.active) {
            (Stage::Unspecified(_) | Stage::Retrying(..) | Stage::Rejected(..), Some(_)) => {
                let message = format!("the last good revision is in use: {}{kept}", self.serving());
                conditions.yes("Degraded", "LastGoodServing", message);
            }
            (Stage::Unspecified(_) | Stage::Retrying(..) | Stage::Rejected(..), None) => {
                let message = format!("there is no good revision; {instead}{kept}");
                conditions.yes("Degraded", "NothingServes", message);
            }
            (Stage::Held(_, awaited), _) if awaited.iter().any(|it| it.because != Hold::Pending) => {
                conditions.yes("Degraded", "GroupHeldBack", format!("{}; {}{kept}", waits(awaited), self.serving()));
            }
            (_, Some(_)) if not_kept => conditions.yes("Degraded", "NotKept", format!("{}{kept}", self.serving())),
            (Stage::Serving, _) => conditions.set("Degraded", ConditionStatus::False, "AsExpected", ""),
            (_, Some(_)) => {
                let message = format!("{}{kept}", self.serving());
                conditions.set("Degraded", ConditionStatus::False, "AsExpected", message);
            }
            (_, None) => {
                let message = format!("nothing serves yet; {instead}{kept}");
                conditions.set("Degraded", ConditionStatus::Unknown, "Pending", message);
            }
        }
    }
}

/// The reason of a candidate that is ready and waits for others.
const WAITING: &str = "WaitingForGroup";

/// For whom a candidate waits.
fn waits(awaited: &[Awaited]) -> String {
    let member = |it: &Awaited| {
        let why = match it.because {
            Hold::Unspecified => "whose resource does not say what to run",
            Hold::Rejected => "which was refused",
            Hold::Pending => "which is on its way",
        };
        format!("{} ({why})", it.plugin.name)
    };
    let members: Vec<String> = awaited.iter().map(member).collect();
    format!("waits for the other members of its activation group: {}", members.join(", "))
}

fn rfc3339(time: SystemTime) -> String {
    // Only a clock that is wrong by millennia is beyond what can be written.
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX).round(Unit::Second).unwrap_or(Timestamp::MAX).to_string()
}

fn active_status(active: &ActiveRevision, restored: bool) -> ActiveStatus {
    ActiveStatus {
        generation: active.generation,
        digest: Arc::clone(&active.digest),
        name: Arc::clone(&active.name),
        version: Arc::clone(&active.version),
        artifact: active.artifact.clone(),
        restored,
    }
}

fn probation_status(probation: &OnProbation) -> Box<ProbationStatus> {
    let RevisionName { generation, digest, name, version } = probation.fallback.clone();
    let fallback = ActiveStatus { generation, digest, name, version, artifact: None, restored: false };
    Box::new(ProbationStatus { until: rfc3339(probation.until), max_faults: probation.max_faults, fallback })
}

fn candidate_status(candidate: &Candidate) -> CandidateStatus {
    let phase = match &candidate.phase {
        Phase::Retrying { .. } if candidate.digest.is_some() => "Validating",
        Phase::Fetching | Phase::Retrying { .. } => "Fetching",
        Phase::Validating => "Validating",
        Phase::Waiting(_) => "Waiting",
        Phase::Rejected(_) => "Rejected",
    };
    let (reason, message) = match &candidate.phase {
        Phase::Fetching | Phase::Validating => (None, None),
        Phase::Waiting(awaited) => (Some(WAITING), Some(waits(awaited))),
        Phase::Retrying { rejection, .. } | Phase::Rejected(rejection) => {
            (Some(rejection.reason), Some(rejection.message.clone()))
        }
    };
    let retry = match &candidate.phase {
        Phase::Retrying { attempts, pause, .. } => {
            Some(RetryStatus { attempts: *attempts, pause: format!("{pause:?}") })
        }
        _ => None,
    };
    CandidateStatus {
        generation: candidate.generation,
        digest: candidate.digest.clone(),
        artifact: candidate.artifact.clone(),
        phase,
        reason,
        message,
        retry,
    }
}

/// What an installation says of one Gateway: all that its users need to know, since another installation may tell the rest of the status.
fn ancestor(
    settings: &Settings,
    gateway: &ResourceRef,
    generation: i64,
    conflict: Option<&Problem>,
    of_plugin: &[Condition],
) -> AncestorStatus {
    let mut conditions = Conditions::new(generation);
    let message = match gateway.kind {
        Kind::IngressClass => "the plugin applies to traffic of Ingresses of this class",
        _ => "the plugin applies to traffic of this Gateway",
    };
    conditions.holds_unless("Accepted", conflict, message);
    let shared = of_plugin.iter().filter(|it| matches!(it.type_, "ResolvedRefs" | "Programmed")).cloned();
    AncestorStatus {
        ancestor_ref: AncestorStatus::reference(gateway),
        controller_name: settings.controller_name.clone(),
        conditions: conditions.finish().into_iter().chain(shared).collect(),
    }
}
