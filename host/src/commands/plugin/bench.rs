//! `penstock plugin bench`: what a plugin costs an exchange, and a gateway that loads it.

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use http::{Request, Response, Version, request, response};
use penstock_core::{
    Kind, ResourceRef,
    check::End,
    plugin::{BodyOverflow, ExchangeFacts, PluginSpec, PolicyCall, Proceed, Verdict},
    route::RuleId,
};
use penstock_plugin_host::rehearsal::{Rehearsal, answer};
use penstock_translate::Settings;
use serde::Serialize;

use super::{
    Output,
    module::{Component, Module},
    registry::Access,
    session::{self, Session},
    subject::Configuration,
};

/// Measure what a plugin costs an exchange
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Hooks are called as the proxy calls them, with a request of 12 headers and a response of 8, as a browser and an
application server send them. For a policy on bodies the whole exchange is measured, with a body of 16 KiB each way.

How to read it:
  median      what most calls cost; a policy on headers is good at 1 µs for both hooks, and slow beyond 10
  99 %        one call in a hundred takes longer: allocation, growth of memory, the machine itself
  instance    a gateway makes one for each worker and revision, and another one after each fault
  validation  cold: the first time a module is seen, with compiling; warm: later, with the compiled module on disk
Figures of a busy machine or a debug build of penstock are worthless. Compare two versions in one sitting.

Examples:
  penstock plugin bench my-plugin.wasm --config config.yaml
  penstock plugin bench my-plugin.wasm --path /admin --header 'x-tenant: acme' --iterations 1000000")]
pub(super) struct Args {
    /// The component: a file, or `oci://` and its reference in a registry
    #[arg(value_name = "FILE|oci://REFERENCE")]
    module: Component,

    #[command(flatten)]
    configuration: Configuration,

    #[command(flatten)]
    access: Access,

    /// Exchanges that are measured
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..))]
    iterations: u32,

    /// Path of the request, with query
    #[arg(long, default_value = "/catalogue/chairs/42?colour=red")]
    path: String,

    /// A header more in the request; repeat it for several
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// For people (table) or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    plugin: String,
    version: String,
    digest: String,
    debug_build: bool,
    iterations: u32,
    /// None if the plan has no such hook, or the other one replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_hook: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_hook: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<Spread>,
    /// Whether the plugin answered the request itself.
    replies: bool,
    instance_microseconds: f64,
    instance_memory_bytes: u64,
    cold_validation_milliseconds: f64,
    warm_validation_milliseconds: f64,
}

/// In microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spread {
    median: f64,
    percentile99: f64,
}

/// Measure and print.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let module = args.module.module(&args.access)?;
    if let Module::File(path) = &module {
        super::module::read(path)?;
    }
    let spec = args.configuration.spec(&module, &Settings::standalone())?;
    let cache = Cache::new()?;
    let (cold, _) = validated(&spec, &cache)?;
    let (warm, mut session) = validated(&spec, &cache)?;
    let active = session.activate(&spec).map_err(|rejection| anyhow::anyhow!("{}", rejection.message))?;
    let call = session::call(&spec, &active, BodyOverflow::Reject);

    eprintln!("measuring {} exchanges …", args.iterations);
    let exchange = Exchange::new(args)?;
    let (request_hook, response_hook, whole, replies) = exchange.measure(&session, &call, args.iterations)?;
    let instances = (0..50).map(|_| session.try_instance(&active)).collect::<anyhow::Result<Vec<_>>>()?;
    let figures = Figures {
        plugin: active.name.to_string(),
        version: active.version.to_string(),
        digest: active.digest.to_string(),
        debug_build: cfg!(debug_assertions),
        iterations: args.iterations,
        request_hook,
        response_hook,
        exchange: whole,
        replies,
        instance_microseconds: Spread::of(instances.iter().map(|it| it.time).collect()).map_or(0.0, |it| it.median),
        instance_memory_bytes: instances.iter().map(|it| it.memory).max().unwrap_or(0),
        cold_validation_milliseconds: milliseconds(cold),
        warm_validation_milliseconds: milliseconds(warm),
    };
    args.output.print(&figures, table)?;
    Ok(ExitCode::SUCCESS)
}

/// A directory for compiled modules, gone afterwards.
struct Cache(PathBuf);

impl Cache {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("penstock-plugin-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> PathBuf {
        self.0.join("modules")
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How long a host that has just been started takes to bring the plugin into service.
fn validated(spec: &PluginSpec, cache: &Cache) -> anyhow::Result<(Duration, Session)> {
    let mut session = Session::start(Some(cache.path()))?;
    let start = Instant::now();
    match session.activate(spec) {
        Ok(_) => Ok((start.elapsed(), session)),
        Err(rejection) => bail!(
            "{}: {}\nWhat to do about it: penstock plugin check, with the same arguments",
            rejection.reason,
            rejection.message
        ),
    }
}

/// What is sent through the plugin again and again.
struct Exchange {
    request: request::Parts,
    response: response::Parts,
    rule: RuleId,
}

/// Exchanges that are timed together, so that reading the clock does not count: as many as keep their heads in the cache.
const BATCH: usize = 16;

/// Bytes of each body, where bodies are measured.
const BODY: usize = 16 << 10;

type Measured = (Option<Spread>, Option<Spread>, Option<Spread>, bool);

impl Exchange {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let mut request =
            REQUEST.iter().fold(Request::get(args.path.as_str()), |it, (name, value)| it.header(*name, *value));
        for header in &args.headers {
            let Some((name, value)) = header.split_once(':') else {
                bail!("--header: `{header}` is no header; write 'name: value'");
            };
            request = request.header(name.trim(), value.trim());
        }
        let response = RESPONSE.iter().fold(Response::builder(), |it, (name, value)| it.header(*name, *value));
        Ok(Self {
            request: request.body(()).context("--path or --header")?.into_parts().0,
            response: response.body(())?.into_parts().0,
            rule: RuleId { route: ResourceRef::new(Kind::HTTPRoute, "default", "bench"), index: 0, name: None },
        })
    }

    fn facts(&self) -> ExchangeFacts<'_> {
        ExchangeFacts {
            client: ([192, 0, 2, 7], 49152).into(),
            version: Version::HTTP_11,
            scheme: "https",
            server_name: Some("shop.example"),
            tls_version: Some("TLSv1.3"),
            rule: &self.rule,
            request_id: "0199b7a2-8f1e-7d3c-9a55-1f2e3d4c5b6a",
        }
    }

    /// The spreads of both hooks and of the exchange, and whether the plugin replied.
    fn measure(&self, session: &Session, call: &PolicyCall, iterations: u32) -> anyhow::Result<Measured> {
        let (mut requests, mut responses, mut both) = (Vec::new(), Vec::new(), Vec::new());
        if call.hooks.streaming.is_some() || call.hooks.choose {
            return self.measure_whole(session, call, iterations);
        }
        let mut replies = false;
        let batches = iterations.div_ceil(u32::try_from(BATCH)?);
        // The first tenth warms up.
        for round in 0..batches + batches / 10 {
            let batch = self.batch(session, call)?;
            replies |= batch.replied;
            if round >= batches / 10 {
                requests.push(batch.request);
                responses.push(batch.response);
                both.push(batch.request + batch.response);
            }
        }
        let spread = |there: bool, times: Vec<Duration>| if there { Spread::of(times) } else { None };
        let hooks = call.hooks;
        Ok((
            spread(hooks.request, requests),
            spread(hooks.response && !replies, responses),
            spread(hooks.request && hooks.response && !replies, both),
            replies,
        ))
    }

    /// Policies on bodies have hooks that follow from each other, and route plugins have one: only the whole is measured, with a body of
    /// 16 KiB each way, or with two backends to choose from.
    fn measure_whole(&self, session: &Session, call: &PolicyCall, iterations: u32) -> anyhow::Result<Measured> {
        let headers = |headers: &http::HeaderMap| -> serde_json::Map<String, serde_json::Value> {
            let one = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())
            };
            headers.iter().map(one).collect()
        };
        let exchange = serde_json::from_value(serde_json::json!({
            "name": "bench",
            "request": {
                "method": "POST", "path": self.request.uri.to_string(), "headers": headers(&self.request.headers),
                "body": { "size": BODY },
            },
            "candidates": [{ "name": "default/a:80" }, { "name": "default/b:80" }],
            "response": { "headers": headers(&self.response.headers), "body": { "size": BODY } },
        }))?;
        let rehearsal = Rehearsal::new(&exchange)?;
        let mut times = Vec::new();
        let mut replies = false;
        for round in 0..iterations + iterations / 10 {
            let outcome = rehearsal.run(session.worker(), call);
            match outcome.end {
                End::Fault(hook, fault) => bail!("{hook}: {fault}"),
                End::Reply(_) => replies = true,
                End::Response(_) | End::Aborted(_) => {}
            }
            if round >= iterations / 10 {
                times.push(outcome.time);
            }
        }
        Ok((None, None, Spread::of(times), replies))
    }

    /// One batch; times are those of one exchange in it.
    fn batch(&self, session: &Session, call: &PolicyCall) -> anyhow::Result<Batch> {
        let (worker, facts) = (session.worker(), self.facts());
        let mut requests: Vec<_> = (0..BATCH).map(|_| self.request.clone()).collect();
        let mut responses: Vec<_> = (0..BATCH).map(|_| self.response.clone()).collect();
        let mut kept = [const { None::<Proceed> }; BATCH];
        let mut replied = false;
        let start = Instant::now();
        if call.hooks.request || call.hooks.carries {
            for (head, kept) in requests.iter_mut().zip(&mut kept) {
                match answer(worker.on_request(call, &facts, head))? {
                    Verdict::Proceed(proceed) => *kept = Some(proceed),
                    Verdict::Reply(_) => replied = true,
                    Verdict::Hold => {}
                }
            }
        }
        let request = start.elapsed();
        let start = Instant::now();
        if call.hooks.response && !replied {
            for (head, kept) in responses.iter_mut().zip(kept) {
                answer(worker.on_response(call, &kept.unwrap_or_default(), &facts, head))?;
            }
        }
        let parts = u32::try_from(BATCH)?;
        Ok(Batch { request: request / parts, response: start.elapsed() / parts, replied })
    }
}

struct Batch {
    request: Duration,
    response: Duration,
    replied: bool,
}

const REQUEST: [(&str, &str); 12] = [
    ("host", "shop.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 and some more of it"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example/catalogue/chairs"),
    ("cookie", "session=3f9a1c55e2; theme=dark; consent=yes"),
    ("authorization", "Bearer 0199b7a28f1e7d3c9a55"),
    ("x-request-id", "0199b7a2-8f1e-7d3c-9a55-1f2e3d4c5b6a"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
    ("cache-control", "no-cache"),
];

const RESPONSE: [(&str, &str); 8] = [
    ("server", "origin/1.0"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "5120"),
    ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
    ("cache-control", "private, max-age=0"),
    ("etag", "\"5f3c-18a\""),
    ("vary", "accept-encoding"),
    ("set-cookie", "session=3f9a1c55e2; Path=/; HttpOnly"),
];

impl Spread {
    /// None of nothing.
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let micros = |time: &Duration| (time.as_secs_f64() * 1e9).round() / 1e3;
        Some(Self { median: micros(at(50)?), percentile99: micros(at(99)?) })
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

fn table(it: &Figures) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} {} ({})", it.plugin, it.version, it.digest);
    let _ = writeln!(out, "\n{:<22}{:>12}{:>12}", format!("{} exchanges", it.iterations), "median", "99 %");
    for (name, spread) in
        [("request hook", it.request_hook), ("response hook", it.response_hook), ("whole exchange", it.exchange)]
    {
        if let Some(Spread { median, percentile99 }) = spread {
            let _ = writeln!(out, "{name:<22}{median:>9.2} µs{percentile99:>9.2} µs");
        }
    }
    if it.request_hook.is_none() && it.response_hook.is_none() && it.exchange.is_none() {
        let _ = writeln!(out, "no hook with this configuration: it costs an exchange nothing");
    }
    if it.replies {
        let _ = writeln!(out, "(it answers this request itself; for another one: --path, --header)");
    }
    let _ = writeln!(out, "\n{:<22}{:>9.1} µs", "instance, configured", it.instance_microseconds);
    let memory = it.instance_memory_bytes.div_ceil(1024);
    let _ = writeln!(out, "{:<22}{memory:>8} KiB", "memory of an instance");
    let _ = writeln!(out, "{:<22}{:>9.1} ms", "validation, cold", it.cold_validation_milliseconds);
    let _ = writeln!(out, "{:<22}{:>9.1} ms", "validation, warm", it.warm_validation_milliseconds);
    if it.debug_build {
        let _ = writeln!(
            out,
            "\nThis penstock is a debug build: hooks cost several times what they cost in a release build. Compare only with\n\
             figures of the same program."
        );
    }
    let _ = writeln!(out, "\nHow to read it: penstock plugin bench --help");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_what_was_measured() {
        assert!(Spread::of(vec![]).is_none());
        let spread = Spread::of((1..=100).rev().map(Duration::from_micros).collect()).unwrap();
        assert_eq!((spread.median, spread.percentile99), (51.0, 100.0));
    }

    #[test]
    fn the_cache_is_removed() {
        let cache = Cache::new().unwrap();
        let path = cache.0.clone();
        assert!(path.is_dir());
        drop(cache);
        assert!(!path.exists());
    }
}
