//! Whether the plugin `rate-limit` is exact in real time: for 30 seconds two workers get twice as many requests as are allowed, and of them the limit
//! must pass, give or take one in a hundred. Takes 30 seconds for each algorithm, and fails where the limit does not hold.
//!
//! ```text
//! cargo bench -p penstock-plugin-host --bench rate_limit_exact
//! ```
//!
//! That limits hold to the unit is tested beside the store, in virtual time; here the clock, the threads and the plugin are real.

#![allow(clippy::unwrap_used, reason = "a bench may")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    num::NonZeroU32,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use penstock_core::plugin::{ActiveRevision, Capabilities, PluginSpec, RateAlgorithm, RateLimit, RateWindow, Verdict};
use penstock_testing::guests::{self, RATE_LIMIT};
use serde_json::json;
use support::{
    exchange::{facts, request, rule},
    facts::{Host, call, spec},
};

/// Requests a second that are allowed.
const LIMIT: u32 = 500;
const SECONDS: u32 = 30;
const WORKERS: u32 = 2;

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let algorithms = [
        ("sliding window", RateAlgorithm::SlidingWindow),
        ("token bucket", RateAlgorithm::TokenBucket { burst: NonZeroU32::MIN }),
    ];
    let exact = algorithms.map(|(name, algorithm)| is_exact(name, algorithm));
    if exact == [true; 2] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_exact(name: &str, algorithm: RateAlgorithm) -> bool {
    let bucket = RateLimit {
        name: "second".into(),
        algorithm,
        limit: NonZeroU32::new(LIMIT).unwrap(),
        window: RateWindow::new(Duration::from_secs(1)).unwrap(),
        max_keys: RateLimit::USUAL_KEYS,
        redis: None,
    };
    let spec = PluginSpec {
        config: Arc::new(json!({"policies": [{"bucket": "second", "key": [{"clientAddress": {}}]}]})),
        capabilities: Capabilities { metrics: true, rate_limits: vec![bucket], ..Capabilities::default() },
        ..spec("limits", guests::bytes(RATE_LIMIT))
    };
    let host = Host::start();
    let active = host.activate(&spec);
    let start = Instant::now();
    let accepted: u32 = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn({
                    let (host, active) = (&host, &active);
                    move || accepted(host, active, start, worker)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    let expected = LIMIT * SECONDS;
    let off = (f64::from(accepted) / f64::from(expected) - 1.0) * 100.0;
    println!("{name}: {accepted} of {} requests passed, {expected} are allowed: {off:+.2} %", 2 * expected);
    off.abs() <= 1.0
}

/// How many of this worker's requests pass, which are spread evenly over the time.
fn accepted(host: &Host, active: &ActiveRevision, start: Instant, worker: u32) -> u32 {
    let workers = host.host.runtime().worker();
    let (call, rule) = (call(active), rule());
    let facts = facts(&rule);
    let mut accepted = 0;
    for index in (worker..2 * LIMIT * SECONDS).step_by(WORKERS as usize) {
        let due = start + Duration::from_secs(1) * index / (2 * LIMIT);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let verdict = workers.on_request(&call, &facts, &mut request()).at_once().unwrap();
        accepted += u32::from(matches!(verdict, Verdict::Proceed(_)));
    }
    accepted
}
