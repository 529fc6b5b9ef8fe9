//! From a WasmPlugin to what the plugin host should run.

use std::{sync::Arc, time::Duration};

use k8s_openapi::ByteString;
use penstock_core::{
    Kind, ResourceRef,
    plugin::{Capabilities, PluginLimits, PluginSpec, SecretPlace},
};
use serde_json::Value;

use super::{
    PluginEvaluation, outbound, pointer, quantity, rate_limits,
    record::Recorded,
    rollout,
    source::{self, SourceProblem},
};
use crate::{
    nearest::{did_you_mean, list},
    problem::{Problem, sentences},
    resources::{
        WasmPlugin,
        wasm_plugin::{BodyOverflow, FailurePolicy, PluginCapabilities, PluginSecretReference, WasmPluginSpec},
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
    let limits = limits(spec, &mut refused);
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
    let lost = outbound::unresolved(view, id, &capabilities.outbound);
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

fn limits(spec: &WasmPluginSpec, refused: &mut Vec<Problem>) -> PluginLimits {
    let mut limits = PluginLimits::default();
    let Some(given) = &spec.limits else { return limits };
    let mut time = |name: &str, text: &Option<String>, limit: &mut Duration| match text.as_deref() {
        None => {}
        Some(text) => match quantity::duration(text).filter(|time| !time.is_zero()) {
            Some(time) => *limit = time,
            None => refused.push(Problem::new(
                "Invalid",
                format!("spec.limits.{name}: `{text}` is no duration above zero, such as `2ms`"),
            )),
        },
    };
    time("hookTime", &given.hook_time, &mut limits.hook_time);
    time("exchangeTime", &given.exchange_time, &mut limits.exchange_time);
    time("configureTime", &given.configure_time, &mut limits.configure_time);
    time("wallTime", &given.wall_time, &mut limits.wall_time);
    let mut size = |name: &str, text: &Option<String>, limit: &mut u64| match text.as_deref() {
        None => {}
        Some(text) => match quantity::bytes(text).filter(|size| *size > 0) {
            Some(size) => *limit = size,
            None => refused.push(Problem::new(
                "Invalid",
                format!("spec.limits.{name}: `{text}` is no size above zero, such as `16Mi`"),
            )),
        },
    };
    size("memory", &given.memory, &mut limits.memory);
    size("moduleSize", &given.module_size, &mut limits.module_size);
    size("keyValueBytes", &given.key_value_bytes, &mut limits.key_value_bytes);
    size("bodyBuffer", &given.body_buffer, &mut limits.body_buffer);
    limits.outbound_calls = given.outbound_calls.unwrap_or(limits.outbound_calls);
    limits.waiting = given.waiting.unwrap_or(limits.waiting);
    limits.log_lines = given.log_lines.unwrap_or(limits.log_lines);
    limits.metric_series = given.metric_series.unwrap_or(limits.metric_series);
    limits
}

fn capabilities(id: &ResourceRef, spec: &WasmPluginSpec, refused: &mut Vec<Problem>) -> Capabilities {
    let Some(given) = &spec.capabilities else { return Capabilities::default() };
    let PluginCapabilities { log, clock, random, metrics, counters, key_value, wasi, ref rate_limits, ref outbound } =
        *given;
    let rate_limits = rate_limits::evaluate(rate_limits, refused);
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
    for (index, reference) in spec.secret_refs.iter().enumerate() {
        match secret_text(view, id, reference) {
            Ok(text) => {
                if let Err(error) = pointer::put(&mut config, &reference.pointer, Value::String(text)) {
                    refused.push(Problem::new("Invalid", format!("spec.secretRefs[{index}].as: {error}")));
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

fn secret_text(view: &View<'_>, id: &ResourceRef, reference: &PluginSecretReference) -> Result<String, Problem> {
    let missing = |message: String| Problem::new("SecretNotFound", message);
    let (name, key) = (&reference.name, &reference.key);
    let Some(secret) = view.secret(&ResourceRef::new(Kind::Secret, id.namespace.clone(), name.as_str())) else {
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
