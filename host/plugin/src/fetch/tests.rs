//! Servers as they should be, and as they should not.

use std::{sync::Arc, time::Duration};

use penstock_core::{
    Kind,
    plugin::{Capabilities, PluginLimits},
};
use penstock_testing::{
    certificate::Authority,
    gate::Gate,
    origin::{Answer, Origin, Recorded},
    port::free_address,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::*;
use crate::reason;

/// A fetcher with its metrics. A hang becomes a failure after a minute, and where a test wants the failure, `piece` is short.
struct Tested {
    fetcher: Fetcher,
    registry: Registry,
}

const LONG: Duration = Duration::from_secs(60);

fn patience() -> Patience {
    Patience { connect: LONG, answer: LONG, piece: LONG, whole: LONG }
}

impl Tested {
    fn new() -> Self {
        Self::with(Tls::default(), patience(), None)
    }

    fn with(tls: Tls, patience: Patience, downloads: Option<&Path>) -> Self {
        let mut registry = Registry::default();
        let metrics = FetchMetrics::register(&mut registry);
        let fetcher = Fetcher::with(HttpClient::new(tls, patience), downloads, metrics).unwrap();
        Self { fetcher, registry }
    }

    fn get(&self, url: &str, sha256: Sha256) -> Result<Bytes, FetchError> {
        self.fetcher.fetch(&http_spec(url, sha256)).map(|module| module.bytes)
    }

    /// Reason and message of a failure that is expected.
    fn refused(&self, url: &str, sha256: Sha256) -> (&'static str, String) {
        let error = self.get(url, sha256).expect_err(url);
        (error.reason(), error.to_string())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn spec(source: ModuleSource) -> PluginSpec {
    PluginSpec {
        plugin: ResourceRef::new(Kind::WasmPlugin, "default", "a"),
        generation: 1,
        source,
        config: Arc::default(),
        capabilities: Capabilities::default(),
        limits: PluginLimits { module_size: 1000, ..PluginLimits::default() },
        secrets: Vec::new(),
        rollout: Default::default(),
    }
}

fn http_spec(url: &str, sha256: Sha256) -> PluginSpec {
    spec(ModuleSource::Http(HttpSource { url: url.parse().unwrap(), sha256 }))
}

fn digest(bytes: &[u8]) -> Sha256 {
    Digest::of(bytes).into()
}

const MODULE: &[u8] = b"the module";

fn url(origin: &Origin, path: &str) -> String {
    format!("http://{}{path}", origin.address())
}

#[test]
fn what_was_fetched_once_is_not_fetched_again() {
    let origin = Origin::answering(Answer::new(200).body(MODULE));
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let tested = Tested::with(Tls::default(), patience(), Some(directory.path()));
        for _ in 0..3 {
            assert_eq!(tested.get(&url(&origin, "/a.wasm?v=1"), digest(MODULE)).unwrap(), MODULE);
        }
        assert_eq!(origin.requests().len(), 1, "start {round}");
        assert!(tested.metrics().contains(r#"penstock_plugin_fetches_total{source="http",outcome="Fetched"} 3"#));
    }
    let request = &origin.requests()[0];
    assert_eq!(request.path, "/a.wasm?v=1");
    assert_eq!(request.headers["host"], origin.address().to_string());
    let without = Tested::new();
    for _ in 0..2 {
        without.get(&url(&origin, "/a.wasm"), digest(MODULE)).unwrap();
    }
    assert_eq!(origin.requests().len(), 2, "in memory, where there is no directory");
    assert!(without.metrics().contains(r#"penstock_plugin_fetch_bytes_total{source="http"} 10"#));
}

#[test]
fn those_who_want_the_same_at_once_share_one_download() {
    let gate = Gate::new();
    let origin = Origin::answering(Answer::new(200).body(MODULE).after(&gate));
    let tested = Tested::new();
    let (sender, receiver) = mpsc::channel();
    let fetches: Vec<Fetch> = (0..8)
        .map(|_| {
            let sender = sender.clone();
            let spec = http_spec(&url(&origin, "/a"), digest(MODULE));
            tested
                .fetcher
                .begin(Arc::new(spec), Resolve::Known, move |module| sender.send(module.unwrap().bytes).unwrap())
        })
        .collect();
    gate.open();
    for _ in &fetches {
        assert_eq!(receiver.recv().unwrap(), MODULE);
    }
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_server_that_does_not_answer_holds_up_nobody_else() {
    let silent = Origin::answering(Answer::new(200).after(&Gate::new()));
    let good = Origin::answering(Answer::new(200).body(MODULE));
    let tested = Tested::new();
    let (sender, receiver) = mpsc::channel::<()>();
    let waiting = http_spec(&url(&silent, "/a"), digest(MODULE));
    // The sender lives as long as the fetch: when it is dropped, the fetch has ended without a result.
    let fetch = tested.fetcher.begin(Arc::new(waiting), Resolve::Known, move |_| drop(sender));
    assert_eq!(tested.get(&url(&good, "/a"), digest(MODULE)).unwrap(), MODULE);
    drop(fetch);
    assert_eq!(receiver.recv(), Err(mpsc::RecvError));
}

#[test]
fn another_content_is_refused_with_both_digests() {
    let origin = Origin::answering(Answer::new(200).body("something else"));
    let tested = Tested::new();
    let (reason, message) = tested.refused(&url(&origin, "/a?secret=1"), digest(MODULE));
    assert_eq!(reason, reason::DIGEST_MISMATCH);
    for part in [&digest(MODULE).to_string(), &digest(b"something else").to_string(), &url(&origin, "/a?…")] {
        assert!(message.contains(part), "{part} in {message}");
    }
    // It was not kept either.
    origin.answer(|_: &Recorded| Answer::new(200).body(MODULE));
    assert_eq!(tested.get(&url(&origin, "/a"), digest(MODULE)).unwrap(), MODULE);
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let origin = Origin::answering(Answer::new(200).body(MODULE));
    origin.answer(|request: &Recorded| match &*request.path {
        "/once" => Answer::new(302).header("location", "module"),
        "/circle" => Answer::new(307).header("location", "/circle"),
        "/nowhere" => Answer::new(301).header("location", "file:///etc/passwd"),
        _ => Answer::new(200).body(MODULE),
    });
    let tested = Tested::new();
    assert_eq!(tested.get(&url(&origin, "/once"), digest(MODULE)).unwrap(), MODULE);
    let circle = tested.refused(&url(&origin, "/circle"), digest(b"other"));
    assert_eq!(circle, (reason::INVALID_REDIRECT, format!("{} redirects more than 5 times", url(&origin, "/circle"))));
    let (reason, message) = tested.refused(&url(&origin, "/nowhere"), digest(b"other"));
    assert_eq!(reason, reason::INVALID_REDIRECT);
    assert!(message.contains("a scheme other than"), "{message}");
}

#[test]
fn in_a_cluster_nothing_is_fetched_from_this_machine() {
    let [allowed, refused] = [Origin::answering(Answer::new(200).body(MODULE)), Origin::answering(Answer::new(200))];
    let port = refused.address().port();
    let elsewhere = format!("http://[::ffff:127.0.0.2]:{port}/metadata");
    allowed.answer(move |request: &Recorded| match &*request.path {
        "/away" => Answer::new(302).header("location", elsewhere.as_str()),
        _ => Answer::new(200).body(MODULE),
    });
    let within = |networks: &[&str]| {
        let mut registry = Registry::default();
        let metrics = FetchMetrics::register(&mut registry);
        let allowed = networks.iter().map(|network| network.parse().unwrap()).collect();
        let client = HttpClient::new(Tls::default(), patience()).reaching(SourceAddresses::Elsewhere { allowed });
        Tested { fetcher: Fetcher::with(client, None, metrics).unwrap(), registry }
    };
    let tested = within(&[]);
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        let (reason, message) = tested.refused(&format!("http://{host}:{port}/a"), digest(MODULE));
        assert_eq!(reason, reason::ADDRESS_REFUSED, "{message}");
        assert!(
            message.starts_with(&format!("{host}:{port} is ")) && message.contains("--plugin-sources-allow"),
            "{message}"
        );
    }
    // Where a server leads to is judged as well.
    let tested = within(&["127.0.0.1"]);
    assert_eq!(tested.get(&url(&allowed, "/a"), digest(MODULE)).unwrap(), MODULE);
    let (reason, message) = tested.refused(&url(&allowed, "/away"), digest(b"other"));
    assert_eq!(reason, reason::ADDRESS_REFUSED, "{message}");
    assert_eq!(refused.requests().len(), 0);
}

#[test]
fn who_knows_a_digest_asks_the_source_itself() {
    let origin = Origin::answering(Answer::new(200).body(MODULE));
    let directory = tempfile::tempdir().unwrap();
    let of = |namespace: &str| {
        let mut spec = http_spec(&url(&origin, "/private"), digest(MODULE));
        spec.plugin = ResourceRef::new(Kind::WasmPlugin, namespace, "a");
        spec
    };
    for kept in [Some(directory.path()), None] {
        let tested = Tested::with(Tls::default(), patience(), kept);
        origin.answer(|_: &Recorded| Answer::new(200).body(MODULE));
        tested.fetcher.fetch(&of("shop")).unwrap();
        origin.answer(|_: &Recorded| Answer::new(401));
        tested.fetcher.fetch(&of("shop")).unwrap();
        assert_eq!(tested.fetcher.fetch(&of("attacker")).unwrap_err().reason(), reason::FETCH_FAILED);
    }
    let again = Tested::with(Tls::default(), patience(), Some(directory.path()));
    assert!(again.fetcher.fetch(&of("attacker")).is_err(), "nor after a restart");
    again.fetcher.fetch(&of("shop")).unwrap();
}

#[test]
fn a_body_without_end_is_cut_at_the_limit() {
    let endless = Answer::new(200).chunk(vec![0; 700]).chunk(vec![0; 700]).wait(&Gate::new());
    let announced = Answer::new(200).body(vec![0; 1001]);
    let tested = Tested::new();
    for (answer, said) in [(endless, "more bytes"), (announced, "1001 bytes")] {
        let origin = Origin::answering(answer);
        let (reason, message) = tested.refused(&url(&origin, "/a"), digest(MODULE));
        assert_eq!(
            (reason, message),
            (reason::MODULE_TOO_LARGE, format!("the module has {said}; limits.moduleSize allows 1000"))
        );
    }
    assert!(
        !tested
            .get(&url(&Origin::answering(Answer::new(200).body(vec![0; 1001])), "/"), digest(MODULE))
            .unwrap_err()
            .may_pass_later()
    );
}

#[test]
fn who_stops_in_the_middle_is_not_waited_for() {
    let short = Duration::from_millis(20);
    let slow = || Answer::new(200).chunk("the ").wait(&Gate::new());
    let check = |patience: Patience, answer: Answer, expected: &str| {
        let origin = Origin::answering(answer);
        let (reason, message) =
            Tested::with(Tls::default(), patience, None).refused(&url(&origin, "/a"), digest(MODULE));
        assert_eq!(reason, reason::FETCH_FAILED);
        assert!(message.contains(expected) && message.contains(&origin.address().to_string()), "{message}");
    };
    check(Patience { piece: short, ..patience() }, slow(), "did not send more of the body within 20ms");
    check(Patience { answer: short, ..patience() }, slow().after(&Gate::new()), "did not answer within 20ms");
    check(Patience { whole: short, ..patience() }, slow(), "did not give the module within 20ms");
    let truncated = Answer::new(200).header("content-length", "10").chunk("the ").then_reset();
    check(patience(), truncated, "broke off");
    check(patience(), Answer::reset(), "broke off");
}

#[test]
fn what_is_not_there_says_so() {
    let origin = Origin::answering(Answer::new(404).body("no such file\n"));
    let tested = Tested::new();
    let (reason, message) = tested.refused(&url(&origin, "/a"), digest(MODULE));
    assert_eq!(reason, reason::MODULE_NOT_FOUND);
    assert_eq!(message, format!("the module is not there: {} answered 404 (no such file)", url(&origin, "/a")));
    origin.answer(|_: &Recorded| Answer::new(503).body("<html>"));
    let (reason, message) = tested.refused(&url(&origin, "/a"), digest(MODULE));
    assert_eq!(reason, reason::FETCH_FAILED);
    assert_eq!(message, format!("{} answered 503 Service Unavailable", url(&origin, "/a")));
    let (reason, message) = tested.refused("http://nowhere.invalid/a", digest(MODULE));
    assert_eq!(reason, reason::NAME_NOT_RESOLVED);
    assert!(message.starts_with("the host name `nowhere.invalid` cannot be resolved"), "{message}");
    let address = free_address();
    let (reason, message) = tested.refused(&format!("http://{address}/a"), digest(MODULE));
    assert_eq!(reason, reason::CONNECT_FAILED);
    assert!(message.starts_with(&format!("cannot connect to {address}: ")), "{message}");
    assert!(tested.metrics().contains(r#"penstock_plugin_fetches_total{source="http",outcome="ConnectFailed"} 1"#));
}

#[test]
fn tls_is_verified() {
    let authority = Authority::new();
    let certificate = authority.issue(&["127.0.0.1"]);
    let origin =
        Origin::builder().answer(|_| Answer::new(200).body(MODULE)).tls(certificate.server(&["http/1.1"])).start();
    let url = format!("https://{}/a", origin.address());
    let trusting =
        |authority: &Authority| Tested::with(Tls::trusting(authority.client(&["http/1.1"])), patience(), None);
    assert_eq!(trusting(&authority).get(&url, digest(MODULE)).unwrap(), MODULE);

    let stranger = trusting(&Authority::new());
    let (reason, message) = stranger.refused(&url, digest(MODULE));
    assert_eq!(reason, reason::TLS_FAILED);
    assert!(message.contains("does not trust"), "{message}");
    let (reason, message) = trusting(&authority).refused(&url.replace("127.0.0.1", "localhost"), digest(MODULE));
    assert_eq!(reason, reason::TLS_FAILED);
    assert!(message.contains("localhost"), "{message}");
    let plain = Origin::answering(Answer::new(200));
    let (reason, message) = stranger.refused(&format!("https://{}/a", plain.address()), digest(MODULE));
    assert_eq!(reason, reason::TLS_FAILED);
    assert!(message.contains("is it plain HTTP?"), "{message}");
    origin.answer(|_: &Recorded| Answer::new(302).header("location", "http://127.0.0.1:1/a"));
    let (reason, message) = trusting(&authority).refused(&url, digest(MODULE));
    assert_eq!(reason, reason::TLS_FAILED);
    assert!(message.contains("redirects from HTTPS to http://127.0.0.1:1/a"), "{message}");
}
