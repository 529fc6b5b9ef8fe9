//! `penstock echo`: an origin that says what it was asked.
//!
//! It answers JSON with method, path, headers and body; messages of a WebSocket come back as they are, and so do those of a gRPC call. HTTP/1.1
//! and HTTP/2 with prior knowledge share the port, told apart by the first bytes.

use std::{convert::Infallible, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

/// Answer every request with what it looked like on arrival
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  penstock echo --listen 127.0.0.1:9000 --name v1\n  curl http://127.0.0.1:9000/some/path?x=1"
)]
pub(crate) struct Args {
    /// Where to listen; repeat it for several
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9000")]
    listen: Vec<SocketAddr>,

    /// A name to answer with, to tell several origins apart
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Bodies are shown whole in the answer, so they are kept small.
const MOST_SHOWN: usize = 64 << 10;

/// Enough to tell the preface of HTTP/2 (`PRI * HTTP/2.0`) from every method of HTTP/1.1.
const PREFACE: &[u8] = b"PRI ";

type Body = BoxBody<Bytes, hyper::Error>;

/// Serve until the process ends.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    runtime.block_on(async {
        let mut accepting = tokio::task::JoinSet::new();
        for address in args.listen {
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            println!("echo listens on http://{}", listener.local_addr()?);
            accepting.spawn(accept(listener, args.name.clone()));
        }
        tokio::select! {
            _ = accepting.join_all() => {}
            result = tokio::signal::ctrl_c() => result.context("cannot wait for signals")?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn accept(listener: TcpListener, name: Option<String>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, name.clone()));
            }
            // Out of file descriptors, most likely: others must close first.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, name: Option<String>) {
    let service = service_fn(move |request| {
        let name = name.clone();
        async move { Ok::<_, Infallible>(answer(request, name.as_deref()).await) }
    });
    let result = if speaks_http2(&stream).await {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
    } else {
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connection.with_upgrades().await
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut first = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut first).await {
            Ok(length) if length < PREFACE.len() && length > 0 && first[..length] == PREFACE[..length] => {
                tokio::task::yield_now().await;
            }
            Ok(_) => return first == PREFACE,
            Err(_) => return false,
        }
    }
}

async fn answer(request: Request<Incoming>, name: Option<&str>) -> Response<Body> {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if content_type.starts_with(b"application/grpc") {
        return grpc(request, name);
    }
    if is_websocket(&request) {
        return websocket(request);
    }
    describe(request, name).await
}

/// Every message comes back as it was sent; the status is OK.
fn grpc(request: Request<Incoming>, name: Option<&str>) -> Response<Body> {
    let content_type = request.headers()[header::CONTENT_TYPE].clone();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = request.into_body().with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::builder().header(header::CONTENT_TYPE, content_type);
    if let Some(name) = name {
        response = response.header("x-echo-name", name);
    }
    response.body(body.boxed()).unwrap_or_else(|_| Response::new(empty()))
}

fn is_websocket(request: &Request<Incoming>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    upgrade.is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return plain(StatusCode::BAD_REQUEST, "a WebSocket handshake needs Sec-WebSocket-Key\n");
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            echo_messages(socket).await;
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(empty())
        .unwrap_or_else(|_| Response::new(empty()))
}

/// Messages come back as they are; pings are answered by the library.
async fn echo_messages(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
    while let Some(Ok(message)) = socket.next().await {
        let echoed = message.is_text() || message.is_binary();
        if echoed && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn describe(request: Request<Incoming>, name: Option<&str>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MOST_SHOWN).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => format!("(more than {MOST_SHOWN} bytes, or broken off)"),
    };
    let mut answer = json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "version": format!("{:?}", head.version),
        "headers": headers(&head.headers),
    });
    let optional = [
        ("name", name),
        ("query", head.uri.query()),
        ("authority", head.uri.authority().map(http::uri::Authority::as_str)),
        ("body", Some(&*body).filter(|body| !body.is_empty())),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            answer[field] = value.into();
        }
    }
    let text = format!("{answer:#}\n");
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// One string a header, or a list where it came several times.
fn headers(headers: &HeaderMap) -> Value {
    let shown = headers.keys().map(|name| {
        let mut values: Vec<Value> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned().into())
            .collect();
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        (name.to_string(), value)
    });
    Value::Object(shown.collect())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}
