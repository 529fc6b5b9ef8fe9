//! What the suite says about each test, read from what `go test -v` prints.

use std::collections::BTreeMap;
use std::fmt;

/// The Go test that all tests of the suite are parts of.
const SUITE: &str = "TestConformance";

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Skipped,
    Passed,
    Failed,
}

/// One test of the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestResult {
    name: String,
    verdict: Verdict,
    /// As printed, in seconds.
    seconds: String,
    /// What the test said first when it failed.
    complaint: Option<String>,
    /// Which parts of it failed.
    failed_parts: Vec<String>,
}

/// All tests that have ended.
#[derive(Debug, Default)]
pub(super) struct Results {
    tests: Vec<TestResult>,
    /// The first complaint of each test that still runs.
    complaints: BTreeMap<String, String>,
    /// Whose output is being read: parallel tests take turns.
    current: Option<String>,
}

impl Results {
    /// Read a line, and answer the result of a test if it holds one that did not merely skip.
    pub(super) fn read(&mut self, line: &str) -> Option<&TestResult> {
        if let Some(name) = turn(line) {
            self.current = Some(test_name(name).unwrap_or(name).to_owned());
            return None;
        }
        self.read_complaint(line);
        let (verdict, rest) = verdict(line.trim_start())?;
        let (path, seconds) = rest.split_once(" (")?;
        let name = test_name(path)?.to_owned();
        if let Some(part) = path.splitn(3, '/').nth(2) {
            if verdict == Verdict::Failed {
                self.blame_part(&name, part);
            }
            return None;
        }
        let complaint = self.complaints.remove(&name).filter(|_| verdict == Verdict::Failed);
        self.tests.push(TestResult {
            name,
            verdict,
            seconds: seconds.trim_end_matches("s)").to_owned(),
            complaint,
            failed_parts: Vec::new(),
        });
        self.tests.last().filter(|test| test.verdict != Verdict::Skipped)
    }

    /// Parts are printed after the whole.
    fn blame_part(&mut self, name: &str, part: &str) {
        if let Some(test) = self.tests.iter_mut().find(|test| test.name == name) {
            test.failed_parts.push(part.to_owned());
        }
    }

    /// testify's format: `Error:` and what was wrong, perhaps on the next line, then perhaps `Messages:`, which says it best.
    fn read_complaint(&mut self, line: &str) {
        let Some(test) = &self.current else { return };
        let line = line.trim();
        let complaint = self.complaints.get_mut(test);
        if let Some(message) = line.strip_prefix("Error:") {
            self.complaints.entry(test.clone()).or_insert_with(|| shortened(message));
        } else if let Some(complaint) = complaint {
            if let Some(message) = line.strip_prefix("Messages:") {
                *complaint = shortened(message);
            } else if complaint.ends_with(':') {
                *complaint = shortened(line);
            }
        }
    }

    /// Why the suite as a whole gave up, if it did.
    pub(super) fn suite_complaint(&self) -> Option<&str> {
        self.complaints.get(SUITE).map(String::as_str)
    }

    pub(super) fn passed(&self) -> usize {
        self.count(Verdict::Passed)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.tests.iter().filter(|test| test.verdict == verdict).count()
    }
}

/// `=== RUN   TestConformance/X/part`, also `=== CONT` and `=== NAME`: from here on this test speaks.
fn turn(line: &str) -> Option<&str> {
    let (what, name) = line.strip_prefix("=== ")?.split_once(' ')?;
    matches!(what, "RUN" | "CONT" | "NAME" | "PAUSE").then(|| name.trim())
}

/// One line of it.
fn shortened(message: &str) -> String {
    const MOST: usize = 300;
    message.trim().chars().take(MOST).collect()
}

/// The test's own name in `TestConformance/Name/part`.
fn test_name(path: &str) -> Option<&str> {
    path.split('/').nth(1)
}

fn verdict(line: &str) -> Option<(Verdict, &str)> {
    let kinds = [("--- PASS: ", Verdict::Passed), ("--- FAIL: ", Verdict::Failed), ("--- SKIP: ", Verdict::Skipped)];
    kinds.iter().find_map(|(mark, verdict)| Some((*verdict, line.strip_prefix(mark)?)))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Skipped => "skipped",
            Self::Passed => "passed",
            Self::Failed => "FAILED",
        })
    }
}

impl fmt::Display for TestResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, verdict, seconds, complaint, failed_parts } = self;
        write!(f, "{verdict:<8} {seconds:>7} s  {name}")?;
        complaint.iter().try_for_each(|complaint| write!(f, ": {complaint}"))?;
        failed_parts.iter().try_for_each(|part| write!(f, "\n{:21}{part}", ""))
    }
}

/// The table: what needs attention comes last, just above the prompt.
impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tests: Vec<_> = self.tests.iter().collect();
        tests.sort_by(|a, b| (a.verdict, &a.name).cmp(&(b.verdict, &b.name)));
        tests.iter().try_for_each(|test| writeln!(f, "{test}"))?;
        let (failed, skipped) = (self.count(Verdict::Failed), self.count(Verdict::Skipped));
        writeln!(f, "{} passed, {failed} failed, {skipped} skipped", self.passed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
=== RUN   TestConformance
=== RUN   TestConformance/HTTPRouteSimple
=== RUN   TestConformance/HTTPRouteSimple/0_request
--- PASS: TestConformance/HTTPRouteSimple/0_request (0.01s)
=== RUN   TestConformance/HTTPRouteCORS
    conformance.go:56: Skipping HTTPRouteCORS: suite does not support HTTPRouteCORS
=== RUN   TestConformance/HTTPRouteWeight
    weight.go:80:
        \tError Trace:\tweight.go:80
        \tError:      \tReceived unexpected error:
        \t            \tno route to host
        \tTest:       \tTestConformance/HTTPRouteWeight
--- FAIL: TestConformance (1.63s)
    --- PASS: TestConformance/HTTPRouteSimple (0.31s)
        --- PASS: TestConformance/HTTPRouteSimple/0_request (0.01s)
    --- SKIP: TestConformance/HTTPRouteCORS (0.00s)
    --- FAIL: TestConformance/HTTPRouteWeight (1.20s)
        --- FAIL: TestConformance/HTTPRouteWeight/1_of_10/again (1.20s)
";

    #[test]
    fn tests_are_counted_and_their_parts_are_not() {
        let mut results = Results::default();
        for line in OUTPUT.lines() {
            let _ = results.read(line);
        }
        assert_eq!(
            results.to_string(),
            "skipped     0.00 s  HTTPRouteCORS\n\
             passed      0.31 s  HTTPRouteSimple\n\
             FAILED      1.20 s  HTTPRouteWeight: no route to host\n\
             \x20                    1_of_10/again\n\
             1 passed, 1 failed, 1 skipped\n"
        );
    }

    #[test]
    fn a_suite_that_does_not_start_says_why() {
        let mut results = Results::default();
        for line in [
            "=== RUN   TestConformance",
            "\tError:  \tReceived:",
            "\tMessages:  \tno GatewayClass",
            "--- FAIL: TestConformance (5s)",
        ] {
            let _ = results.read(line);
        }
        assert_eq!(results.suite_complaint(), Some("no GatewayClass"));
    }

    #[test]
    fn only_results_worth_a_line_are_answered() {
        let mut results = Results::default();
        assert_eq!(results.read("    --- SKIP: TestConformance/HTTPRouteCORS (0.00s)"), None);
        let result = results.read("    --- PASS: TestConformance/HTTPRouteSimple (0.31s)").map(ToString::to_string);
        assert_eq!(result.as_deref(), Some("passed      0.31 s  HTTPRouteSimple"));
    }
}
