//! The figures beside their bars.

use std::fmt;
use std::time::Duration;

use super::audit::most_written;
use super::policy::Figures;

/// The longest that one change in a hundred may take to be in effect.
const CHANGE: Duration = Duration::from_millis(100);
/// From the last object that was read to traffic.
const READY: Duration = Duration::from_secs(3);
/// MiB.
const RESIDENT: usize = 100;

/// Statuses that were written in some time.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// What the API server has on record.
    pub(super) audited: Vec<String>,
    /// How many the gateway counted itself.
    pub(super) counted: usize,
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    routes: usize,
    gateways: usize,
    optimised: bool,
    pub(super) created: Duration,
    pub(super) programmed: Duration,
    pub(super) creation_writes: Writes,
    pub(super) creation_cpu: Duration,
    /// Of BackendTLSPolicies.
    pub(super) policy: Figures,
    pub(super) changes: Vec<Duration>,
    pub(super) rest: Duration,
    pub(super) rest_writes: Writes,
    /// Share of one core.
    pub(super) rest_cpu: f64,
    /// KiB.
    pub(super) resident: usize,
    /// From the beginning of a restart until everything was read, and until it was ready.
    pub(super) restart_read: Duration,
    pub(super) restart: Duration,
    pub(super) restart_writes: Writes,
    /// KiB.
    pub(super) restart_resident: usize,
}

/// What a figure is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bar {
    /// Nothing: it is good to know.
    Absent,
    /// What any build has to do, and whether it did.
    Every(&'static str, bool),
    /// What only a build with optimisations has to do.
    Optimised(&'static str, bool),
}

/// The time that this share of all did not exceed.
fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
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

/// One line: what it is, the figure, the bar.
type Row = (String, String, Bar);

impl Report {
    pub(super) fn new(routes: usize, gateways: usize, optimised: bool) -> Self {
        Self { routes, gateways, optimised, ..Self::default() }
    }

    /// The bars that this build had to meet and did not.
    pub(super) fn missed(&self) -> Vec<String> {
        let is_missed = |bar: &Bar| match bar {
            Bar::Absent => false,
            Bar::Every(_, met) => !met,
            Bar::Optimised(_, met) => self.optimised && !met,
        };
        self.rows().into_iter().filter(|(.., bar)| is_missed(bar)).map(|(what, ..)| what).collect()
    }

    fn rows(&self) -> Vec<Row> {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let mebibytes = |kibibytes: usize| format!("{} MiB", kibibytes >> 10);
        let memory = |kibibytes: usize| Bar::Optimised("100 MiB", kibibytes <= RESIDENT << 10);
        let none = |writes: &Writes| Bar::Every("0", writes.audited.is_empty() && writes.counted == 0);
        let (p99, ready) = (percentile(&self.changes, 0.99), self.restart.saturating_sub(self.restart_read));
        let (policy, back) = (&self.policy, percentile(&self.policy.back, 1.0));
        let of = |failures: usize, requests: usize| format!("{failures} of {requests}");
        let row = |what: &str, figure: String, bar: Bar| (what.to_owned(), figure, bar);
        vec![
            row("routes created on the API server", seconds(self.created), Bar::Absent),
            row("all programmed, from the first creation on", seconds(self.programmed), Bar::Absent),
            row("statuses written for that", self.creation_writes.to_string(), Bar::Absent),
            row("CPU for that", seconds(self.creation_cpu), Bar::Absent),
            row("a change effective, median", milliseconds(percentile(&self.changes, 0.5)), Bar::Absent),
            row("a change effective, p99", milliseconds(p99), Bar::Optimised("100 ms", p99 <= CHANGE)),
            row("a policy back in effect, median", milliseconds(percentile(&policy.back, 0.5)), Bar::Absent),
            row("a policy back in effect, longest", milliseconds(back), Bar::Optimised("100 ms", back <= CHANGE)),
            row("requests that hung meanwhile", of(policy.stuck, policy.requests), Bar::Every("0", policy.stuck == 0)),
            row(
                "requests lost while it was replaced",
                of(policy.replaced_failures, policy.replaced_requests),
                Bar::Every("0", policy.replaced_failures == 0),
            ),
            row(
                &format!("statuses written in {} at rest", seconds(self.rest)),
                self.rest_writes.to_string(),
                none(&self.rest_writes),
            ),
            row("CPU at rest, share of a core", format!("{:.2} %", self.rest_cpu * 100.0), Bar::Absent),
            row("resident memory", mebibytes(self.resident), memory(self.resident)),
            row("everything read after a restart", seconds(self.restart_read), Bar::Absent),
            row("ready after that", seconds(ready), Bar::Optimised("3 s", ready <= READY)),
            row("statuses written after it", self.restart_writes.to_string(), none(&self.restart_writes)),
            row("resident memory after it", mebibytes(self.restart_resident), memory(self.restart_resident)),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} routes, {} Gateways; writes by the audit log (by the gateway)", self.routes, self.gateways)?;
        for (what, figure, bar) in self.rows() {
            write!(f, "  {what:<44}{figure:>14}")?;
            match bar {
                Bar::Absent => writeln!(f)?,
                Bar::Optimised(bar, _) if !self.optimised => writeln!(f, "  (bar {bar}: only for a release build)")?,
                Bar::Every(bar, met) | Bar::Optimised(bar, met) => {
                    writeln!(f, "  (bar {bar}: {})", if met { "met" } else { "MISSED" })?;
                }
            }
        }
        for (when, writes) in [("at rest", &self.rest_writes), ("after the restart", &self.restart_writes)] {
            for (times, object) in most_written(&writes.audited) {
                writeln!(f, "  written {when}: {object}, {times} times")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.audited.len(), self.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(optimised: bool) -> Report {
        let rest_writes = Writes { audited: vec!["gateways/a/status".to_owned()], counted: 0 };
        let changes = (1..=200).map(Duration::from_millis).collect();
        let (restart_read, restart) = (Duration::from_secs(4), Duration::from_secs(6));
        let rest = Duration::from_secs(300);
        let measured =
            Report { changes, resident: 200 << 10, rest, rest_writes, restart_read, restart, ..Report::default() };
        Report { routes: 5000, gateways: 50, optimised, ..measured }
    }

    #[test]
    fn what_misses_its_bar_says_so() {
        let report = report(true);
        assert_eq!(
            (percentile(&report.changes, 0.5).as_millis(), percentile(&report.changes, 0.99).as_millis()),
            (100, 198)
        );
        let text = report.to_string();
        let line = |what: &str| text.lines().find(|line| line.trim_start().starts_with(what)).unwrap_or_default();
        assert!(line("a change effective, p99").ends_with("198.0 ms  (bar 100 ms: MISSED)"), "{text}");
        assert!(line("resident memory ").ends_with("200 MiB  (bar 100 MiB: MISSED)"), "{text}");
        assert!(line("statuses written in 300.0 s at rest").ends_with("1 (0)  (bar 0: MISSED)"), "{text}");
        assert!(line("written at rest").ends_with("gateways/a/status, 1 times"), "{text}");
        assert!(line("ready after that").ends_with("2.0 s  (bar 3 s: met)"), "{text}");
        let missed = ["a change effective, p99", "statuses written in 300.0 s at rest", "resident memory"];
        assert_eq!(report.missed(), missed);
    }

    #[test]
    fn of_a_debug_build_only_writes_are_asked() {
        let report = report(false);
        assert!(report.to_string().contains("198.0 ms  (bar 100 ms: only for a release build)"));
        assert_eq!(report.missed(), ["statuses written in 300.0 s at rest"]);
    }
}
