//! WebSocket and other protocols that begin as HTTP/1.1: after `101` on both sides, bytes go through as they are.

use std::{future::poll_fn, io, pin::pin, rc::Rc, task::Poll};

use http::{HeaderValue, Request, StatusCode, request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use penstock_core::reason::Reason;
use tokio::io::copy_bidirectional_with_sizes;

use crate::{
    accept::Registration,
    body::Body,
    connection::{Connection, Directive},
    headers,
    record::Record,
    respond::{Answer, Rejection},
    upstream::{ConnectContext, Job, Lease, Tried, connect_for_upgrade, source_chain},
    wire::UpgradeState,
};

/// Send a request that asks for an upgrade, over a connection of its own.
pub(crate) async fn send(
    connection: &Rc<Connection>,
    job: &Job<'_>,
    mut head: request::Parts,
    protocol: HeaderValue,
    record: &mut Record,
) -> Result<Answer, Rejection> {
    let method = head.method.clone();
    let client = head.extensions.remove::<OnUpgrade>();
    headers::ask_upgrade(&mut head.headers, protocol);
    let sent = exchange(job, Request::from_parts(head, Body::empty()), record).await;
    let (mut response, lease) = match sent {
        Ok(sent) => sent,
        Err(rejection) => {
            connection.wire.set_upgrade(UpgradeState::Declined);
            return Err(rejection);
        }
    };
    match (client, response.status()) {
        (Some(client), StatusCode::SWITCHING_PROTOCOLS) => {
            connection.wire.set_upgrade(UpgradeState::Agreed);
            let endpoint = hyper::upgrade::on(&mut response);
            tokio::task::spawn_local(tunnel(connection.clone(), client, endpoint));
        }
        _ => connection.wire.set_upgrade(UpgradeState::Declined),
    }
    Ok(Answer::upstream(response, lease, &method))
}

async fn exchange(
    job: &Job<'_>,
    request: Request<Body>,
    record: &mut Record,
) -> Result<(http::Response<hyper::body::Incoming>, Lease), Rejection> {
    let pools = job.upstream.pools(&job.worker.upstreams, &job.backend.endpoints);
    let mut tried = Tried::new();
    let context = ConnectContext { worker: job.worker, tls: &job.worker.upstreams.tls };
    let channel = loop {
        let at = job.upstream.pick(&pools, &tried, job.worker.clock.now()).ok_or(Reason::NoEndpoint)?;
        tried.push(at);
        let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX);
        record.set_endpoint(&pools[at].key.endpoint, attempts);
        match connect_for_upgrade(&context, &pools[at]).await {
            Ok(channel) => break channel,
            Err(_) if attempts < job.worker.settings.upstream.attempts && tried.len() < pools.len() => {}
            Err(rejection) => return Err(rejection),
        }
    };
    let mut sender = channel.detach_with_upgrades();
    let response = tokio::time::timeout(job.worker.settings.timeouts.response, sender.send_request(request)).await;
    let response = response.map_err(|_| Reason::UpstreamTimeout)?;
    let response = response.map_err(|error| Rejection::new(Reason::UpstreamReset, source_chain(&error)))?;
    Ok((response, Lease::detached(sender)))
}

/// Bytes in each direction before they are taken.
const BUFFER: usize = 16 << 10;

/// Carry bytes until both sides have ended; each end is passed on as it comes. The connection stays in the worker's list, so that a drain
/// waits for it, and cuts it at its deadline.
async fn tunnel(connection: Rc<Connection>, client: OnUpgrade, endpoint: OnUpgrade) {
    let _place = connection.worker.shared.admitted();
    let _registration = Registration::new(&connection);
    let (client, endpoint) = match (client.await, endpoint.await) {
        (Ok(client), Ok(endpoint)) => (client, endpoint),
        (client, endpoint) => {
            let error = client.err().or(endpoint.err()).map(|error| source_chain(&error));
            return tracing::debug!(error, "an upgrade was not completed");
        }
    };
    let (mut client, mut endpoint): (TokioIo<Upgraded>, TokioIo<Upgraded>) =
        (TokioIo::new(client), TokioIo::new(endpoint));
    let mut copying = pin!(copy_bidirectional_with_sizes(&mut client, &mut endpoint, BUFFER, BUFFER));
    let copied = poll_fn(|cx| match connection.attend(cx) {
        Directive::Cut => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        // It ends when its users end it.
        Directive::Serve | Directive::Finish => copying.as_mut().poll(cx),
    });
    if let Err(error) = copied.await {
        tracing::debug!(%error, "an upgraded connection broke");
    }
}
