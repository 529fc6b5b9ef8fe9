//! Requests as a test wants them: over one connection, with nothing added but what HTTP needs.
//!
//! ```no_run
//! # async fn example(gateway: std::net::SocketAddr) -> Result<(), penstock_testing::client::ClientError> {
//! use penstock_testing::client::{Connection, get, post};
//!
//! let mut connection = Connection::h1(gateway).await?;
//! let response = connection.send(get("/hello").host("example.com").header("x-a", "1")).await?;
//! assert_eq!((response.status, response.text()), (200, "hello"));
//!
//! let mut connection = Connection::h2(gateway).await?;
//! connection.send(post("/upload", "body").trailer("x-checksum", "1")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Raw`] sends and receives bytes as they are, for what no HTTP library would send.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

mod raw;
mod request;
mod response;

pub use raw::Raw;
pub use request::{Request, get, post, request};
pub use response::Response;

use crate::PATIENCE;
use request::Protocol;

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket or the TLS handshake failed.
    #[error("connection")]
    Io(#[from] io::Error),
    /// The peer broke the protocol, reset the stream or closed the connection.
    #[error("exchange")]
    Http(#[from] hyper::Error),
    /// The name for SNI is none.
    #[error("invalid server name")]
    InvalidServerName(#[from] rustls_pki_types::InvalidDnsNameError),
    /// Nothing happened for a long time.
    #[error("no {waiting_for} within {patience:?}")]
    TimedOut {
        /// What did not come.
        waiting_for: &'static str,
        /// How long it was waited for.
        patience: Duration,
    },
}

/// A connection to the gateway, or to whatever is tested.
pub struct Connection {
    sender: Sender,
    certificates: Vec<CertificateDer<'static>>,
}

enum Sender {
    H1(http1::SendRequest<request::RequestBody>),
    H2(http2::SendRequest<request::RequestBody>),
}

impl Connection {
    /// HTTP/1.1 in the clear.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn h1(address: SocketAddr) -> Result<Self, ClientError> {
        Self::over(connect(address).await?, false).await
    }

    /// HTTP/2 in the clear, with prior knowledge.
    ///
    /// # Errors
    /// When nobody listens or the peer does not speak HTTP/2.
    pub async fn h2(address: SocketAddr) -> Result<Self, ClientError> {
        Self::over(connect(address).await?, true).await
    }

    /// TLS with this server name; ALPN decides between HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When nobody listens or the handshake fails.
    pub async fn tls(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<Self, ClientError> {
        let name = ServerName::try_from(name.to_owned())?;
        let handshake = TlsConnector::from(config).connect(name, connect(address).await?);
        let stream = within("TLS handshake", handshake).await??;
        let session = stream.get_ref().1;
        let is_h2 = session.alpn_protocol() == Some(b"h2");
        let certificates = session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        Ok(Self { certificates, ..Self::over(stream, is_h2).await? })
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_h2: bool,
    ) -> Result<Self, ClientError> {
        let io = TokioIo::new(stream);
        // The driver's result reaches the test through the exchange that it broke.
        let sender = if is_h2 {
            let (sender, driver) = within("HTTP/2 handshake", http2::handshake(TokioExecutor::new(), io)).await??;
            tokio::spawn(driver);
            Sender::H2(sender)
        } else {
            let (sender, driver) = http1::handshake(io).await?;
            tokio::spawn(driver.with_upgrades());
            Sender::H1(sender)
        };
        Ok(Self { sender, certificates: Vec::new() })
    }

    /// What the peer presented, leaf first. Empty without TLS.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Whether the peer has closed the connection or asked to (`GOAWAY`).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }

    /// Send a request and read the whole response.
    ///
    /// # Errors
    /// When there is no complete response.
    pub async fn send(&mut self, request: Request) -> Result<Response, ClientError> {
        let response = self.open(request).await?;
        within("end of the response", Response::read(response)).await?
    }

    /// Send a request and return with the head of the response; its body is read by the test.
    ///
    /// # Errors
    /// When there is no response.
    pub async fn open(&mut self, request: Request) -> Result<http::Response<Incoming>, ClientError> {
        let response = match &mut self.sender {
            Sender::H1(sender) => {
                within("turn on the connection", sender.ready()).await??;
                within("response", sender.send_request(request.build(Protocol::H1))).await??
            }
            Sender::H2(sender) => {
                within("turn on the connection", sender.ready()).await??;
                within("response", sender.send_request(request.build(Protocol::H2))).await??
            }
        };
        Ok(response)
    }
}

/// One request over a connection of its own, HTTP/1.1 in the clear.
///
/// # Errors
/// When there is no complete response.
pub async fn fetch(address: SocketAddr, request: Request) -> Result<Response, ClientError> {
    Connection::h1(address).await?.send(request).await
}

/// The next piece of a streamed body; none at its end. Trailers are skipped.
///
/// # Errors
/// When the body breaks off.
pub async fn next_chunk(body: &mut Incoming) -> Result<Option<bytes::Bytes>, ClientError> {
    while let Some(frame) = within("piece of the body", body.frame()).await?.transpose()? {
        if let Ok(chunk) = frame.into_data() {
            return Ok(Some(chunk));
        }
    }
    Ok(None)
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ClientError> {
    let stream = within("connection", TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn within<F: Future>(waiting_for: &'static str, future: F) -> Result<F::Output, ClientError> {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.map_err(|_| ClientError::TimedOut { waiting_for, patience: PATIENCE })
}
