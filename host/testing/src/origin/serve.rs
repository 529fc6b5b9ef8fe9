//! Connections of an origin.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::answer::{Before, ScriptedBody};
use super::{Answer, Recorded, Shared};

/// Serve until the handle is dropped. All tasks end with the runtime.
pub(super) fn run(listener: std::net::TcpListener, shared: &Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
        tokio::select! {
            () = accept(&listener, shared) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let count = AtomicUsize::new(0);
    loop {
        // An error here concerns a connection that is gone already.
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let connection = Connection { shared: Arc::clone(shared), peer, index: count.fetch_add(1, Ordering::Relaxed) };
        tokio::spawn(async move {
            // Peers break connections on purpose in tests: what matters is what was recorded.
            let _ = connection.run(stream).await;
        });
    }
}

#[derive(Clone)]
struct Connection {
    shared: Arc<Shared>,
    peer: SocketAddr,
    index: usize,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Connection {
    async fn run(self, stream: TcpStream) -> Result<(), BoxError> {
        stream.set_nodelay(true)?;
        let Some(tls) = self.shared.tls.clone() else {
            let is_h2 = starts_like_h2(&stream).await?;
            return self.serve(TokioIo::new(stream), is_h2).await;
        };
        let stream = TlsAcceptor::from(tls).accept(stream).await?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.serve(TokioIo::new(stream), is_h2).await
    }

    async fn serve(self, io: impl Read + Write + Unpin + Send + 'static, is_h2: bool) -> Result<(), BoxError> {
        let service = service_fn(move |request| {
            let connection = self.clone();
            async move { connection.exchange(request).await }
        });
        if is_h2 {
            http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await?;
        } else {
            http1::Builder::new().serve_connection(io, service).with_upgrades().await?;
        }
        Ok(())
    }

    /// An error ends the connection (HTTP/1.1) or resets the stream (HTTP/2).
    async fn exchange(self, request: Request<Incoming>) -> io::Result<Response<ScriptedBody>> {
        let (head, body) = request.into_parts();
        let mut recorded = Recorded::new(&head, self.peer, self.index);
        if !self.shared.answers_early {
            recorded.read_body(body).await;
        }
        let answer = self.shared.answer_to(&recorded);
        self.shared.record(recorded);
        respond(answer).await
    }
}

async fn respond(answer: Answer) -> io::Result<Response<ScriptedBody>> {
    match &answer.before {
        Some(Before::Wait(gate)) => gate.wait().await,
        Some(Before::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
        None => {}
    }
    let (status, headers) = (answer.status, answer.headers.clone());
    let mut response = Response::new(answer.into_body());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Look at the first bytes without taking them: `PRI` begins the preface of HTTP/2 and no request of HTTP/1.1.
async fn starts_like_h2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 || seen[..count] != PREFACE[..count] {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // Fewer bytes than that in one segment do not happen but in a test that means it.
        tokio::task::yield_now().await;
    }
}
