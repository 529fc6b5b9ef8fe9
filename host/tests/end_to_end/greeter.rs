//! A gRPC server of somebody else: tonic, with what its code generator would write done by hand, so that no `protoc` is needed.
//!
//! ```text
//! message Greeting { string text = 1; int32 times = 2; }
//! service Greeter {
//!   rpc Greet(Greeting) returns (Greeting);
//!   rpc Repeat(Greeting) returns (stream Greeting);
//! }
//! ```

use std::{
    convert::Infallible,
    future::ready,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut};
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, Service},
    metadata::MetadataMap,
    server::{Grpc, ServerStreamingService, UnaryService},
    transport::{Server, server::TcpIncoming},
};

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Greeting {
    text: String,
    times: u64,
}

/// A server that runs until this is dropped.
pub(crate) struct Greeter {
    pub(crate) port: u16,
    serving: JoinHandle<()>,
}

impl Greeter {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Server::builder().serve_with_incoming(Methods, TcpIncoming::from(listener));
        Self { port, serving: tokio::spawn(async { serving.await.unwrap() }) }
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// All methods, by path.
#[derive(Clone)]
struct Methods;

impl Service<http::Request<Body>> for Methods {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            let mut grpc = Grpc::new(Greetings);
            Ok(match request.uri().path() {
                "/penstock.test.Greeter/Greet" => with_cost(grpc.unary(Greet, request).await),
                "/penstock.test.Greeter/Repeat" => grpc.server_streaming(Repeat, request).await,
                path => Status::unimplemented(format!("there is no {path}")).into_http(),
            })
        })
    }
}

/// A trailer beside the status, which tonic has no words for in a unary call.
fn with_cost(response: http::Response<Body>) -> http::Response<Body> {
    if response.headers().contains_key("grpc-status") {
        return response;
    }
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-cost"), HeaderValue::from_static("7"))]);
    response.map(|body| Body::new(body.with_trailers(ready(Some(Ok(trailers))))))
}

struct Greet;

impl UnaryService<Greeting> for Greet {
    type Response = Greeting;
    type Future = BoxFuture<Response<Greeting>, Status>;

    fn call(&mut self, request: Request<Greeting>) -> Self::Future {
        Box::pin(greet(request))
    }
}

async fn greet(request: Request<Greeting>) -> Result<Response<Greeting>, Status> {
    let metadata = |name: &str| request.metadata().get(name).cloned();
    match request.get_ref().text.as_str() {
        "nobody" => {
            let mut why = MetadataMap::new();
            why.insert("x-why", "unknown".parse().unwrap());
            Err(Status::with_metadata(tonic::Code::NotFound, "who is nöbody?", why))
        }
        // Says at once how long it may take.
        "deadline" => {
            let timeout = metadata("grpc-timeout").and_then(|timeout| Some(timeout.to_str().ok()?.to_owned()));
            Err(Status::deadline_exceeded(timeout.unwrap_or_default()))
        }
        // Until tonic or the client has waited long enough.
        "sleep" => std::future::pending().await,
        text => {
            let mut response = Response::new(Greeting { text: format!("hello {text}"), times: 1 });
            if let Some(tenant) = metadata("x-tenant") {
                response.metadata_mut().insert("x-tenant", tenant);
            }
            Ok(response)
        }
    }
}

struct Repeat;

type Repeated = std::pin::Pin<Box<dyn Stream<Item = Result<Greeting, Status>> + Send>>;

impl ServerStreamingService<Greeting> for Repeat {
    type Response = Greeting;
    type ResponseStream = Repeated;
    type Future = std::future::Ready<Result<Response<Repeated>, Status>>;

    fn call(&mut self, request: Request<Greeting>) -> Self::Future {
        let Greeting { text, times } = request.into_inner();
        let broken = (text == "broken").then(|| Err(Status::aborted("half way")));
        let repeated: Vec<_> =
            (1..=times).map(|times| Ok(Greeting { text: text.clone(), times })).chain(broken).collect();
        ready(Ok(Response::new(Box::pin(stream::iter(repeated)))))
    }
}

/// Protocol Buffers, as far as a [`Greeting`] needs them.
#[derive(Clone, Copy)]
struct Greetings;

impl Codec for Greetings {
    type Encode = Greeting;
    type Decode = Greeting;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Greetings {
    type Item = Greeting;
    type Error = Status;

    fn encode(&mut self, greeting: Greeting, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Fields with their default values are left out: field number and wire type, then the value.
        if !greeting.text.is_empty() {
            buffer.put_u8(1 << 3 | 2);
            put_varint(buffer, greeting.text.len() as u64);
            buffer.put_slice(greeting.text.as_bytes());
        }
        if greeting.times != 0 {
            buffer.put_u8(2 << 3);
            put_varint(buffer, greeting.times);
        }
        Ok(())
    }
}

impl Decoder for Greetings {
    type Item = Greeting;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Greeting>, Status> {
        let mut greeting = Greeting::default();
        while buffer.has_remaining() {
            match buffer.get_u8() {
                0x0a => {
                    let length = usize::try_from(varint(buffer)?).map_err(|_| malformed())?;
                    if length > buffer.remaining() {
                        return Err(malformed());
                    }
                    let text = buffer.copy_to_bytes(length);
                    greeting.text = String::from_utf8(text.to_vec()).map_err(|_| malformed())?;
                }
                0x10 => greeting.times = varint(buffer)?,
                _ => return Err(malformed()),
            }
        }
        Ok(Some(greeting))
    }
}

fn put_varint(buffer: &mut EncodeBuf<'_>, mut value: u64) {
    while value >= 0x80 {
        buffer.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value.to_le_bytes()[0]);
}

fn varint(buffer: &mut DecodeBuf<'_>) -> Result<u64, Status> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        if !buffer.has_remaining() {
            break;
        }
        let byte = buffer.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn malformed() -> Status {
    Status::invalid_argument("this is no Greeting")
}
