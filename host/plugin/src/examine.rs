//! The way of a candidate from bytes to a template of instances. Every step may refuse it; each refusal says why in one sentence.
//!
//! ```text
//! static check ─► compile (or cache) ─► link ─► instantiate ─► describe ─► schema ─► configure ─► plan ─► self-test ─► samples ─► checks
//! ```
//!
//! The steps run in processes of their own ([`crate::validator`]); [`OutOfProcess`] asks for them, and makes a template of what comes back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use penstock_core::plugin::{FaultKind, PluginSpec, Rejection};
use wasmtime::{Engine, component::Component};

use crate::{
    artifact::{self, ArtifactCache},
    capability::Stores,
    checks,
    config::{self, Problems},
    contract::types::{Manifest, Plan as RawPlan},
    engine::TickingEngine,
    hooks::HookContext,
    imports::{self, Purpose},
    instance::{Instance, InstanceState, InstantiateError, Template, TemplateError, World},
    metrics::{PluginMetrics, Validation},
    module::{Digest, Module},
    plan::Plan,
    reason::{self, Step, faulted, rejection},
    revision::RevisionKey,
    samples,
    static_check::{self, Imports},
    validator::{Findings, Validator},
};

/// How often a candidate may run the samples, and its checks, before it is refused for the time that it takes: each time in a new instance. What code takes
/// when it runs first, on a machine that is busy with something else, is partly chance.
pub(crate) const SAMPLE_ATTEMPTS: usize = 3;

/// A candidate that passed.
pub(crate) struct Examined {
    pub(crate) manifest: Manifest,
    pub(crate) plan: Plan,
    pub(crate) imports: Imports,
    pub(crate) template: Template,
}

/// Why something is examined, and how long anybody wants to know.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    /// It has served before. What it is must be found out, and not whether it is any good: a busy machine, on which samples take too long,
    /// is no reason to serve nothing.
    pub(crate) has_served: bool,
    /// Asked now and then: a candidate that was superseded need not keep a process.
    pub(crate) is_wanted: &'a dyn Fn() -> bool,
}

impl Errand<'static> {
    /// A candidate, whatever happens meanwhile.
    pub(crate) const CANDIDATE: Self = Self { has_served: false, is_wanted: &|| true };
}

/// Where candidates are examined. Blocks for as long as it takes: never call it on a worker.
pub(crate) trait Examine: Send + Sync {
    /// Examine `module` with the configuration, limits and capabilities of `spec`.
    fn examine(&self, module: &Module, spec: &PluginSpec, errand: Errand<'_>) -> Result<Examined, Rejection>;

    /// The first half of that: what `module` says of itself, whatever its configuration.
    fn describe(&self, module: &Module, spec: &PluginSpec) -> Result<Manifest, Rejection>;
}

/// Examines in processes of their own. The thread that asks waits for them.
pub(crate) struct OutOfProcess {
    pub(crate) engine: TickingEngine,
    pub(crate) artifacts: ArtifactCache,
    pub(crate) validator: Validator,
    pub(crate) metrics: Arc<PluginMetrics>,
}

impl Examine for OutOfProcess {
    fn examine(&self, module: &Module, spec: &PluginSpec, errand: Errand<'_>) -> Result<Examined, Rejection> {
        let start = Instant::now();
        let mut result = self.examine_untimed(module, spec, errand);
        self.count(result.as_ref().err(), start.elapsed());
        if let Err(rejection) = &mut result {
            // What a plugin said becomes status and log.
            rejection.message = spec.without_secrets(std::mem::take(&mut rejection.message));
        }
        result
    }

    fn describe(&self, module: &Module, spec: &PluginSpec) -> Result<Manifest, Rejection> {
        let component = self.component(module, spec, Errand::CANDIDATE)?;
        let manifest = self.validator.describe(module, &artifact::code(&component)?, spec)?;
        check_manifest(&manifest)?;
        Ok(manifest)
    }
}

impl OutOfProcess {
    fn examine_untimed(&self, module: &Module, spec: &PluginSpec, errand: Errand<'_>) -> Result<Examined, Rejection> {
        let component = self.component(module, spec, errand)?;
        let code = artifact::code(&component)?;
        let Findings { manifest, plan, imports } = self.validator.examine(module, &code, spec, errand)?;
        // What comes from there is not believed: it must pass here as well.
        check_manifest(&manifest)?;
        let template = template(&self.engine, &component, spec, Purpose::Traffic)?;
        let plan = check_plan(plan, template.world(), spec)?;
        Ok(Examined { manifest, plan, imports, template })
    }

    fn component(&self, module: &Module, spec: &PluginSpec, errand: Errand<'_>) -> Result<Arc<Component>, Rejection> {
        self.artifacts.component(module.digest, || self.validator.compile(module, spec, errand))
    }

    fn count(&self, rejection: Option<&Rejection>, time: Duration) {
        let outcome = match rejection {
            None => Validation::Passed,
            Some(rejection) if reason::is_of_validator(rejection.reason) => Validation::Failed,
            Some(_) => Validation::Rejected,
        };
        self.metrics.validated(outcome, time);
    }
}

/// In the process that compiles: the code of `module`.
pub(crate) fn compile(engine: &Engine, module: &[u8], spec: &PluginSpec) -> Result<Vec<u8>, Rejection> {
    static_check::check(module, &spec.capabilities)?;
    engine.precompile_component(module).map_err(|error| {
        if is_out_of_memory(&error) {
            return rejection(
                reason::VALIDATION_MEMORY_LIMIT,
                "compiling the module takes more memory than validation may",
            );
        }
        rejection(reason::COMPILE_FAILED, format!("the component cannot be compiled: {}", error.root_cause()))
    })
}

/// In the process that runs: what a module says of itself.
pub(crate) fn describe_artifact(
    engine: &TickingEngine,
    module: &[u8],
    artifact: &[u8],
    spec: &PluginSpec,
) -> Result<Manifest, Rejection> {
    static_check::check(module, &spec.capabilities)?;
    let template =
        template(engine, &Arc::new(artifact::handed(engine.engine(), artifact)?), spec, Purpose::Validation)?;
    describe(&mut instantiate(&template, spec)?, spec)
}

/// In the process that runs: everything that can be found out without traffic, and of what has served before no more than what it is. `config`
/// is the text of the configuration.
pub(crate) fn examine_artifact(
    engine: &TickingEngine,
    module: &[u8],
    artifact: &[u8],
    spec: &PluginSpec,
    config: &str,
    has_served: bool,
) -> Result<Findings, Rejection> {
    let imports = static_check::check(module, &spec.capabilities)?;
    let template =
        template(engine, &Arc::new(artifact::handed(engine.engine(), artifact)?), spec, Purpose::Validation)?;
    let mut instance = instantiate(&template, spec)?;
    let manifest = describe(&mut instance, spec)?;
    check_config(&manifest, spec)?;
    let raw = configure(&mut instance, spec, config)?;
    let plan = check_plan(raw.clone(), template.world(), spec)?;
    if has_served {
        return Ok(Findings { manifest, plan: raw, imports });
    }
    self_test(&mut instance, spec)?;
    let hook = HookContext { plan: &plan, imports, limits: &spec.limits };
    for attempt in 1.. {
        match samples::run(&mut instance, hook) {
            Ok(()) => break,
            Err((_, fault)) if fault.kind == FaultKind::Deadline && attempt < SAMPLE_ATTEMPTS => {
                instance = instantiate(&template, spec)?;
                configure(&mut instance, spec, config)?;
            }
            Err((step, fault)) => return Err(faulted(step, &fault)),
        }
    }
    drop(instance);
    if !spec.rollout.checks.is_empty() {
        let key = RevisionKey::with_config(spec, Digest::of(module), config.into());
        let examined = || {
            let plan = check_plan(raw.clone(), template.world(), spec)?;
            Ok(Examined { manifest: manifest.clone(), plan, imports, template: template.clone() })
        };
        checks::run(spec, &key, examined)?;
    }
    Ok(Findings { manifest, plan: raw, imports })
}

fn template(
    engine: &TickingEngine,
    component: &Arc<Component>,
    spec: &PluginSpec,
    purpose: Purpose,
) -> Result<Template, Rejection> {
    let mismatch = |message: String| rejection(reason::CONTRACT_MISMATCH, message);
    let linker = imports::linker(engine.engine(), &spec.capabilities, purpose)
        .map_err(|error| rejection(reason::INTERNAL, error.to_string()))?;
    let may_wait = |import: &str| imports::may_wait(import, &spec.capabilities, purpose);
    Template::new(engine.clone(), component, &linker, may_wait).map_err(|error| match error {
        TemplateError::Import(error) => mismatch(format!("an import does not fit the contract: {error:#}")),
        TemplateError::Export { .. } => mismatch(error.to_string()),
    })
}

fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    let is_errno = |error: &std::io::Error| error.raw_os_error() == Some(libc::ENOMEM);
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(is_errno)
            || cause.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
            || cause.is::<wasmtime::error::OutOfMemory>()
    })
}

fn instantiate(template: &Template, spec: &PluginSpec) -> Result<Instance, Rejection> {
    let plugin = spec.plugin.full_name();
    let state = InstanceState::new(plugin.into(), &spec.capabilities, &spec.limits, Arc::new(Stores::scratch(spec)));
    template.instantiate(state, spec.limits.configure_time).map_err(|error| match error {
        InstantiateError::Fault(fault) => faulted(Step::Start, &fault),
        InstantiateError::Export(error) => {
            rejection(reason::CONTRACT_MISMATCH, format!("an export does not fit the contract: {error:#}"))
        }
    })
}

fn describe(instance: &mut Instance, spec: &PluginSpec) -> Result<Manifest, Rejection> {
    let manifest = instance.describe(spec.limits.configure_time).map_err(|fault| faulted(Step::Describe, &fault))?;
    check_manifest(&manifest)?;
    Ok(manifest)
}

fn check_manifest(manifest: &Manifest) -> Result<(), Rejection> {
    let wrong = |message| Err(rejection(reason::INVALID_MANIFEST, message));
    if !is_plugin_name(&manifest.name) {
        return wrong(format!(
            "the manifest's name {:?} is not 1–63 lower case letters, digits and `-`",
            shorten(&manifest.name)
        ));
    }
    if !is_semantic_version(&manifest.version) {
        return wrong(format!(
            "the manifest's version {:?} is no semantic version, such as 1.2.3",
            shorten(&manifest.version)
        ));
    }
    Ok(())
}

fn is_plugin_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Three numbers, and what may follow them after `-` or `+`.
fn is_semantic_version(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let rest = &version[core.len()..];
    crate::contract::Version::parse(core).is_some()
        && version.len() <= 64
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte))
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

fn check_config(manifest: &Manifest, spec: &PluginSpec) -> Result<(), Rejection> {
    let empty = serde_json::json!({});
    let config = if spec.config.is_null() { &empty } else { &*spec.config };
    let problems = config::check(&manifest.config_schema, config)
        .map_err(|error| rejection(reason::INVALID_MANIFEST, error.to_string()))?;
    if problems.is_empty() { Ok(()) } else { Err(invalid_config(&problems)) }
}

fn configure(instance: &mut Instance, spec: &PluginSpec, config: &str) -> Result<RawPlan, Rejection> {
    let answer =
        instance.configure(config, spec.limits.configure_time).map_err(|fault| faulted(Step::Configure, &fault))?;
    answer.map_err(|problems| invalid_config(&problems.into()))
}

fn check_plan(raw: RawPlan, world: World, spec: &PluginSpec) -> Result<Plan, Rejection> {
    Plan::check(raw, world, &spec.limits)
        .map_err(|error| rejection(reason::INVALID_PLAN, format!("the plan breaks the contract: {error}")))
}

fn invalid_config(problems: &Problems) -> Rejection {
    rejection(reason::INVALID_CONFIG, format!("spec.config: {problems}"))
}

fn self_test(instance: &mut Instance, spec: &PluginSpec) -> Result<(), Rejection> {
    let answer = instance.self_test(spec.limits.configure_time).map_err(|fault| faulted(Step::SelfTest, &fault))?;
    answer.map_err(|text| rejection(reason::SELF_TEST_FAILED, format!("the plugin's self-test failed: {text}")))
}

#[cfg(test)]
mod tests;
