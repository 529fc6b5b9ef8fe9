//! What the plugin `rate-limit` costs an exchange: both hooks through `PolicyWorker`, as the proxy calls them.
//!
//! ```text
//! cargo bench -p penstock-plugin-host --bench rate_limit
//! ```
//!
//! `one policy` counts by client address, `two policies` in two windows, which are asked before they are taken from; `denied` has nothing left, and builds the
//! answer; `exempt` looks at one header and counts in a metric alone; `silent` writes no headers and so has no response hook.

#![allow(clippy::unwrap_used, reason = "a bench may")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderValue;
use penstock_core::plugin::{Capabilities, PluginSpec, RateAlgorithm, RateLimit, RateWindow, Verdict};
use penstock_testing::guests::{self, RATE_LIMIT};
use serde_json::{Value, json};
use support::{
    exchange::{facts, request, response, rule},
    facts::{Host, call, spec},
};

/// With the buckets `much`, which never ends, and `none`, which ends with the first request.
fn limiting(name: &str, config: Value) -> PluginSpec {
    let bucket = |name: &str, limit: u32| RateLimit {
        name: name.into(),
        algorithm: RateAlgorithm::SlidingWindow,
        limit: NonZeroU32::new(limit).unwrap(),
        window: RateWindow::new(Duration::from_secs(3600)).unwrap(),
        max_keys: RateLimit::USUAL_KEYS,
        redis: None,
    };
    let rate_limits = vec![bucket("much", u32::MAX), bucket("none", 1)];
    PluginSpec {
        config: Arc::new(config),
        capabilities: Capabilities { metrics: true, rate_limits, ..Capabilities::default() },
        ..spec(name, guests::bytes(RATE_LIMIT))
    }
}

fn costs(criterion: &mut Criterion) {
    let client = json!([{"clientAddress": {}}]);
    let one = json!([{"bucket": "much", "key": client}]);
    let two = json!([{"name": "a", "bucket": "much", "key": client}, {"name": "b", "bucket": "much", "key": client}]);
    let exempt = json!([{"headers": [{"name": "x-in", "present": true}]}]);
    for (name, config) in [
        ("one policy", json!({ "policies": one })),
        ("two policies", json!({ "policies": two })),
        ("silent", json!({ "policies": one, "headers": "None" })),
        ("denied", json!({ "policies": [{"bucket": "none", "key": client}] })),
        ("exempt", json!({ "policies": one, "exempt": exempt })),
    ] {
        measure(criterion, name, config);
    }
}

fn measure(criterion: &mut Criterion, name: &str, config: Value) {
    let host = Host::start();
    let active = host.activate(&limiting("limits", config));
    let worker = host.host.runtime().worker();
    let (call, rule) = (call(&active), rule());
    let facts = facts(&rule);
    let (mut request, mut response) = (request(), response());
    request.headers.insert("x-in", HeaderValue::from_static("1"));
    criterion.benchmark_group("rate-limit").bench_function(name, |bencher| {
        bencher.iter(|| {
            let verdict = worker.on_request(&call, &facts, &mut request).at_once().unwrap();
            let Verdict::Proceed(kept) = verdict else { return };
            if call.hooks.response && !kept.skip.response {
                worker.on_response(&call, &kept, &facts, &mut response).at_once().unwrap();
                response.headers.remove("ratelimit");
                response.headers.remove("ratelimit-policy");
            }
        });
    });
}

criterion_group!(benches, costs);
criterion_main!(benches);
