//! HTTP that plugins ask for, sent by the worker that their exchange belongs to, over the same pools as any request.
//!
//! ```text
//! plugin ─► Client::send ──► queue ──► run (a task of the worker) ──► one task a call ──► upstream
//!              ▲                                                           │
//!              └──────────────────────── answer ◄──────────────────────────┘
//! ```
//!
//! The plugin host wants futures that are `Send`, and those of a worker are not: hence the queue. Nothing leaves the thread.

use std::{future::poll_fn, rc::Rc, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use penstock_core::{
    plugin::{Outbound, OutboundClient, OutboundFailure, OutboundRequest},
    reason::Reason,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    body::Body,
    headers,
    respond::Rejection,
    upstream::{self, Job, Lease},
    worker::Worker,
};

type Answered = Result<Response<Bytes>, OutboundFailure>;

/// A call that waits for its answer.
struct Call {
    request: OutboundRequest,
    answer: oneshot::Sender<Answered>,
}

/// The way from the plugins of a worker to its upstreams.
struct Client(mpsc::UnboundedSender<Call>);

/// A client, and what it is asked. How many calls there can be at once is the plugin host's to limit.
fn channel() -> (Client, mpsc::UnboundedReceiver<Call>) {
    let (calls, queue) = mpsc::unbounded_channel();
    (Client(calls), queue)
}

impl OutboundClient for Client {
    fn send(&self, request: OutboundRequest) -> Outbound {
        let calls = self.0.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let gone = || OutboundFailure::Connect("the gateway is shutting down".into());
            calls.send(Call { request, answer }).map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

/// Give the plugins of a worker their way out.
pub(crate) fn connect(worker: &Rc<Worker>) {
    let (client, calls) = channel();
    worker.policies.connect(Arc::new(client));
    tokio::task::spawn_local(run(worker.clone(), calls));
}

/// Serve the calls of a worker's plugins until the worker ends.
async fn run(worker: Rc<Worker>, mut calls: mpsc::UnboundedReceiver<Call>) {
    while let Some(call) = calls.recv().await {
        tokio::task::spawn_local(serve(worker.clone(), call));
    }
}

async fn serve(worker: Rc<Worker>, call: Call) {
    let Call { request, mut answer } = call;
    let limit = request.timeout;
    let answered = tokio::select! {
        // Nobody waits any more: the exchange is gone, and the call with it.
        () = answer.closed() => return,
        answered = timeout(limit, exchange(&worker, request)) => answered,
    };
    // Who asked may have gone in the meantime.
    let _ = answer.send(answered.unwrap_or(Err(OutboundFailure::Timeout)));
}

async fn exchange(worker: &Worker, call: OutboundRequest) -> Answered {
    let OutboundRequest { backend, request, max_response, .. } = call;
    let (mut head, body) = request.into_parts();
    head.version = Version::HTTP_11;
    let body = if body.is_empty() { Body::empty() } else { Body::whole(body) };
    let upstream = worker.upstreams.upstream(&backend.key);
    let job = Job { worker, backend: &backend, upstream: &upstream, progress: None, gate: None };
    let sent = upstream::send(&job, &mut Request::from_parts(head, body)).await.map_err(|it| failure(&it))?;
    let (mut head, incoming) = sent.response.into_parts();
    if head.status.is_informational() {
        return Err(OutboundFailure::Protocol(format!("status {}", head.status.as_u16())));
    }
    headers::strip_response(&mut head.headers);
    let body = collect(incoming, sent.lease, max_response).await?;
    Ok(Response::from_parts(head, body))
}

/// The whole body, if it is not larger than `limit`. One that is costs its connection: nobody wants the rest.
async fn collect(mut incoming: Incoming, mut lease: Lease, limit: u64) -> Result<Bytes, OutboundFailure> {
    if incoming.size_hint().lower() > limit {
        return Err(OutboundFailure::TooLarge(limit));
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| lease.poll_frame(cx, &mut incoming)).await {
        let frame = frame.map_err(|error| OutboundFailure::Protocol(upstream::source_chain(&error)))?;
        if let Ok(bytes) = frame.into_data() {
            if (whole.len() + bytes.len()) as u64 > limit {
                return Err(OutboundFailure::TooLarge(limit));
            }
            whole.extend_from_slice(&bytes);
        }
    }
    lease.give_back();
    Ok(whole.freeze())
}

/// What a rejection means to a plugin. It may know why: it is part of the gateway, unlike the client.
fn failure(rejection: &Rejection) -> OutboundFailure {
    let why = || match &*rejection.detail {
        "" => rejection.reason.text().to_owned(),
        detail => detail.to_owned(),
    };
    match rejection.reason {
        Reason::UpstreamTimeout => OutboundFailure::Timeout,
        Reason::UpstreamReset | Reason::UpstreamProtocol => OutboundFailure::Protocol(why()),
        _ => OutboundFailure::Connect(why()),
    }
}
