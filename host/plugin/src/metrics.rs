//! What is counted of plugins. Handles are resolved once for each plugin, so that a call costs one atomic addition.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use penstock_core::{ResourceRef, plugin::FaultKind};
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

/// One call in this many is timed: two readings of the clock and a lock would cost a tenth of the call itself.
pub(crate) const TIMED: u32 = 64;

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
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    plugin: String,
    result: &'static str,
}

/// All families of this crate. A plugin's series go when nobody uses the plugin any more.
pub(crate) struct PluginMetrics {
    calls: Family<HookLabels, Counter>,
    faults: Family<FaultLabels, Counter>,
    seconds: Family<HookLabels, Histogram, fn() -> Histogram>,
    revisions: Family<ResultLabels, Counter>,
    instances: Family<PluginLabels, Gauge>,
    compile: Histogram,
    plugins: Mutex<HashMap<ResourceRef, Weak<CallMetrics>>>,
}

impl PluginMetrics {
    /// Make the families and register them, with `penstock_plugin_` in their names.
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            calls: Family::default(),
            faults: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(250e-9, 4.0, 10))),
            revisions: Family::default(),
            instances: Family::default(),
            compile: Histogram::new(exponential_buckets(0.004, 2.0, 12)),
            plugins: Mutex::default(),
        };
        registry.register("penstock_plugin_calls", "Hooks called", metrics.calls.clone());
        registry.register("penstock_plugin_faults", "Hooks that did not answer properly", metrics.faults.clone());
        registry.register(
            "penstock_plugin_call_seconds",
            "Time in a hook, with copies in and out; of a sample of the calls",
            metrics.seconds.clone(),
        );
        registry.register("penstock_plugin_revisions", "Candidates by outcome", metrics.revisions.clone());
        registry.register("penstock_plugin_instances", "Live instances", metrics.instances.clone());
        registry.register("penstock_plugin_compile_seconds", "Time to compile a module", metrics.compile.clone());
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

    fn plugins(&self) -> MutexGuard<'_, HashMap<ResourceRef, Weak<CallMetrics>>> {
        // The map is whole between any two operations on it, so a panic elsewhere does not spoil it.
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which hook a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Request,
    Response,
}

impl Hook {
    const ALL: [Self; 2] = [Self::Request, Self::Response];

    fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// Kinds of faults, in the order of their counters.
const FAULTS: [FaultKind; 5] =
    [FaultKind::Trap, FaultKind::Deadline, FaultKind::Memory, FaultKind::InvalidAnswer, FaultKind::Unavailable];

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

/// The series of one plugin.
pub(crate) struct CallMetrics {
    families: Arc<PluginMetrics>,
    plugin: ResourceRef,
    label: Arc<str>,
    calls: [Counter; 2],
    seconds: [Histogram; 2],
    faults: [Counter; FAULTS.len()],
    revisions: [Counter; 2],
    instances: Gauge,
}

impl CallMetrics {
    fn new(families: &Arc<PluginMetrics>, plugin: &ResourceRef) -> Self {
        let label = format!("{}/{}", plugin.namespace, plugin.name);
        let hook = |hook: Hook| HookLabels { plugin: label.clone(), hook: hook.label() };
        Self {
            calls: Hook::ALL.map(|name| families.calls.get_or_create_owned(&hook(name))),
            seconds: Hook::ALL.map(|name| families.seconds.get_or_create_owned(&hook(name))),
            faults: FAULTS.map(|kind| families.faults.get_or_create_owned(&fault_labels(&label, kind))),
            revisions: Outcome::ALL
                .map(|outcome| families.revisions.get_or_create_owned(&outcome_labels(&label, outcome))),
            instances: families.instances.get_or_create_owned(&PluginLabels { plugin: label.clone() }),
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
        self.calls[hook as usize].inc();
    }

    pub(crate) fn took(&self, hook: Hook, time: Duration) {
        self.seconds[hook as usize].observe(time.as_secs_f64());
    }

    pub(crate) fn faulted(&self, kind: FaultKind) {
        if let Some(index) = FAULTS.iter().position(|of| *of == kind) {
            self.faults[index].inc();
        }
    }

    pub(crate) fn candidate(&self, outcome: Outcome) {
        self.revisions[outcome as usize].inc();
    }

    /// Count an instance for as long as the guard lives.
    pub(crate) fn instance(self: &Arc<Self>) -> Counted {
        self.instances.inc();
        Counted(Arc::clone(self))
    }
}

fn fault_labels(plugin: &str, kind: FaultKind) -> FaultLabels {
    FaultLabels { plugin: plugin.into(), kind: kind.to_string() }
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
        }
        for kind in FAULTS {
            self.families.faults.remove(&fault_labels(&plugin, kind));
        }
        for outcome in Outcome::ALL {
            self.families.revisions.remove(&outcome_labels(&plugin, outcome));
        }
        self.families.instances.remove(&PluginLabels { plugin });
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
        first.faulted(FaultKind::Deadline);
        first.took(Hook::Response, Duration::from_micros(1));
        let instance = first.instance();
        let shown = text(&registry);
        for line in [
            r#"penstock_plugin_calls_total{plugin="default/a",hook="request"} 1"#,
            r#"penstock_plugin_faults_total{plugin="default/a",kind="deadline"} 1"#,
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
