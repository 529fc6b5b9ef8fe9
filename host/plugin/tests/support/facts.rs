//! A host under test, and what it reports.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use penstock_core::{
    Kind, ResourceRef,
    fact::{Fact, FactSink},
    plugin::{
        ActiveRevision, BodyOverflow, Capabilities, FailurePolicy, ModuleSource, Phase, PluginLimits, PluginSpec,
        PluginState, PolicyCall, Probation, RecordedRevision, Rejection, Rollout,
    },
};
use penstock_plugin_host::{Desired, PluginHost, PluginSettings, validator::ValidatorSettings};
use prometheus_client::{encoding::text::encode, registry::Registry};

/// A hang becomes a failure; no measure of speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The latest state of each plugin, and how many facts there were.
#[derive(Default)]
pub struct Facts {
    states: Mutex<(HashMap<ResourceRef, Arc<PluginState>>, usize)>,
    /// What was told together.
    told: Mutex<Vec<Vec<ResourceRef>>>,
    changed: Condvar,
}

impl FactSink for Facts {
    fn report(&self, fact: Fact) {
        self.report_all(vec![fact]);
    }

    fn report_all(&self, facts: Vec<Fact>) {
        let mut states = self.states.lock().unwrap();
        let mut told = Vec::new();
        for fact in facts {
            let Fact::Plugin(plugin, state) = fact else { panic!("{fact:?}") };
            told.push(plugin.clone());
            states.0.insert(plugin, state);
        }
        self.told.lock().unwrap().push(told);
        states.1 += 1;
        self.changed.notify_all();
    }
}

impl Facts {
    pub fn count(&self) -> usize {
        self.states.lock().unwrap().1
    }

    /// The plugins that were told of together, in order.
    pub fn told(&self) -> Vec<Vec<ResourceRef>> {
        self.told.lock().unwrap().clone()
    }

    /// The latest state.
    pub fn state(&self, plugin: &ResourceRef) -> PluginState {
        self.states.lock().unwrap().0.get(plugin).map(|state| PluginState::clone(state)).unwrap_or_default()
    }

    /// Wait until the state of `plugin` is as wanted.
    pub fn until<T>(&self, plugin: &ResourceRef, wanted: impl Fn(&PluginState) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut states = self.states.lock().unwrap();
        loop {
            if let Some(found) = states.0.get(plugin).and_then(|state| wanted(state)) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain; the last state was {:#?}", states.0.get(plugin));
            states = self.changed.wait_timeout(states, left).unwrap().0;
        }
    }
}

/// For what nobody announces. A hang becomes a failure; no measure of speed.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// With a program that can validate: a test cannot, but its package has one.
pub fn settings() -> PluginSettings {
    let program = env!("CARGO_BIN_EXE_penstock-validator").into();
    let validator = ValidatorSettings { program, arguments: Vec::new(), ..ValidatorSettings::default() };
    PluginSettings { validator, ..PluginSettings::default() }
}

/// A host with its facts and metrics.
pub struct Host {
    pub host: PluginHost,
    pub facts: Arc<Facts>,
    registry: Registry,
}

impl Host {
    pub fn start() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: PluginSettings) -> Self {
        let facts = Arc::new(Facts::default());
        let mut registry = Registry::default();
        let host = PluginHost::start(settings, Arc::clone(&facts) as Arc<dyn FactSink>, &mut registry).unwrap();
        Self { host, facts, registry }
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    /// The value of one series.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Wait until a plugin has so many instances, in use or spare.
    pub fn until_instances(&self, plugin: &str, count: u32) {
        let series = format!(r#"penstock_plugin_instances{{plugin="default/{plugin}"}}"#);
        until(&format!("{plugin} has {count} instances"), || self.metric(&series) >= f64::from(count));
    }

    pub fn apply(&self, specs: &[&PluginSpec]) {
        self.apply_keeping(specs, &[]);
    }

    /// Apply, with plugins whose resources do not say what to run.
    pub fn apply_keeping(&self, specs: &[&PluginSpec], kept: &[ResourceRef]) {
        self.apply_recorded(specs, kept, &[]);
    }

    /// Apply, with what the cluster has on record.
    pub fn apply_recorded(&self, specs: &[&PluginSpec], kept: &[ResourceRef], recorded: &[&RecordedRevision]) {
        let plugins = specs.iter().map(|spec| Arc::new((*spec).clone())).collect();
        let recorded = recorded.iter().map(|recorded| Arc::new((*recorded).clone())).collect();
        self.host.apply(Desired { plugins, kept: kept.to_vec(), recorded });
    }

    /// Apply, and wait until it is active.
    pub fn activate(&self, spec: &PluginSpec) -> ActiveRevision {
        self.apply(&[spec]);
        self.active(spec)
    }

    /// Wait until `spec` is active.
    pub fn active(&self, spec: &PluginSpec) -> ActiveRevision {
        self.facts.until(&spec.plugin, |state| match (&state.active, &state.candidate) {
            (Some(active), None) if active.generation == spec.generation => Some(active.clone()),
            (_, Some(candidate)) if candidate.generation == spec.generation => match &candidate.phase {
                Phase::Rejected(rejection) => panic!("{rejection:?}"),
                _ => None,
            },
            _ => None,
        })
    }

    /// Wait until `spec` is rejected; answers with what is active beside it.
    pub fn rejected(&self, spec: &PluginSpec) -> (Rejection, Option<ActiveRevision>) {
        self.facts.until(&spec.plugin, |state| match &state.candidate {
            Some(candidate) if candidate.generation == spec.generation => {
                candidate.phase.rejection().map(|rejection| (rejection.clone(), state.active.clone()))
            }
            _ => None,
        })
    }
}

pub fn plugin(name: &str) -> ResourceRef {
    ResourceRef::new(Kind::WasmPlugin, "default", name)
}

/// A spec without capabilities, with an inline module.
/// What a hook may take: more than the default, for the host's part of a hook is slow in a build for tests.
const TIME: Duration = Duration::from_millis(200);

pub fn spec(name: &str, module: Vec<u8>) -> PluginSpec {
    PluginSpec {
        plugin: plugin(name),
        generation: 1,
        source: ModuleSource::Inline(Bytes::from(module)),
        config: Arc::new(serde_json::Value::Null),
        secrets: vec![],
        capabilities: Capabilities::default(),
        limits: PluginLimits { hook_time: TIME, configure_time: TIME, ..PluginLimits::default() },
        rollout: Rollout {
            probation: Probation { period: Duration::ZERO, ..Probation::default() },
            ..Rollout::default()
        },
    }
}

pub fn call(active: &ActiveRevision) -> PolicyCall {
    PolicyCall {
        outbound: Arc::default(),
        redis: Arc::default(),
        plugin: plugin("any"),
        revision: active.revision.clone(),
        failure_policy: FailurePolicy::Closed,
        body_overflow: BodyOverflow::default(),
        hooks: active.hooks,
    }
}
