//! From a socket to connections. Nothing here waits for a client: handshakes and requests have tasks of their own.

use std::{future::poll_fn, io, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use penstock_core::reason::Reason;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    batch::batched,
    connection::{Connection, Directive, TlsSession},
    guard::Guard,
    listen::SocketKey,
    request,
    stream::Stream,
    wire::Wire,
    worker::{Closed, Place, Worker},
};

/// Accept until told to stop. Connections that the kernel had established by then are served too: closing a socket resets what waits in it.
pub(crate) async fn run(
    worker: Rc<Worker>,
    key: SocketKey,
    listener: std::net::TcpListener,
    tls: Option<Arc<ServerConfig>>,
    stopped: oneshot::Receiver<Closed>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(address = %key.address, %error, "a socket cannot be watched"),
    };
    let acceptor = tls.map(TlsAcceptor::from);
    let accepting = Accepting { worker, key, listener, acceptor };
    let mut stopped = pin!(stopped);
    let mut told = None;
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(accepted) = accepting.listener.poll_accept(cx) {
                return Poll::Ready(Some(accepted));
            }
            // Dropped or used, the sender says the same; what it sends is kept until the socket is closed.
            stopped.as_mut().poll(cx).map(|closed| {
                told = closed.ok();
                None
            })
        });
        match next.await {
            Some(Ok((stream, peer))) => start(&accepting.worker, key, accepting.acceptor.clone(), stream, peer),
            Some(Err(error)) => recover(&error, key).await,
            None => {
                accepting.finish();
                return drop(told);
            }
        }
    }
}

/// An error of `accept` concerns a connection that is gone, or means that the process has no file descriptors left. The latter must
/// not become a busy loop.
async fn recover(error: &io::Error, key: SocketKey) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(address = %key.address, %error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

struct Accepting {
    worker: Rc<Worker>,
    key: SocketKey,
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
}

impl Accepting {
    /// Take what the kernel has established. The runtime may not have heard of it yet, so it is the kernel that is asked.
    fn finish(self) {
        let Self { worker, key, listener, acceptor } = self;
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                start(&worker, key, acceptor.clone(), stream, peer);
            }
        }
    }
}

/// Serve a connection in a task of its own, if there is a place for it.
fn start(worker: &Rc<Worker>, key: SocketKey, acceptor: Option<TlsAcceptor>, stream: TcpStream, peer: SocketAddr) {
    let Some(place) = worker.shared.admit() else {
        return refuse(worker, acceptor.is_some(), &stream);
    };
    worker.metrics().connections_opened.increment();
    // Without it small responses wait for acknowledgements. It cannot fail but on a dead connection.
    let _ = stream.set_nodelay(true);
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        serve(&worker, key, stream, peer, acceptor, &place).await;
        worker.metrics().connections_closed.increment();
    });
}

/// No place: say so where it costs nothing. A TLS client would need a handshake to read it.
fn refuse(worker: &Worker, is_tls: bool, stream: &TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nserver: penstock\r\n\
        proxy-status: penstock; error=connection_limit_reached; details=\"overloaded\"\r\n\
        connection: close\r\ncontent-length: 0\r\n\r\n";
    worker.metrics().count_reason(Reason::Overloaded);
    if !is_tls {
        let _ = stream.try_write(ANSWER);
    }
}

/// Serve one connection to its end. Its `place` is held until then.
async fn serve(
    worker: &Rc<Worker>,
    key: SocketKey,
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    _place: &Place,
) {
    let settings = &worker.settings;
    let wire = Arc::new(Wire::new(worker.clock.clone(), settings.limits.clone(), settings.timeouts.clone()));
    let Some(acceptor) = acceptor else {
        let mut guard = Guard::new(Stream::Plain(stream), wire.clone());
        let connection = Rc::new(Connection::new(worker.clone(), key, peer, wire, None));
        let slot = Registration::new(&connection);
        let is_h2 = guard.sniff(&connection).await;
        return match is_h2 {
            Ok(true) => http2(&slot.0, guard).await,
            Ok(false) => http1(&slot.0, guard).await,
            Err(error) => tracing::debug!(%peer, %error, "a connection ended before its first request"),
        };
    };
    let stream = match timeout(settings.timeouts.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        failed => {
            worker.metrics().handshakes_failed.increment();
            let error = failed.map_or_else(
                |_| "too slow".to_owned(),
                |error| error.map_or_else(|e| e.to_string(), |_| String::new()),
            );
            return tracing::debug!(%peer, %error, "a TLS handshake failed");
        }
    };
    let session = stream.get_ref().1;
    let is_h2 = session.alpn_protocol() == Some(b"h2");
    let version =
        if session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2) { "TLSv1.2" } else { "TLSv1.3" };
    let tls = TlsSession { server_name: session.server_name().map(Arc::from), version };
    let mut guard = Guard::new(Stream::Tls(Box::new(stream.into())), wire.clone());
    let connection = Rc::new(Connection::new(worker.clone(), key, peer, wire, Some(tls)));
    let slot = Registration::new(&connection);
    if is_h2 {
        guard.pass_everything();
        http2(&slot.0, guard).await;
    } else {
        http1(&slot.0, guard).await;
    }
}

async fn http1(connection: &Rc<Connection>, guard: Guard) {
    let service = {
        let connection = connection.clone();
        service_fn(move |request: Request<Incoming>| request::serve(connection.clone(), request))
    };
    let mut http = pin!(connection.worker.http1.serve_connection(TokioIo::new(guard), service).with_upgrades());
    let served = poll_fn(|cx| {
        match connection.attend(cx) {
            Directive::Serve => {}
            Directive::Finish => http.as_mut().graceful_shutdown(),
            Directive::Cut => return Poll::Ready(Ok(())),
        }
        http.as_mut().poll(cx)
    });
    ended(connection, served.await);
}

async fn http2(connection: &Rc<Connection>, guard: Guard) {
    connection.set_h2();
    let service = {
        let connection = connection.clone();
        service_fn(move |request: Request<Incoming>| request::serve(connection.clone(), request))
    };
    let (stream, batch) = batched(guard);
    let mut http = pin!(connection.worker.http2.serve_connection(TokioIo::new(stream), service));
    let served = poll_fn(|cx| {
        match connection.attend(cx) {
            Directive::Serve => {}
            Directive::Finish => http.as_mut().graceful_shutdown(),
            Directive::Cut => return Poll::Ready(Ok(())),
        }
        let served = http.as_mut().poll(cx);
        match batch.send(cx) {
            Ok(()) => served,
            Err(error) => {
                tracing::debug!(peer = %connection.peer, %error, "a connection broke");
                Poll::Ready(Ok(()))
            }
        }
    });
    ended(connection, served.await);
}

fn ended(connection: &Connection, served: hyper::Result<()>) {
    let Err(error) = served else { return };
    if error.is_parse() {
        // What the guard lets pass and hyper refuses (a method or target of forbidden characters); hyper has answered 400.
        connection.worker.metrics().count_reason(Reason::BadRequest);
    }
    tracing::debug!(peer = %connection.peer, error = %crate::upstream::source_chain(&error), "a connection broke");
}

/// A connection's place in the worker's list.
pub(crate) struct Registration(Rc<Connection>, usize);

impl Registration {
    pub(crate) fn new(connection: &Rc<Connection>) -> Self {
        Self(connection.clone(), connection.worker.connections.insert(connection.clone()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.worker.connections.remove(self.1);
    }
}
