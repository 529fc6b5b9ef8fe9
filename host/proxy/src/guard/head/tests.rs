use super::*;

fn limits() -> Limits {
    Limits { head_size: 400, headers: 5, uri_length: 50, ..Limits::default() }
}

/// The outcome must not depend on how the bytes are cut.
#[track_caller]
fn check(head: &str, expected: Result<Option<(Framing, bool)>, Violation>) {
    let outcome =
        |found: Result<Option<Head>, Violation>| found.map(|head| head.map(|head| (head.framing, head.upgrade)));
    let mut scan = HeadScan::default();
    assert_eq!(outcome(scan.scan(head.as_bytes(), &limits())), expected, "{head:?} at once");
    let mut scan = HeadScan::default();
    let stepwise = (1..=head.len()).map(|end| scan.scan(&head.as_bytes()[..end], &limits()));
    let last = stepwise.into_iter().find(|found| !matches!(found, Ok(None))).unwrap_or(Ok(None));
    assert_eq!(outcome(last), expected, "{head:?} byte by byte");
}

fn with(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nhost: a\r\n{lines}\r\n")
}

#[test]
fn framing() {
    check("", Ok(None));
    check("GET / HTTP/1.1\r\nhost: a\r\n", Ok(None));
    check("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Ok(Some((Framing::None, false))));
    check("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Some((Framing::None, false))));
    check("GET / HTTP/1.0\r\n\r\n", Ok(Some((Framing::None, false))));
    check(&with("content-length: 12\r\n"), Ok(Some((Framing::Length(12), false))));
    check(&with("Content-Length:0\r\n"), Ok(Some((Framing::None, false))));
    check(&with("Transfer-Encoding: Chunked\r\n"), Ok(Some((Framing::Chunked, false))));
    check(&with("upgrade: websocket\r\n"), Ok(Some((Framing::None, true))));
    check(&with("x: \t\u{e9}\r\nempty:\r\n"), Ok(Some((Framing::None, false))));
}

#[test]
fn length() {
    let head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let found = HeadScan::default().scan(format!("{head}GET /next").as_bytes(), &limits());
    assert_eq!(found.unwrap().unwrap().length, head.len());
}

#[test]
fn smuggling() {
    check(&with("content-length: 5\r\ntransfer-encoding: chunked\r\n"), Err(Violation::LengthAndEncoding));
    check(&with("transfer-encoding: chunked\r\ncontent-length: 5\r\n"), Err(Violation::LengthAndEncoding));
    check(&with("content-length: 5\r\ncontent-length: 6\r\n"), Err(Violation::DuplicateLength));
    check(&with("content-length: 5\r\ncontent-length: 5\r\n"), Err(Violation::DuplicateLength));
    check(&with("content-length: 5, 5\r\n"), Err(Violation::Length));
    check(&with("content-length: +5\r\n"), Err(Violation::Length));
    check(&with("content-length: -5\r\n"), Err(Violation::Length));
    check(&with("content-length: 0x5\r\n"), Err(Violation::Length));
    check(&with("content-length: \r\n"), Err(Violation::Length));
    check(&with("content-length: 9999999999999999999\r\n"), Err(Violation::Length));
    check(&with("transfer-encoding: gzip, chunked\r\n"), Err(Violation::TransferEncoding));
    check(&with("transfer-encoding: identity\r\n"), Err(Violation::TransferEncoding));
    check(&with("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"), Err(Violation::TransferEncoding));
    check(&with("transfer-encoding: \x0bchunked\r\n"), Err(Violation::HeaderValue));
    check(&with("transfer-encoding : chunked\r\n"), Err(Violation::SpaceBeforeColon));
    check(&with("x: a\r\n b\r\n"), Err(Violation::ObsoleteFold));
    check(&with(" x: a\r\n"), Err(Violation::ObsoleteFold));
    check(&with("x: a\n"), Err(Violation::BareLineFeed));
    check(&with("x: a\rb\r\n"), Err(Violation::HeaderValue));
    check(&with("x: a\0b\r\n"), Err(Violation::HeaderValue));
    check(&with("x\0: a\r\n"), Err(Violation::HeaderName));
    check(&with("no colon\r\n"), Err(Violation::HeaderName));
    check(&with(": no name\r\n"), Err(Violation::HeaderName));
    check("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", Err(Violation::TransferEncoding));
    check("GET / HTTP/1.1\nhost: a\r\n\r\n", Err(Violation::BareLineFeed));
    check("GET / HTTP/1.1\r\nhost: a\r\n\n", Err(Violation::BareLineFeed));
}

#[test]
fn hosts() {
    check("GET / HTTP/1.1\r\n\r\n", Err(Violation::HostMissing));
    check("GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n", Err(Violation::HostDuplicate));
    check("GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", Err(Violation::HostDuplicate));
}

#[test]
fn request_lines() {
    check("GET /\r\n\r\n", Err(Violation::RequestLine));
    check("GET  / HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET /a b HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET / HTTP/1.2\r\n\r\n", Err(Violation::RequestLine));
    check("GET / http/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("G@T / HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET /\t HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET /\x01 HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", Err(Violation::Connect));
}

#[test]
fn limits_hold_for_complete_and_for_endless_heads() {
    check(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(50)), Err(Violation::UriTooLong));
    check(&format!("GET /{}", "a".repeat(200)), Err(Violation::UriTooLong));
    check(&with("a: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\ne: 1\r\n"), Err(Violation::TooManyHeaders));
    check(&with(&format!("x: {}\r\n", "y".repeat(400))), Err(Violation::HeadTooLarge));
    check(&format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(400)), Err(Violation::HeadTooLarge));
    check(&"\r\n".repeat(300), Err(Violation::HeadTooLarge));
}
