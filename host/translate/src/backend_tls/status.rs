//! The status of a BackendTLSPolicy: one entry for each Gateway that sends requests to a target of it.

use std::collections::BTreeSet;

use penstock_core::ResourceRef;

use super::{PolicyEvaluation, ServiceGateways, TlsTargets, is_service, service_of};
use crate::{
    Condition, Resources, Settings,
    nearest::did_you_mean,
    problem::{Conditions, Problem, sentences},
    resources::{
        BackendTLSPolicy,
        common::{ParentReference, PolicyTargetReference},
    },
    status::{AncestorStatus, MAX_ANCESTORS, PolicyStatus, not_named},
};

/// What statuses of policies are made of.
pub(crate) struct StatusInputs<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) settings: &'a Settings,
    pub(crate) targets: &'a TlsTargets,
    pub(crate) gateways: &'a ServiceGateways,
}

/// The status; none if no Gateway of ours has to do with the policy.
pub(crate) fn status(
    inputs: &StatusInputs<'_>,
    id: &ResourceRef,
    policy: &BackendTLSPolicy,
    evaluation: &PolicyEvaluation,
) -> Option<PolicyStatus> {
    let references = ancestors(inputs, id, policy);
    if references.is_empty() {
        return None;
    }
    let conditions = conditions(inputs, id, policy, evaluation, &not_named(references.len()));
    let ancestors = references.into_iter().take(MAX_ANCESTORS).map(|ancestor_ref| AncestorStatus {
        ancestor_ref,
        controller_name: inputs.settings.controller_name.clone(),
        conditions: conditions.clone(),
    });
    Some(PolicyStatus { ancestors: ancestors.collect() })
}

/// The Gateways. Without a cluster, a policy that no Gateway has to do with still gets a verdict: its targets stand for their Gateways.
fn ancestors(inputs: &StatusInputs<'_>, id: &ResourceRef, policy: &BackendTLSPolicy) -> Vec<ParentReference> {
    let targets = || policy.spec.target_refs.iter();
    let services = targets().filter(|target| is_service(target)).map(|target| service_of(id, target));
    let gateways: BTreeSet<&ResourceRef> =
        services.filter_map(|service| inputs.gateways.get(&service)).flatten().collect();
    if !gateways.is_empty() {
        return gateways.into_iter().map(AncestorStatus::reference).collect();
    }
    if inputs.settings.implied_class.is_none() {
        return Vec::new();
    }
    let mut references: Vec<ParentReference> = targets()
        .map(|target| ParentReference {
            group: Some(target.group.clone()),
            kind: Some(target.kind.clone()),
            namespace: Some(id.namespace.to_string()),
            name: target.name.clone(),
            ..ParentReference::default()
        })
        .collect();
    references.dedup();
    references
}

fn conditions(
    inputs: &StatusInputs<'_>,
    id: &ResourceRef,
    policy: &BackendTLSPolicy,
    evaluation: &PolicyEvaluation,
    rest: &str,
) -> Vec<Condition> {
    let mut conditions = Conditions::new(policy.metadata.generation.unwrap_or(0));
    let targets = policy.spec.target_refs.iter().enumerate();
    let lost: Vec<Problem> = targets
        .filter_map(|(index, target)| {
            let problem = lost(inputs, id, target)?;
            Some(problem.within(format_args!("spec.targetRefs[{index}]")))
        })
        .collect();
    let all = lost.len() == policy.spec.target_refs.len();
    match (&evaluation.refused, lost.first()) {
        (_, Some(first)) if all => conditions.no("Accepted", &Problem::new(first.reason, sentences(&lost))),
        (Some(problem), _) => conditions.no("Accepted", problem),
        (None, Some(_)) => {
            conditions.yes("Accepted", "Accepted", format!("applies in part; {}{rest}", sentences(&lost)));
        }
        (None, None) => conditions.yes("Accepted", "Accepted", format!("the policy applies to its targets{rest}")),
    }
    conditions.holds_unless("ResolvedRefs", evaluation.unresolved.as_ref(), "all references are resolved");
    conditions.finish()
}

/// Why the policy does not apply to a target.
fn lost(inputs: &StatusInputs<'_>, id: &ResourceRef, target: &PolicyTargetReference) -> Option<Problem> {
    if !is_service(target) {
        let message =
            format!("kind: `{}/{}` cannot be a target; Services of the core group can", target.group, target.kind);
        return Some(Problem::invalid(message));
    }
    let key = service_of(id, target);
    let services = &inputs.resources.services;
    let Some(service) = services.get(&key) else {
        let hint = did_you_mean(&target.name, services.names_in(key.kind, &key.namespace));
        let message = format!("name: there is no Service `{}/{}`{hint}", key.namespace, target.name);
        return Some(Problem::new("TargetNotFound", message));
    };
    if let Some(section) = &target.section_name {
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let names = || ports.iter().filter_map(|port| port.name.as_deref());
        if !names().any(|name| name == section) {
            let hint = did_you_mean(section, names());
            let message = format!("sectionName: Service `{}` has no port named `{section}`{hint}", target.name);
            return Some(Problem::new("TargetNotFound", message));
        }
    }
    let winner = inputs.targets.winner(id, target)?;
    let message =
        format!("name: BackendTLSPolicy `{}` has the same target and is older, or first by name", winner.name);
    Some(Problem::new("Conflicted", message))
}
