//! From a WasmPlugin to what the plugin host should run.

use std::sync::Arc;

use k8s_openapi::ByteString;
use penstock_core::{
    Kind, ResourceRef, nesting,
    plugin::{self, Capabilities, PluginSpec, SecretPlace},
};
use serde_json::Value;

use super::{
    PluginEvaluation, limits, outbound, pointer, rate_limits,
    record::Recorded,
    redis, rollout,
    source::{self, SourceProblem},
};
use crate::{
    nearest::{did_you_mean, list},
    problem::{Problem, sentences},
    resources::{
        WasmPlugin,
        wasm_plugin::{
            BodyOverflow, FailurePolicy, Isolation, PluginCapabilities, PluginSecretReference, WasmPluginSpec,
        },
    },
    view::View,
};

pub(super) fn evaluate(
    view: &View<'_>,
    id: &ResourceRef,
    object: &WasmPlugin,
    stamp: Option<&Arc<str>>,
) -> PluginEvaluation {
    let spec = &object.spec;
    let (mut refused, mut unresolved) = (Vec::new(), Vec::new());
    let source = match source::evaluate(view, id, &spec.source, stamp) {
        Ok(source) => Some(source),
        Err(SourceProblem::Refused(problem)) => {
            refused.push(problem);
            None
        }
        Err(SourceProblem::Unresolved(problem)) => {
            unresolved.push(problem);
            None
        }
    };
    let mut limits = limits::evaluate(spec.limits.as_ref(), &view.settings().plugin_limits, &mut refused);
    match &spec.isolation {
        None | Some(Isolation::Shared) => {}
        Some(Isolation::Exchange) => limits.isolation = plugin::Isolation::Exchange,
        Some(Isolation::Unknown(text)) => {
            let hint = did_you_mean(text, Isolation::KNOWN.iter().copied());
            refused.push(Problem::unsupported(format!("spec.isolation: `{text}` is not known{hint}")));
        }
    }
    if let Some(FailurePolicy::Unknown(text)) = &spec.failure_policy {
        let hint = did_you_mean(text, FailurePolicy::KNOWN.iter().copied());
        let message = format!("spec.failurePolicy: `{text}` is not known{hint}; until then it counts as `Closed`");
        refused.push(Problem::unsupported(message));
    }
    if let Some(BodyOverflow::Unknown(text)) = &spec.body_overflow {
        let hint = did_you_mean(text, BodyOverflow::KNOWN.iter().copied());
        let message = format!("spec.bodyOverflow: `{text}` is not known{hint}; until then it counts as `Reject`");
        refused.push(Problem::unsupported(message));
    }
    let capabilities = capabilities(id, spec, &mut refused);
    let mut lost = outbound::unresolved(view, id, &capabilities.outbound);
    lost.extend(redis::unresolved(view, id, &capabilities.rate_limits));
    let config = config(view, id, spec, &mut refused, &mut unresolved);
    let rollout = rollout::evaluate(spec, &mut refused);
    let secrets = spec.secret_refs.iter().map(place).collect();
    let whole = refused.is_empty() && unresolved.is_empty();
    let spec = source.filter(|_| whole).map(|source| {
        Arc::new(PluginSpec {
            plugin: id.clone(),
            generation: object.metadata.generation.unwrap_or(0),
            source,
            config: Arc::new(config),
            secrets,
            capabilities,
            limits,
            rollout,
        })
    });
    let merged = |problems: &[Problem]| problems.first().map(|first| Problem::new(first.reason, sentences(problems)));
    let (refused, unresolved, lost) = (merged(&refused), merged(&unresolved), merged(&lost));
    PluginEvaluation { spec, refused, unresolved, lost, recorded: Recorded::default() }
}

fn capabilities(id: &ResourceRef, spec: &WasmPluginSpec, refused: &mut Vec<Problem>) -> Capabilities {
    let Some(given) = &spec.capabilities else { return Capabilities::default() };
    let PluginCapabilities { log, clock, random, metrics, counters, key_value, wasi, ref rate_limits, ref outbound } =
        *given;
    let rate_limits = rate_limits::evaluate(id, rate_limits, refused);
    let outbound = outbound::evaluate(id, outbound, refused);
    Capabilities { log, clock, random, metrics, counters, key_value, wasi, rate_limits, outbound }
}

/// `spec.config` with the values of `spec.secretRefs` in their places.
fn config(
    view: &View<'_>,
    id: &ResourceRef,
    spec: &WasmPluginSpec,
    refused: &mut Vec<Problem>,
    unresolved: &mut Vec<Problem>,
) -> Value {
    let mut config = spec.config.clone().unwrap_or_default();
    if nesting::is_too_deep(&config) {
        let most = nesting::DEEPEST;
        refused.push(Problem::invalid(format!(
            "spec.config: has more than {most} lists and objects within each other; make it flatter"
        )));
    }
    for (index, reference) in spec.secret_refs.iter().enumerate() {
        match secret_text(view, id, &reference.name, &reference.key) {
            Ok(text) => {
                if let Err(error) = pointer::put(&mut config, &reference.pointer, Value::String(text)) {
                    refused.push(Problem::invalid(format!("spec.secretRefs[{index}].as: {error}")));
                }
            }
            Err(problem) => unresolved.push(problem.within(format_args!("spec.secretRefs[{index}]"))),
        }
    }
    config
}

fn place(reference: &PluginSecretReference) -> SecretPlace {
    let PluginSecretReference { name, key, pointer } = reference;
    SecretPlace { pointer: pointer.as_str().into(), secret: name.as_str().into(), key: key.as_str().into() }
}

/// The value of a key of a Secret beside the plugin.
pub(super) fn secret_text(view: &View<'_>, id: &ResourceRef, name: &str, key: &str) -> Result<String, Problem> {
    let missing = |message: String| Problem::new("SecretNotFound", message);
    let Some(secret) = view.secret(&ResourceRef::new(Kind::Secret, id.namespace.clone(), name)) else {
        let hint = did_you_mean(name, view.secrets().names_in(Kind::Secret, &id.namespace));
        return Err(missing(format!("name: there is no Secret `{}/{name}`{hint}", id.namespace)));
    };
    let data = secret.data.iter().flatten();
    let Some((_, ByteString(value))) = data.clone().find(|(name, _)| *name == key) else {
        let keys = list(data.map(|(name, _)| name.as_str()));
        return Err(missing(format!("key: Secret `{name}` has no `{key}` in its data; it has {keys}")));
    };
    String::from_utf8(value.clone())
        .map_err(|_| Problem::new("InvalidSecret", format!("key: `{key}` of Secret `{name}` is not UTF-8 text")))
}
