//! How long a request takes to find its rule, and how long a table takes to follow a change, among 10, 1,000 and 10,000 routes.
//!
//! Two worlds: every route with a hostname of its own, and all routes under one hostname. Requests are spread over all routes, so that
//! the processor's caches see what they would see in use.

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use penstock_core::{
    Kind, ResourceRef,
    hostname::HostPattern,
    matching::{RequestView, RouteTable},
    reason::Reason,
    route::{Action, Failure, HeaderMatch, PathMatch, Route, Rule, RuleId, RuleMatch, ValueMatch},
};

const SIZES: [usize; 3] = [10, 1_000, 10_000];

#[derive(Clone, Copy)]
enum World {
    HostPerRoute,
    OneHost,
}

impl World {
    const ALL: [(Self, &'static str); 2] = [(Self::HostPerRoute, "host-per-route"), (Self::OneHost, "one-host")];

    fn host(self, at: usize) -> String {
        match self {
            Self::HostPerRoute => format!("shop-{at}.example.com"),
            Self::OneHost => "www.example.com".to_owned(),
        }
    }
}

/// A route as many have it: an exact path, a prefix, and a prefix with a header.
fn route(world: World, at: usize) -> Arc<Route> {
    let id = ResourceRef::new(Kind::HTTPRoute, "default", format!("route-{at}"));
    let canary = HeaderMatch {
        name: HeaderName::from_static("x-canary"),
        value: ValueMatch::Exact(HeaderValue::from_static("yes")),
    };
    let conditions = [
        (PathMatch::exact(&format!("/service-{at}/health")), vec![]),
        (PathMatch::prefix(&format!("/service-{at}/api")), vec![]),
        (PathMatch::prefix(&format!("/service-{at}/api")), vec![canary]),
    ];
    let rule = |(index, (path, headers)): (_, (Result<PathMatch, _>, _))| {
        Arc::new(Rule::new(
            RuleId { route: id.clone(), index, name: None },
            vec![RuleMatch {
                path: path.expect("the paths are well-formed"),
                method: None,
                headers,
                query: Vec::new(),
            }],
            Action::Fail(Failure { reason: Reason::NoBackend, message: "bench".into() }),
        ))
    };
    Arc::new(Route {
        id: id.clone(),
        created: 0,
        hostnames: vec![HostPattern::Exact(world.host(at).into())],
        rules: (0..).zip(conditions).map(rule).collect(),
    })
}

fn routes(world: World, size: usize) -> Vec<Arc<Route>> {
    (0..size).map(|at| route(world, at)).collect()
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    group.throughput(Throughput::Elements(1));
    let (plain, mut canary) = (HeaderMap::new(), HeaderMap::new());
    canary.insert("accept", HeaderValue::from_static("*/*"));
    canary.insert("x-canary", HeaderValue::from_static("yes"));
    for (world, world_name) in World::ALL {
        for size in SIZES {
            let table = RouteTable::build(&routes(world, size), None);
            let cases: [(&str, &str, &HeaderMap, bool); 4] = [
                ("exact", "health", &plain, true),
                ("prefix", "api/items/4711", &plain, true),
                ("header", "api/items/4711", &canary, true),
                ("miss", "unknown/items/4711", &plain, false),
            ];
            for (case, tail, headers, hit) in cases {
                let requests: Vec<_> = (0..size).map(|at| (world.host(at), format!("/service-{at}/{tail}"))).collect();
                let mut next = 0;
                group.bench_function(BenchmarkId::new(format!("{world_name}/{case}"), size), |bencher| {
                    bencher.iter(|| {
                        // A prime stride visits all of them in no order that a cache likes.
                        next = (next + 7_919) % size;
                        let (host, path) = &requests[next];
                        let method = &Method::GET;
                        let found = table.find(&RequestView { host, path, query: None, method, headers });
                        assert_eq!(black_box(found).is_some(), hit);
                    });
                });
            }
        }
    }
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build");
    group.sample_size(20);
    for (world, world_name) in World::ALL {
        for size in SIZES {
            let before = routes(world, size);
            let previous = RouteTable::build(&before, None);
            let mut at = 0;
            group.bench_function(BenchmarkId::new(format!("{world_name}/one-change"), size), |bencher| {
                bencher.iter_batched(
                    || {
                        at = (at + 7_919) % size;
                        let mut after = before.clone();
                        after[at] = route(world, at);
                        after
                    },
                    |after| (RouteTable::build(&after, Some(&previous)), after),
                    BatchSize::PerIteration,
                );
            });
            group.bench_function(BenchmarkId::new(format!("{world_name}/anew"), size), |bencher| {
                bencher.iter_with_large_drop(|| RouteTable::build(&before, None));
            });
        }
    }
}

criterion_group!(benches, find, build);
criterion_main!(benches);
