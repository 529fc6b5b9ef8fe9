//! `metrics`: what plugins count, exported beside what the gateway counts.
//!
//! A metric is known by value: instances and revisions that register the same one add to the same series, and a revision that registers another
//! one under an old name gets series of its own. Series live as long as a revision that registered them.
//!
//! Everything is bounded, because whatever a plugin counts by, some client will send a million of: metrics of a plugin, labels, bytes of a
//! value, series of a metric, and lines of all of them together. What is beyond is counted under `other`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        counter::Counter,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
};
use rustc_hash::FxHashMap;

/// What stands before the names of the gateway's own metrics of plugins, and before those of plugins themselves.
const PREFIX: &str = "penstock_plugin_";
/// The gateway's own, without it: a plugin named `body` has no metric `bytes`.
const OWN: [&str; 26] = [
    "artifacts",
    "body_bytes",
    "call_seconds",
    "calls",
    "compile_seconds",
    "cpu_seconds",
    "faults",
    "fetch_bytes",
    "fetch_seconds",
    "fetches",
    "instances",
    "instantiations",
    "last_good_bytes",
    "last_good_commits",
    "last_good_damaged_indexes",
    "metrics_left_out",
    "on_probation",
    "outbound_calls",
    "rate_limit_store_requests",
    "rate_limit_store_seconds",
    "recalls",
    "record_writes",
    "restores",
    "revisions",
    "rollbacks",
    "validation_seconds",
];

/// Metrics of one revision.
const MOST_METRICS: usize = 32;
/// Labels of one metric.
const MOST_LABELS: usize = 8;
/// Bounds of one histogram.
const MOST_BOUNDS: usize = 32;
/// Lines of one metric on the page, unless more series than that are allowed: a histogram has one for each bound, and three more.
const METRIC_LINES: usize = 2048;
/// Lines of all metrics of a plugin, those of revisions that are still kept included.
const LINES: usize = 4096;
/// Further ones, for `other` alone: what has no series of its own is counted all the same.
const SPARE_LINES: usize = 2048;
/// Lines of all plugins on one page. Some tens of megabytes at most, where every label has the longest value.
const PAGE_LINES: usize = 1 << 15;
/// Bytes of a name, as the contract states.
const LONGEST_NAME: usize = 64;
/// Bytes of a label's value; longer ones are cut.
const LONGEST_VALUE: usize = 128;
const LONGEST_HELP: usize = 256;

/// What kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// What makes two metrics the same.
#[derive(Debug, Clone, PartialEq)]
struct Definition {
    /// `namespace/name`.
    plugin: Arc<str>,
    /// As it is exported.
    name: String,
    kind: MetricKind,
    help: String,
    labels: Vec<String>,
    bounds: Vec<f64>,
}

/// A metric with its series.
#[derive(Debug)]
pub(crate) struct Metric {
    definition: Definition,
    /// The name of its family, which has one kind, whatever other plugins mean by the name.
    family: String,
    series: RwLock<FxHashMap<Arc<[String]>, Series>>,
    most_series: usize,
    /// Of all metrics of the plugin.
    lines: Arc<Lines>,
    /// Those that this metric has of them.
    own: AtomicUsize,
    /// There is a place for `other` among them.
    has_other: bool,
}

/// The lines that are taken for a plugin.
#[derive(Debug, Default)]
struct Lines(AtomicUsize);

impl Lines {
    fn take(&self, lines: usize, most: usize) -> bool {
        let more = |taken: usize| taken.checked_add(lines).filter(|all| *all <= most);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl Drop for Metric {
    fn drop(&mut self) {
        self.lines.0.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

#[derive(Debug, Clone)]
enum Series {
    Counter(Counter),
    Gauge(Gauge<f64, AtomicU64>),
    Histogram(Histogram),
}

/// Why there is no such metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidMetric {
    /// Of the metric or of a label.
    #[error("`{0}` is no name")]
    InvalidName(String),
    /// Registered before as something else.
    #[error("`{0}` is registered already, with another kind, other labels or other buckets")]
    Conflict(String),
    #[error("too many metrics, labels or buckets")]
    TooMany,
}

/// The labels of a call are not those of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it gave {given} label values to a metric with {wanted} labels")]
pub(crate) struct WrongLabels {
    given: usize,
    wanted: usize,
}

/// All metrics of all plugins, for the exporter.
#[derive(Debug, Default)]
pub(crate) struct MetricTable(Mutex<Vec<Weak<Metric>>>);

/// The metrics of one revision.
#[derive(Default)]
pub(crate) struct Metrics {
    table: Arc<MetricTable>,
    plugin: Arc<str>,
    /// What stands before the names.
    prefix: String,
    most_series: usize,
    registered: Mutex<Vec<Arc<Metric>>>,
}

impl Metrics {
    /// For the resource `plugin` (`namespace/name`) whose manifest says `name`.
    pub(crate) fn new(table: &Arc<MetricTable>, plugin: &str, name: &str, most_series: u32) -> Self {
        Self {
            table: Arc::clone(table),
            plugin: plugin.into(),
            prefix: format!("{PREFIX}{}_", name.replace('-', "_")),
            most_series: usize::try_from(most_series).unwrap_or(usize::MAX),
            registered: Mutex::default(),
        }
    }

    /// The metric of this definition, and the same one every time.
    pub(crate) fn register(
        &self,
        kind: MetricKind,
        name: &str,
        help: &str,
        labels: Vec<String>,
        bounds: Vec<f64>,
    ) -> Result<Arc<Metric>, InvalidMetric> {
        if labels.len() > MOST_LABELS || bounds.len() > MOST_BOUNDS {
            return Err(InvalidMetric::TooMany);
        }
        if let Some(wrong) = std::iter::once(name).chain(labels.iter().map(String::as_str)).find(|name| !is_name(name))
        {
            return Err(InvalidMetric::InvalidName(cut(wrong, LONGEST_NAME)));
        }
        // The exporter writes these two itself.
        if let Some(taken) = labels.iter().find(|label| matches!(label.as_str(), "plugin" | "le")) {
            return Err(InvalidMetric::InvalidName(taken.clone()));
        }
        let exported = format!("{}{name}", self.prefix);
        if is_taken(&exported) {
            return Err(InvalidMetric::InvalidName(name.to_owned()));
        }
        let help = cut(help, LONGEST_HELP);
        let bounds = ascending(bounds);
        let definition = Definition { plugin: Arc::clone(&self.plugin), name: exported, kind, help, labels, bounds };
        let mut registered = lock(&self.registered);
        if let Some(known) = registered.iter().find(|known| known.definition.name == definition.name) {
            let same = known.definition == definition;
            return if same { Ok(Arc::clone(known)) } else { Err(InvalidMetric::Conflict(name.to_owned())) };
        }
        if registered.len() == MOST_METRICS {
            return Err(InvalidMetric::TooMany);
        }
        let metric = self.table.open(definition, self.most_series);
        registered.push(Arc::clone(&metric));
        Ok(metric)
    }
}

/// As the format wants them. Without NaN a definition equals itself.
fn ascending(mut bounds: Vec<f64>) -> Vec<f64> {
    bounds.retain(|bound| bound.is_finite());
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds
}

/// Prometheus's names, in lower case and not reserved.
fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether it is the name of a metric of the gateway, or of one of the series that such a metric is exported as.
fn is_taken(exported: &str) -> bool {
    let name = exported.strip_prefix(PREFIX).unwrap_or(exported);
    let series = ["_total", "_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
    OWN.contains(&name) || series.is_some_and(|name| OWN.contains(&name))
}

/// At most so many bytes, without control characters, quotes and backslashes: what is exported must not break the format.
fn cut(text: &str, most: usize) -> String {
    let mut cut = String::with_capacity(text.len().min(most));
    for character in text.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\') { '_' } else { c }) {
        if cut.len() + character.len_utf8() > most {
            break;
        }
        cut.push(character);
    }
    cut
}

impl MetricTable {
    fn open(&self, definition: Definition, most_series: usize) -> Arc<Metric> {
        let mut metrics = lock(&self.0);
        metrics.retain(|metric| metric.strong_count() > 0);
        if let Some(known) = metrics.iter().filter_map(Weak::upgrade).find(|known| known.definition == definition) {
            return known;
        }
        let living: Vec<_> = metrics.iter().filter_map(Weak::upgrade).collect();
        let of_plugin = living.iter().find(|metric| metric.definition.plugin == definition.plugin);
        let lines = of_plugin.map(|metric| Arc::clone(&metric.lines)).unwrap_or_default();
        let own = definition.lines();
        let has_other = lines.take(own, LINES + SPARE_LINES);
        let metric = Arc::new(Metric {
            family: family(&definition, &living),
            series: RwLock::default(),
            most_series: most_series.min(most_series.max(METRIC_LINES) / own),
            own: AtomicUsize::new(if has_other { own } else { 0 }),
            definition,
            lines,
            has_other,
        });
        metrics.push(Arc::downgrade(&metric));
        metric
    }
}

/// The name of the family that a metric is in. Two plugins may mean two kinds by one name, which a name of the format cannot: who came first keeps
/// it, and the other one's says its kind.
fn family(definition: &Definition, living: &[Arc<Metric>]) -> String {
    let is_other = |name: &str| living.iter().any(|it| it.family == name && it.definition.kind != definition.kind);
    let mut name = definition.name.clone();
    while is_other(&name) {
        name = format!("{name}_{}", definition.kind.metric_type().as_str());
    }
    name
}

impl Metric {
    /// Only counters grow.
    pub(crate) fn add(&self, amount: u64, labels: &[String]) -> Result<(), WrongLabels> {
        self.with(labels, |series| {
            if let Series::Counter(counter) = series {
                counter.inc_by(amount);
            }
        })
    }

    /// Only gauges are set.
    pub(crate) fn set(&self, value: f64, labels: &[String]) -> Result<(), WrongLabels> {
        self.with(labels, |series| {
            if let Series::Gauge(gauge) = series {
                gauge.set(value);
            }
        })
    }

    /// Only histograms observe. What is no number would spoil the sum.
    pub(crate) fn observe(&self, value: f64, labels: &[String]) -> Result<(), WrongLabels> {
        self.with(labels, |series| {
            if let Series::Histogram(histogram) = series
                && value.is_finite()
            {
                histogram.observe(value);
            }
        })
    }

    fn with(&self, labels: &[String], change: impl FnOnce(&Series)) -> Result<(), WrongLabels> {
        let wanted = self.definition.labels.len();
        if labels.len() != wanted {
            return Err(WrongLabels { given: labels.len(), wanted });
        }
        if let Some(series) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(labels) {
            change(series);
            return Ok(());
        }
        change(&self.make(labels));
        Ok(())
    }

    #[cold]
    fn make(&self, labels: &[String]) -> Series {
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let labels: Arc<[String]> = labels.iter().map(|value| cut(value, LONGEST_VALUE)).collect();
        if let Some(series) = all.get(&labels) {
            return series.clone();
        }
        let lines = self.definition.lines();
        if all.len() < self.most_series && self.lines.take(lines, LINES) {
            self.own.fetch_add(lines, Ordering::Relaxed);
            return all.entry(labels).or_insert_with(|| self.definition.series()).clone();
        }
        if !self.has_other {
            return self.definition.series(); // which nobody reads: the plugin has all the lines that it may
        }
        let other = vec!["other".to_owned(); labels.len()].into();
        all.entry(other).or_insert_with(|| self.definition.series()).clone()
    }

    /// All series as they are now. Writing them takes its time, for which no worker should wait that has a new one.
    fn all(&self) -> Vec<(Arc<[String]>, Series)> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.iter().map(|(labels, series)| (Arc::clone(labels), series.clone())).collect()
    }
}

impl Definition {
    /// What one set of labels is on the page, and so in Prometheus.
    fn lines(&self) -> usize {
        match self.kind {
            MetricKind::Counter | MetricKind::Gauge => 1,
            // With `+Inf`, the sum and the count.
            MetricKind::Histogram => self.bounds.len() + 3,
        }
    }

    fn series(&self) -> Series {
        match self.kind {
            MetricKind::Counter => Series::Counter(Counter::default()),
            MetricKind::Gauge => Series::Gauge(Gauge::default()),
            MetricKind::Histogram => Series::Histogram(Histogram::new(self.bounds.iter().copied())),
        }
    }
}

/// Writes all metrics of all plugins.
#[derive(Debug)]
pub(crate) struct Exporter(pub(crate) Arc<MetricTable>);

impl Collector for Exporter {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let metrics: Vec<_> = lock(&self.0.0).iter().filter_map(Weak::upgrade).collect();
        let shown = shown(&metrics);
        let mut families = BTreeMap::<&str, Vec<&Metric>>::new();
        for metric in metrics.iter().filter(|metric| shown.contains(&*metric.definition.plugin)) {
            families.entry(&metric.family).or_default().push(metric);
        }
        for (name, metrics) in families {
            let Some(kind) = metrics.first().map(|metric| metric.definition.kind) else { continue };
            write(&mut encoder, name, kind, &metrics)?;
        }
        let all: HashSet<&str> = metrics.iter().map(|metric| &*metric.definition.plugin).collect();
        let help = "Plugins whose own metrics are not here, because those of others fill the page";
        let left_out = encoder.encode_descriptor("penstock_plugin_metrics_left_out", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(all.len() - shown.len()).unwrap_or(i64::MAX)).encode(left_out)
    }
}

/// The plugins whose metrics are on the page: those that have the fewest lines, as many as have room.
fn shown(metrics: &[Arc<Metric>]) -> HashSet<&str> {
    let mut lines = HashMap::<&str, usize>::new();
    for metric in metrics {
        *lines.entry(&metric.definition.plugin).or_default() += metric.own.load(Ordering::Relaxed);
    }
    let mut plugins: Vec<(usize, &str)> = lines.into_iter().map(|(plugin, lines)| (lines, plugin)).collect();
    plugins.sort_unstable();
    let mut left = PAGE_LINES;
    let fits = |(lines, _): &(usize, &str)| left.checked_sub(*lines).inspect(|rest| left = *rest).is_some();
    plugins.into_iter().take_while(fits).map(|(_, plugin)| plugin).collect()
}

fn write(encoder: &mut DescriptorEncoder, name: &str, kind: MetricKind, metrics: &[&Metric]) -> fmt::Result {
    let help = metrics.first().map_or("", |metric| &metric.definition.help);
    let mut family = encoder.encode_descriptor(name, help, None, kind.metric_type())?;
    for metric @ Metric { definition, .. } in metrics {
        for (values, series) in metric.all() {
            let own = definition.labels.iter().map(String::as_str).zip(values.iter().map(String::as_str));
            let labels: Vec<_> = std::iter::once(("plugin", &*definition.plugin)).chain(own).collect();
            let encoder = family.encode_family(&labels)?;
            match series {
                Series::Counter(counter) => counter.encode(encoder)?,
                Series::Gauge(gauge) => gauge.encode(encoder)?,
                Series::Histogram(histogram) => histogram.encode(encoder)?,
            }
        }
    }
    Ok(())
}

impl MetricKind {
    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Lists are whole between any two steps, so a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
