//! `targetRefs`: where a plugin applies.

use std::{collections::BTreeMap, sync::Arc};

use penstock_core::{Kind, ResourceRef};

use super::{AttachedPlugin, AttachedPlugins, PluginModel};
use crate::{
    Resources, Table,
    nearest::{did_you_mean, list},
    problem::Problem,
    resources::{
        WasmPlugin,
        common::{GATEWAY_GROUP, NETWORKING_GROUP, PolicyTargetReference},
    },
};

/// What can be a target: group and kind, those of one group together.
pub(crate) const TARGETS: [(&str, &str, Kind); 4] = [
    (GATEWAY_GROUP, "Gateway", Kind::Gateway),
    (GATEWAY_GROUP, "HTTPRoute", Kind::HTTPRoute),
    (GATEWAY_GROUP, "GRPCRoute", Kind::GRPCRoute),
    (NETWORKING_GROUP, "Ingress", Kind::Ingress),
];

/// All plugins by the resource that they name as target.
pub(crate) fn attach(resources: &Resources, models: &Table<PluginModel>) -> BTreeMap<ResourceRef, AttachedPlugins> {
    let mut attached = BTreeMap::<ResourceRef, AttachedPlugins>::new();
    for (id, object) in resources.wasm_plugins.iter() {
        let Some(model) = models.get(id) else { continue };
        for reference in &object.spec.target_refs {
            if let Ok(target) = target(id, reference) {
                let plugin = Arc::clone(model);
                attached
                    .entry(target)
                    .or_default()
                    .push(AttachedPlugin { section: reference.section_name.clone(), plugin });
            }
        }
    }
    attached
}

/// What is wrong with the targets, one entry for each that leads nowhere.
pub(super) fn problems(resources: &Resources, id: &ResourceRef, object: &WasmPlugin) -> Vec<Problem> {
    let targets = object.spec.target_refs.iter().enumerate();
    targets
        .filter_map(|(index, reference)| {
            let found = target(id, reference).and_then(|target| {
                exists(resources, &target, reference)?;
                has_backends(resources, id, &target)
            });
            found.err().map(|problem| problem.within(format_args!("spec.targetRefs[{index}]")))
        })
        .collect()
}

/// Whether a plugin of its namespace is meant for resources of its kind: then it says of which of them there are.
pub(crate) fn may_name(resources: &Resources, id: &ResourceRef) -> bool {
    let names = |(plugin, object): (&ResourceRef, &Arc<WasmPlugin>)| {
        object.spec.target_refs.iter().any(|it| target(plugin, it).is_ok_and(|target| target.kind == id.kind))
    };
    resources.wasm_plugins.in_namespace(Kind::WasmPlugin, &id.namespace).any(names)
}

fn target(id: &ResourceRef, reference: &PolicyTargetReference) -> Result<ResourceRef, Problem> {
    let Some((group, _, kind)) = TARGETS.into_iter().find(|(_, name, _)| *name == reference.kind) else {
        let (other, kinds) = (&reference.kind, TARGETS.map(|(_, name, _)| name));
        let hint = did_you_mean(other, kinds.into_iter());
        let message = format!("kind: `{other}` cannot be a target; {} can{hint}", list(kinds));
        return Err(Problem::invalid(message));
    };
    if reference.group != group {
        let message = format!("group: `{}` has no {kind}; use `{group}`", reference.group);
        return Err(Problem::invalid(message));
    }
    if kind == Kind::Ingress && reference.section_name.is_some() {
        let message = "sectionName: the rules of an Ingress have no names; remove the field, and the plugin applies to all of them";
        return Err(Problem::invalid(message));
    }
    Ok(ResourceRef::new(kind, id.namespace.clone(), reference.name.as_str()))
}

/// A route plugin chooses among the backends of a rule, and a Gateway has none.
fn has_backends(resources: &Resources, id: &ResourceRef, target: &ResourceRef) -> Result<(), Problem> {
    let active = resources.facts.plugins.get(id).and_then(|state| state.active.as_ref());
    if target.kind != Kind::Gateway || !active.is_some_and(|active| active.hooks.choose) {
        return Ok(());
    }
    let message = "kind: this is a route plugin, which chooses among the backends of a rule, and a Gateway has no rules; attach it \
                   to an HTTPRoute, GRPCRoute or Ingress, or name it in an ExtensionRef filter of a rule";
    Err(Problem::invalid(message))
}

fn exists(resources: &Resources, target: &ResourceRef, reference: &PolicyTargetReference) -> Result<(), Problem> {
    let sections: Option<Vec<&str>> = match target.kind {
        Kind::Gateway => resources
            .gateways
            .get(target)
            .map(|gateway| gateway.spec.listeners.iter().map(|listener| listener.name.as_str()).collect()),
        Kind::HTTPRoute => resources
            .http_routes
            .get(target)
            .map(|route| route.spec.rules.iter().filter_map(|rule| rule.name.as_deref()).collect()),
        Kind::Ingress => resources.ingresses.get(target).map(|_| Vec::new()),
        _ => resources
            .grpc_routes
            .get(target)
            .map(|route| route.spec.rules.iter().filter_map(|rule| rule.name.as_deref()).collect()),
    };
    let lost = |message: String| Err(Problem::new("TargetNotFound", message));
    let Some(sections) = sections else {
        let namespace = &target.namespace;
        let hint = match target.kind {
            Kind::Gateway => did_you_mean(&target.name, resources.gateways.names_in(target.kind, namespace)),
            Kind::HTTPRoute => did_you_mean(&target.name, resources.http_routes.names_in(target.kind, namespace)),
            Kind::Ingress => did_you_mean(&target.name, resources.ingresses.names_in(target.kind, namespace)),
            _ => did_you_mean(&target.name, resources.grpc_routes.names_in(target.kind, namespace)),
        };
        return lost(format!("name: there is no {} `{namespace}/{}`{hint}", target.kind, target.name));
    };
    match &reference.section_name {
        Some(section) if !sections.contains(&section.as_str()) => {
            let part = if target.kind == Kind::Gateway { "listener" } else { "rule" };
            let known = list(sections.iter().copied());
            lost(format!("sectionName: {} `{}` has no {part} `{section}`; it has {known}", target.kind, target.name))
        }
        _ => Ok(()),
    }
}
