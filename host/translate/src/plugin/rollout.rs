//! `spec.activationGroup`, `spec.probation` and `spec.checks`: how a new revision comes into effect.

use std::{sync::Arc, time::Duration};

use penstock_core::{
    ResourceRef,
    check::{Checks, InvalidCheck},
    plugin::{ActivationGroup, PluginSpec, Probation, Rollout},
};

use super::quantity;
use crate::{
    problem::Problem,
    resources::{WasmPlugin, wasm_plugin::WasmPluginSpec},
};

/// Characters of a group's name: those of a label.
const LONGEST_NAME: usize = 63;
/// The old revision stays warm for all that time.
const LONGEST_PROBATION: Duration = Duration::from_hours(24);

/// Who else is in the group is not known here: see [`name_unspecified`].
pub(super) fn evaluate(spec: &WasmPluginSpec, refused: &mut Vec<Problem>) -> Rollout {
    Rollout { group: group(spec, refused), probation: probation(spec, refused), checks: checks(spec, refused) }
}

fn checks(spec: &WasmPluginSpec, refused: &mut Vec<Problem>) -> Checks {
    Checks::read(&spec.checks).unwrap_or_else(|error| {
        let message = match &error {
            InvalidCheck::One { .. } => format!("spec.checks{error}"),
            InvalidCheck::TooMany(_)
            | InvalidCheck::TooLarge(_)
            | InvalidCheck::TooDeep
            | InvalidCheck::TooManyPatterns(_) => {
                format!("spec.checks: {error}")
            }
        };
        refused.push(Problem::invalid(message));
        Checks::default()
    })
}

/// The group that a plugin names, whatever else is wrong with it.
pub(crate) fn named_group(object: &WasmPlugin) -> Option<&str> {
    object.spec.activation_group.as_deref().filter(|name| is_name(name))
}

fn group(spec: &WasmPluginSpec, refused: &mut Vec<Problem>) -> Option<ActivationGroup> {
    let name = spec.activation_group.as_deref()?;
    if !is_name(name) {
        let message = format!(
            "spec.activationGroup: `{name}` is no name of 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`, such as \
             `checkout`"
        );
        refused.push(Problem::invalid(message));
        return None;
    }
    Some(ActivationGroup { name: name.into(), unspecified: Vec::new() })
}

fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn probation(spec: &WasmPluginSpec, refused: &mut Vec<Problem>) -> Probation {
    let mut probation = Probation::default();
    let Some(given) = &spec.probation else { return probation };
    match given.period.as_deref().map(|text| (text, quantity::duration(text))) {
        None => {}
        Some((_, Some(period))) if period <= LONGEST_PROBATION => probation.period = period,
        Some((text, _)) => refused.push(Problem::new(
            "Invalid",
            format!("spec.probation.for: `{text}` is no duration of at most 24h, such as `30s`; `0s` turns it off"),
        )),
    }
    probation.max_faults = given.max_faults.unwrap_or(probation.max_faults);
    probation
}

/// Tell the members of each group which others of it cannot be specified. What is as `before` keeps its allocation.
pub(crate) fn name_unspecified(
    plugins: &mut [Arc<PluginSpec>],
    unspecified: &[(ResourceRef, &str)],
    before: &[Arc<PluginSpec>],
) {
    for spec in plugins {
        let Some(group) = &spec.rollout.group else { continue };
        let same = |(id, name): &&(ResourceRef, &str)| id.namespace == spec.plugin.namespace && *name == &*group.name;
        let members: Vec<ResourceRef> = unspecified.iter().filter(same).map(|(id, _)| id.clone()).collect();
        if members.is_empty() {
            continue;
        }
        let mut held = PluginSpec::clone(spec);
        held.rollout.group = Some(ActivationGroup { unspecified: members, ..group.clone() });
        let known = before.iter().find(|known| ***known == held);
        *spec = known.cloned().unwrap_or_else(|| Arc::new(held));
    }
}
