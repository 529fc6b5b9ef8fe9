//! One route changes among 10,000. The bar is 10 ms from the change to the translation.

#![allow(missing_docs, reason = "criterion's macros write items without docs")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use penstock_translate::{Change, Resources, Settings, Translator, resources::Object};
use serde_json::{Value, json};

const ROUTES: usize = 10_000;

fn object(kind: &str, api_version: &str, name: &str, rest: &Value) -> Object {
    let mut document = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "generation": 1}});
    for (field, value) in rest.as_object().into_iter().flatten() {
        match field.as_str() {
            "labels" => document["metadata"]["labels"] = value.clone(),
            _ => document[field] = value.clone(),
        }
    }
    Object::parse(api_version, kind, document).expect("a valid object")
}

/// Route `index`; with `hosts` hostnames in the world, spread evenly.
fn route(index: usize, hosts: usize, version: usize) -> Object {
    let spec = json!({"spec": {
        "parentRefs": [{"name": "web"}],
        "hostnames": [format!("host-{}.example.com", index % hosts)],
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": format!("/route-{index}")}}],
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-version", "value": version.to_string()}]}}],
            "backendRefs": [{"name": format!("service-{}", index % 1000), "port": 80}],
        }],
    }});
    object("HTTPRoute", "gateway.networking.k8s.io/v1", &format!("route-{index:05}"), &spec)
}

fn world(hosts: usize) -> Resources {
    let mut resources = Resources::default();
    let gateway = json!({"spec": {"gatewayClassName": "penstock", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}});
    resources.apply(Change::Upsert(object("Gateway", "gateway.networking.k8s.io/v1", "web", &gateway)));
    for index in 0..1000 {
        let name = format!("service-{index}");
        let service = json!({"spec": {"ports": [{"port": 80}]}});
        resources.apply(Change::Upsert(object("Service", "v1", &name, &service)));
        let slice = json!({
            "labels": {"kubernetes.io/service-name": name},
            "addressType": "IPv4", "ports": [{"port": 3000}], "endpoints": [{"addresses": ["127.0.0.1"]}],
        });
        resources.apply(Change::Upsert(object("EndpointSlice", "discovery.k8s.io/v1", &format!("{name}-1"), &slice)));
    }
    for index in 0..ROUTES {
        resources.apply(Change::Upsert(route(index, hosts, 0)));
    }
    resources
}

fn one_change(criterion: &mut Criterion) {
    let settings = Settings::standalone();
    let mut group = criterion.benchmark_group("one route among 10,000");
    group.sample_size(50);
    for (name, hosts) in [("10,000 hostnames", ROUTES), ("100 hostnames", 100), ("one hostname", 1)] {
        let (mut resources, mut translator) = (world(hosts), Translator::default());
        let mut last = translator.translate(&resources, &settings);
        let mut version = 0;
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    version += 1;
                    Change::Upsert(route(version * 7919 % ROUTES, hosts, version))
                },
                |change| {
                    resources.apply(change);
                    last = translator.translate(&resources, &settings);
                    black_box(&last);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn endpoints(criterion: &mut Criterion) {
    let settings = Settings::standalone();
    let (mut resources, mut translator) = (world(100), Translator::default());
    let mut last = translator.translate(&resources, &settings);
    let mut version = 0;
    criterion.bench_function("one endpoint among 1,000 services", |bencher| {
        bencher.iter(|| {
            version += 1;
            let slice = json!({
                "labels": {"kubernetes.io/service-name": "service-7"},
                "addressType": "IPv4", "ports": [{"port": 3000}],
                "endpoints": [{"addresses": [format!("127.0.0.{}", 1 + version % 200)]}],
            });
            resources.apply(Change::Upsert(object("EndpointSlice", "discovery.k8s.io/v1", "service-7-1", &slice)));
            last = translator.translate(&resources, &settings);
            black_box(&last);
        });
    });
}

fn from_scratch(criterion: &mut Criterion) {
    let settings = Settings::standalone();
    let resources = world(100);
    let mut group = criterion.benchmark_group("10,000 routes");
    group.sample_size(10);
    group.bench_function("from scratch", |bencher| {
        bencher.iter(|| black_box(penstock_translate::translate(&resources, &settings)));
    });
    group.finish();
}

criterion_group!(benches, one_change, endpoints, from_scratch);
criterion_main!(benches);
