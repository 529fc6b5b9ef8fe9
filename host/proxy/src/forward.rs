//! From a request whose head is decided to the head of the endpoint's response.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use http::{HeaderValue, Request, StatusCode, Version, header, request};
use penstock_core::{
    backend::{Backend, BackendProtocol},
    reason::Reason,
    route::{Target, WeightedBackend},
};

use crate::{
    body::{Continue, Progress, RequestBody, take},
    connection::Connection,
    headers,
    record::Record,
    respond::{Answer, Rejection},
    target, upgrade,
    upstream::{self, Job, Upstream},
    wire::UpgradeState,
};

/// Where a request goes.
pub(crate) struct Outgoing<'a> {
    pub(crate) connection: &'a Rc<Connection>,
    pub(crate) backend: &'a WeightedBackend,
    /// None where the reference does not resolve.
    pub(crate) upstream: Option<&'a Upstream>,
    /// The protocol to upgrade to.
    pub(crate) upgrade: Option<HeaderValue>,
}

/// Send the request to an endpoint.
pub(crate) async fn send(
    outgoing: Outgoing<'_>,
    head: &mut request::Parts,
    mut body: RequestBody,
    record: &mut Record,
) -> Result<Answer, Rejection> {
    let connection = outgoing.connection;
    let (Target::Backend(backend), Some(upstream)) = (&outgoing.backend.target, outgoing.upstream) else {
        return Err(Reason::InvalidBackend.into());
    };
    if let Some(log) = record.log() {
        log.backend = Some(backend.key.to_string());
    }
    let gate = expect(connection, backend, head, &body)?;
    body.set_gate(gate.clone());
    let progress = body.progress().cloned();
    head.version = Version::HTTP_11;
    let method = head.method.clone();
    let worker = &connection.worker;
    let job = Job { worker, backend, upstream, progress: progress.as_ref(), gate: gate.as_ref() };
    if let Some(protocol) = outgoing.upgrade {
        if backend.key.protocol == BackendProtocol::Http1 && progress.is_none() {
            return Box::pin(upgrade::send(connection, &job, take(head), protocol, record)).await;
        }
        connection.wire.set_upgrade(UpgradeState::Declined);
    } else if head.extensions.get::<hyper::upgrade::OnUpgrade>().is_some() {
        connection.wire.set_upgrade(UpgradeState::Declined);
    }
    if backend.key.protocol == BackendProtocol::Http2 {
        headers::ask_trailers(&mut head.headers);
    }
    let body = body.into_body(head, backend.key.protocol);
    let mut request = Request::from_parts(take(head), body);
    if let Some(gate) = gate.clone() {
        hyper::ext::on_informational(&mut request, move |interim| {
            if interim.status() == StatusCode::CONTINUE {
                gate.store(true, Relaxed);
            }
        });
    }
    match upstream::send(&job, &mut request).await {
        Ok(sent) => {
            record.set_endpoint(&sent.endpoint, sent.attempts);
            if let Some(status) = sent.response.headers().get("grpc-status") {
                // A response of trailers only.
                record.grpc_status(status.clone());
            }
            Ok(Answer::upstream(sent.response, sent.lease, &method))
        }
        Err(rejection) => Err(clients_fault(connection, progress.as_deref()).unwrap_or(rejection)),
    }
}

/// `Expect: 100-continue` is the endpoint's to answer: the body is not asked for before it does. Where one side speaks HTTP/2 the
/// header goes no further, for flow control does its work there.
fn expect(
    connection: &Connection,
    backend: &Backend,
    head: &mut request::Parts,
    body: &RequestBody,
) -> Result<Option<Continue>, Rejection> {
    let Some(expectation) = head.headers.get(header::EXPECT) else { return Ok(None) };
    if !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Err(Reason::ExpectationFailed.into());
    }
    let is_http1 = !connection.is_h2() && backend.key.protocol == BackendProtocol::Http1;
    // Nor is there anything to wait for when a plugin has asked for the body already.
    let is_due = body.progress().is_some_and(|progress| !progress.has_begun());
    if !is_http1 || !is_due || head.version < Version::HTTP_11 {
        head.headers.remove(header::EXPECT);
        return Ok(None);
    }
    Ok(Some(Arc::default()))
}

/// Whether the client is why there is no response.
fn clients_fault(connection: &Connection, progress: Option<&Progress>) -> Option<Rejection> {
    let failure = progress?.failure()?;
    Some(target::refused_body(&connection.wire).unwrap_or_else(|| failure.into()))
}
