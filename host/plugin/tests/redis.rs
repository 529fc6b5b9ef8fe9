//! Plugins with buckets in Redis, through the host. Limits have windows of an hour, so nothing depends on time.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::request;
use penstock_core::{
    backend::{Backend, BackendKey, BackendProtocol, Endpoint, EndpointSet},
    plugin::{
        Called, Capabilities, OutboundReference, PluginFault, PluginSpec, PolicyCall, PolicyWorker, RateAlgorithm,
        RateLimit, RateWindow, RedisBucket, RedisGrant, RedisLogin, Verdict, WhenUnavailable,
    },
    reason::Reason,
    route::{Failure, Target},
};
use penstock_testing::{
    eventually::eventually,
    guests::{self, RATE_LIMIT},
    redis::Redis,
};
use serde_json::json;
use support::{
    exchange::{facts, request, rule, works},
    facts::{Host, call, spec},
    guest::{Answer, Guest},
    outbound::{poll, waiting},
};

/// Long enough for a machine that does other things.
const LONG: Duration = Duration::from_secs(20);

/// The plugin rate-limit with a bucket of two an hour.
fn limiting(timeout: Duration, when_unavailable: WhenUnavailable) -> PluginSpec {
    let backend = OutboundReference::service("default", "redis", 6379);
    let redis = RedisGrant { backend, database: 0, username: None, password: None, timeout, when_unavailable };
    let bucket = RateLimit {
        name: "hourly".into(),
        algorithm: RateAlgorithm::SlidingWindow,
        limit: NonZeroU32::new(2).unwrap(),
        window: RateWindow::new(Duration::from_secs(3600)).unwrap(),
        max_keys: RateLimit::USUAL_KEYS,
        redis: Some(redis),
    };
    PluginSpec {
        config: Arc::new(json!({"policies": [{"bucket": "hourly"}], "onUnavailable": "Deny"})),
        capabilities: Capabilities { metrics: true, rate_limits: vec![bucket], ..Capabilities::default() },
        ..spec("limits", guests::bytes(RATE_LIMIT))
    }
}

fn at(address: SocketAddr) -> Target {
    let key = BackendKey { name: "default/redis".into(), port: 6379, protocol: BackendProtocol::Http1, tls: None };
    let endpoints = EndpointSet { endpoints: vec![Endpoint::Address(address)] };
    Target::Backend(Arc::new(Backend { key, endpoints: Arc::new(ArcSwap::from_pointee(endpoints)) }))
}

/// One gateway.
struct World {
    host: Host,
    worker: Box<dyn PolicyWorker>,
    call: PolicyCall,
}

impl World {
    fn new(spec: &PluginSpec, target: Target) -> Self {
        let host = Host::start();
        let active = host.activate(spec);
        assert_eq!(*active.redis, *spec.capabilities.rate_limits);
        let bucket = RedisBucket { bucket: "hourly".into(), target, login: RedisLogin::default() };
        let call = PolicyCall { redis: Arc::new([bucket]), ..call(&active) };
        Self { worker: host.host.runtime().worker(), host, call }
    }

    /// The status that a request gets from the plugin, or 200.
    async fn ask(&self) -> u16 {
        let (rule, mut head) = (rule(), request());
        let facts = facts(&rule);
        status(self.on_request(&facts, &mut head).answer().await)
    }

    fn on_request<'a>(
        &'a self,
        facts: &'a penstock_core::plugin::ExchangeFacts<'a>,
        head: &'a mut request::Parts,
    ) -> Called<'a, Verdict> {
        self.worker.on_request(&self.call, facts, head)
    }

    fn counted(&self, outcome: &str) -> f64 {
        let labels = format!("{{plugin=\"default/limits\",bucket=\"hourly\",outcome=\"{outcome}\"}}");
        self.host.metric(&format!("penstock_plugin_rate_limit_store_requests_total{labels}"))
    }
}

#[track_caller]
fn status(verdict: Result<Verdict, PluginFault>) -> u16 {
    match verdict.unwrap() {
        Verdict::Reply(reply) => reply.status().as_u16(),
        Verdict::Proceed(_) => 200,
        Verdict::Hold => panic!("nothing is held"),
    }
}

#[tokio::test]
async fn gateways_share_a_bucket() {
    let redis = Redis::start();
    let spec = limiting(LONG, WhenUnavailable::Refuse);
    let [one, two] = [(); 2].map(|()| World::new(&spec, at(redis.address())));
    assert_eq!([one.ask().await, two.ask().await, one.ask().await, two.ask().await], [200, 200, 429, 429]);
    assert!(one.counted("answered") >= 2.0);
    let seconds = "penstock_plugin_rate_limit_store_seconds_count{plugin=\"default/limits\",bucket=\"hourly\"}";
    assert_eq!(one.host.metric(seconds), one.counted("answered"));
}

#[tokio::test]
async fn without_redis_each_gateway_counts_for_itself_until_it_is_back() {
    let redis = Redis::start();
    let spec = limiting(LONG, WhenUnavailable::Local);
    let world = World::new(&spec, at(redis.address()));
    assert_eq!([world.ask().await, world.ask().await, world.ask().await], [200, 200, 429]);
    let stopped = redis.stop();
    assert_eq!([world.ask().await, world.ask().await, world.ask().await], [200, 200, 429], "its own bucket");
    assert!(world.counted("connect") >= 3.0);
    let redis = stopped.start();
    eventually("a decision of Redis", async || (world.ask().await == 200).then_some(())).await;
    assert_eq!(redis.command(&["--raw", "DBSIZE"]), "1");
}

#[tokio::test]
async fn without_redis_the_plugin_is_told_if_the_resource_wants_it_so() {
    let redis = Redis::start();
    let spec = limiting(LONG, WhenUnavailable::Refuse);
    let world = World::new(&spec, at(redis.address()));
    assert_eq!(world.ask().await, 200);
    let stopped = redis.stop();
    assert_eq!([world.ask().await, world.ask().await], [503, 503], "onUnavailable: Deny");
    let _redis = stopped.start();
    eventually("a decision of Redis", async || (world.ask().await == 200).then_some(())).await;
}

#[tokio::test]
async fn a_hook_asks_for_so_many_decisions() {
    let redis = Redis::start();
    let asking = Guest {
        imports: "(data (i32.const 0) \"hourly\") (import \"penstock:plugin/rate-limit@0.1.0\" \"take\"
            (func $call (param i32 i32 i32 i32 i32 i32)))"
            .into(),
        fields: "(global $left (mut i32) (i32.const 0))".into(),
        on_request: Answer::Code(
            "(global.set $left (i32.const 65))
             (loop $again
                (call $call (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 128))
                (global.set $left (i32.sub (global.get $left) (i32.const 1)))
                (br_if $again (global.get $left)))
             (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
             (i64.store (i32.const 80) (i64.const 0)) i32.const 64"
                .into(),
        ),
        ..Guest::default()
    };
    let capabilities = limiting(LONG, WhenUnavailable::Local).capabilities;
    let world = World::new(&PluginSpec { capabilities, ..spec("limits", asking.build()) }, at(redis.address()));
    for asked in [1.0, 2.0] {
        assert_eq!(world.ask().await, 200);
        assert_eq!((world.counted("answered"), world.counted("quota")), (64.0 * asked, asked), "each hook has its own");
    }
}

#[tokio::test]
async fn a_reference_that_leads_nowhere_is_an_outage() {
    let failure = Failure { reason: Reason::InvalidBackend, message: "no such Service".into() };
    let world = World::new(&limiting(LONG, WhenUnavailable::Local), Target::Fail(failure));
    assert_eq!([world.ask().await, world.ask().await, world.ask().await], [200, 200, 429]);
    assert!(world.counted("unresolved") >= 3.0);
}

#[tokio::test]
async fn while_one_waits_others_go_on() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = limiting(Duration::from_millis(200), WhenUnavailable::Refuse);
    let world = World::new(&spec, at(silent.local_addr().unwrap()));
    let neighbour = support::facts::spec("quick", Guest::default().build());
    world.host.apply(&[&spec, &neighbour]);
    let quick = world.host.active(&neighbour);
    let (rule, mut head) = (rule(), request());
    let facts = facts(&rule);
    let mut one = waiting(world.on_request(&facts, &mut head));
    assert!(poll(&mut one).is_pending());
    works(&*world.worker, &quick);
    assert_eq!(status(one.await), 503, "when its time is over");
    assert_eq!(world.counted("timeout"), 1.0);
}

#[test]
fn buckets_in_memory_make_nobody_wait() {
    let mut spec = limiting(LONG, WhenUnavailable::Local);
    spec.capabilities.rate_limits[0].redis = None;
    let host = Host::start();
    let active = host.activate(&spec);
    let (worker, rule, mut head) = (host.host.runtime().worker(), rule(), request());
    let (call, facts) = (call(&active), facts(&rule));
    let called = worker.on_request(&call, &facts, &mut head);
    assert!(matches!(called, Called::Answered(Ok(Verdict::Proceed(_)))), "{called:?}");
}
