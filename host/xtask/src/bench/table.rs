//! Medians, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::{Measurement, Protocol, Proxy, Scenario};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) protocol: Protocol,
    pub(super) scenario: Scenario,
    pub(super) proxy: Proxy,
}

/// All measurements, rows in the order of their first one.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<(Row, Vec<Measurement>)>,
}

impl Table {
    pub(super) fn add(&mut self, row: Row, measurement: Measurement) {
        match self.rows.iter_mut().find(|(known, _)| *known == row) {
            Some((_, measurements)) => measurements.push(measurement),
            None => self.rows.push((row, vec![measurement])),
        }
    }

    /// The measurement in the middle, by CPU time.
    fn medians(&self) -> impl Iterator<Item = (Row, Measurement)> {
        self.rows.iter().filter_map(|(row, measurements)| {
            let mut sorted = measurements.clone();
            sorted.sort_by(|a, b| a.cpu_per_request.total_cmp(&b.cpu_per_request));
            Some((*row, *sorted.get(sorted.len() / 2)?))
        })
    }

    fn cpu(&self, protocol: Protocol, scenario: Scenario, proxy: Proxy) -> Option<f64> {
        let row = Row { protocol, scenario, proxy };
        self.medians().find(|(other, _)| *other == row).map(|(_, measurement)| measurement.cpu_per_request)
    }

    /// One object a row.
    pub(super) fn json(&self) -> Value {
        let rows = self.medians().map(|(row, measurement)| {
            json!({
                "protocol": format!("{:?}", row.protocol).to_lowercase(),
                "scenario": format!("{:?}", row.scenario).to_lowercase(),
                "proxy": format!("{:?}", row.proxy).to_lowercase(),
                "cpu_us_per_request": measurement.cpu_per_request,
                "requests_per_second": measurement.load.requests_per_second,
                "latency_us": measurement.load.latency,
                "latency_tail_us": measurement.load.latency_tail,
                "failures": measurement.load.failures,
                "rss_idle_kib": measurement.rss_idle,
                "rss_loaded_kib": measurement.rss_loaded,
            })
        });
        rows.collect()
    }

    /// What the figures of the gateway mean beside the others.
    fn comparisons(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for protocol in [Protocol::H1, Protocol::H2] {
            let Some(plain) = self.cpu(protocol, Scenario::Plain, Proxy::Penstock) else { continue };
            for peer in [Proxy::Nginx, Proxy::Haproxy, Proxy::Envoy] {
                if let Some(other) = self.cpu(protocol, Scenario::Plain, peer) {
                    lines.push(format!("{protocol:?} plain: {:.2} × {peer:?}", plain / other));
                }
            }
            for scenario in [Scenario::Native, Scenario::Plugin1, Scenario::Plugin3] {
                if let Some(cpu) = self.cpu(protocol, scenario, Proxy::Penstock) {
                    lines.push(format!("{protocol:?} {scenario:?}: {:+.1} µs over plain", cpu - plain));
                }
            }
        }
        lines
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<5} {:<9} {:<10} {:>10} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9}",
            "proto", "scenario", "proxy", "cpu µs/req", "req/s", "p50 µs", "p99 µs", "idle MiB", "load MiB", "failures"
        )?;
        for (Row { protocol, scenario, proxy }, measurement) in self.medians() {
            let Measurement { cpu_per_request, load, rss_idle, rss_loaded } = measurement;
            let (protocol, scenario, proxy) = (format!("{protocol:?}"), format!("{scenario:?}"), format!("{proxy:?}"));
            writeln!(
                f,
                "{protocol:<5} {scenario:<9} {proxy:<10} {cpu_per_request:>10.1} {:>10.0} {:>10.0} {:>10.0} {:>9.1} {:>9.1} {:>9}",
                load.requests_per_second,
                load.latency,
                load.latency_tail,
                rss_idle as f64 / 1024.0,
                rss_loaded as f64 / 1024.0,
                load.failures,
            )?;
        }
        writeln!(f, "(HTTP/2: mean and longest in place of p50 and p99)\n")?;
        self.comparisons().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Load;
    use super::*;

    fn measured(cpu_per_request: f64) -> Measurement {
        let load = Load { requests: 1, requests_per_second: 1.0, latency: 1.0, latency_tail: 1.0, failures: 0 };
        Measurement { cpu_per_request, load, rss_idle: 1024, rss_loaded: 2048 }
    }

    #[test]
    fn medians_are_compared() {
        let mut table = Table::default();
        let row = |scenario, proxy| Row { protocol: Protocol::H1, scenario, proxy };
        for cpu in [30.0, 10.0, 20.0] {
            table.add(row(Scenario::Plain, Proxy::Penstock), measured(cpu));
        }
        table.add(row(Scenario::Plain, Proxy::Haproxy), measured(16.0));
        table.add(row(Scenario::Plugin1, Proxy::Penstock), measured(22.5));
        assert_eq!(table.comparisons(), ["H1 plain: 1.25 × Haproxy", "H1 Plugin1: +2.5 µs over plain"]);
        assert_eq!(table.json()[0]["cpu_us_per_request"], 20.0);
        assert_eq!(table.json().as_array().map(Vec::len), Some(3));
    }
}
