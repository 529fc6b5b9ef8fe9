//! Client and origin against each other: what the DSL promises to every other test.

use http::Version;
use penstock_testing::certificate::Authority;
use penstock_testing::client::{Connection, Raw, fetch, get, next_chunk, post, request};
use penstock_testing::gate::Gate;
use penstock_testing::origin::{Answer, Origin};
use penstock_testing::pressure::{Pressure, Protocol};
use serde_json::json;

#[tokio::test]
async fn the_origin_echoes_over_both_protocols() {
    let origin = Origin::start();
    let mut h1 = Connection::h1(origin.address()).await.unwrap();
    let mut h2 = Connection::h2(origin.address()).await.unwrap();

    for (connection, version) in [(&mut h1, Version::HTTP_11), (&mut h2, Version::HTTP_2)] {
        let request = post("/a?b=c", "hello").host("a.example").header("x-twice", "1").header("x-twice", "2");
        let response = connection.send(request).await.unwrap();
        let echo = response.json();
        assert_eq!((response.status, response.version), (200, version));
        assert_eq!(echo["method"], "POST");
        assert_eq!(echo["path"], "/a?b=c");
        assert_eq!(echo["authority"], "a.example");
        assert_eq!(echo["headers"]["x-twice"], json!(["1", "2"]));
        assert_eq!(echo["body"], "hello");
    }
}

#[tokio::test]
async fn requests_are_recorded_with_their_connection() {
    let origin = Origin::start();
    let mut connection = Connection::h1(origin.address()).await.unwrap();
    for path in ["/1", "/2"] {
        connection.send(get(path)).await.unwrap();
    }
    fetch(origin.address(), request("DELETE", "/3")).await.unwrap();

    let seen: Vec<_> =
        origin.wait_for(3).await.into_iter().map(|r| (r.method.to_string(), r.path, r.connection)).collect();
    let expected = [("GET", "/1", 0), ("GET", "/2", 0), ("DELETE", "/3", 1)];
    assert_eq!(seen, expected.map(|(method, path, connection)| (method.to_owned(), path.to_owned(), connection)));
}

#[tokio::test]
async fn trailers_travel_in_both_directions() {
    let origin = Origin::answering(Answer::new(200).header("trailer", "x-sum").chunk("a").trailer("x-sum", "1"));
    let mut h1 = Connection::h1(origin.address()).await.unwrap();
    let mut h2 = Connection::h2(origin.address()).await.unwrap();
    for connection in [&mut h1, &mut h2] {
        let request = post("/", "body").trailer("x-check", "2").accepting_trailers();
        let response = connection.send(request).await.unwrap();
        assert_eq!((response.text(), response.trailer("x-sum")), ("a", "1"));
    }
    for recorded in origin.wait_for(2).await {
        assert_eq!(recorded.body, "body");
        assert_eq!(recorded.trailers.unwrap()["x-check"], "2");
    }
}

#[tokio::test]
async fn a_gate_holds_head_and_body_back() {
    let (head, rest) = (Gate::new(), Gate::new());
    let origin = Origin::answering(Answer::new(201).after(&head).chunk("first").wait(&rest).chunk("second"));
    let mut connection = Connection::h1(origin.address()).await.unwrap();

    let mut opening = Box::pin(connection.open(get("/")));
    tokio::select! {
        biased;
        _ = &mut opening => panic!("the head came before the gate was open"),
        _ = origin.wait_for(1) => head.open(),
    }
    let response = opening.await.unwrap();
    assert_eq!(response.status(), 201);
    let mut body = response.into_body();
    assert_eq!(next_chunk(&mut body).await.unwrap().unwrap(), "first");
    rest.open();
    assert_eq!(next_chunk(&mut body).await.unwrap().unwrap(), "second");
    assert_eq!(next_chunk(&mut body).await.unwrap(), None);
}

#[tokio::test]
async fn breaking_off_is_an_error_and_not_an_end() {
    let origin = Origin::start();
    let mut h1 = Connection::h1(origin.address()).await.unwrap();
    let mut h2 = Connection::h2(origin.address()).await.unwrap();

    origin.answer(|_| Answer::new(200).chunk("half").then_reset());
    h1.send(get("/")).await.unwrap_err();
    h2.send(get("/")).await.unwrap_err();

    origin.answer(|_| Answer::reset());
    fetch(origin.address(), get("/")).await.unwrap_err();
    h2.send(get("/")).await.unwrap_err();

    origin.answer(|_| Answer::new(204));
    assert_eq!(h2.send(get("/")).await.unwrap().status, 204, "a reset stream leaves its connection alone");
}

#[tokio::test]
async fn an_early_origin_does_not_read_the_body() {
    let origin = Origin::builder().answers_early().answer(|_| Answer::new(413).header("connection", "close")).start();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    let response = Raw::exchange(origin.address(), head).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
}

#[tokio::test]
async fn tls_chooses_the_protocol_and_shows_the_certificate() {
    let authority = Authority::new();
    let certificate = authority.issue(&["a.example", "127.0.0.1"]);
    let origin = Origin::builder().tls(certificate.server(&["h2", "http/1.1"])).start();

    for (alpn, version) in [(["h2"], Version::HTTP_2), (["http/1.1"], Version::HTTP_11)] {
        let mut connection = Connection::tls(origin.address(), "a.example", authority.client(&alpn)).await.unwrap();
        assert_eq!(connection.peer_certificates()[0], certificate.der);
        assert_eq!(connection.send(get("/")).await.unwrap().version, version);
    }
    let stranger = Authority::new().client(&["h2"]);
    assert!(Connection::tls(origin.address(), "a.example", stranger).await.is_err());
}

#[tokio::test]
async fn raw_bytes_arrive_as_they_are() {
    let origin = Origin::start();
    let mut raw = Raw::connect(origin.address()).await.unwrap();
    raw.write("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nHOST: b\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let first = raw.read_response().await.unwrap();
    assert!(first.contains(r#""path":"/1""#), "{first}");
    let second = raw.read_to_end().await.unwrap();
    assert!(second.contains(r#""path":"/2""#), "{second}");
}

#[tokio::test]
async fn a_large_body_is_counted_and_not_kept() {
    let origin = Origin::answering(Answer::new(200));
    fetch(origin.address(), post("/", vec![b'x'; 3 << 20])).await.unwrap();
    let recorded = &origin.requests()[0];
    assert_eq!((recorded.body_length, recorded.body.len()), (3 << 20, 1 << 20));
}

#[tokio::test]
async fn pressure_counts_what_fails_and_survives_closed_connections() {
    for protocol in [Protocol::H1, Protocol::H2] {
        let origin = Origin::answering(Answer::new(204));
        let pressure =
            Pressure::start(origin.address(), protocol.clone(), 3, || get("/"), |response| response.status == 204);
        pressure.progress(10).await;
        origin.answer(|_| Answer::new(503));
        pressure.progress(10).await;
        origin.answer(|_| Answer::reset());
        pressure.progress(10).await;
        let outcome = pressure.stop().await;
        assert!(outcome.successes >= 7, "{protocol:?}: {outcome:?}");
        assert!(outcome.failures.iter().any(|failure| failure.starts_with("503")), "{protocol:?}: {outcome:?}");
        assert!(outcome.failures.iter().any(|failure| failure.starts_with("exchange: ")), "{protocol:?}: {outcome:?}");
    }
}
