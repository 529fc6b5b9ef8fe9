//! One request, from its head to the head of its response.
//!
//! ```text
//! settle ─► match ─► request filters ─► plugins ─► endpoint, send ─► plugins in reverse ─► response filters ─► body and record
//!    └─────────┴──────────┴────────────────┴────────────┴─── a Rejection becomes a response in one place ───┘
//! ```

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request, response};
use hyper::body::Incoming;
use penstock_core::{
    client_address::Hop,
    filter::{Redirect, RedirectedRequest},
    listener::Listener,
    matching::{RequestView, RuleMatched},
    path::TargetTooLong,
    reason::Reason,
    route::{Rule, WeightedBackend},
};

use crate::{
    body::{Body, RequestBody},
    connection::Connection,
    forward::{self, Outgoing},
    headers,
    policies::{Chain, Stop},
    record::Record,
    respond::{self, Aborted, Answer, Rejection},
    routing::{self, Way},
    target,
    worker::{RuleState, View},
};

/// Answer a request. What goes wrong has a response, and what goes wrong after its head ends its body.
///
/// # Errors
/// A plugin wants the exchange to be reset.
pub(crate) async fn serve(connection: Rc<Connection>, request: Request<Incoming>) -> Result<Response<Body>, Aborted> {
    let mut record = Record::begin(connection.clone());
    let view = connection.worker.view(connection.socket);
    let (mut head, body) = request.into_parts();
    // Most requests arrive with fewer headers than they leave with: make room once.
    head.headers.reserve(ADDED_HEADERS);
    let answer = exchange(&connection, &view, &mut head, body, &mut record).await?;
    Ok(respond::finish(&connection, answer, record))
}

/// `X-Forwarded-*`, `X-Request-Id`, and a few for filters and plugins.
const ADDED_HEADERS: usize = 8;

/// What takes a request.
#[derive(Clone, Copy)]
struct Matched<'v> {
    listener: &'v Arc<Listener>,
    matched: RuleMatched<'v>,
}

async fn exchange(
    connection: &Rc<Connection>,
    view: &View,
    // By reference, and taken out when it is sent: each `await` that holds a head by value makes the future larger.
    head: &mut request::Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Answer, Aborted> {
    let settled = target::settle(head, &connection.wire);
    note_request(head, connection, record);
    let found = settled.and_then(|()| find(connection, view, head));
    let found = match found {
        Ok(found) => found,
        Err(rejection) => return Ok(Answer::rejected(&rejection, record)),
    };
    let state = view.rule(&connection.worker, found.listener, found.matched.rule);
    note_match(&found, &state, record);
    run_rule(connection, found, &state, head, body, record).await
}

/// The listener and the rule for a request.
fn find<'v>(connection: &Connection, view: &'v View, head: &request::Parts) -> Result<Matched<'v>, Rejection> {
    let host = target::host(head)?;
    let socket = view.socket(connection.socket).ok_or(Reason::NoRoute)?;
    let listener = socket.listener_for(&host, connection.server_name())?;
    let request = RequestView {
        host: &host,
        path: head.uri.path(),
        query: head.uri.query(),
        method: &head.method,
        headers: &head.headers,
    };
    let matched = listener.routes.find(&request).ok_or(Reason::NoRoute)?;
    Ok(Matched { listener, matched })
}

/// Everything that happens between matching and the response's way out.
async fn run_rule(
    connection: &Rc<Connection>,
    found: Matched<'_>,
    state: &RuleState,
    head: &mut request::Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Answer, Aborted> {
    let rule = found.matched.rule;
    // A redirect is made from what the client asked for, not from what filters and plugins leave of it.
    let way = match Way::of(rule, |redirect| redirected(connection, redirect, head, found.matched)) {
        Ok(way) => way,
        Err(rejection) => return Ok(Answer::rejected(&rejection, record)),
    };
    let mut backend = way.backend();
    let client = connection.worker.settings.forwarding.trusted_proxies.client(connection.peer, &head.headers);
    headers::forward(connection, head);
    headers::identify(connection, &mut head.headers);
    if let Some(log) = record.log() {
        (log.client, log.request_id) = (Some(client), headers::request_id(&head.headers));
    }
    let mut chain = Chain::new(rule, client, &head.method, &head.headers);
    let answered = answer(connection, found, (way, state, &mut backend), &mut chain, head, body, record).await;
    let answer = match answered {
        Ok(answer) => answer,
        Err(stop) => Answer::stopped(stop, record)?,
    };
    let mut answer = chain.response(connection, answer, record).await?;
    response_filters(rule, backend, &mut answer.head);
    Ok(answer)
}

/// Request filters, request hooks, and where the way leads. `backend` becomes the one that a plugin chose.
async fn answer<'v>(
    connection: &Rc<Connection>,
    found: Matched<'v>,
    (way, state, backend): (Way<'v>, &RuleState, &mut Option<&'v WeightedBackend>),
    chain: &mut Chain<'_>,
    head: &mut request::Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Answer, Stop> {
    let upgrade = request_filters(found.matched, *backend, head)?;
    let mut body = RequestBody::new(connection, body);
    body.check_size()?;
    if let Some(progress) = body.progress() {
        record.set_progress(progress.clone());
    }
    chain.request(connection, head, &mut body, record).await?;
    let chosen = match way {
        Way::Redirect(redirect) => return Ok(Answer::local(redirect, record)),
        Way::Backend(chosen) => chosen,
        Way::ByPlugin(call, backends) => {
            let asked = routing::by_plugin(connection, chain, (call, backends), found.matched, head, record);
            Box::pin(asked).await?
        }
    };
    *backend = Some(chosen.backend);
    let upstream = state.upstreams[chosen.at].as_deref();
    let outgoing = Outgoing { connection, backend: chosen.backend, upstream, upgrade };
    let sent = forward::send(outgoing, head, body, record).await;
    match sent {
        Ok(answer) => chosen.edit(found.matched.rule, answer, record),
        Err(rejection) => Err(chain.interruption(record).unwrap_or(Stop::Reject(rejection))),
    }
}

/// Native filters: those of the rule, then those of the backend if it is known. The protocol to upgrade to, if that was asked for.
fn request_filters(
    matched: RuleMatched<'_>,
    backend: Option<&WeightedBackend>,
    head: &mut request::Parts,
) -> Result<Option<HeaderValue>, Rejection> {
    let upgrade = headers::requested_upgrade(&head.headers);
    headers::strip_request(&mut head.headers);
    let rule = matched.rule;
    if let Some(edits) = &rule.request_headers {
        edits.apply(&mut head.headers);
    }
    if let Some(edits) = backend.and_then(|backend| backend.request_headers.as_ref()) {
        edits.apply(&mut head.headers);
    }
    let rewrite = backend.and_then(|backend| backend.rewrite.as_ref()).or(rule.rewrite.as_ref());
    if let Some(rewrite) = rewrite.filter(|_| !routing::rewrites_late(rule)) {
        rewrite.apply(head, matched.path).map_err(|TargetTooLong| Reason::UriTooLong)?;
    }
    Ok(upgrade)
}

/// `RequestRedirect`.
fn redirected(
    connection: &Connection,
    redirect: &Redirect,
    head: &request::Parts,
    matched: RuleMatched<'_>,
) -> Response<Bytes> {
    let host = target::host(head).unwrap_or_default();
    let hop =
        Hop { peer: connection.peer, scheme: connection.scheme(), authority: None, port: connection.socket.port() };
    let request = RedirectedRequest {
        scheme: connection.worker.settings.forwarding.trusted_proxies.scheme(&hop, &head.headers),
        host: &host,
        port: hop.port,
        path: head.uri.path(),
        query: head.uri.query(),
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(header::LOCATION, redirect.location(&request, matched.path));
    response
}

fn response_filters(rule: &Rule, backend: Option<&WeightedBackend>, head: &mut response::Parts) {
    if let Some(edits) = backend.and_then(|backend| backend.response_headers.as_ref()) {
        edits.apply(&mut head.headers);
    }
    if let Some(edits) = &rule.response_headers {
        edits.apply(&mut head.headers);
    }
}

fn note_request(head: &request::Parts, connection: &Connection, record: &mut Record) {
    let Some(log) = record.log() else { return };
    log.client = Some(connection.peer);
    log.method = Some(head.method.clone());
    log.target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let host = head.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    log.authority = host.unwrap_or_default();
}

fn note_match(found: &Matched<'_>, state: &Rc<RuleState>, record: &mut Record) {
    record.set_rule(state.clone());
    if let Some(log) = record.log() {
        log.listener = Some(found.listener.id.clone());
        log.rule = Some(found.matched.rule.id.clone());
    }
}
