//! Buckets, counters and values through the host: shared by workers, kept over reloads, apart from those of other plugins.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::result_large_err, reason = "a test compares whole responses")]

mod support;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::{Uri, request};
use penstock_core::plugin::{
    ActiveRevision, Capabilities, FaultKind, PluginLimits, PluginSpec, PolicyWorker, RateAlgorithm, RateLimit,
    RateWindow, Verdict,
};
use penstock_testing::guests::{self, KEEPER, RATE_LIMIT};
use serde_json::{Value, json};
use support::{
    exchange::{facts, request, response, rule},
    facts::{Host, call, spec},
};

fn keeper(plugin: &str, revision: u32) -> PluginSpec {
    PluginSpec {
        generation: revision.into(),
        config: Arc::new(json!({"revision": revision})),
        capabilities: Capabilities { counters: true, key_value: true, log: true, ..Capabilities::default() },
        ..spec(plugin, guests::bytes(KEEPER))
    }
}

/// What the keeper answers to a query.
#[track_caller]
fn ask(worker: &dyn PolicyWorker, active: &ActiveRevision, query: &str) -> String {
    let mut head = request();
    head.uri = Uri::try_from(format!("/?{query}")).unwrap();
    worker.on_request(&call(active), &facts(&rule()), &mut head).at_once().unwrap();
    head.headers["x-answer"].to_str().unwrap().to_owned()
}

#[test]
fn workers_share_counters_and_values() {
    let host = Host::start();
    let active = host.activate(&keeper("a", 1));
    let workers = [host.host.runtime().worker(), host.host.runtime().worker()];
    let ask = |worker: usize, query: &str| ask(&*workers[worker], &active, query);
    assert_eq!([ask(0, "add:n:2"), ask(1, "add:n:3"), ask(0, "add:n:-6"), ask(1, "count:n")], ["2", "5", "-1", "-1"]);
    assert_eq!([ask(0, "get:k"), ask(0, "set:k:v"), ask(1, "get:k")], ["absent", "Ok(())", "v"]);
    assert_eq!([ask(1, "swap:k:w:x"), ask(1, "swap:k:v:x"), ask(0, "get:k")], ["Ok(false)", "Ok(true)", "x"]);
    assert_eq!(
        [ask(1, "delete:k"), ask(0, "get:k"), ask(0, "swap:k:-:y"), ask(1, "get:k")],
        ["deleted", "absent", "Ok(true)", "y"]
    );
}

#[test]
fn a_panic_says_where_and_why() {
    let host = Host::start();
    let active = host.activate(&keeper("a", 1));
    let worker = host.host.runtime().worker();
    let mut head = request();
    head.uri = Uri::from_static("/?panic:cheese");
    let fault = worker.on_request(&call(&active), &facts(&rule()), &mut head).at_once().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap);
    let place = fault.message.strip_prefix("it panicked at ").and_then(|rest| rest.strip_suffix(": about cheese"));
    assert!(place.is_some_and(|place| place.contains("keeper/src/lib.rs:")), "{}", fault.message);
    assert_eq!(ask(&*worker, &active, "count:n"), "0", "the next exchange");
}

#[test]
fn lifetimes_are_in_milliseconds() {
    let host = Host::start();
    let active = host.activate(&keeper("a", 1));
    let worker = host.host.runtime().worker();
    let ask = |query: &str| ask(&*worker, &active, query);
    assert_eq!([ask("add:n:1:0"), ask("count:n")], ["1", "0"]);
    assert_eq!([ask("set:k:v:0"), ask("get:k")], ["Ok(())", "absent"]);
    assert_eq!([ask("add:n:1:3600000"), ask("count:n")], ["1", "1"]);
    assert_eq!([ask("set:k:v:3600000"), ask("get:k")], ["Ok(())", "v"]);
}

#[test]
fn counters_and_values_survive_a_reload_and_a_deletion() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let first = host.activate(&keeper("a", 1));
    ask(&*worker, &first, "add:n:2");
    ask(&*worker, &first, "set:k:v");
    let second = host.activate(&keeper("a", 2));
    assert_eq!(ask(&*worker, &second, "count:n"), "2");
    assert_eq!(ask(&*worker, &second, "get:k"), "v");
    host.apply(&[]);
    host.facts.until(&keeper("a", 2).plugin, |state| state.active.is_none().then_some(()));
    drop((first, second));
    let third = host.activate(&keeper("a", 3));
    assert_eq!(ask(&*worker, &third, "count:n"), "2");
    assert_eq!(ask(&*worker, &third, "get:k"), "v");
}

#[test]
fn plugins_share_nothing_with_each_other() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let specs = [keeper("a", 1), keeper("b", 1)];
    host.apply(&[&specs[0], &specs[1]]);
    let [a, b] = specs.each_ref().map(|spec| host.active(spec));
    ask(&*worker, &a, "add:n:2");
    ask(&*worker, &a, "set:k:v");
    assert_eq!([ask(&*worker, &b, "count:n"), ask(&*worker, &b, "get:k")], ["0", "absent"]);
}

#[test]
fn values_have_a_quota() {
    let host = Host::start();
    let spec = keeper("a", 1);
    let limits = PluginLimits { key_value_bytes: 1000, ..spec.limits.clone() };
    let active = host.activate(&PluginSpec { limits, ..spec });
    let worker = host.host.runtime().worker();
    let ask = |query: &str| ask(&*worker, &active, query);
    assert_eq!(
        [ask("large:a:700"), ask("large:b:700"), ask("large:a:800")],
        ["Ok(())", "Err(KeyValueError::Full)", "Ok(())"]
    );
    assert_eq!(ask("large:c:65537"), "Err(KeyValueError::TooLarge)");
}

#[test]
fn without_a_grant_the_component_is_refused_by_name() {
    let host = Host::start();
    let spec = PluginSpec { capabilities: Capabilities::default(), ..keeper("a", 1) };
    host.apply(&[&spec]);
    let (rejection, _) = host.rejected(&spec);
    assert_eq!(rejection.reason, "ImportNotGranted");
    for grant in ["spec.capabilities.counters: true", "spec.capabilities.keyValue: true"] {
        assert!(rejection.message.contains(grant), "{rejection:?}");
    }
}

/// With a bucket `hourly` of so many requests an hour.
fn limiting(plugin: &str, limit: u32, config: Value) -> PluginSpec {
    let bucket = RateLimit {
        name: "hourly".into(),
        algorithm: RateAlgorithm::SlidingWindow,
        limit: NonZeroU32::new(limit).unwrap(),
        window: RateWindow::new(Duration::from_secs(3600)).unwrap(),
        max_keys: RateLimit::USUAL_KEYS,
        redis: None,
    };
    PluginSpec {
        config: Arc::new(config),
        capabilities: Capabilities { metrics: true, rate_limits: vec![bucket], ..Capabilities::default() },
        ..spec(plugin, guests::bytes(RATE_LIMIT))
    }
}

fn per_client() -> Value {
    json!({"policies": [{"name": "client", "bucket": "hourly", "key": [{"header": "x-client"}]}]})
}

fn from(client: &'static str) -> request::Parts {
    let mut head = request();
    head.headers.insert("x-client", http::HeaderValue::from_static(client));
    head
}

/// The response headers of an exchange that passes, or the reply.
fn exchange(
    worker: &dyn PolicyWorker,
    active: &ActiveRevision,
    client: &'static str,
) -> Result<http::HeaderMap, http::Response<bytes::Bytes>> {
    let rule = rule();
    match worker.on_request(&call(active), &facts(&rule), &mut from(client)).at_once().unwrap() {
        Verdict::Reply(reply) => Err(reply),
        Verdict::Hold => panic!("a policy on headers holds nothing"),
        Verdict::Proceed(kept) => {
            let mut head = response();
            worker.on_response(&call(active), &kept, &facts(&rule), &mut head).at_once().unwrap();
            Ok(head.headers)
        }
    }
}

#[test]
fn requests_beyond_the_limit_are_denied_on_every_worker() {
    let host = Host::start();
    let active = host.activate(&limiting("a", 3, per_client()));
    let workers = [host.host.runtime().worker(), host.host.runtime().worker()];
    for (index, remaining) in [2, 1, 0].into_iter().enumerate() {
        let headers = exchange(&*workers[index % 2], &active, "anna").unwrap();
        let field = headers["ratelimit"].to_str().unwrap();
        assert!(field.starts_with(&format!("\"client\";r={remaining};t=")), "{field}");
        assert_eq!(headers["ratelimit-policy"], "\"client\";q=3;w=3600");
    }
    for worker in &workers {
        let reply = exchange(&**worker, &active, "anna").unwrap_err();
        assert_eq!(reply.status(), 429);
        assert_eq!(reply.headers()["content-type"], "application/problem+json");
        // The first of three is free again when the window is over.
        let retry: u64 = reply.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((3500..=3601).contains(&retry), "{retry}");
        assert!(exchange(&**worker, &active, "ben").is_ok());
    }
    let denied = r#"penstock_plugin_rate_limit_decisions_total{plugin="default/a",policy="client",outcome="denied"}"#;
    assert_eq!(host.metric(denied), 2.0);
}

#[test]
fn counts_survive_a_reload_and_a_deletion_and_a_changed_bucket_begins_anew() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let spec = limiting("a", 1, per_client());
    let first = host.activate(&spec);
    assert!(exchange(&*worker, &first, "anna").is_ok() && exchange(&*worker, &first, "anna").is_err());

    let mut config = per_client();
    config["denied"] = json!({"status": 503});
    let reloaded = PluginSpec { generation: 2, config: Arc::new(config), ..spec.clone() };
    let second = host.activate(&reloaded);
    assert_eq!(exchange(&*worker, &second, "anna").unwrap_err().status(), 503);

    host.apply(&[]);
    host.facts.until(&spec.plugin, |state| state.active.is_none().then_some(()));
    let third = host.activate(&spec);
    assert!(exchange(&*worker, &third, "anna").is_err());

    let fourth = host.activate(&PluginSpec { generation: 4, ..limiting("a", 2, per_client()) });
    assert!(exchange(&*worker, &fourth, "anna").is_ok());
}

#[test]
fn validating_a_candidate_takes_nothing() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    // The host's own samples would use up a bucket that all requests share.
    let all = json!({"policies": [{"bucket": "hourly"}]});
    let first = host.activate(&limiting("a", 2, all.clone()));
    assert!(exchange(&*worker, &first, "anna").is_ok());
    host.host.validate(&limiting("a", 2, all)).unwrap();
    assert!(exchange(&*worker, &first, "anna").is_ok());
    assert!(exchange(&*worker, &first, "anna").is_err());
}

#[test]
fn a_bucket_that_is_not_declared_is_found_before_any_traffic() {
    let host = Host::start();
    let spec = limiting("a", 2, json!({"policies": [{"bucket": "hourli"}]}));
    host.apply(&[&spec]);
    let (rejection, _) = host.rejected(&spec);
    assert_eq!(rejection.reason, "InvalidConfig");
    assert!(rejection.message.contains("did you mean `hourly`?"), "{rejection:?}");
}
