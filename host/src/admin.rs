//! The admin server: health, metrics, status, the configuration in effect. It has threads of its own and only reads, so that nothing it is
//! asked can slow a request or change what serves.
//!
//! What is long to write (counters of every plugin, a status for each route) is written on a thread beside the one that answers, one page at a
//! time: a probe that waited for it would have the process restarted.

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
use penstock_core::Snapshot;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::Semaphore;

/// What the admin server reads. Nothing here has a lock that the request path takes.
pub(crate) struct AdminView {
    pub(crate) board: Arc<StatusBoard>,
    /// The configuration in effect.
    pub(crate) snapshot: Box<dyn Fn() -> Arc<Snapshot> + Send + Sync>,
    pub(crate) metrics: Registry,
}

/// What all connections share.
struct Served {
    view: AdminView,
    /// Whoever writes a long page.
    writing: Semaphore,
}

/// A page that is asked for.
type Page = fn(&AdminView) -> Response<Full<Bytes>>;

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
        let view = Arc::new(Served { view, writing: Semaphore::new(1) });
        thread::Builder::new().name("admin".into()).spawn(move || runtime.block_on(accept(&listener, &view)))?;
        Ok(())
    }
}

async fn accept(listener: &tokio::net::TcpListener, served: &Arc<Served>) {
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
        let served = Arc::clone(served);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let served = Arc::clone(&served);
                async move { Ok::<_, Infallible>(answer(&request, &served).await) }
            });
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

async fn answer(request: &Request<Incoming>, served: &Arc<Served>) -> Response<Full<Bytes>> {
    let (page, is_long): (Page, bool) = match request.uri().path() {
        "/" => (|_| text(StatusCode::OK, INDEX.to_owned()), false),
        "/livez" => (liveness, false),
        "/readyz" => (readiness, false),
        "/metrics" => (metrics, true),
        "/status" => (|view| json(&view.board.report()), true),
        "/config" => (|view| json(&*(view.snapshot)()), true),
        _ => return text(StatusCode::NOT_FOUND, format!("no such page; there are:\n{INDEX}")),
    };
    if request.method() != Method::GET {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".to_owned());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    if is_long { written(page, served).await } else { page(&served.view) }
}

/// A long page. Who does not wait for it any more is not written for.
async fn written(page: Page, served: &Arc<Served>) -> Response<Full<Bytes>> {
    // Nobody closes it.
    let _turn = served.writing.acquire().await;
    let writer = Arc::clone(served);
    tokio::task::spawn_blocking(move || page(&writer.view)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a defect of the gateway: a page of the admin server could not be written");
        text(StatusCode::INTERNAL_SERVER_ERROR, "a defect of the gateway; see its log\n".to_owned())
    })
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

#[cfg(test)]
mod tests {
    use std::{
        fmt,
        io::{Read as _, Write as _},
        net::TcpStream,
        sync::{Mutex, mpsc},
    };

    use jiff::Timestamp;
    use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

    use super::*;

    /// Says when it is asked, and answers when it is let.
    #[derive(Debug)]
    struct Slow(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>);

    impl Collector for Slow {
        fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
            let _ = self.0.send(());
            let _ = self.1.lock().unwrap().recv();
            Ok(())
        }
    }

    fn ask(address: SocketAddr, page: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {page} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        stream
    }

    fn answer_of(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn probes_are_answered_while_a_page_is_written() {
        let ((asked, is_asked), (let_it, may)) = (mpsc::channel(), mpsc::channel::<()>());
        let mut metrics = Registry::default();
        metrics.register_collector(Box::new(Slow(asked, Mutex::new(may))));
        let board = Arc::new(StatusBoard::new(Timestamp::now));
        let server = AdminServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.address().unwrap();
        server.serve(AdminView { board, snapshot: Box::new(Arc::default), metrics }).unwrap();
        let (page, second) = (ask(address, "/metrics"), ask(address, "/metrics"));
        is_asked.recv().unwrap();
        for probe in ["/livez", "/readyz", "/"] {
            assert!(answer_of(ask(address, probe)).starts_with("HTTP/1.1 "), "{probe}");
        }
        assert!(is_asked.try_recv().is_err(), "one page at a time");
        drop(let_it);
        for page in [page, second] {
            assert!(answer_of(page).starts_with("HTTP/1.1 200 OK"));
        }
    }
}
