//! WebSocket and other protocols that begin as HTTP/1.1: after `101` on both sides, bytes go through as they are.

use http::{HeaderValue, Request, StatusCode, request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use penstock_core::reason::Reason;
use tokio::io::copy_bidirectional_with_sizes;

use crate::{
    body::Body,
    connection::Connection,
    headers,
    record::Record,
    respond::{Answer, Rejection},
    upstream::{ConnectContext, Job, Lease, Tried, connect_for_upgrade, source_chain},
    wire::UpgradeState,
};

/// Send a request that asks for an upgrade, over a connection of its own.
pub(crate) async fn send(
    connection: &Connection,
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
            tokio::task::spawn_local(tunnel(client, endpoint, job.worker.shared.admitted()));
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

/// Carry bytes until both sides have ended; each end is passed on as it comes.
async fn tunnel(client: OnUpgrade, endpoint: OnUpgrade, _place: crate::worker::Place) {
    let (client, endpoint) = match (client.await, endpoint.await) {
        (Ok(client), Ok(endpoint)) => (client, endpoint),
        (client, endpoint) => {
            let error = client.err().or(endpoint.err()).map(|error| source_chain(&error));
            return tracing::debug!(error, "an upgrade was not completed");
        }
    };
    let (mut client, mut endpoint): (TokioIo<Upgraded>, TokioIo<Upgraded>) = (TokioIo::new(client), TokioIo::new(endpoint));
    if let Err(error) = copy_bidirectional_with_sizes(&mut client, &mut endpoint, BUFFER, BUFFER).await {
        tracing::debug!(%error, "an upgraded connection broke");
    }
}
