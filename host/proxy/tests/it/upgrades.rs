//! WebSocket and other upgrades.

use penstock_testing::{
    client::Raw,
    origin::{Answer, Origin},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{Gateway, to, to_h2};

pub(crate) const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

/// An endpoint that agrees to any upgrade, says hello, echoes until the client's end, and then says goodbye.
pub(crate) async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                assert!(head.contains("\r\nconnection: upgrade\r\n") && head.contains("x-forwarded-for"), "{head}");
                let protocol = head.lines().find_map(|line| line.strip_prefix("upgrade: ")).unwrap();
                assert_eq!(protocol == "websocket", head.contains("sec-websocket-key"), "{head}");
                // The first bytes of the new protocol come in one packet with the answer.
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\nhello "
                );
                stream.write_all(answer.as_bytes()).await?;
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await?;
                write.write_all(b" goodbye").await?;
                write.shutdown().await
            });
        }
    });
    address
}

#[tokio::test]
async fn bytes_go_both_ways_to_both_ends() {
    let (_gateway, address) = Gateway::serving(vec![to(&[echo().await])]);
    for _ in 0..3 {
        let mut raw = Raw::connect(address).await.unwrap();
        raw.write(ASK).await.unwrap();
        let answer = raw.read_until("\r\n\r\n").await.unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("upgrade: websocket\r\n") && answer.contains("connection: upgrade\r\n"), "{answer}");
        assert_eq!(raw.read_until("hello ").await.unwrap(), "hello ");
        // Not HTTP, not even text.
        raw.write(b"\x00\x81\n\n\nGET").await.unwrap();
        raw.read_until("GET").await.unwrap();
        // Half-closed: the other direction goes on.
        raw.shutdown().await.unwrap();
        assert_eq!(raw.read_to_end().await.unwrap(), " goodbye");
    }
}

#[tokio::test]
async fn other_protocols_than_websocket() {
    let (_gateway, address) = Gateway::serving(vec![to(&[echo().await])]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write("GET /attach HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n").await.unwrap();
    let answer = raw.read_until("\r\n\r\n").await.unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 ") && answer.contains("upgrade: spdy/3.1\r\n"), "{answer}");
    raw.write("ping").await.unwrap();
    assert_eq!(raw.read_until("ping").await.unwrap(), "hello ping");
}

#[tokio::test]
async fn bytes_sent_before_the_answer_are_not_lost() {
    let (_gateway, address) = Gateway::serving(vec![to(&[echo().await])]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write(format!("{ASK}early\n")).await.unwrap();
    raw.read_until("hello early\n").await.unwrap();
    raw.write("late").await.unwrap();
    raw.read_until("late").await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_upgraded_connections_up_to_its_deadline() {
    let (gateway, address) = Gateway::serving(vec![to(&[echo().await])]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write(ASK).await.unwrap();
    raw.read_until("hello ").await.unwrap();
    let report = gateway.proxy.drain(std::time::Duration::from_millis(300)).await;
    assert_eq!(report.cut, 1, "{report:?}");
    assert_eq!(raw.read_to_end().await.unwrap(), "");
}

#[tokio::test]
async fn a_declined_upgrade_is_an_ordinary_exchange() {
    let origin = Origin::answering(Answer::new(403).body("no"));
    for rule in [to(&[origin.address()]), to_h2(&[origin.address()])] {
        let (_gateway, address) = Gateway::serving(vec![rule]);
        let mut raw = Raw::connect(address).await.unwrap();
        for _ in 0..2 {
            // What follows is a request again, even if it came before the answer.
            raw.write(format!("{ASK}GET / HTTP/1.1\r\nhost: a\r\n\r\n")).await.unwrap();
            for _ in 0..2 {
                let answer = raw.read_response().await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn an_upgrade_does_not_hide_a_second_request() {
    let origin = Origin::answering(Answer::new(200));
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let bytes =
        format!("{ASK}POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    let answer = Raw::exchange(address, bytes).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 400 "), "{answer}");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn http2_is_not_offered_by_upgrade() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n").await.unwrap();
    assert!(raw.read_response().await.unwrap().starts_with("HTTP/1.1 200 "));
    let seen = &origin.requests()[0];
    assert!(!seen.headers.contains_key("upgrade") && !seen.headers.contains_key("http2-settings"));
}
