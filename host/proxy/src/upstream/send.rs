//! Sending a request to an endpoint of a backend, and another one if need be.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http::{Request, Response, Uri, Version};
use hyper::{body::Incoming, client::conn::http2};
use penstock_core::{
    backend::{Backend, Endpoint},
    reason::Reason,
};

use super::{
    ConnectContext, Http1, Lease, Pool, Tried, Upstream,
    connect::{Connected, connect},
    cooldown_ticks,
    http1::{Exchange, NoResponse},
    replay::Replay,
};
use crate::{
    body::{Body, Continue, Progress},
    patience::Patience,
    respond::Rejection,
    worker::Worker,
};

/// A request that is ready to be sent.
pub(crate) struct Job<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) backend: &'a Backend,
    pub(crate) upstream: &'a Upstream,
    /// None if there is no body.
    pub(crate) progress: Option<&'a Rc<Progress>>,
    /// Opened when the endpoint wants the body.
    pub(crate) gate: Option<&'a Continue>,
}

/// A response, and the connection that it comes over.
pub(crate) struct Sent {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
    pub(crate) endpoint: Endpoint,
    pub(crate) attempts: u32,
}

/// A request under way.
enum Sending<'a, F, G> {
    Http1(Exchange<'a, F>),
    Http2(Pin<Box<G>>),
}

/// How a request travels.
enum Channel {
    Http1(Box<Http1>),
    Http2(http2::SendRequest<Body>, Lease),
}

/// Send it to an endpoint in turn.
///
/// * An endpoint that cannot be connected to: the next one, up to the limit of attempts.
/// * A pooled connection that turns out to be closed: once more over a new one, if the request was not sent, or may be sent twice
///   (idempotent, without a body; RFC 9110 §9.2.2).
pub(crate) async fn send(job: &Job<'_>, request: &mut Request<Body>) -> Result<Sent, Rejection> {
    let pools = job.upstream.pools(&job.worker.upstreams, &job.backend.endpoints);
    let limit = job.worker.settings.upstream.attempts;
    let (mut tried, mut attempts) = (Tried::new(), 0);
    let mut stale = None;
    loop {
        attempts += 1;
        let now = job.worker.clock.now();
        let at = stale.or_else(|| job.upstream.pick(&pools, &tried, now)).ok_or(Reason::NoEndpoint)?;
        let pool = &pools[at];
        let reused = if stale.is_none() { reuse(pool, now) } else { None };
        let (mut channel, replay) = match reused {
            Some(channel) => {
                job.worker.metrics().upstream_reused.increment();
                (channel, Replay::of(request))
            }
            None => match Box::pin(open(job, pool)).await {
                Ok(channel) => (channel, None),
                Err(rejection) => {
                    tried.push(at);
                    stale = None;
                    if attempts < limit && tried.len() < pools.len() {
                        job.worker.metrics().retries.increment();
                        continue;
                    }
                    return Err(rejection);
                }
            },
        };
        let sending = std::mem::replace(request, Request::new(Body::empty()));
        match channel.send(job, sending).await {
            Ok(response) => {
                let lease = channel.into_lease(job, pool);
                return Ok(Sent { response, lease, endpoint: pool.key.endpoint.clone(), attempts });
            }
            Err(NoResponse::Unsent(unsent)) if attempts <= limit => *request = unsent,
            Err(NoResponse::Failed(error)) => match replay {
                Some(replay) if !error.is_parse() => *request = replay.into(),
                _ => return Err(job.blame(&error)),
            },
            Err(NoResponse::TimedOut) => return Err(Reason::UpstreamTimeout.into()),
            Err(NoResponse::Unsent(_)) => return Err(Reason::UpstreamReset.into()),
        }
        job.worker.metrics().retries.increment();
        stale = Some(at);
    }
}

fn reuse(pool: &Pool, now: u64) -> Option<Channel> {
    if let Some((sender, lease)) = pool.take_stream(now) {
        return Some(Channel::Http2(sender, lease));
    }
    pool.take_idle().map(Channel::Http1)
}

async fn open(job: &Job<'_>, pool: &Rc<Pool>) -> Result<Channel, Rejection> {
    use penstock_core::backend::BackendProtocol::Http2;
    // Many requests at once need one connection of HTTP/2, not one each.
    let _turn = if pool.key.protocol == Http2 { Some(pool.connecting.lock().await) } else { None };
    if let Some((sender, lease)) = pool.take_stream(job.worker.clock.now()) {
        return Ok(Channel::Http2(sender, lease));
    }
    let context = ConnectContext { worker: job.worker, tls: &job.worker.upstreams.tls };
    let connected = connect(&context, pool).await.inspect_err(|_| job.cool(pool))?;
    job.worker.metrics().upstream_connected.increment();
    match connected {
        Connected::Http1(connection) => Ok(Channel::Http1(connection)),
        Connected::Http2(sender, limit) => {
            pool.share(sender, limit, job.worker.clock.now());
            let stream = pool.take_stream(job.worker.clock.now());
            let (sender, lease) = stream.ok_or_else(|| Rejection::new(Reason::UpstreamReset, "closed at once"))?;
            Ok(Channel::Http2(sender, lease))
        }
    }
}

impl Channel {
    /// Not an `async fn`: so the request is handed over at once and is no part of the future.
    fn send<'a>(
        &'a mut self,
        job: &'a Job<'_>,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, NoResponse>> + 'a {
        let mut wait = Wait::new(job);
        let sending = match self {
            Self::Http1(connection) => Sending::Http1(connection.send(request)),
            Self::Http2(sender, _) => {
                Sending::Http2(Box::pin(sender.try_send_request(for_http2(request, job.backend))))
            }
        };
        async move {
            match sending {
                Sending::Http1(exchange) => exchange.run(|cx| wait.is_over(job, cx)).await,
                Sending::Http2(mut response) => {
                    poll_fn(|cx| match response.as_mut().poll(cx) {
                        Poll::Pending if wait.is_over(job, cx) => Poll::Ready(Err(NoResponse::TimedOut)),
                        polled => polled.map_err(NoResponse::from),
                    })
                    .await
                }
            }
        }
    }

    fn into_lease(self, job: &Job<'_>, pool: &Rc<Pool>) -> Lease {
        match self {
            Self::Http2(_, lease) => lease,
            Self::Http1(connection) => {
                let still_sending = job.progress.is_some_and(|progress| progress.has_begun() && !progress.is_done());
                if still_sending {
                    return Lease::Detached { _sender: connection.detach() };
                }
                let max_idle = job.worker.settings.upstream.max_idle;
                Lease::Own { connection: Some(connection), pool: pool.clone(), max_idle, now: job.worker.clock.now() }
            }
        }
    }
}

/// How long a response may take: from the end of the request, or from the question whether a body is wanted.
struct Wait {
    response: Patience,
    interim: Patience,
}

/// What a client waits for `100 Continue` before it sends its body anyway (curl does so after 1 s): then so do we.
const CONTINUE_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

impl Wait {
    fn new(job: &Job<'_>) -> Self {
        let waiters = &job.worker.waiters;
        let response = Patience::new(waiters, job.worker.settings.timeouts.response);
        Self { response, interim: Patience::new(waiters, CONTINUE_WAIT) }
    }

    fn is_over(&mut self, job: &Job<'_>, cx: &Context<'_>) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        let clock = &job.worker.clock;
        if let Some(gate) = job.gate
            && !gate.load(Relaxed)
        {
            if self.interim.is_over(clock, cx) {
                gate.store(true, Relaxed);
                // Ask again, now that the body may go.
                cx.waker().wake_by_ref();
            }
            return false;
        }
        if job.progress.is_some_and(|progress| !progress.is_done()) {
            // The limits of the request's body count as long as it comes.
            return false;
        }
        self.response.is_over(clock, cx)
    }
}

impl Job<'_> {
    fn cool(&self, pool: &Pool) {
        self.worker.metrics().upstream_failed.increment();
        pool.cool_until(self.worker.clock.now() + cooldown_ticks(&self.worker.settings.upstream));
    }

    /// Whose fault it is that there is no response.
    fn blame(&self, error: &hyper::Error) -> Rejection {
        if let Some(reason) = self.progress.and_then(|progress| progress.failure()) {
            return reason.into();
        }
        let reason = if error.is_parse() { Reason::UpstreamProtocol } else { Reason::UpstreamReset };
        Rejection::new(reason, source_chain(error))
    }
}

/// An error with its causes.
pub(crate) fn source_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// HTTP/2 has the scheme and the host in the request line, so to speak.
fn for_http2(mut request: Request<Body>, backend: &Backend) -> Request<Body> {
    use http::{header::HOST, uri};
    *request.version_mut() = Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(HOST) else { return request };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if let Ok(authority) = uri::Authority::from_maybe_shared(bytes::Bytes::copy_from_slice(host.as_bytes())) {
        parts.scheme = Some(if backend.key.tls.is_some() { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
        parts.authority = Some(authority);
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}
