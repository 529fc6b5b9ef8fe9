//! Requests whose framing could be read in two ways: refused, and the connection closed, before an endpoint sees a byte of them.

use penstock_testing::{
    client::Raw,
    origin::{Answer, Origin},
};

use crate::support::{Gateway, to};

/// What no request of these may reach.
async fn check(what: &str, bytes: &[u8], status: &str) {
    let origin = Origin::answering(Answer::new(200).body("origin"));
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let answer = Raw::exchange(address, bytes).await.unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: one answer, then the end: {answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(
        lower.contains("\r\nserver: penstock\r\n") && lower.contains("\r\nproxy-status: penstock; error="),
        "{what}: {answer}"
    );
    assert!(lower.contains("\r\nconnection: close\r\n"), "{what}: {answer}");
    assert_eq!(origin.requests().len(), 0, "{what}: the endpoint saw a request");
    let series = if status == "400" { "reason=\"bad_request\"} 1" } else { "penstock_gateway_answers_total{reason=" };
    let metrics = gateway.metrics();
    assert!(metrics.contains(series), "{what}: {metrics}");
}

const BAD_HEADS: &[(&str, &str)] = &[
    ("CL before TE", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE before CL", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"),
    ("two CL", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
    ("two equal CL", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na"),
    ("CL list", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\na"),
    ("CL with sign", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na"),
    ("folded header", "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n"),
    ("bare LF after the request line", "GET / HTTP/1.1\nhost: a\r\n\r\n"),
    ("bare LF after a header", "GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n"),
    ("bare LF at the end", "GET / HTTP/1.1\r\nhost: a\r\n\n"),
    ("bare CR in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n"),
    ("TE other than chunked", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("TE identity", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n"),
    ("two TE", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n"),
    ("TE with HTTP/1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("space before colon", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 1\r\n\r\na"),
    ("NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n"),
    ("NUL in a name", "GET / HTTP/1.1\r\nhost: a\r\nx\0: a\r\n\r\n"),
    ("no Host", "GET / HTTP/1.1\r\n\r\n"),
    ("two Host", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
    ("Host and absolute-form differ", "GET http://b/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
    ("Host with user information", "GET / HTTP/1.1\r\nhost: a@b\r\nconnection: close\r\n\r\n"),
    ("space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("path above the root", "GET /a/../../b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
    ("encoded NUL", "GET /%00 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
    ("CONNECT", "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"),
];

#[tokio::test]
async fn bad_heads() {
    for (what, bytes) in BAD_HEADS {
        check(what, bytes.as_bytes(), "400").await;
    }
}

#[tokio::test]
async fn bad_chunks() {
    for (what, body) in [
        ("extension", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("extension with LF", "5;\nhello\r\n0\r\n\r\n"),
        ("bare LF after a size", "5\nhello\r\n0\r\n\r\n"),
        ("size with sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("size with prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("size that overflows", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("data longer than its size", "1\r\nhello\r\n0\r\n\r\n"),
        ("space before the colon of a trailer", "0\r\nx : y\r\n\r\n"),
    ] {
        // An origin that reads the body first: the head alone does not make it answer.
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        check_chunked(what, request.as_bytes()).await;
    }
}

/// The endpoint may have seen the head, but never a complete request.
async fn check_chunked(what: &str, bytes: &[u8]) {
    let origin = Origin::answering(Answer::new(200).body("origin"));
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let answer = Raw::exchange(address, bytes).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
    assert!(origin.requests().iter().all(|request| request.truncated), "{what}: {:?}", origin.requests());
}

#[tokio::test]
async fn a_bad_request_behind_good_ones() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut raw = Raw::connect(address).await.unwrap();
    let good = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    raw.write(format!("{good}GET /3 HTTP/1.1\nhost: a\r\n\r\nGET /4 HTTP/1.1\r\nhost: a\r\n\r\n")).await.unwrap();
    assert!(raw.read_response().await.unwrap().contains("\"/1\""));
    assert!(raw.read_response().await.unwrap().contains("\"body\":\"abc\""));
    let rest = raw.read_to_end().await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 400 "), "{rest}");
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn requests_in_small_pieces() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut raw = Raw::connect(address).await.unwrap();
    let request = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n";
    for _ in 0..2 {
        for byte in request.as_bytes().chunks(1) {
            raw.write(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(raw.read_response().await.unwrap().contains("\"body\":\"abc\""));
    }
}

#[tokio::test]
async fn heads_of_http2() {
    use penstock_testing::client::{Connection, get};
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut connection = Connection::h2(address).await.unwrap();
    let mut many = get("/");
    for n in 0..150 {
        many = many.header(&format!("x-{n}"), "y");
    }
    assert_eq!(connection.send(many).await.unwrap().status, 431);
    assert_eq!(connection.send(get(&format!("/{}", "x".repeat(9000)))).await.unwrap().status, 414);
    assert_eq!(connection.send(get("/").host("a.example").header("host", "b.example")).await.unwrap().status, 400);
    assert_eq!(connection.send(get("/a/../../b")).await.unwrap().status, 400);
    assert_eq!(connection.send(get("/").host("a.example").header("host", "A.example")).await.unwrap().status, 200);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn limits_of_heads() {
    let long = "x".repeat(70_000);
    check("long target", format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes(), "414").await;
    check("long header", format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n").as_bytes(), "431").await;
    let many = "x: y\r\n".repeat(200);
    check("many headers", format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes(), "431").await;
}
