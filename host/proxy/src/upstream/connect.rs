//! Making connections to endpoints.

use std::{cell::Cell, future::poll_fn, io, net::SocketAddr, pin::Pin, rc::Rc, sync::Arc};

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use penstock_core::{
    backend::{BackendProtocol, BackendTls, Endpoint},
    reason::Reason,
};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Http1, Pool, PoolKey};
use crate::{
    body::Body,
    listen::keepalive,
    respond::Rejection,
    stream::Stream,
    tls::client::{Alpn, ClientTls},
    worker::{LocalExec, Worker},
};

/// A new connection: which protocol it speaks is known after the handshake.
pub(crate) enum Connected {
    Http1(Box<Http1>),
    Http2(http2::SendRequest<Body>, StreamLimit),
}

/// How many streams the endpoint allows at the moment.
pub(crate) type StreamLimit = Rc<Cell<usize>>;

/// What connecting needs.
pub(crate) struct ConnectContext<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) tls: &'a ClientTls,
}

/// Connect to the endpoint of a pool.
pub(crate) async fn connect(context: &ConnectContext<'_>, pool: &Pool) -> Result<Connected, Rejection> {
    let alpn = match pool.key.protocol {
        BackendProtocol::Http1 => Alpn::Either,
        BackendProtocol::Http2 => Alpn::Http2,
    };
    let (stream, negotiated_h2) = establish(context, &pool.key, alpn).await?;
    let prior_knowledge = pool.key.tls.is_none() && pool.key.protocol == BackendProtocol::Http2;
    if negotiated_h2 || prior_knowledge {
        return start_http2(context.worker, stream).await;
    }
    if pool.key.protocol == BackendProtocol::Http2 {
        return Err(Rejection::new(Reason::UpstreamTls, "the endpoint does not offer HTTP/2 by ALPN"));
    }
    start_http1(stream).await.map(Connected::Http1)
}

/// A connection over which an HTTP/1.1 upgrade can be made; never from a pool, for it will not return to one.
pub(crate) async fn connect_for_upgrade(context: &ConnectContext<'_>, pool: &Pool) -> Result<Box<Http1>, Rejection> {
    let (stream, _) = establish(context, &pool.key, Alpn::Http1).await?;
    start_http1(stream).await
}

async fn start_http1(stream: Stream) -> Result<Box<Http1>, Rejection> {
    Http1::start(stream).await.map_err(|error| Rejection::new(Reason::ConnectFailed, error.to_string()))
}

async fn start_http2(worker: &Worker, stream: Stream) -> Result<Connected, Rejection> {
    let handshake = http2::Builder::new(LocalExec)
        .timer(hyper_util::rt::TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(worker.settings.limits.head_size).unwrap_or(u32::MAX))
        .keep_alive_interval(H2_PING)
        .handshake(TokioIo::new(stream));
    let (sender, mut driver) =
        handshake.await.map_err(|error| Rejection::new(Reason::UpstreamProtocol, error.to_string()))?;
    let limit = Rc::new(Cell::new(driver.current_max_send_streams()));
    let known = limit.clone();
    tokio::task::spawn_local(poll_fn(move |cx| {
        let driven = Pin::new(&mut driver).poll(cx);
        known.set(driver.current_max_send_streams());
        driven
    }));
    Ok(Connected::Http2(sender, limit))
}

/// Bytes that an endpoint may send before they are taken; what is not taken waits there. 1 MiB fills 100 Mbit/s at 80 ms.
const H2_STREAM_WINDOW: u32 = 1 << 20;
const H2_CONNECTION_WINDOW: u32 = 4 << 20;

/// A connection whose endpoint vanished without a word is noticed by it.
const H2_PING: std::time::Duration = std::time::Duration::from_secs(20);

/// TCP, and TLS if there is to be. Whether HTTP/2 was agreed on by ALPN.
async fn establish(context: &ConnectContext<'_>, key: &PoolKey, alpn: Alpn) -> Result<(Stream, bool), Rejection> {
    let limit = context.worker.settings.timeouts.connect;
    let tcp = timeout(limit, connect_tcp(&key.endpoint)).await;
    let tcp = tcp.map_err(|_| Rejection::new(Reason::ConnectTimeout, "the TCP connection was not established"))?;
    let tcp = tcp.map_err(|error| Rejection::new(Reason::ConnectFailed, error.to_string()))?;
    let Some(tls) = &key.tls else { return Ok((Stream::Plain(tcp), false)) };
    let handshake = timeout(limit, connect_tls(context.tls, tls, alpn, tcp)).await;
    let stream = handshake.map_err(|_| Rejection::new(Reason::ConnectTimeout, "the TLS handshake was not finished"))?;
    let stream = stream.map_err(|error| Rejection::new(Reason::UpstreamTls, error.to_string()))?;
    let negotiated_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Stream::Tls(Box::new(stream)), negotiated_h2))
}

async fn connect_tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = match endpoint {
        Endpoint::Address(address) => TcpStream::connect(address).await?,
        Endpoint::Name(name, port) => {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((&**name, *port)).await?.collect();
            TcpStream::connect(&*addresses).await?
        }
    };
    stream.set_nodelay(true)?;
    // Responses may pause for as long as they like, but not because nobody is there any more.
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    Ok(stream)
}

async fn connect_tls(
    settings: &ClientTls,
    tls: &Arc<BackendTls>,
    alpn: Alpn,
    stream: TcpStream,
) -> io::Result<tokio_rustls::TlsStream<TcpStream>> {
    let name = ServerName::try_from(tls.server_name.to_string())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let config = settings.config(tls, alpn).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(stream.into())
}
