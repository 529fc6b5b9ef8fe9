//! The load generators and what they say.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{OTHER_CORE, Protocol, pinned};

/// What a load generator measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    /// Median latency in microseconds (wrk), or the mean (h2load says no median).
    pub(super) latency: f64,
    /// 99th percentile (wrk), or the longest.
    pub(super) latency_tail: f64,
    /// Connections and requests that failed, and responses with a status of 400 and above.
    pub(super) failures: u64,
}

/// Streams of one connection at a time, for HTTP/2. Connections are fewer by the same factor.
const STREAMS: usize = 10;

/// Press requests through for a while.
pub(super) fn run(protocol: Protocol, port: u16, connections: usize, duration: Duration) -> Result<Load> {
    let (seconds, url) = (duration.as_secs().max(1), format!("http://127.0.0.1:{port}/"));
    let mut command = match protocol {
        Protocol::H1 => pinned(OTHER_CORE, Path::new("wrk")),
        Protocol::H2 => pinned(OTHER_CORE, Path::new("h2load")),
    };
    match protocol {
        Protocol::H1 => command.args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{seconds}s")]),
        Protocol::H2 => {
            let connections = connections.div_ceil(STREAMS);
            command.args(["-t1", &format!("-c{connections}"), &format!("-m{STREAMS}"), &format!("-D{seconds}")])
        }
    };
    let output = command.arg(url).output().context("cannot start the load generator")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the load generator failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    let load = match protocol {
        Protocol::H1 => parse_wrk(&text),
        Protocol::H2 => parse_h2load(&text),
    };
    load.with_context(|| format!("the load generator said something else than expected:\n{text}"))
}

fn parse_wrk(text: &str) -> Option<Load> {
    let bad = after(text, "Non-2xx or 3xx responses:").and_then(|n| n.parse().ok()).unwrap_or(0);
    let sockets = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:")).map_or(0, sum);
    Some(Load {
        requests: text.lines().find(|line| line.contains(" requests in "))?.split_whitespace().next()?.parse().ok()?,
        requests_per_second: after(text, "Requests/sec:")?.parse().ok()?,
        latency: microseconds(after(text, "50%")?)?,
        latency_tail: microseconds(after(text, "99%")?)?,
        failures: bad + sockets,
    })
}

fn parse_h2load(text: &str) -> Option<Load> {
    let line = |prefix: &str| text.lines().find_map(|line| line.trim().strip_prefix(prefix));
    let number_before = |line: &str, word: &str| -> Option<u64> {
        let before = line.split(',').map(str::trim).find_map(|part| part.strip_suffix(word))?;
        before.trim().parse().ok()
    };
    let (requests, statuses) = (line("requests:")?, line("status codes:")?);
    let mut times = line("time for request:")?.split_whitespace();
    let (_shortest, longest, mean) = (times.next()?, times.next()?, times.next()?);
    Some(Load {
        requests: number_before(requests, "done")?,
        requests_per_second: number(line("finished in ")?.split(", ").nth(1)?)?,
        latency: microseconds(mean)?,
        latency_tail: microseconds(longest)?,
        failures: ["failed", "timeout"].iter().filter_map(|word| number_before(requests, word)).sum::<u64>()
            + ["4xx", "5xx"].iter().filter_map(|word| number_before(statuses, word)).sum::<u64>(),
    })
}

fn after<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.trim().strip_prefix(label))?.split_whitespace().next()
}

fn number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

fn sum(line: &str) -> u64 {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum()
}

/// `12.34us`, `1.20ms`, `2.00s`.
fn microseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(value) = text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok()) {
            return Some(value * factor);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_understood() {
        let text = "Running 5s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  Thread Stats   Avg\n  Latency Distribution\n     \
                    50%    1.20ms\n     75%    1.30ms\n     90%    1.40ms\n     99%    2.00s\n  123456 requests in 5.00s, 150.00MB read\n  \
                    Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 4\nRequests/sec:  24691.20\nTransfer/sec: 1MB\n";
        let load = parse_wrk(text).unwrap();
        assert_eq!((load.requests, load.requests_per_second), (123_456, 24_691.2));
        assert_eq!((load.latency, load.latency_tail, load.failures), (1200.0, 2e6, 10));
    }

    #[test]
    fn h2load_is_understood() {
        let text = "finished in 5.00s, 20000.40 req/s, 21.93MB/s\n\
                    requests: 100002 total, 100072 started, 100002 done, 100000 succeeded, 2 failed, 2 errored, 0 timeout\n\
                    status codes: 99999 2xx, 0 3xx, 1 4xx, 0 5xx\n\
                    time for request:      100us     5.10ms      3.20ms       810us    71.51%\n";
        let load = parse_h2load(text).unwrap();
        assert_eq!((load.requests, load.requests_per_second), (100_002, 20_000.4));
        assert_eq!((load.latency, load.latency_tail, load.failures), (3200.0, 5100.0, 3));
    }
}
