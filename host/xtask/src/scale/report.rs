//! The figures beside their bars.

use std::fmt;
use std::time::Duration;

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    routes: usize,
    gateways: usize,
    pub(super) created: Duration,
    pub(super) programmed: Duration,
    pub(super) creation_writes: usize,
    pub(super) creation_cpu: Duration,
    pub(super) changes: Vec<Duration>,
    pub(super) rest_writes: usize,
    /// Share of one core.
    pub(super) rest_cpu: f64,
    /// KiB.
    pub(super) resident: usize,
    pub(super) restart: Duration,
    pub(super) restart_writes: usize,
    /// KiB.
    pub(super) restart_resident: usize,
}

impl Report {
    pub(super) fn new(routes: usize, gateways: usize) -> Self {
        Self { routes, gateways, ..Self::default() }
    }

    /// The time that this share of all changes did not exceed.
    fn percentile(&self, share: f64) -> Duration {
        let mut times = self.changes.clone();
        times.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let at = (times.len() as f64 * share).ceil() as usize;
        times.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let mebibytes = |kibibytes: usize| format!("{} MiB", kibibytes >> 10);
        let p99 = self.percentile(0.99);
        let rows = [
            ("routes created on the API server", seconds(self.created), String::new()),
            ("all programmed, from the first creation on", seconds(self.programmed), String::new()),
            ("statuses written for that", self.creation_writes.to_string(), String::new()),
            ("CPU for that", seconds(self.creation_cpu), String::new()),
            ("a change effective, median", milliseconds(self.percentile(0.5)), String::new()),
            ("a change effective, p99", milliseconds(p99), bar(p99 <= Duration::from_millis(100), "100 ms")),
            ("statuses written at rest", self.rest_writes.to_string(), bar(self.rest_writes == 0, "0")),
            ("CPU at rest, share of a core", format!("{:.2} %", self.rest_cpu * 100.0), String::new()),
            ("resident memory", mebibytes(self.resident), bar(self.resident <= 100 << 10, "100 MiB")),
            (
                "ready after a restart, from its beginning",
                seconds(self.restart),
                bar(self.restart <= Duration::from_secs(3), "3 s"),
            ),
            ("statuses written after it", self.restart_writes.to_string(), bar(self.restart_writes == 0, "0")),
            ("resident memory after it", mebibytes(self.restart_resident), String::new()),
        ];
        writeln!(f, "\n{} routes, {} Gateways", self.routes, self.gateways)?;
        rows.iter().try_for_each(|(what, figure, bar)| writeln!(f, "  {what:<44}{figure:>12}  {bar}"))
    }
}

/// The bar, and whether it is met.
fn bar(met: bool, bar: &str) -> String {
    format!("(bar {bar}: {})", if met { "met" } else { "MISSED" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misses_its_bar_says_so() {
        let times = (1..=200).map(Duration::from_millis).collect();
        let report = Report { changes: times, resident: 200 << 10, ..Report::new(5000, 50) };
        assert_eq!((report.percentile(0.5).as_millis(), report.percentile(0.99).as_millis()), (100, 198));
        let text = report.to_string();
        assert!(text.contains("198.0 ms  (bar 100 ms: MISSED)"), "{text}");
        assert!(text.contains("200 MiB  (bar 100 MiB: MISSED)") && text.contains("(bar 0: met)"), "{text}");
    }
}
