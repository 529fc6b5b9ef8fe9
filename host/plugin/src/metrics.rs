//! What is counted of plugins. Handles are resolved once for each plugin, so that a call costs one atomic addition.

mod redis;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::AtomicU64},
    time::Duration,
};

use penstock_core::{
    ResourceRef,
    plugin::{Direction, FaultKind},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

pub(crate) use self::redis::RedisOutcome;
use self::redis::{RedisMetrics, RedisSeries};
use crate::contract::types::OutboundError;

/// One call in this many is timed: two readings of the clock and a lock would cost a tenth of the call itself. A prime, because calls come in
/// turns: of a plugin with two hooks an even number would always meet the same one.
pub(crate) const TIMED: u32 = 61;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HookLabels {
    plugin: String,
    hook: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    plugin: String,
    hook: &'static str,
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BodyLabels {
    plugin: String,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutboundLabels {
    plugin: String,
    backend: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    plugin: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ValidationLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ArtifactLabels {
    found: &'static str,
}

/// What came of validating a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validation {
    Passed,
    /// The candidate is at fault.
    Rejected,
    /// The process that validates came to no end.
    Failed,
}

/// Where compiled code was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    InMemory,
    OnDisk,
    /// It was compiled.
    Nowhere,
}

/// All families of this crate. A plugin's series go when nobody uses the plugin any more.
pub(crate) struct PluginMetrics {
    calls: Family<HookLabels, Counter>,
    faults: Family<FaultLabels, Counter>,
    body_bytes: Family<BodyLabels, Counter>,
    seconds: Family<HookLabels, Histogram, fn() -> Histogram>,
    cpu: Family<PluginLabels, Counter<f64, AtomicU64>>,
    revisions: Family<ResultLabels, Counter>,
    instances: Family<PluginLabels, Gauge>,
    instantiations: Family<PluginLabels, Counter>,
    outbound: Family<OutboundLabels, Counter>,
    redis: RedisMetrics,
    compile: Histogram,
    validation: Family<ValidationLabels, Histogram, fn() -> Histogram>,
    artifacts: Family<ArtifactLabels, Counter>,
    plugins: Mutex<HashMap<ResourceRef, Weak<CallMetrics>>>,
}

impl PluginMetrics {
    /// Make the families and register them, with `penstock_plugin_` in their names.
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            calls: Family::default(),
            faults: Family::default(),
            body_bytes: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(250e-9, 4.0, 10))),
            cpu: Family::default(),
            revisions: Family::default(),
            instances: Family::default(),
            instantiations: Family::default(),
            outbound: Family::default(),
            redis: RedisMetrics::register(registry),
            compile: Histogram::new(exponential_buckets(0.004, 2.0, 12)),
            validation: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.004, 2.0, 16))),
            artifacts: Family::default(),
            plugins: Mutex::default(),
        };
        registry.register("penstock_plugin_calls", "Hooks called", metrics.calls.clone());
        registry.register("penstock_plugin_faults", "Hooks that did not answer properly", metrics.faults.clone());
        registry.register(
            "penstock_plugin_body_bytes",
            "Bytes of bodies that hooks saw; what a plugin holds back counts each time",
            metrics.body_bytes.clone(),
        );
        registry.register(
            "penstock_plugin_call_seconds",
            "Time in a hook, with copies in and out; of a sample of the calls",
            metrics.seconds.clone(),
        );
        registry.register(
            "penstock_plugin_cpu_seconds",
            "CPU time of hooks, counted in ticks of a millisecond: right over many calls",
            metrics.cpu.clone(),
        );
        registry.register("penstock_plugin_revisions", "Candidates by outcome", metrics.revisions.clone());
        registry.register("penstock_plugin_instances", "Live instances", metrics.instances.clone());
        registry.register(
            "penstock_plugin_instantiations",
            "Instances that were made; many more than faults are bursts, or memory that grows",
            metrics.instantiations.clone(),
        );
        registry.register(
            "penstock_plugin_outbound_calls",
            "Calls of backends by plugins; without a backend those of names that were not granted",
            metrics.outbound.clone(),
        );
        registry.register("penstock_plugin_compile_seconds", "Time to compile a module", metrics.compile.clone());
        registry.register(
            "penstock_plugin_validation_seconds",
            "Time to validate a candidate, with compiling where that was needed, by outcome",
            metrics.validation.clone(),
        );
        registry.register(
            "penstock_plugin_artifacts",
            "Compiled modules that were needed, by where they were found",
            metrics.artifacts.clone(),
        );
        Arc::new(metrics)
    }

    /// The series of one plugin.
    pub(crate) fn plugin(self: &Arc<Self>, plugin: &ResourceRef) -> Arc<CallMetrics> {
        let mut plugins = self.plugins();
        if let Some(metrics) = plugins.get(plugin).and_then(Weak::upgrade) {
            return metrics;
        }
        let metrics = Arc::new(CallMetrics::new(self, plugin));
        plugins.insert(plugin.clone(), Arc::downgrade(&metrics));
        metrics
    }

    /// A module was compiled.
    pub(crate) fn compiled(&self, time: Duration) {
        self.compile.observe(time.as_secs_f64());
    }

    /// A candidate was validated.
    pub(crate) fn validated(&self, outcome: Validation, time: Duration) {
        let outcome = match outcome {
            Validation::Passed => "passed",
            Validation::Rejected => "rejected",
            Validation::Failed => "failed",
        };
        self.validation.get_or_create(&ValidationLabels { outcome }).observe(time.as_secs_f64());
    }

    /// A compiled module was needed.
    pub(crate) fn found(&self, found: Found) {
        let found = match found {
            Found::InMemory => "memory",
            Found::OnDisk => "disk",
            Found::Nowhere => "nowhere",
        };
        self.artifacts.get_or_create(&ArtifactLabels { found }).inc();
    }

    fn plugins(&self) -> MutexGuard<'_, HashMap<ResourceRef, Weak<CallMetrics>>> {
        // The map is whole between any two operations on it, so a panic elsewhere does not spoil it.
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which hook a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// The constructor of an exchange.
    Begin,
    Request,
    RequestBody,
    RequestTrailers,
    Response,
    ResponseBody,
    ResponseTrailers,
    End,
    /// That of route plugins.
    Choose,
}

impl Hook {
    const ALL: [Self; 9] = [
        Self::Begin,
        Self::Request,
        Self::RequestBody,
        Self::RequestTrailers,
        Self::Response,
        Self::ResponseBody,
        Self::ResponseTrailers,
        Self::End,
        Self::Choose,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Request => "request",
            Self::RequestBody => "request_body",
            Self::RequestTrailers => "request_trailers",
            Self::Response => "response",
            Self::ResponseBody => "response_body",
            Self::ResponseTrailers => "response_trailers",
            Self::End => "end",
            Self::Choose => "choose",
        }
    }
}

/// Kinds of faults.
pub(crate) const FAULTS: [FaultKind; 7] = [
    FaultKind::Trap,
    FaultKind::Deadline,
    FaultKind::Memory,
    FaultKind::InvalidAnswer,
    FaultKind::Unavailable,
    FaultKind::Overloaded,
    FaultKind::Lost,
];

/// Outcomes of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Compiled or taken from the cache, validated, ready.
    Ready,
    /// Refused.
    Rejected,
}

impl Outcome {
    const ALL: [Self; 2] = [Self::Ready, Self::Rejected];

    fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Rejected => "rejected",
        }
    }
}

/// What came of a call of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OutboundOutcome {
    /// An answer, whatever its status.
    Answered,
    UnknownBackend,
    InvalidRequest,
    Timeout,
    Connect,
    TooLarge,
    Quota,
    Protocol,
}

impl OutboundOutcome {
    pub(crate) fn of<T>(answer: &Result<T, OutboundError>) -> Self {
        match answer {
            Ok(_) => Self::Answered,
            Err(OutboundError::UnknownBackend(_)) => Self::UnknownBackend,
            Err(OutboundError::InvalidRequest(_)) => Self::InvalidRequest,
            Err(OutboundError::Timeout) => Self::Timeout,
            Err(OutboundError::Connect(_)) => Self::Connect,
            Err(OutboundError::TooLarge(_)) => Self::TooLarge,
            Err(OutboundError::Quota) => Self::Quota,
            Err(OutboundError::Protocol(_)) => Self::Protocol,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::UnknownBackend => "unknown_backend",
            Self::InvalidRequest => "invalid_request",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::TooLarge => "too_large",
            Self::Quota => "quota",
            Self::Protocol => "protocol",
        }
    }
}

/// The series of one plugin.
pub(crate) struct CallMetrics {
    families: Arc<PluginMetrics>,
    plugin: ResourceRef,
    label: Arc<str>,
    /// Made when they are first needed: a policy on headers has two of the nine.
    calls: [OnceLock<Counter>; Hook::ALL.len()],
    seconds: [OnceLock<Histogram>; Hook::ALL.len()],
    body_bytes: [OnceLock<Counter>; 2],
    /// Which series of outbound calls there are: they go with the plugin.
    outbound: Mutex<HashSet<OutboundLabels>>,
    redis: RedisSeries,
    cpu: Counter<f64, AtomicU64>,
    revisions: [Counter; 2],
    instances: Gauge,
    instantiations: Counter,
}

impl CallMetrics {
    fn new(families: &Arc<PluginMetrics>, plugin: &ResourceRef) -> Self {
        let label = plugin.full_name();
        Self {
            calls: Default::default(),
            seconds: Default::default(),
            body_bytes: Default::default(),
            outbound: Mutex::default(),
            redis: RedisSeries::default(),
            revisions: Outcome::ALL
                .map(|outcome| families.revisions.get_or_create_owned(&outcome_labels(&label, outcome))),
            cpu: families.cpu.get_or_create_owned(&PluginLabels { plugin: label.clone() }),
            instances: families.instances.get_or_create_owned(&PluginLabels { plugin: label.clone() }),
            instantiations: families.instantiations.get_or_create_owned(&PluginLabels { plugin: label.clone() }),
            families: Arc::clone(families),
            plugin: plugin.clone(),
            label: label.into(),
        }
    }

    /// `namespace/name`.
    pub(crate) fn label(&self) -> &Arc<str> {
        &self.label
    }

    pub(crate) fn called(&self, hook: Hook) {
        let made = || self.families.calls.get_or_create_owned(&self.hook_labels(hook));
        self.calls[hook as usize].get_or_init(made).inc();
    }

    pub(crate) fn took(&self, hook: Hook, time: Duration) {
        let made = || self.families.seconds.get_or_create_owned(&self.hook_labels(hook));
        self.seconds[hook as usize].get_or_init(made).observe(time.as_secs_f64());
    }

    /// A hook used so much CPU time, as far as it saw ticks: nearly none does.
    pub(crate) fn used(&self, cpu_time: Duration) {
        if !cpu_time.is_zero() {
            self.cpu.inc_by(cpu_time.as_secs_f64());
        }
    }

    /// Faults are rare, so they are looked up.
    pub(crate) fn faulted(&self, hook: Hook, kind: FaultKind) {
        self.families.faults.get_or_create(&fault_labels(&self.label, hook, kind)).inc();
    }

    /// A backend was called. Such calls take their time, so they are looked up.
    pub(crate) fn outbound(&self, backend: &str, outcome: OutboundOutcome) {
        let labels =
            OutboundLabels { plugin: self.label.to_string(), backend: backend.into(), outcome: outcome.label() };
        self.families.outbound.get_or_create(&labels).inc();
        self.outbound.lock().unwrap_or_else(PoisonError::into_inner).insert(labels);
    }

    /// Redis was asked for a decision of a bucket.
    pub(crate) fn redis(&self, bucket: &str, outcome: RedisOutcome, time: Duration) {
        self.families.redis.asked(&self.redis, (&self.label, bucket), outcome, time);
    }

    /// A hook on a body saw so many bytes.
    pub(crate) fn saw(&self, direction: Direction, bytes: usize) {
        let made = || self.families.body_bytes.get_or_create_owned(&body_labels(&self.label, direction));
        self.body_bytes[direction as usize].get_or_init(made).inc_by(bytes as u64);
    }

    fn hook_labels(&self, hook: Hook) -> HookLabels {
        HookLabels { plugin: self.label.to_string(), hook: hook.label() }
    }

    pub(crate) fn candidate(&self, outcome: Outcome) {
        self.revisions[outcome as usize].inc();
    }

    /// Count an instance for as long as the guard lives.
    pub(crate) fn instance(self: &Arc<Self>) -> Counted {
        self.instances.inc();
        self.instantiations.inc();
        Counted(Arc::clone(self))
    }
}

fn fault_labels(plugin: &str, hook: Hook, kind: FaultKind) -> FaultLabels {
    FaultLabels { plugin: plugin.into(), hook: hook.label(), kind: kind.to_string() }
}

fn body_labels(plugin: &str, direction: Direction) -> BodyLabels {
    let direction = match direction {
        Direction::Request => "request",
        Direction::Response => "response",
    };
    BodyLabels { plugin: plugin.into(), direction }
}

fn outcome_labels(plugin: &str, outcome: Outcome) -> ResultLabels {
    ResultLabels { plugin: plugin.into(), result: outcome.label() }
}

/// The series go with the plugin, unless it came back in the meantime: then they are counted on, by the newer handles.
impl Drop for CallMetrics {
    fn drop(&mut self) {
        let mut plugins = self.families.plugins();
        let mine = |known: &Weak<Self>| std::ptr::eq(known.as_ptr(), self);
        if !plugins.get(&self.plugin).is_some_and(mine) {
            return;
        }
        plugins.remove(&self.plugin);
        let plugin = self.label.to_string();
        for hook in Hook::ALL {
            let labels = HookLabels { plugin: plugin.clone(), hook: hook.label() };
            self.families.calls.remove(&labels);
            self.families.seconds.remove(&labels);
            for kind in FAULTS {
                self.families.faults.remove(&fault_labels(&plugin, hook, kind));
            }
        }
        for direction in [Direction::Request, Direction::Response] {
            self.families.body_bytes.remove(&body_labels(&plugin, direction));
        }
        for labels in self.outbound.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            self.families.outbound.remove(&labels);
        }
        self.families.redis.forget(&self.redis);
        for outcome in Outcome::ALL {
            self.families.revisions.remove(&outcome_labels(&plugin, outcome));
        }
        let labels = PluginLabels { plugin };
        self.families.cpu.remove(&labels);
        self.families.instances.remove(&labels);
        self.families.instantiations.remove(&labels);
    }
}

/// One live instance.
pub(crate) struct Counted(Arc<CallMetrics>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.instances.dec();
    }
}

#[cfg(test)]
mod tests {
    use penstock_core::Kind;
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn series_live_as_long_as_the_plugin() {
        let mut registry = Registry::default();
        let metrics = PluginMetrics::register(&mut registry);
        let plugin = ResourceRef::new(Kind::WasmPlugin, "default", "a");
        let first = metrics.plugin(&plugin);
        first.called(Hook::Request);
        first.faulted(Hook::Response, FaultKind::Deadline);
        first.saw(Direction::Request, 7);
        first.took(Hook::Response, Duration::from_micros(1));
        let instance = first.instance();
        let shown = text(&registry);
        for line in [
            r#"penstock_plugin_calls_total{plugin="default/a",hook="request"} 1"#,
            r#"penstock_plugin_faults_total{plugin="default/a",hook="response",kind="deadline"} 1"#,
            r#"penstock_plugin_body_bytes_total{plugin="default/a",direction="request"} 7"#,
            r#"penstock_plugin_call_seconds_count{plugin="default/a",hook="response"} 1"#,
            r#"penstock_plugin_instances{plugin="default/a"} 1"#,
        ] {
            assert!(shown.contains(line), "{line} in\n{shown}");
        }
        drop(instance);
        assert!(text(&registry).contains(r#"penstock_plugin_instances{plugin="default/a"} 0"#));

        let second = metrics.plugin(&plugin);
        drop(first);
        second.called(Hook::Request);
        assert!(text(&registry).contains(r#"penstock_plugin_calls_total{plugin="default/a",hook="request"} 2"#));
        drop(second);
        assert!(!text(&registry).contains("default/a"), "{}", text(&registry));
    }
}
