//! `spec.capabilities.outbound`: backends that a plugin may call, as values of the revision and as what they lead to now.

use std::{sync::Arc, time::Duration};

use penstock_core::{
    ResourceRef,
    backend::BackendKey,
    plugin::{OutboundBackend, OutboundGrant, OutboundReference},
    reason::Reason,
    route::{Failure, Target},
};

use super::quantity;
use crate::{
    endpoints::{BackendRegistry, Origin},
    problem::Problem,
    resources::wasm_plugin::{PluginBackendReference, PluginOutbound},
    route::find_for_plugin,
    view::View,
};

/// Backends of one plugin. A plugin looks its backend up by name in every call.
const MOST: usize = 32;
/// Bytes of a name: it becomes a label of metrics.
const LONGEST_NAME: usize = 63;

/// The grants, and what is wrong with those that cannot be.
pub(super) fn evaluate(id: &ResourceRef, given: &[PluginOutbound], refused: &mut Vec<Problem>) -> Vec<OutboundGrant> {
    let at = "spec.capabilities.outbound";
    if given.len() > MOST {
        refused.push(Problem::invalid(format!("{at}: {} are too many; {MOST} are the most", given.len())));
    }
    let mut grants = Vec::<OutboundGrant>::new();
    for (index, given) in given.iter().take(MOST).enumerate() {
        match grant(id, given) {
            Ok(grant) if grants.iter().any(|known| known.name == grant.name) => {
                refused
                    .push(Problem::invalid(format!("{at}[{index}].name: there is a backend `{}` already", grant.name)));
            }
            Ok(grant) => grants.push(grant),
            Err(problem) => refused.push(problem.within(format_args!("{at}[{index}]"))),
        }
    }
    grants
}

fn grant(id: &ResourceRef, given: &PluginOutbound) -> Result<OutboundGrant, Problem> {
    if given.name.is_empty() || given.name.len() > LONGEST_NAME {
        return Err(Problem::invalid(format!("name: must have 1 to {LONGEST_NAME} characters")));
    }
    Ok(OutboundGrant {
        name: given.name.as_str().into(),
        backend: reference(id, &given.backend_ref),
        timeout: timeout(given.timeout.as_deref(), OutboundGrant::USUAL_TIMEOUT, OutboundGrant::LONGEST_TIMEOUT)?,
        max_response: max_response(given.max_response_bytes.as_deref())?,
    })
}

pub(super) fn reference(id: &ResourceRef, given: &PluginBackendReference) -> OutboundReference {
    OutboundReference {
        group: given.group.as_deref().unwrap_or_default().into(),
        kind: given.kind.as_deref().unwrap_or("Service").into(),
        namespace: given.namespace.as_deref().unwrap_or(&id.namespace).into(),
        name: given.name.as_str().into(),
        port: given.port,
    }
}

/// How long to wait for a backend: what was given, or what is usual.
pub(super) fn timeout(given: Option<&str>, usual: Duration, longest: Duration) -> Result<Duration, Problem> {
    let Some(text) = given else { return Ok(usual) };
    let range = Duration::from_millis(1)..=longest;
    let time = quantity::duration(text).filter(|time| range.contains(time));
    time.ok_or_else(|| Problem::invalid(format!("timeout: `{text}` is no duration from 1ms to {}s", longest.as_secs())))
}

fn max_response(given: Option<&str>) -> Result<u64, Problem> {
    let Some(text) = given else { return Ok(OutboundGrant::USUAL_RESPONSE) };
    let size = quantity::bytes(text).filter(|size| (1..=OutboundGrant::LARGEST_RESPONSE).contains(size));
    size.ok_or_else(|| Problem::invalid(format!("maxResponseBytes: `{text}` is no size from 1 to 16Mi")))
}

/// What is wrong with the references. It keeps nothing from running: calls to these backends fail until it is put right.
pub(super) fn unresolved(view: &View<'_>, id: &ResourceRef, grants: &[OutboundGrant]) -> Vec<Problem> {
    let problems = grants.iter().enumerate().filter_map(|(index, grant)| {
        let problem = find_for_plugin(view, id, &grant.backend).err()?;
        Some(problem.within(format_args!("spec.capabilities.outbound[{index}].backendRef")))
    });
    problems.collect()
}

/// What the grants of a revision lead to now. `backends` gets each backend that is used.
pub(super) fn resolve(
    view: &View<'_>,
    id: &ResourceRef,
    grants: &[OutboundGrant],
    registry: &mut BackendRegistry,
    backends: &mut Vec<BackendKey>,
) -> Arc<[OutboundBackend]> {
    let resolve = |grant: &OutboundGrant| {
        let target = find_for_plugin(view, id, &grant.backend).map(|found| target(found, registry, backends));
        let target = target.unwrap_or_else(|problem| failing(&problem));
        OutboundBackend { name: grant.name.clone(), target, timeout: grant.timeout, max_response: grant.max_response }
    };
    grants.iter().map(resolve).collect()
}

/// A backend that was found. `backends` gets it if it is not there yet.
pub(super) fn target(
    (key, origin): (BackendKey, Origin),
    registry: &mut BackendRegistry,
    backends: &mut Vec<BackendKey>,
) -> Target {
    if !backends.contains(&key) {
        backends.push(key.clone());
    }
    Target::Backend(registry.get(key, origin))
}

/// One that cannot be called, and why.
pub(super) fn failing(problem: &Problem) -> Target {
    Target::Fail(Failure { reason: Reason::InvalidBackend, message: problem.message.as_str().into() })
}
