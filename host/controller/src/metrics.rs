//! What the controller counts.

use std::{collections::BTreeMap, time::Duration};

use penstock_core::Kind;
use penstock_translate::{Resources, Statuses};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// In seconds: one route of a small world takes tens of microseconds, everything in a large one half a second.
const TRANSLATION_BUCKETS: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0];

/// Kinds that belong to some installation: these are counted also where there are none.
const OWNED: [Kind; 8] = [
    Kind::GatewayClass,
    Kind::Gateway,
    Kind::ListenerSet,
    Kind::HTTPRoute,
    Kind::GRPCRoute,
    Kind::Ingress,
    Kind::BackendTLSPolicy,
    Kind::WasmPlugin,
];

/// Metrics of the controller. Clones count into the same numbers.
#[derive(Debug, Clone)]
pub struct ControllerMetrics {
    reloads: Family<ReloadLabels, Counter>,
    problems: Gauge,
    resources: Family<KindNameLabels, Gauge>,
    translations: Histogram,
    snapshots: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: ReloadResult,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are lower case")]
enum ReloadResult {
    ok,
    problems,
}

/// Metrics of a cluster as a source and as a place for statuses. Clones count into the same numbers.
#[derive(Debug, Clone)]
pub struct ClusterMetrics {
    writes: Family<WriteLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    contests: Family<KindNameLabels, Counter>,
    watch_errors: Family<KindNameLabels, Counter>,
    unreadable: Family<KindNameLabels, Counter>,
    leader: Gauge,
    upkeep: Family<UpkeepLabels, Counter>,
    records: Family<RecordLabels, Counter>,
    events: Family<ReasonLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: String,
    reason: WriteReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    kind: String,
    conflict: Conflict,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindNameLabels {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpkeepLabels {
    kind: String,
    action: UpkeepAction,
    result: UpkeepResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordLabels {
    action: UpkeepAction,
    result: UpkeepResult,
}

/// What was done with an object that belongs to a Gateway or a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are lower case")]
pub(crate) enum UpkeepAction {
    apply,
    create,
    delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are lower case")]
enum UpkeepResult {
    ok,
    failed,
}

/// Why a status was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are lower case")]
pub(crate) enum WriteReason {
    /// There is something new to say, or nothing had been said.
    changed,
    /// Somebody else undid what was said.
    restored,
    /// There is nothing to say any more.
    withdrawn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are lower case")]
enum Conflict {
    yes,
    no,
}

impl ClusterMetrics {
    /// New metrics, registered under their names.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            writes: Family::default(),
            failures: Family::default(),
            contests: Family::default(),
            watch_errors: Family::default(),
            unreadable: Family::default(),
            leader: Gauge::default(),
            upkeep: Family::default(),
            records: Family::default(),
            events: Family::default(),
        };
        registry.register("penstock_status_writes", "Statuses written, by why", metrics.writes.clone());
        let help = "Statuses that could not be written; conflicts are harmless";
        registry.register("penstock_status_write_failures", help, metrics.failures.clone());
        let help = "Statuses that somebody else keeps changing; two installations may own the same class";
        registry.register("penstock_status_contests", help, metrics.contests.clone());
        let help = "Interruptions in following a kind; what was known stays in effect";
        registry.register("penstock_watch_errors", help, metrics.watch_errors.clone());
        let help = "Objects that could not be read; an earlier version of them stays in effect";
        registry.register("penstock_unreadable_objects", help, metrics.unreadable.clone());
        let help = "Services and EndpointSlices of Gateways that were created or changed (apply) or deleted";
        registry.register("penstock_gateway_service_writes", help, metrics.upkeep.clone());
        let help =
            "ControllerRevisions with the last good revision of a plugin that were created, or deleted for a newer one";
        registry.register("penstock_plugin_record_writes", help, metrics.records.clone());
        let help = "Events written about WasmPlugins and Ingresses, by their reason";
        registry.register("penstock_events", help, metrics.events.clone());
        registry.register("penstock_leader", "Whether this instance writes statuses", metrics.leader.clone());
        metrics
    }

    pub(crate) fn written(&self, kind: Kind, reason: WriteReason) {
        self.writes.get_or_create(&WriteLabels { kind: kind.to_string(), reason }).inc();
    }

    pub(crate) fn write_failed(&self, kind: Kind, conflict: bool) {
        let conflict = if conflict { Conflict::yes } else { Conflict::no };
        self.failures.get_or_create(&FailureLabels { kind: kind.to_string(), conflict }).inc();
    }

    pub(crate) fn contested(&self, kind: Kind) {
        self.contests.get_or_create(&KindNameLabels { kind: kind.to_string() }).inc();
    }

    pub(crate) fn told(&self, reason: &'static str) {
        self.events.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn kept_up(&self, kind: Kind, action: UpkeepAction, ok: bool) {
        let result = if ok { UpkeepResult::ok } else { UpkeepResult::failed };
        if kind == Kind::ControllerRevision {
            self.records.get_or_create(&RecordLabels { action, result }).inc();
            return;
        }
        self.upkeep.get_or_create(&UpkeepLabels { kind: kind.to_string(), action, result }).inc();
    }

    pub(crate) fn watch_failed(&self, kind: Kind) {
        self.watch_errors.get_or_create(&KindNameLabels { kind: kind.to_string() }).inc();
    }

    pub(crate) fn object_unreadable(&self, kind: Kind) {
        self.unreadable.get_or_create(&KindNameLabels { kind: kind.to_string() }).inc();
    }

    pub(crate) fn leading(&self, leading: bool) {
        self.leader.set(i64::from(leading));
    }
}

impl ControllerMetrics {
    /// New metrics, registered under their names.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reloads: Family::default(),
            problems: Gauge::default(),
            resources: Family::default(),
            translations: Histogram::new(TRANSLATION_BUCKETS),
            snapshots: Counter::default(),
        };
        registry.register("penstock_reloads", "Readings of all resource files", metrics.reloads.clone());
        registry.register("penstock_file_problems", "Faults in resource files", metrics.problems.clone());
        let help = "Resources that this installation owns, and those that others are referred to by";
        registry.register("penstock_resources", help, metrics.resources.clone());
        let help = "Time from a change to the configuration that follows from it";
        registry.register("penstock_translation_seconds", help, metrics.translations.clone());
        registry.register("penstock_snapshots", "Configurations published", metrics.snapshots.clone());
        metrics
    }

    pub(crate) fn reloaded(&self, problems: usize) {
        let result = if problems == 0 { ReloadResult::ok } else { ReloadResult::problems };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
        self.problems.set(problems.try_into().unwrap_or(i64::MAX));
    }

    /// All resources refer to these, whoever owns them.
    pub(crate) fn translated(&self, took: Duration, resources: &Resources) {
        self.translations.observe(took.as_secs_f64());
        let referred = [
            (Kind::ReferenceGrant, resources.reference_grants.len()),
            (Kind::XBackend, resources.x_backends.len()),
            (Kind::Service, resources.services.len()),
            (Kind::Secret, resources.secrets.len()),
            (Kind::ConfigMap, resources.config_maps.len()),
            (Kind::Namespace, resources.namespaces.len()),
        ];
        referred.into_iter().for_each(|(kind, count)| self.count(kind, count));
    }

    /// Of what may be somebody else's, that is counted which has a status of ours.
    pub(crate) fn owned(&self, statuses: &Statuses) {
        let mut counts: BTreeMap<Kind, usize> = OWNED.into_iter().map(|kind| (kind, 0)).collect();
        for id in statuses.keys() {
            *counts.entry(id.kind).or_default() += 1;
        }
        counts.into_iter().for_each(|(kind, count)| self.count(kind, count));
    }

    fn count(&self, kind: Kind, count: usize) {
        let labels = KindNameLabels { kind: kind.to_string() };
        self.resources.get_or_create(&labels).set(count.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn published(&self) {
        self.snapshots.inc();
    }
}
