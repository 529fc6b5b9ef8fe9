//! What becomes of the heads of requests and responses on their way.

use std::num::NonZeroU8;

use http::{HeaderValue, StatusCode};
use penstock_core::{
    client_address::{ForwardingHeader, Trusted, TrustedProxies},
    filter::{PathRewrite, Redirect, Scheme, UrlRewrite},
    route::{Action, Rule},
};
use penstock_testing::{
    client::{Connection, Raw, get, request},
    origin::{Answer, Origin},
};

use crate::support::{Gateway, edits, rule, settings, to, to_h2};

#[tokio::test]
async fn hop_by_hop_headers_go_no_further() {
    let origin = Origin::builder()
        .answer(|_| {
            Answer::new(200)
                .header("connection", "x-secret")
                .header("x-secret", "1")
                .header("keep-alive", "timeout=5")
                .header("x-kept", "2")
        })
        .start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: X-Hop\r\nconnection: host, x-other\r\nx-hop: 1\r\nx-other: 1\r\n\
         keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nproxy-authorization: Basic x\r\nte: gzip, trailers;q=0.5\r\nx-kept: 1\r\n\r\n",
    )
    .await
    .unwrap();
    let response = raw.read_response().await.unwrap();
    assert!(!response.contains("x-secret") && !response.contains("keep-alive"), "{response}");
    assert!(response.contains("x-kept: 2\r\n"), "{response}");
    let seen = &origin.requests()[0];
    for name in
        ["connection", "x-hop", "x-other", "keep-alive", "proxy-connection", "proxy-authorization", "transfer-encoding"]
    {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    assert_eq!(seen.header("host"), "a", "what routing relies on cannot be named away");
    assert_eq!(seen.header("x-kept"), "1");
}

#[tokio::test]
async fn what_a_stranger_claims_is_replaced() {
    let origin = Origin::start();
    for rule in [to(&[origin.address()]), to_h2(&[origin.address()])] {
        let (_gateway, address) = Gateway::serving(vec![rule]);
        let before = origin.requests().len();
        let request = get("/")
            .host("a.example:8080")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-port", "443")
            .header("forwarded", "for=6.6.6.6")
            .header("x-request-id", "mine");
        Connection::h1(address).await.unwrap().send(request).await.unwrap();
        let seen = &origin.requests()[before];
        assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
        assert_eq!(seen.header("x-forwarded-proto"), "http");
        assert_eq!(seen.header("x-forwarded-host"), "a.example:8080");
        assert_eq!(seen.header("x-forwarded-port"), address.port().to_string());
        assert!(!seen.headers.contains_key("forwarded"));
        let id = seen.header("x-request-id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_continued() {
    let origin = Origin::start();
    let mut settings = settings();
    let trusted = Trusted::Networks(vec!["127.0.0.0/8".parse().unwrap()]);
    settings.forwarding.trusted_proxies = TrustedProxies { trusted, ..TrustedProxies::default() };
    let (_gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
    let request = get("/")
        .header("x-forwarded-for", "203.0.113.7")
        .header("x-forwarded-proto", "https")
        .header("x-request-id", "theirs-1");
    Connection::h1(address).await.unwrap().send(request).await.unwrap();
    let seen = &origin.requests()[0];
    assert_eq!(seen.header("x-forwarded-for"), "203.0.113.7, 127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "https");
    assert_eq!(seen.header("x-request-id"), "theirs-1");
}

/// RFC 7239, for who wants it: beside what is usual, a stranger's replaced and a trusted proxy's continued.
#[tokio::test]
async fn forwarded_is_written_and_read_where_it_is_asked_for() {
    let origin = Origin::start();
    for (trusted, expected, client) in [
        (Trusted::Nobody, "for=127.0.0.1;host=\"a.example\";proto=http", "127.0.0.1"),
        (
            Trusted::Hops(NonZeroU8::MIN),
            "for=203.0.113.7, for=127.0.0.1;host=\"a.example\";proto=http",
            "6.6.6.6, 127.0.0.1",
        ),
    ] {
        let mut settings = settings();
        settings.forwarding.trusted_proxies = TrustedProxies { trusted, header: ForwardingHeader::Forwarded };
        let (_gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
        let request =
            get("/").host("a.example").header("forwarded", "for=203.0.113.7").header("x-forwarded-for", "6.6.6.6");
        Connection::h1(address).await.unwrap().send(request).await.unwrap();
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.header("forwarded"), expected);
        assert_eq!(seen.header("x-forwarded-for"), client);
    }
}

/// HTTP/2 splits cookies; nobody else may see them so (RFC 9113 §8.2.3).
#[tokio::test]
async fn cookies_of_http2_are_one_field_for_everybody_else() {
    let origin = Origin::start();
    for rule in [to(&[origin.address()]), to_h2(&[origin.address()])] {
        let (_gateway, address) = Gateway::serving(vec![rule]);
        let request = get("/").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3");
        Connection::h2(address).await.unwrap().send(request).await.unwrap();
        let seen = origin.requests().pop().unwrap();
        let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }
}

#[tokio::test]
async fn request_ids_differ() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    for _ in 0..10 {
        connection.send(get("/")).await.unwrap();
    }
    let requests = origin.requests();
    let ids: std::collections::HashSet<_> = requests.iter().map(|request| request.header("x-request-id")).collect();
    assert_eq!(ids.len(), 10);
}

#[tokio::test]
async fn targets() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let send = async |target: &str| {
        let before = origin.requests().len();
        let mut raw = Raw::connect(address).await.unwrap();
        raw.write(format!("GET {target} HTTP/1.1\r\nhost: a.example\r\n\r\n")).await.unwrap();
        let response = raw.read_response().await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 "), "{target}: {response}");
        let seen = &origin.requests()[before];
        (seen.path.clone(), seen.header("host").to_owned())
    };
    assert_eq!(send("/a/b?c=/d").await, ("/a/b?c=/d".into(), "a.example".into()));
    assert_eq!(send("http://a.example/abs?q").await, ("/abs?q".into(), "a.example".into()));
    assert_eq!(send("http://A.example").await.0, "/");
    assert_eq!(send("//a///b/./c/../d").await.0, "/a/b/d");
    assert_eq!(send("/%41%2f%7e").await.0, "/A%2F~");
}

#[tokio::test]
async fn native_filters() {
    let origin = Origin::answering(Answer::new(200).header("x-old", "1").header("server", "origin"));
    let mut filtered = to(&[origin.address()]);
    filtered.request_headers = Some(edits(&[("x-set", "rule"), ("x-both", "rule")]));
    filtered.response_headers = Some(edits(&[("x-added", "rule"), ("x-order", "rule")]));
    filtered.response_headers.as_mut().unwrap().remove.push(http::HeaderName::from_static("x-old"));
    filtered.rewrite = Some(UrlRewrite {
        hostname: Some(HeaderValue::from_static("new.example")),
        path: Some(PathRewrite::Full("/new".into())),
    });
    let Action::Forward(backends) = &mut filtered.action else { panic!() };
    backends.backends[0].request_headers = Some(edits(&[("x-both", "backend")]));
    backends.backends[0].response_headers = Some(edits(&[("x-order", "backend")]));
    let (_gateway, address) = Gateway::serving(vec![filtered]);
    for h2 in [false, true] {
        let connection = if h2 { Connection::h2(address).await } else { Connection::h1(address).await };
        let response = connection.unwrap().send(get("/old?q=1").header("x-set", "client")).await.unwrap();
        assert_eq!((response.header("x-added"), response.header("x-old")), ("rule", ""));
        assert_eq!(response.header("x-order"), "rule", "the backend's filter goes first on the way out");
        assert_eq!(response.header("server"), "origin");
        let seen = origin.requests().pop().unwrap();
        assert_eq!((seen.header("x-set"), seen.header("x-both")), ("rule", "backend"));
        assert_eq!((seen.path.as_str(), seen.authority.as_str()), ("/new?q=1", "new.example"));
    }
}

#[tokio::test]
async fn redirects() {
    let redirect = |redirect: Redirect| -> Rule { rule(Action::Redirect(redirect)) };
    let none = Redirect { scheme: None, hostname: None, port: None, path: None, status: StatusCode::FOUND };
    let (_gateway, address) =
        Gateway::serving(vec![redirect(Redirect { scheme: Some(Scheme::Https), ..none.clone() })]);
    let response = Connection::h1(address).await.unwrap().send(get("/a?b").host("a.example")).await.unwrap();
    assert_eq!((response.status, response.header("location")), (302, "https://a.example/a?b"));
    assert_eq!(response.header("server"), "penstock");
    let elsewhere = Redirect { hostname: Some("b.example".into()), port: Some(8080), ..none };
    let (_gateway, address) = Gateway::serving(vec![redirect(elsewhere)]);
    let response = Connection::h2(address).await.unwrap().send(request("POST", "/a")).await.unwrap();
    assert_eq!(response.header("location"), "http://b.example:8080/a");
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let origin = Origin::answering(Answer::new(201).body("12345"));
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    for _ in 0..3 {
        connection.send(get("/").header("x", "y")).await.unwrap();
    }
    let labels = "gateway=\"Gateway/default/gateway\",listener=\"any\",route=\"HTTPRoute/default/route\"";
    // The record of a request is closed when its last byte is written; the client may be faster than the books.
    penstock_testing::eventually::eventually("three requests in the metrics", async || {
        let metrics = gateway.metrics();
        metrics.contains(&format!("penstock_requests_total{{{labels},code_class=\"2xx\"}} 3")).then_some(())
    })
    .await;
    let metrics = gateway.metrics();
    for line in [
        format!("penstock_request_duration_seconds_count{{{labels}}} 3"),
        format!("penstock_response_body_bytes_total{{{labels}}} 15"),
        "penstock_connections_open 1".into(),
        "penstock_connections_total 1".into(),
        "penstock_upstream_connects_total 1".into(),
        "penstock_upstream_reuses_total 2".into(),
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn weights_are_kept() {
    let (heavy, light) = (Origin::answering(Answer::new(200)), Origin::answering(Answer::new(200)));
    let (Action::Forward(mut heavier), Action::Forward(mut lighter)) =
        (to(&[heavy.address()]).action, to(&[light.address()]).action)
    else {
        panic!()
    };
    heavier.backends[0].weight = 3;
    let backends = heavier.backends.drain(..).chain(lighter.backends.drain(..));
    let weighted = penstock_core::route::WeightedBackends::new(backends);
    let (_gateway, address) = Gateway::serving(vec![rule(Action::Forward(weighted))]);
    let mut connection = Connection::h1(address).await.unwrap();
    for _ in 0..400 {
        connection.send(get("/")).await.unwrap();
    }
    let share = heavy.requests().len();
    assert!((240..=360).contains(&share), "{share} of 400, three quarters expected");
}
