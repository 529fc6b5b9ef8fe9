//! What plugins cost an exchange: both hooks through [`PolicyWorker`], as the proxy calls them, in chains of 0, 1 and 3 plugins.
//!
//! ```text
//! cargo bench -p penstock-plugin-host
//! ```
//!
//! The request has 12 headers and the response 8, as a browser and an application server send them. Each plugin reads two headers of the
//! request and sets one; in the response it sets one and removes one. The bench undoes the edits after each turn, also for the empty
//! chain, so the difference between two rows is what plugins cost. In `answer` the guest's answers stand ready in its memory, which leaves
//! the boundary, the checks and the edits; `header-rules` is the real plugin.

#![allow(clippy::unwrap_used, reason = "a bench may")]

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Request, Response, header::SERVER, request, response};
use penstock_core::plugin::{PluginSpec, PolicyCall, PolicyWorker, Proceed, Verdict};
use support::{
    exchange::{facts, rule},
    facts::{Host, call, spec},
    guest::{Answer, Edit, Guest},
};

fn guest() -> Guest {
    let mut guest = Guest {
        on_request: Answer::Proceed(vec![Edit::SetKnown(0, b"blue".to_vec())], 1),
        on_response: Answer::Proceed(vec![Edit::SetKnown(0, b"penstock".to_vec()), Edit::RemoveKnown(1)], 0),
        ..Guest::default()
    };
    let names = |names: [&str; 2]| names.map(String::from).to_vec();
    guest.plan.request_reads = names(["user-agent", "x-tenant"]);
    guest.plan.request_writes = vec!["x-route".into()];
    guest.plan.response_writes = names(["x-served-by", "server"]);
    guest
}

fn request() -> request::Parts {
    let headers = [
        ("host", "shop.example"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 and some more of it"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-GB,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://shop.example/catalogue/chairs"),
        ("cookie", "session=3f9a1c55e2; theme=dark; consent=yes"),
        ("x-tenant", "acme-ag"),
        ("x-request-id", "0199b7a2-8f1e-7d3c-9a55-1f2e3d4c5b6a"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("cache-control", "no-cache"),
    ];
    let builder = headers
        .iter()
        .fold(Request::get("/catalogue/chairs/42?colour=red"), |builder, (name, value)| builder.header(*name, *value));
    builder.body(()).unwrap().into_parts().0
}

fn response() -> response::Parts {
    let headers = [
        ("server", "origin/1.0"),
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "5120"),
        ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
        ("cache-control", "private, max-age=0"),
        ("etag", "\"5f3c-18a\""),
        ("vary", "accept-encoding"),
        ("set-cookie", "session=3f9a1c55e2; Path=/; HttpOnly"),
    ];
    let builder = headers.iter().fold(Response::builder(), |builder, (name, value)| builder.header(*name, *value));
    builder.body(()).unwrap().into_parts().0
}

/// Request hooks in order, response hooks in reverse.
fn exchange(
    worker: &dyn PolicyWorker,
    chain: &[PolicyCall],
    request: &mut request::Parts,
    response: &mut response::Parts,
) {
    let rule = rule();
    let facts = facts(&rule);
    let mut kept: [Proceed; 3] = Default::default();
    for (call, kept) in chain.iter().zip(&mut kept) {
        if let Verdict::Proceed(proceed) = worker.on_request(call, &facts, request).at_once().unwrap() {
            *kept = proceed;
        }
    }
    for (call, kept) in chain.iter().zip(&kept).rev() {
        worker.on_response(call, kept, &facts, response).at_once().unwrap();
    }
    request.headers.remove("x-route");
    response.headers.remove("x-served-by");
    response.headers.insert(SERVER, HeaderValue::from_static("origin/1.0"));
}

/// The same edits, made by a plugin that was written with the SDK.
fn header_rules() -> serde_json::Value {
    serde_json::json!({ "rules": [{
        "when": { "headers": [{ "name": "x-tenant", "exact": "acme-ag" }, { "name": "user-agent", "present": true }] },
        "request": { "set": { "x-route": "blue" } },
        "response": { "set": { "x-served-by": "penstock" }, "remove": ["server"] }
    }] })
}

fn answer(criterion: &mut Criterion) {
    let spec = |name: &str| spec(name, Guest { name: name.into(), ..guest() }.build());
    chains(criterion, "answer", &["a", "b", "c"].map(spec));
}

fn real(criterion: &mut Criterion) {
    let module = penstock_testing::guests::bytes(penstock_testing::guests::HEADER_RULES);
    let spec = |name: &str| PluginSpec { config: header_rules().into(), ..spec(name, module.clone()) };
    chains(criterion, "header-rules", &["a", "b", "c"].map(spec));
}

fn chains(criterion: &mut Criterion, name: &str, specs: &[PluginSpec; 3]) {
    let host = Host::start();
    host.apply(&specs.each_ref());
    let calls: Vec<PolicyCall> = specs.iter().map(|spec| call(&host.active(spec))).collect();
    let worker = host.host.runtime().worker();
    let (mut request, mut response) = (request(), response());
    let mut group = criterion.benchmark_group(name);
    for plugins in [0, 1, 3] {
        group.bench_function(format!("{plugins} plugins"), |bencher| {
            bencher.iter(|| exchange(&*worker, &calls[..plugins], &mut request, &mut response));
        });
    }
    group.finish();
}

criterion_group!(benches, answer, real);
criterion_main!(benches);
