//! HTTP as far as fetching needs it: one request at a time, everything bounded.
//!
//! The other side is chosen by whoever may create a WasmPlugin. It may be slow, endless or lead in circles, and none of that may cost the
//! gateway more than a limited amount of memory and time.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use penstock_core::plugin::ModuleUrl;
use tokio::{
    net::{TcpStream, lookup_host},
    task::AbortHandle,
    time::timeout,
};

use super::{FetchError, SourceAddresses, tls::Tls};

/// Redirects that are followed: a download page, a mirror, a storage with signed addresses.
const MOST_REDIRECTS: usize = 5;
/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 4;
/// Bytes of an error's body that are read for its message.
const ERROR_BODY: u64 = 16 << 10;

/// How long each part of a fetch may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// A connection, with TLS, to one address.
    pub(crate) connect: Duration,
    /// The head of an answer.
    pub(crate) answer: Duration,
    /// Between two pieces of a body.
    pub(crate) piece: Duration,
    /// A module, with all that leads to it. 16 MiB in that time are little more than a megabit a second.
    pub(crate) whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(10), answer: seconds(30), piece: seconds(30), whole: seconds(120) }
    }
}

/// Sends requests.
pub(crate) struct HttpClient {
    tls: Tls,
    patience: Patience,
    addresses: SourceAddresses,
}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: ModuleUrl,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn get(url: ModuleUrl) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// An answer whose body was not read yet.
pub(crate) struct Answer {
    pub(crate) url: ModuleUrl,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    patience: Patience,
    _connection: Connection,
}

/// A connection ends with the one exchange that it was opened for.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HttpClient {
    pub(crate) fn new(tls: Tls, patience: Patience) -> Self {
        Self { tls, patience, addresses: SourceAddresses::Any }
    }

    /// Connects to these addresses alone.
    pub(crate) fn reaching(self, addresses: SourceAddresses) -> Self {
        Self { addresses, ..self }
    }

    /// How long a module may take, with all that leads to it.
    pub(super) fn patience(&self) -> Duration {
        self.patience.whole
    }

    /// Ask, and follow redirects of a GET. `authorization` and the like are not sent to another origin.
    pub(crate) async fn send(&self, mut ask: Ask) -> Result<Answer, FetchError> {
        let first = ask.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.exchange(&ask).await?;
            let location = answer.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
            let Some(location) = location.filter(|_| ask.method == Method::GET && is_redirect(answer.status)) else {
                return Ok(answer);
            };
            let to = ask.url.join(location);
            let to = to.map_err(|source| FetchError::Location { url: ask.url.to_string(), source })?;
            if ask.url.is_https() && !to.is_https() {
                return Err(FetchError::Downgrade { url: ask.url.to_string(), to: to.to_string() });
            }
            if !ask.url.is_same_origin(&to) {
                ask.headers.remove(header::AUTHORIZATION);
            }
            ask.url = to;
        }
        Err(FetchError::Redirects { url: first.to_string(), limit: MOST_REDIRECTS })
    }

    async fn exchange(&self, ask: &Ask) -> Result<Answer, FetchError> {
        let (mut sender, connection) = self.connect(&ask.url).await?;
        let request = request(ask);
        let place = || place(&ask.url);
        let limit = self.patience.answer;
        let response = timeout(limit, sender.send_request(request)).await;
        let response = response.map_err(|_| FetchError::Timeout { place: place(), awaited: "answer", limit })?;
        let response = response.map_err(|error| broken_off(place(), &error))?;
        let (head, body) = Response::into_parts(response);
        let (url, patience) = (ask.url.clone(), self.patience);
        Ok(Answer { url, status: head.status, headers: head.headers, body, patience, _connection: connection })
    }

    async fn connect(&self, url: &ModuleUrl) -> Result<(http1::SendRequest<Full<Bytes>>, Connection), FetchError> {
        let stream = self.reach(url).await?;
        let limit = self.patience.connect;
        let late = || FetchError::Timeout { place: place(url), awaited: "agree on TLS", limit };
        let io = timeout(limit, self.tls.wrap(url, stream)).await.map_err(|_| late())??;
        let (sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(|error| broken_off(place(url), &error))?;
        let task = tokio::spawn(async move {
            // Whoever waits for the answer is told as well.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of a fetch ended");
            }
        });
        Ok((sender, Connection(task.abort_handle())))
    }

    /// The first address that takes a connection, of those that may be asked. Every request goes through here: those of redirects and tokens too.
    async fn reach(&self, url: &ModuleUrl) -> Result<TcpStream, FetchError> {
        let limit = self.patience.connect;
        let host = url.host().to_owned();
        let late = |awaited| FetchError::Timeout { place: place(url), awaited, limit };
        let found = timeout(limit, lookup_host((url.host(), url.port()))).await;
        let found = found.map_err(|_| late("get an address from the name servers"))?;
        let found = found.map_err(|source| FetchError::Resolve { host: host.clone(), source })?;
        let (addresses, refused): (Vec<SocketAddr>, Vec<SocketAddr>) =
            found.partition(|address| self.addresses.allow(address.ip()));
        let here = |address: &SocketAddr| FetchError::Here { place: place(url), address: address.ip() };
        let mut failed = refused.first().map(here).filter(|_| addresses.is_empty());
        for address in addresses.into_iter().take(MOST_ADDRESSES) {
            match timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(source)) => failed = Some(FetchError::Connect { place: at(url, address), source }),
                Err(_) => failed = Some(late("take a connection")),
            }
        }
        let nowhere = || FetchError::Resolve { host, source: std::io::ErrorKind::NotFound.into() };
        Err(failed.unwrap_or_else(nowhere))
    }
}

fn request(ask: &Ask) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(ask.body.clone()));
    *request.method_mut() = ask.method.clone();
    let path = ask.url.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or_default(); // it was part of a URI
    *request.headers_mut() = ask.headers.clone();
    let headers = request.headers_mut();
    let authority = ask.url.uri().authority().map_or("", |authority| authority.as_str());
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("penstock/", env!("CARGO_PKG_VERSION"))));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    request
}

fn is_redirect(status: StatusCode) -> bool {
    [301, 302, 303, 307, 308].contains(&status.as_u16())
}

/// `host:port`, as messages name the other side.
pub(super) fn place(url: &ModuleUrl) -> String {
    match url.host() {
        host if host.contains(':') => format!("[{host}]:{}", url.port()),
        host => format!("{host}:{}", url.port()),
    }
}

/// With the address, where it says more.
fn at(url: &ModuleUrl, address: SocketAddr) -> String {
    let (place, address) = (place(url), address.to_string());
    if place == address { place } else { format!("{place} ({address})") }
}

fn broken_off(place: String, error: &hyper::Error) -> FetchError {
    let mut why = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        why = format!("{why}: {source}");
    }
    FetchError::BrokenOff { place, why }
}

impl Answer {
    /// The whole body, if it has at most `limit` bytes.
    pub(crate) async fn read(mut self, limit: u64) -> Result<Bytes, FetchError> {
        let announced = self.headers.get(header::CONTENT_LENGTH);
        let announced: Option<u64> = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        if let Some(size) = announced.filter(|size| *size > limit) {
            return Err(FetchError::TooLarge { size: Some(size), limit });
        }
        let piece = self.patience.piece;
        let late = || FetchError::Timeout { place: place(&self.url), awaited: "send more of the body", limit: piece };
        let mut bytes = BytesMut::new();
        loop {
            let frame = timeout(piece, self.body.frame()).await.map_err(|_| late())?;
            let Some(frame) = frame else { return Ok(bytes.freeze()) };
            let frame = frame.map_err(|error| broken_off(place(&self.url), &error))?;
            let Ok(data) = frame.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > limit {
                return Err(FetchError::TooLarge { size: None, limit });
            }
            bytes.extend_from_slice(&data);
        }
    }

    /// What an answer that is no success says about itself, as one line.
    pub(crate) async fn explanation(self) -> String {
        let body = self.read(ERROR_BODY).await.unwrap_or_default();
        super::explain::explanation(&body)
    }
}

/// The module at `url`.
pub(crate) async fn module(client: &HttpClient, url: &ModuleUrl, limit: u64) -> Result<Bytes, FetchError> {
    let answer = client.send(Ask::get(url.clone())).await?;
    let (status, url) = (answer.status, answer.url.to_string());
    match status {
        StatusCode::OK => answer.read(limit).await,
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            let detail = answer.explanation().await;
            Err(FetchError::NotFound { what: "the module".into(), url, detail })
        }
        _ => Err(FetchError::Status { url, status, detail: answer.explanation().await }),
    }
}
