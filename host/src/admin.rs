//! The admin server: health, metrics, status, the configuration in effect. It has a thread of its own and only reads, so that nothing it is
//! asked can slow a request or change what serves.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use penstock_controller::StatusBoard;
use penstock_proxy::Proxy;
use prometheus_client::registry::Registry;
use serde::Serialize;

/// What the admin server reads. Nothing here has a lock that the request path takes.
pub(crate) struct AdminView {
    pub(crate) board: Arc<StatusBoard>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) metrics: Registry,
}

/// A bound port. Binding early makes a port that is taken an error of the start.
pub(crate) struct AdminServer {
    listener: TcpListener,
}

/// A client that sends its request in drops does not hold a connection for ever.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "\
/livez    the process runs and follows changes
/readyz   the first configuration is published and every socket is settled
/metrics  counters and latencies, for Prometheus
/status   resources with their conditions, plugins with their revisions, problems in files
/config   the configuration in effect, without secrets
";

impl AdminServer {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serve on a thread of its own, to the end of the process.
    pub(crate) fn serve(self, view: AdminView) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let view = Arc::new(view);
        thread::Builder::new().name("admin".into()).spawn(move || runtime.block_on(accept(&listener, &view)))?;
        Ok(())
    }
}

async fn accept(listener: &tokio::net::TcpListener, view: &Arc<AdminView>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of file descriptors, most likely: others must close first.
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let view = Arc::clone(view);
        tokio::spawn(async move {
            let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &view))));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, view: &AdminView) -> Response<Full<Bytes>> {
    let answer: fn(&AdminView) -> Response<Full<Bytes>> = match request.uri().path() {
        "/" => |_| text(StatusCode::OK, INDEX.to_owned()),
        "/livez" => liveness,
        "/readyz" => readiness,
        "/metrics" => metrics,
        "/status" => |view| json(&view.board.report()),
        "/config" => |view| json(&*view.proxy.snapshot()),
        _ => return text(StatusCode::NOT_FOUND, format!("no such page; there are:\n{INDEX}")),
    };
    if request.method() != Method::GET {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".to_owned());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    answer(view)
}

/// What was published goes on serving without a controller, but only a restart makes it change again.
fn liveness(view: &AdminView) -> Response<Full<Bytes>> {
    if view.board.is_alive() {
        return text(StatusCode::OK, "ok\n".to_owned());
    }
    text(StatusCode::SERVICE_UNAVAILABLE, "the controller ended by a defect; changes are not followed\n".to_owned())
}

fn readiness(view: &AdminView) -> Response<Full<Bytes>> {
    match view.board.readiness() {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(waiting) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {waiting}\n")),
    }
}

fn metrics(view: &AdminView) -> Response<Full<Bytes>> {
    let mut out = String::new();
    match prometheus_client::encoding::text::encode(&mut out, &view.metrics) {
        Ok(()) => respond(StatusCode::OK, OPEN_METRICS, out),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {error}\n")),
    }
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(body) => respond(StatusCode::OK, "application/json", body + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be written as JSON: {error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
