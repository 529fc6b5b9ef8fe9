//! Connections to endpoints: kept, noticed when stale, and requests sent again only where that is safe.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use penstock_testing::{
    client::{Connection, get, post},
    origin::{Answer, Origin},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::support::{Gateway, settings, to, to_h2};

/// Answers `per_connection` requests on each connection; the next one is read and the connection closed without an answer. This is what a
/// pooled connection looks like that the endpoint closes at the same moment.
async fn forgetful(per_connection: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(forget(stream, per_connection, count.clone()));
        }
    });
    (address, seen)
}

async fn forget(mut stream: TcpStream, per_connection: usize, seen: Arc<AtomicUsize>) -> std::io::Result<()> {
    for request in 0..=per_connection {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        seen.fetch_add(1, SeqCst);
        if head.starts_with(b"POST") {
            let mut body = [0; 4];
            stream.read_exact(&mut body).await?;
        }
        if request < per_connection {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_lost_connection_costs_no_replayable_request() {
    let (endpoint, seen) = forgetful(2).await;
    let (gateway, address) = Gateway::serving(vec![to(&[endpoint])]);
    let mut connection = Connection::h1(address).await.unwrap();
    for _ in 0..9 {
        assert_eq!(connection.send(get("/")).await.unwrap().text(), "ok");
    }
    assert!(seen.load(SeqCst) > 9, "some were sent twice");
    assert!(gateway.metrics().contains("penstock_upstream_retries_total 4"), "{}", gateway.metrics());
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again() {
    let (endpoint, seen) = forgetful(1).await;
    let (_gateway, address) = Gateway::serving(vec![to(&[endpoint])]);
    let mut connection = Connection::h1(address).await.unwrap();
    assert_eq!(connection.send(post("/", "body")).await.unwrap().status, 200);
    assert_eq!(connection.send(post("/", "body")).await.unwrap().status, 502);
    assert_eq!(seen.load(SeqCst), 2);
}

#[tokio::test]
async fn a_fresh_connection_that_is_lost_is_not_tried_again() {
    let (endpoint, seen) = forgetful(0).await;
    let (_gateway, address) = Gateway::serving(vec![to(&[endpoint])]);
    assert_eq!(Connection::h1(address).await.unwrap().send(get("/")).await.unwrap().status, 502);
    assert_eq!(seen.load(SeqCst), 1);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_not_used() {
    let (endpoint, _) = closing().await;
    let (_gateway, address) = Gateway::serving(vec![to(&[endpoint])]);
    let mut connection = Connection::h1(address).await.unwrap();
    for _ in 0..5 {
        // Not idempotent and with a body: it would not be sent again.
        assert_eq!(connection.send(post("/", "body")).await.unwrap().status, 200);
    }
}

/// Closes each connection after its answer, without having said so.
async fn closing() -> (SocketAddr, ()) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !seen.ends_with(b"body") {
                    stream.read_buf(&mut seen).await?;
                }
                // The end comes in one packet with the answer.
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
                stream.shutdown().await
            });
        }
    });
    (address, ())
}

#[tokio::test]
async fn concurrent_streams_share_a_connection() {
    let origin = Origin::answering(Answer::new(200));
    let (_gateway, address) = Gateway::serving(vec![to_h2(&[origin.address()])]);
    let clients = (0..20).map(|_| async move {
        let mut connection = Connection::h1(address).await.unwrap();
        connection.send(get("/")).await.unwrap();
    });
    let clients: Vec<_> = clients.map(tokio::spawn).collect();
    for client in clients {
        client.await.unwrap();
    }
    let connections: std::collections::HashSet<_> =
        origin.requests().iter().map(|request| request.connection).collect();
    assert!(connections.len() <= 2, "one for each worker: {connections:?}");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let origin = Origin::answering(Answer::new(200));
    let mut settings = settings();
    settings.upstream.idle = Duration::from_millis(100);
    let (_gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    connection.send(get("/")).await.unwrap();
    penstock_testing::eventually::eventually("a second upstream connection", async || {
        tokio::time::sleep(Duration::from_millis(400)).await;
        connection.send(get("/")).await.unwrap();
        (origin.requests().last().unwrap().connection > 0).then_some(())
    })
    .await;
}
