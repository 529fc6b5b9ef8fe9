//! `penstock echo`, and what passes through a gateway to it: WebSockets and gRPC.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use futures_util::{SinkExt as _, StreamExt as _};
use penstock_testing::{
    client::{Connection, fetch, get, post},
    eventually::eventually,
    gateway::Gateway,
    port::free_port,
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::{examples, world::PENSTOCK};

/// `penstock echo` as a process; it ends with the test.
struct Echo {
    process: Child,
    address: SocketAddr,
}

impl Echo {
    async fn start(name: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(PENSTOCK);
        command.args(["echo", "--listen", &address.to_string(), "--name", name]);
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        eventually("the echo", async || TcpStream::connect(address).await.ok()).await;
        Self { process, address }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An example whose origin is this one.
async fn example(name: &str, echo: &Echo) -> (Gateway, SocketAddr) {
    let port = free_port();
    let mut builder = Gateway::builder(PENSTOCK);
    for (file, text) in examples::files(name) {
        let text = text.replace("port: 8080", &format!("port: {port}"));
        builder = builder.file(&file, text.replace("port: 9000", &format!("port: {}", echo.address.port())));
    }
    let gateway = builder.start().await;
    let address = gateway.at(port);
    (gateway, address)
}

#[tokio::test]
async fn it_says_what_it_was_asked() {
    let echo = Echo::start("v1").await;
    let request = post("/a/b?c=d", "body").header("x-twice", "1").header("x-twice", "2");
    let said = fetch(echo.address, request).await.unwrap().json();
    assert_eq!(said["name"], "v1");
    assert_eq!((&said["method"], &said["path"], &said["query"]), (&"POST".into(), &"/a/b".into(), &"c=d".into()));
    assert_eq!(said["headers"]["x-twice"], serde_json::json!(["1", "2"]));
    assert_eq!(said["body"], "body");
    let mut h2 = Connection::h2(echo.address).await.unwrap();
    assert_eq!(h2.send(get("/")).await.unwrap().json()["version"], "HTTP/2.0");
}

#[tokio::test]
async fn a_web_socket_passes_through_the_gateway() {
    let echo = Echo::start("ws").await;
    let (_gateway, address) = example("websocket", &echo).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/chat"), stream).await.unwrap();
    for message in [Message::text("hello"), Message::binary(vec![0; 100_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
}

#[tokio::test]
async fn a_grpc_call_comes_back_with_its_trailer() {
    let echo = Echo::start("grpc").await;
    let (_gateway, address) = example("grpc", &echo).await;
    let mut connection = Connection::h2(address).await.unwrap();
    let call = post("/helloworld.Greeter/SayHello", &b"\0\0\0\0\x05hello"[..]);
    let call = call.header("content-type", "application/grpc").header("te", "trailers");
    let response = connection.send(call).await.unwrap();
    assert_eq!((response.status, response.trailer("grpc-status")), (200, "0"));
    assert_eq!(&*response.body, b"\0\0\0\0\x05hello");
}
