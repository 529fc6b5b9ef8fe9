use std::path::Path;

use prometheus_client::{encoding::text::encode, registry::Registry};

use super::*;

struct Exported {
    table: Arc<MetricTable>,
    registry: Registry,
}

impl Exported {
    fn new() -> Self {
        let table = Arc::new(MetricTable::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exporter(Arc::clone(&table))));
        Self { table, registry }
    }

    fn plugin(&self, plugin: &str) -> Metrics {
        Metrics::new(&self.table, &format!("default/{plugin}"), "my-plugin", 3)
    }

    /// Without comments.
    fn lines(&self) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let mut lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("left_out"))
            .map(ToOwned::to_owned)
            .collect();
        lines.sort();
        lines
    }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn counter(metrics: &Metrics, name: &str, labels: &[&str]) -> Result<Arc<Metric>, InvalidMetric> {
    metrics.register(MetricKind::Counter, name, "help", strings(labels), Vec::new())
}

#[test]
fn every_kind_is_exported_with_its_plugin() {
    let exported = Exported::new();
    let metrics = exported.plugin("a");
    counter(&metrics, "seen", &["by"]).unwrap().add(2, &strings(&["x"])).unwrap();
    metrics.register(MetricKind::Gauge, "level", "", vec![], vec![]).unwrap().set(1.5, &[]).unwrap();
    let histogram = metrics
        .register(MetricKind::Histogram, "size", "", vec![], vec![2.0, f64::NAN, 1.0, 2.0, f64::INFINITY])
        .unwrap();
    for value in [0.5, 1.5, f64::NAN, 7.0] {
        histogram.observe(value, &[]).unwrap();
    }
    assert_eq!(
        exported.lines(),
        [
            r#"penstock_plugin_my_plugin_level{plugin="default/a"} 1.5"#,
            r#"penstock_plugin_my_plugin_seen_total{plugin="default/a",by="x"} 2"#,
            r#"penstock_plugin_my_plugin_size_bucket{le="+Inf",plugin="default/a"} 3"#,
            r#"penstock_plugin_my_plugin_size_bucket{le="1.0",plugin="default/a"} 1"#,
            r#"penstock_plugin_my_plugin_size_bucket{le="2.0",plugin="default/a"} 2"#,
            r#"penstock_plugin_my_plugin_size_count{plugin="default/a"} 3"#,
            r#"penstock_plugin_my_plugin_size_sum{plugin="default/a"} 9.0"#,
        ]
    );
}

#[test]
fn instances_and_revisions_add_to_the_same_series() {
    let exported = Exported::new();
    let (first, second) = (exported.plugin("a"), exported.plugin("a"));
    for metrics in [&first, &first, &second] {
        counter(metrics, "seen", &[]).unwrap().add(1, &[]).unwrap();
    }
    let line = r#"penstock_plugin_my_plugin_seen_total{plugin="default/a"} 3"#;
    assert_eq!(exported.lines(), [line]);
    drop(first);
    assert_eq!(exported.lines(), [line]);
    drop(second);
    assert_eq!(exported.lines(), <[&str; 0]>::default());
}

#[test]
fn plugins_count_for_themselves_in_one_family() {
    let exported = Exported::new();
    let (a, b) = (exported.plugin("a"), exported.plugin("b"));
    counter(&a, "seen", &[]).unwrap().add(1, &[]).unwrap();
    counter(&b, "seen", &["by"]).unwrap().add(2, &strings(&["x"])).unwrap();
    b.register(MetricKind::Gauge, "odd", "", vec![], vec![]).unwrap().set(1.0, &[]).unwrap();
    counter(&a, "odd", &[]).unwrap().add(1, &[]).unwrap();
    assert_eq!(
        exported.lines(),
        [
            r#"penstock_plugin_my_plugin_odd_counter_total{plugin="default/a"} 1"#,
            r#"penstock_plugin_my_plugin_odd{plugin="default/b"} 1.0"#,
            r#"penstock_plugin_my_plugin_seen_total{plugin="default/a"} 1"#,
            r#"penstock_plugin_my_plugin_seen_total{plugin="default/b",by="x"} 2"#,
        ]
    );
    let mut text = String::new();
    encode(&mut text, &exported.registry).unwrap();
    assert_eq!(text.matches("# TYPE penstock_plugin_my_plugin_seen ").count(), 1);
}

#[test]
fn a_revision_that_means_something_else_by_a_name_is_no_conflict_with_the_one_before() {
    let exported = Exported::new();
    let (first, second) = (exported.plugin("a"), exported.plugin("a"));
    counter(&first, "seen", &[]).unwrap();
    assert!(counter(&second, "seen", &["by"]).is_ok());
    assert_eq!(counter(&first, "seen", &["by"]).err(), Some(InvalidMetric::Conflict("seen".into())));
    let gauge = first.register(MetricKind::Gauge, "seen", "help", vec![], vec![]);
    assert_eq!(gauge.err(), Some(InvalidMetric::Conflict("seen".into())));
}

#[test]
fn names_are_held_to_the_contract() {
    let exported = Exported::new();
    let metrics = exported.plugin("a");
    for name in ["", "A", "1a", "_a", "a-b", "a b", "ä", &"a".repeat(65)] {
        let error = counter(&metrics, name, &[]).err();
        assert_eq!(error, Some(InvalidMetric::InvalidName(cut(name, 64))), "{name}");
    }
    for label in ["", "A", "plugin", "le"] {
        assert_eq!(
            counter(&metrics, "seen", &[label]).err(),
            Some(InvalidMetric::InvalidName(label.into())),
            "{label}"
        );
    }
    assert!(counter(&metrics, &"a".repeat(64), &["a_1"]).is_ok());
}

#[test]
fn everything_is_bounded() {
    let exported = Exported::new();
    let metrics = exported.plugin("a");
    assert_eq!(counter(&metrics, "labels", &["a"; 9]).err(), Some(InvalidMetric::TooMany));
    let bounds = metrics.register(MetricKind::Histogram, "bounds", "", vec![], vec![1.0; 33]);
    assert_eq!(bounds.err(), Some(InvalidMetric::TooMany));
    for number in 0..32 {
        assert!(counter(&metrics, &format!("m{number}"), &[]).is_ok());
    }
    assert_eq!(counter(&metrics, "one_more", &[]).err(), Some(InvalidMetric::TooMany));
    assert!(counter(&metrics, "m7", &[]).is_ok(), "this one is there already");
}

#[test]
fn series_beyond_the_limit_are_counted_under_other() {
    let exported = Exported::new();
    let metrics = exported.plugin("a");
    let seen = counter(&metrics, "seen", &["by", "at"]).unwrap();
    for number in 0..100 {
        seen.add(1, &strings(&[&number.to_string(), "x"])).unwrap();
        seen.add(1, &strings(&["0", "x"])).unwrap();
    }
    let line = |by: &str, at: &str, value: u32| {
        format!(r#"penstock_plugin_my_plugin_seen_total{{plugin="default/a",by="{by}",at="{at}"}} {value}"#)
    };
    assert_eq!(
        exported.lines(),
        [line("0", "x", 101), line("1", "x", 1), line("2", "x", 1), line("other", "other", 97)]
    );
}

#[test]
fn a_histogram_has_so_many_lines_whatever_its_labels() {
    let exported = Exported::new();
    let metrics = Metrics::new(&exported.table, "default/a", "my-plugin", 10_000_000);
    assert_eq!(counter(&metrics, "c", &["x"]).unwrap().most_series, 10_000_000, "until the plugin has all its lines");
    let metrics = Metrics::new(&exported.table, "default/b", "my-plugin", 256);
    assert_eq!(counter(&metrics, "c", &["x"]).unwrap().most_series, 256);
    let histogram = |name: &str, bounds: u32| {
        let bounds = (0..bounds).map(f64::from).collect();
        metrics.register(MetricKind::Histogram, name, "help", strings(&["x"]), bounds).unwrap().most_series
    };
    assert_eq!([histogram("small", 5), histogram("large", 32)], [256, 58]);
}

#[test]
fn a_plugin_has_so_many_lines_whatever_its_metrics() {
    let exported = Exported::new();
    let fill = |metrics: &Metrics| {
        for name in 0..MOST_METRICS {
            let bounds = (0..32).map(f64::from).collect();
            let kind = MetricKind::Histogram;
            let metric = metrics.register(kind, &format!("m{name}"), "help", strings(&["x"]), bounds).unwrap();
            for value in 0..100 {
                metric.observe(1.0, &[value.to_string()]).unwrap();
            }
        }
    };
    let counted = |plugin: &str| -> u32 {
        let of_plugin = format!("_count{{plugin=\"default/{plugin}\"");
        let lines = exported.lines();
        let counts = lines.iter().filter(|line| line.contains(&of_plugin)).filter_map(|line| line.rsplit(' ').next());
        counts.map(|count| count.parse::<u32>().unwrap()).sum()
    };
    let first = exported.plugin("a");
    fill(&first);
    assert_eq!(counted("a"), 32 * 100, "what has no series of its own is counted under other");
    // Revisions of the same plugin that are kept, of which each has other names.
    let revision = |number: u32| Metrics::new(&exported.table, "default/a", &format!("other-{number}"), 1000);
    let revisions: Vec<_> = (0..16).map(revision).collect();
    revisions.iter().for_each(fill);
    assert!(exported.lines().len() <= LINES + SPARE_LINES, "{}", exported.lines().len());
    // Nobody else has less for it, and what is gone makes room.
    let neighbour = exported.plugin("b");
    fill(&neighbour);
    assert_eq!(counted("b"), 32 * 100);
    drop((first, revisions));
    let again = exported.plugin("a");
    fill(&again);
    assert_eq!(counted("a"), 32 * 100);
}

#[test]
fn those_who_have_few_metrics_are_on_the_page() {
    let exported = Exported::new();
    let large: Vec<_> = (0..20)
        .map(|number| {
            let metrics = Metrics::new(&exported.table, &format!("default/large-{number}"), "my-plugin", 1 << 20);
            let seen = counter(&metrics, "seen", &["x"]).unwrap();
            (0..5000).for_each(|value| seen.add(1, &[value.to_string()]).unwrap());
            metrics
        })
        .collect();
    let small = exported.plugin("small");
    counter(&small, "seen", &["x"]).unwrap().add(1, &strings(&["y"])).unwrap();
    let lines = exported.lines();
    assert!(lines.contains(&r#"penstock_plugin_my_plugin_seen_total{plugin="default/small",x="y"} 1"#.to_owned()));
    assert!(lines.len() <= PAGE_LINES && lines.len() > PAGE_LINES / 2, "{}", lines.len());
    let mut text = String::new();
    encode(&mut text, &exported.registry).unwrap();
    assert!(text.contains("\npenstock_plugin_metrics_left_out 13\n"), "{}", &text[text.len() - 200..]);
    drop(large);
    encode(&mut text, &exported.registry).unwrap();
    assert!(text.contains("\npenstock_plugin_metrics_left_out 0\n"));
}

#[test]
fn a_name_stays_with_whoever_came_first() {
    let exported = Exported::new();
    let (first, second, third) = (exported.plugin("z"), exported.plugin("a"), exported.plugin("b"));
    let gauge = |metrics: &Metrics, name: &str| {
        metrics.register(MetricKind::Gauge, name, "", vec![], vec![]).unwrap().set(1.0, &[]).unwrap();
    };
    gauge(&first, "level");
    counter(&second, "level", &[]).unwrap().add(1, &[]).unwrap();
    gauge(&third, "level_counter");
    let expected = [
        r#"penstock_plugin_my_plugin_level_counter_gauge{plugin="default/b"} 1.0"#,
        r#"penstock_plugin_my_plugin_level_counter_total{plugin="default/a"} 1"#,
        r#"penstock_plugin_my_plugin_level{plugin="default/z"} 1.0"#,
    ];
    assert_eq!(exported.lines(), expected);
    drop(first);
    assert_eq!(exported.lines(), expected[..2], "a series never changes its name");
}

#[test]
fn labels_must_be_as_many_as_registered() {
    let exported = Exported::new();
    let seen = counter(&exported.plugin("a"), "seen", &["by"]).unwrap();
    assert_eq!(seen.add(1, &[]), Err(WrongLabels { given: 0, wanted: 1 }));
    assert_eq!(seen.add(1, &strings(&["a", "b"])), Err(WrongLabels { given: 2, wanted: 1 }));
}

#[test]
fn nothing_that_is_exported_can_break_the_format() {
    let exported = Exported::new();
    let metrics = exported.plugin("a");
    let seen = metrics.register(MetricKind::Counter, "seen", "a\n# TYPE b \\ \"", strings(&["by"]), vec![]).unwrap();
    seen.add(1, &strings(&["x\"} 1\nevil{a=\"\\"])).unwrap();
    seen.add(1, &[format!("{}ä", "y".repeat(127))]).unwrap();
    let lines = exported.lines();
    assert_eq!(lines.len(), 3 - 1, "{lines:?}");
    assert!(lines[0].contains(r#"by="x_} 1_evil{a=__""#), "{lines:?}");
    assert!(lines[1].contains(&format!("by=\"{}\"", "y".repeat(127))), "{lines:?}");
}

#[test]
fn the_gateways_own_metrics_are_taken() {
    let exported = Exported::new();
    let body = Metrics::new(&exported.table, "default/a", "body", 3);
    for name in ["bytes", "bytes_total", "bytes_count"] {
        let taken = InvalidMetric::InvalidName(name.into());
        assert_eq!(counter(&body, name, &[]).unwrap_err(), taken);
    }
    counter(&body, "bytes_seen", &[]).unwrap();
    // Whatever the gateway registers under the same prefix is on the list.
    for name in own_metrics(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")) {
        assert!(OWN.contains(&&*name), "{name}");
    }
}

/// What is named in the sources of the gateway as a whole text: `"penstock_plugin_calls"`.
fn own_metrics(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() && !["target", "tests", "testing", "xtask"].contains(&&*name) {
            names.extend(own_metrics(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let source = std::fs::read_to_string(&path).unwrap();
            let texts = source.split("\"penstock_plugin_").skip(1).filter_map(|rest| rest.split_once('"'));
            let texts = texts.map(|(name, _)| name).filter(|name| is_name(name));
            names.extend(texts.map(ToOwned::to_owned));
        }
    }
    names
}

/// Whoever writes what is exported may be slow.
struct Slow<'a>(&'a Metric, u32);

impl fmt::Write for Slow<'_> {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        self.1 += 1;
        assert!(self.0.series.try_write().is_ok(), "a worker that counts by a new label would wait");
        Ok(())
    }
}

#[test]
fn no_worker_waits_for_the_exporter() {
    let exported = Exported::new();
    let metrics = exported.plugin("a");
    let metric = counter(&metrics, "seen", &["by"]).unwrap();
    metric.add(1, &strings(&["x"])).unwrap();
    let mut slow = Slow(&metric, 0);
    encode(&mut slow, &exported.registry).unwrap();
    assert!(slow.1 > 0);
}
