//! Bodies: streamed both ways, trailers, `Expect`, back-pressure, limits.

use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use penstock_core::reason::Reason;
use penstock_testing::{
    client::{Connection, Raw, get, next_chunk, post, request},
    eventually::eventually,
    gate::Gate,
    origin::{Answer, Origin},
};

use crate::support::{Gateway, settings, to, to_h2};

/// Each protocol towards the client with each towards the endpoint.
async fn all_combinations(origin: &Origin, check: impl AsyncFn(Connection, &str)) {
    for upstream_h2 in [false, true] {
        let rule = if upstream_h2 { to_h2(&[origin.address()]) } else { to(&[origin.address()]) };
        let (_gateway, address) = Gateway::serving(vec![rule]);
        check(Connection::h1(address).await.unwrap(), &format!("h1 to h2 {upstream_h2}")).await;
        check(Connection::h2(address).await.unwrap(), &format!("h2 to h2 {upstream_h2}")).await;
    }
}

#[tokio::test]
async fn trailers_of_grpc() {
    let answer = Answer::new(200).header("content-type", "application/grpc").header("trailer", "grpc-status");
    let origin = Origin::answering(answer.chunk("message").trailer("grpc-status", "0").trailer("grpc-message", "ok"));
    let (_gateway, address) = Gateway::serving(vec![to_h2(&[origin.address()])]);
    let mut connection = Connection::h2(address).await.unwrap();
    let call = post("/package.Service/Method", "message").header("content-type", "application/grpc");
    let response = connection.send(call.accepting_trailers()).await.unwrap();
    assert_eq!((response.status, response.text()), (200, "message"));
    assert_eq!((response.trailer("grpc-status"), response.trailer("grpc-message")), ("0", "ok"));
    let seen = &origin.requests()[0];
    assert_eq!(seen.headers["te"], "trailers");
    assert_eq!(seen.version, http::Version::HTTP_2);
}

#[tokio::test]
async fn responses_of_trailers_only() {
    let origin = Origin::answering(Answer::new(200).header("grpc-status", "12"));
    let (_gateway, address) = Gateway::serving(vec![to_h2(&[origin.address()])]);
    let response = Connection::h2(address).await.unwrap().send(post("/", "x")).await.unwrap();
    assert_eq!((response.status, response.header("grpc-status")), (200, "12"));
}

#[tokio::test]
async fn trailers_both_ways() {
    let origin = Origin::answering(Answer::new(200).header("trailer", "x-sum").chunk("a").trailer("x-sum", "1"));
    all_combinations(&origin, async |mut connection, what| {
        let before = origin.requests().len();
        let upload = post("/", "body").trailer("x-check", "2").accepting_trailers();
        let response = connection.send(upload).await.unwrap();
        assert_eq!((response.text(), response.trailer("x-sum")), ("a", "1"), "{what}");
        let seen = &origin.requests()[before];
        assert_eq!(
            seen.trailers.as_ref().map(|trailers| trailers["x-check"].clone()),
            Some("2".parse().unwrap()),
            "{what}"
        );
    })
    .await;
}

#[tokio::test]
async fn chunks_are_passed_on_as_they_come() {
    for upstream_h2 in [false, true] {
        for h2 in [false, true] {
            let gates = [Gate::new(), Gate::new()];
            let origin =
                Origin::answering(Answer::new(200).chunk("1").wait(&gates[0]).chunk("2").wait(&gates[1]).chunk("3"));
            let rule = if upstream_h2 { to_h2(&[origin.address()]) } else { to(&[origin.address()]) };
            let (_gateway, address) = Gateway::serving(vec![rule]);
            let connection = if h2 { Connection::h2(address).await } else { Connection::h1(address).await };
            let mut body = connection.unwrap().open(get("/")).await.unwrap().into_body();
            assert_eq!(next_chunk(&mut body).await.unwrap().unwrap(), "1");
            gates[0].open();
            assert_eq!(next_chunk(&mut body).await.unwrap().unwrap(), "2");
            gates[1].open();
            assert_eq!(next_chunk(&mut body).await.unwrap().unwrap(), "3");
            // HTTP/2 may end with an empty frame.
            let end = next_chunk(&mut body).await.unwrap();
            assert!(end.is_none_or(|end| end.is_empty()));
        }
    }
}

/// A body that goes on for as long as the test sends pieces.
fn channel()
-> (tokio::sync::mpsc::UnboundedSender<&'static str>, impl http_body::Body<Data = Bytes, Error = Infallible>) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let stream =
        pieces(move |cx| receiver.poll_recv(cx).map(|piece| piece.map(|piece| Bytes::from_static(piece.as_bytes()))));
    (sender, StreamBody::new(stream))
}

fn pieces(
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>>,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    futures_util::stream::poll_fn(move |cx| poll(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))))
}

/// The response begins while the request still goes on: neither may wait for the other.
#[tokio::test]
async fn both_directions_at_once() {
    let origin = Origin::builder().answers_early().answer(|_| Answer::new(200).chunk("early")).start();
    all_combinations(&origin, async |mut connection, what| {
        let (sender, body) = channel();
        sender.send("first").unwrap();
        let mut response = connection.open(post("/", "").streaming(body)).await.unwrap().into_body();
        assert_eq!(next_chunk(&mut response).await.unwrap().unwrap(), "early", "{what}");
        drop(sender);
    })
    .await;
}

#[tokio::test]
async fn the_endpoint_decides_about_100_continue() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut raw = Raw::connect(address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    raw.write(head).await.unwrap();
    assert_eq!(raw.read_until("\r\n\r\n").await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    raw.write("body").await.unwrap();
    assert!(raw.read_response().await.unwrap().contains("\"body\":\"body\""));
    // The connection is as good as before.
    raw.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(raw.read_response().await.unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_final_answer_in_place_of_100_continue() {
    let origin = Origin::builder().answers_early().answer(|_| Answer::new(403).body("no")).start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let head = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write(head).await.unwrap();
    let answer = raw.read_response().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("no"), "no 100 before it: {answer}");
}

#[tokio::test]
async fn an_endpoint_that_ignores_expect_gets_the_body_after_a_while() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"body") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    });
    let (_gateway, address) = Gateway::serving(vec![to(&[endpoint])]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody").await.unwrap();
    let answer = raw.read_until("ok").await.unwrap();
    assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    server.await.unwrap();
}

#[tokio::test]
async fn other_expectations_are_refused() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let response =
        Connection::h1(address).await.unwrap().send(post("/", "x").header("expect", "200-ok")).await.unwrap();
    assert_eq!(response.status, Reason::ExpectationFailed.status().as_u16());
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let origin = Origin::start();
    let mut settings = settings();
    settings.limits.body_size = Some(1000);
    let (_gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
    for h2 in [false, true] {
        let connect = async || if h2 { Connection::h2(address).await } else { Connection::h1(address).await };
        let response = connect().await.unwrap().send(post("/", "x".repeat(1000))).await.unwrap();
        assert_eq!(response.status, 200, "h2 {h2}");
        let response = connect().await.unwrap().send(post("/", "x".repeat(1001))).await.unwrap();
        assert_eq!(response.status, 413, "h2 {h2}: by its length");
    }
    let (sender, body) = channel();
    let piece: &'static str = Box::leak("x".repeat(600).into_boxed_str());
    sender.send(piece).unwrap();
    sender.send(piece).unwrap();
    drop(sender);
    let response = Connection::h1(address).await.unwrap().send(post("/", "").streaming(body)).await.unwrap();
    assert_eq!(response.status, 413, "by counting");
    assert!(origin.requests().iter().all(|request| request.body_length <= 1000 || request.truncated));
}

#[tokio::test]
async fn slow_heads_and_bodies() {
    let origin = Origin::start();
    let mut settings = settings();
    settings.timeouts.head = Duration::from_millis(200);
    settings.timeouts.body = Duration::from_millis(200);
    settings.timeouts.idle = Duration::from_millis(200);
    let (gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
    let answer = Raw::exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nx: ").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "slow head: {answer}");
    let answer = Raw::exchange(address, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nbody").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "slow body: {answer}");
    let answer = Raw::exchange(address, "").await.unwrap();
    assert_eq!(answer, "", "nothing at all");
    let answer = Raw::exchange(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1 ").count() == 1, "idle: {answer}");
    let (sender, body) = channel();
    sender.send("begin").unwrap();
    let response = Connection::h2(address).await.unwrap().send(post("/", "").streaming(body)).await.unwrap();
    assert_eq!(response.status, 408, "slow body over h2");
    drop(sender);
    assert!(gateway.metrics().contains("penstock_gateway_answers_total{reason=\"request_timeout\"} 3"));
}

/// A long answer to a pipelined request is not mistaken for an idle time, and an idle connection of HTTP/2 ends as well.
#[tokio::test]
async fn idle_is_only_what_has_no_request() {
    let gate = Gate::new();
    let origin = Origin::builder().answer({
        let gate = gate.clone();
        move |request| if request.path == "/slow" { Answer::new(200).after(&gate) } else { Answer::new(200) }
    });
    let origin = origin.start();
    let mut settings = settings();
    settings.timeouts.idle = Duration::from_millis(200);
    let (_gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    raw.read_response().await.unwrap();
    let mut idle = Connection::h2(address).await.unwrap();
    idle.send(get("/")).await.unwrap();
    eventually("the idle connection of HTTP/2 to end", async || idle.is_closed().then_some(())).await;
    gate.open();
    assert!(raw.read_response().await.unwrap().starts_with("HTTP/1.1 200 "));
}

/// A client that opens streams and resets them without pause (CVE-2023-44487) holds nobody else up, and leaves nothing behind.
#[tokio::test]
async fn rapid_resets() {
    let gate = Gate::new();
    let origin = Origin::answering(Answer::new(200).after(&gate));
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut attacker = Connection::h2(address).await.unwrap();
    for _ in 0..500 {
        // Given up as soon as it is sent.
        let reset = tokio::time::timeout(Duration::from_millis(1), attacker.send(get("/"))).await;
        assert!(reset.is_err() || reset.unwrap().is_err());
        if attacker.is_closed() {
            break;
        }
    }
    drop(attacker);
    eventually("all of its streams to be over", async || {
        gateway.metrics().contains("penstock_connections_open 0").then_some(())
    })
    .await;
    gate.open();
    assert_eq!(Connection::h2(address).await.unwrap().send(get("/")).await.unwrap().status, 200);
}

#[tokio::test]
async fn clients_that_take_nothing() {
    let mut answer = Answer::new(200);
    for _ in 0..1000 {
        answer = answer.chunk(vec![b'x'; 64 << 10]);
    }
    let origin = Origin::answering(answer);
    let mut settings = settings();
    settings.timeouts.write = Duration::from_millis(200);
    let (gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    eventually("the connection to be given up", async || {
        gateway.metrics().contains("penstock_connections_open 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn too_many_connections() {
    let origin = Origin::start();
    let mut settings = settings();
    settings.limits.connections = 2;
    let (_gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
    let mut first = Connection::h1(address).await.unwrap();
    first.send(get("/")).await.unwrap();
    let mut second = Connection::h1(address).await.unwrap();
    second.send(get("/")).await.unwrap();
    let answer = Raw::exchange(address, "").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("overloaded"), "{answer}");
    drop(second);
    eventually("a free place", async || {
        let mut third = Connection::h1(address).await.ok()?;
        third.send(get("/")).await.ok().filter(|response| response.status == 200)
    })
    .await;
    assert_eq!(first.send(get("/")).await.unwrap().status, 200);
}

/// Bytes that go in before nobody takes any more for half a second; at most these.
fn fill(mut stream: TcpStream, most: usize) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (piece, mut sent) = ([b'x'; 64 << 10], 0);
    while sent < most {
        match stream.write(&piece) {
            Ok(length) => sent += length,
            Err(_) => break,
        }
    }
    sent
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}

/// Back-pressure from end to end: who does not read holds up who writes, and what is between them is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_holds_up_who_sends() {
    const MOST: usize = 256 << 20;
    /// What the four sockets hold, and what the gateway reads ahead.
    const ROOM: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_gateway, address) = Gateway::serving(vec![to(&[listener.local_addr().unwrap()])]);

    let endpoint = listener.try_clone().unwrap();
    let sending = tokio::task::spawn_blocking(move || {
        let mut stream = endpoint.accept().unwrap().0;
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        fill(stream, MOST)
    });
    let mut client = Raw::connect(address).await.unwrap();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    client.read_until("\r\n\r\n").await.unwrap();
    let sent = sending.await.unwrap();
    assert!(sent < ROOM, "an endpoint could send {sent} bytes that nobody took");
    drop(client);

    let sending = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {MOST}\r\n\r\n").unwrap();
        let mut taken = listener.accept().unwrap().0;
        read_head(&mut taken);
        fill(stream, MOST)
    });
    let sent = sending.await.unwrap();
    assert!(sent < ROOM, "a client could send {sent} bytes that nobody took");
}

/// More than all buffers together: memory does not grow with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_in_constant_memory() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 4096; // 256 MiB
    /// A fraction of it; other tests of this process take memory at the same time.
    const ROOM: usize = 48 << 20;
    let mut answer = Answer::new(200);
    let piece = Bytes::from(vec![b'x'; PIECE]);
    for _ in 0..PIECES {
        answer = answer.chunk(piece.clone());
    }
    let origin = Origin::answering(answer);
    all_combinations(&origin, async |mut connection, what| {
        let mut body = connection.open(get("/")).await.unwrap().into_body();
        next_chunk(&mut body).await.unwrap();
        let before = resident();
        let mut received = 0;
        while let Some(chunk) = next_chunk(&mut body).await.unwrap() {
            received += chunk.len();
        }
        assert!(received > PIECE * (PIECES - 20), "{what}");
        let grown = resident().saturating_sub(before);
        assert!(grown < ROOM, "{what}: {grown} bytes more");
    })
    .await;
    let origin = Origin::answering(Answer::new(200));
    all_combinations(&origin, async |mut connection, what| {
        let before = resident();
        let piece = piece.clone();
        let mut left = PIECES;
        let body = StreamBody::new(pieces(move |_| {
            left = left.saturating_sub(1);
            std::task::Poll::Ready((left > 0).then(|| piece.clone()))
        }));
        let response = connection.send(post("/", "").streaming(body)).await.unwrap();
        assert_eq!(response.status, 200, "{what}");
        let grown = resident().saturating_sub(before);
        assert!(grown < ROOM, "{what}: {grown} bytes more");
    })
    .await;
    assert!(origin.requests().iter().all(|request| request.body_length == ((PIECES - 1) * PIECE) as u64));
}

/// Resident memory of this process: client, gateway and origin.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn methods_of_all_kinds() {
    let origin = Origin::start();
    all_combinations(&origin, async |mut connection, what| {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"] {
            let response = connection.send(request(method, "/")).await.unwrap();
            assert_eq!(response.json()["method"], method, "{what}");
        }
    })
    .await;
}
