//! The way of a candidate from bytes to a template of instances. Every step may refuse it; each refusal says why in one sentence.
//!
//! ```text
//! static check ─► compile (or cache) ─► link ─► instantiate ─► describe ─► schema ─► configure ─► plan ─► self-test ─► samples
//! ```
//!
//! [`Examine`] is where the work happens. In this process today; code that compiles what strangers wrote deserves a process of its own,
//! which will be another implementation that answers with the same values.

use std::sync::Arc;

use penstock_core::plugin::{PluginSpec, Rejection};

use crate::{
    artifact::ArtifactCache,
    capability::Stores,
    config::{self, Problems},
    contract::types::{Manifest, Plan as RawPlan},
    engine::TickingEngine,
    hooks::HookContext,
    imports,
    instance::{Instance, InstanceState, InstantiateError, Template, TemplateError, World},
    module::Module,
    plan::Plan,
    reason::{self, Step, faulted, rejection},
    revision::config_text,
    samples,
    static_check::{self, Imports},
};

/// A candidate that passed.
pub(crate) struct Examined {
    pub(crate) manifest: Manifest,
    pub(crate) plan: Plan,
    pub(crate) imports: Imports,
    pub(crate) template: Template,
}

/// Where candidates are examined. Blocks for as long as it takes: never call it on a worker.
pub(crate) trait Examine: Send + Sync {
    /// Examine `module` with the configuration, limits and capabilities of `spec`.
    fn examine(&self, module: &Module, spec: &PluginSpec) -> Result<Examined, Rejection>;

    /// The first half of that: what `module` says of itself, whatever its configuration.
    fn describe(&self, module: &Module, spec: &PluginSpec) -> Result<Manifest, Rejection>;
}

/// Examines in this process, on the thread that asks.
pub(crate) struct InProcess {
    pub(crate) engine: TickingEngine,
    pub(crate) artifacts: ArtifactCache,
}

impl Examine for InProcess {
    fn examine(&self, module: &Module, spec: &PluginSpec) -> Result<Examined, Rejection> {
        let imports = static_check::check(&module.bytes, &spec.capabilities)?;
        let template = self.template(module, spec)?;
        let mut instance = instantiate(&template, spec)?;
        let manifest = describe(&mut instance, spec)?;
        check_config(&manifest, spec)?;
        let plan = configure(&mut instance, template.world(), spec)?;
        self_test(&mut instance, spec)?;
        let hook = HookContext { plan: &plan, imports, limits: &spec.limits };
        samples::run(&mut instance, hook).map_err(|(step, fault)| faulted(step, &fault))?;
        Ok(Examined { manifest, plan, imports, template })
    }

    fn describe(&self, module: &Module, spec: &PluginSpec) -> Result<Manifest, Rejection> {
        static_check::check(&module.bytes, &spec.capabilities)?;
        describe(&mut instantiate(&self.template(module, spec)?, spec)?, spec)
    }
}

impl InProcess {
    fn template(&self, module: &Module, spec: &PluginSpec) -> Result<Template, Rejection> {
        let component = self.artifacts.component(module).map_err(|error| {
            rejection(reason::COMPILE_FAILED, format!("the component cannot be compiled: {}", error.root_cause()))
        })?;
        let mismatch = |message: String| rejection(reason::CONTRACT_MISMATCH, message);
        let linker = imports::linker(self.engine.engine(), &spec.capabilities)
            .map_err(|error| rejection(reason::INTERNAL, error.to_string()))?;
        Template::new(self.engine.clone(), &component, &linker).map_err(|error| match error {
            TemplateError::Import(error) => mismatch(format!("an import does not fit the contract: {error:#}")),
            TemplateError::Export { .. } => mismatch(error.to_string()),
        })
    }
}

fn instantiate(template: &Template, spec: &PluginSpec) -> Result<Instance, Rejection> {
    let plugin = format!("{}/{}", spec.plugin.namespace, spec.plugin.name);
    let state = InstanceState::new(plugin.into(), &spec.limits, Arc::new(Stores::scratch(spec)));
    template.instantiate(state, spec.limits.configure_time).map_err(|error| match error {
        InstantiateError::Fault(fault) => faulted(Step::Start, &fault),
        InstantiateError::Export(error) => {
            rejection(reason::CONTRACT_MISMATCH, format!("an export does not fit the contract: {error:#}"))
        }
    })
}

fn describe(instance: &mut Instance, spec: &PluginSpec) -> Result<Manifest, Rejection> {
    let manifest = instance.describe(spec.limits.configure_time).map_err(|fault| faulted(Step::Describe, &fault))?;
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
    Ok(manifest)
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

fn configure(instance: &mut Instance, world: World, spec: &PluginSpec) -> Result<Plan, Rejection> {
    let answer = instance
        .configure(&config_text(&spec.config), spec.limits.configure_time)
        .map_err(|fault| faulted(Step::Configure, &fault))?;
    let raw: RawPlan = answer.map_err(|problems| invalid_config(&problems.into()))?;
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
