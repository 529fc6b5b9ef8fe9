//! One request, from its head to the head of its response.
//!
//! ```text
//! settle ─► match ─► request filters ─► plugins ─► endpoint, send ─► plugins in reverse ─► response filters ─► body and record
//!    └─────────┴──────────┴────────────────┴────────────┴─── a Rejection becomes a response in one place ───┘
//! ```

use std::{convert::Infallible, rc::Rc, sync::Arc};

use http::{HeaderValue, Request, Response, header, request, response};
use hyper::body::Incoming;
use penstock_core::{
    client_address::Hop,
    filter::{Redirect, RedirectedRequest},
    listener::Listener,
    matching::{RequestView, RuleMatched},
    path::TargetTooLong,
    reason::Reason,
    route::{Action, Target, WeightedBackend, WeightedBackends},
};

use crate::{
    body::Body,
    connection::Connection,
    forward::{self, Outgoing},
    headers,
    policies::{Chain, Ruling},
    record::Record,
    respond::{self, Answer, Rejection},
    target,
    worker::{RuleState, View},
};

/// Answer a request. Never fails: what goes wrong has a response, and what goes wrong after its head ends its body.
pub(crate) async fn serve(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let mut record = Record::begin(connection.clone());
    let view = connection.worker.view(connection.socket);
    let (mut head, body) = request.into_parts();
    // Most requests arrive with fewer headers than they leave with: make room once.
    head.headers.reserve(ADDED_HEADERS);
    let answer = exchange(&connection, &view, &mut head, body, &mut record).await;
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
) -> Answer {
    let settled = target::settle(head, &connection.wire);
    note_request(head, connection, record);
    let found = settled.and_then(|()| find(connection, view, head));
    let found = match found {
        Ok(found) => found,
        Err(rejection) => return Answer::rejected(&rejection, record),
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
) -> Answer {
    let rule = &**found.matched.rule;
    let backend = match &rule.action {
        Action::Fail(failure) => return Answer::rejected(&failure.into(), record),
        Action::Redirect(_) => None,
        Action::Forward(backends) => match pick_backend(backends) {
            Ok(backend) => Some(backend),
            Err(rejection) => return Answer::rejected(&rejection, record),
        },
    };
    let client = connection.worker.settings.forwarding.trusted_proxies.client(connection.peer, &head.headers);
    // A redirect is made from what the client asked for, a forwarded request from what the filters left.
    let redirect = match &rule.action {
        Action::Redirect(redirect) => Some(redirected(connection, redirect, head, found.matched)),
        Action::Forward(_) | Action::Fail(_) => None,
    };
    headers::forward(connection, head);
    headers::identify(connection, &mut head.headers);
    if let Some(log) = record.log() {
        (log.client, log.request_id) = (Some(client), headers::request_id(&head.headers));
    }
    let mut chain = Chain::new(rule, client, &head.headers);
    let filtered = request_filters(found.matched, backend.map(|(_, backend)| backend), head);
    let answer = match filtered {
        Err(rejection) => Answer::rejected(&rejection, record),
        Ok(upgrade) => match chain.request(connection, head, record) {
            Ruling::Reject(rejection) => Answer::rejected(&rejection, record),
            Ruling::Reply(reply) => Answer::plugin_reply(reply, record),
            Ruling::Proceed => match (backend, redirect) {
                (Some((at, backend)), _) => {
                    let outgoing = Outgoing { connection, backend, upstream: state.upstreams[at].as_deref(), upgrade };
                    let sent = forward::send(outgoing, head, body, record).await;
                    sent.unwrap_or_else(|rejection| Answer::rejected(&rejection, record))
                }
                (None, Some(redirect)) => Answer::local(redirect, record),
                (None, None) => Answer::rejected(&Reason::Internal.into(), record),
            },
        },
    };
    let mut answer = response_plugins(connection, &mut chain, answer, record);
    response_filters(rule, backend.map(|(_, backend)| backend), &mut answer.head);
    answer
}

/// The backend that the weights choose, with its place in the rule.
fn pick_backend(backends: &WeightedBackends) -> Result<(usize, &WeightedBackend), Rejection> {
    let at = match backends.backends.as_slice() {
        [_] => 0,
        several => {
            let picked = backends.pick(fastrand::u32(..)).ok_or(Reason::NoBackend)?;
            several.iter().position(|backend| std::ptr::eq(backend, picked)).ok_or(Reason::NoBackend)?
        }
    };
    let backend = &backends.backends[at];
    match &backend.target {
        Target::Backend(_) => Ok((at, backend)),
        Target::Fail(failure) => Err(failure.into()),
    }
}

/// Native filters: those of the rule, then those of the backend. The protocol to upgrade to, if that was asked for.
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
    if let Some(rewrite) = backend.and_then(|backend| backend.rewrite.as_ref()).or(rule.rewrite.as_ref()) {
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
) -> Response<bytes::Bytes> {
    let host = target::host(head).unwrap_or_default();
    let hop = Hop {
        peer: connection.peer,
        scheme: connection.scheme(),
        authority: None,
        port: connection.socket.address.port(),
    };
    let request = RedirectedRequest {
        scheme: connection.worker.settings.forwarding.trusted_proxies.scheme(&hop, &head.headers),
        host: &host,
        port: hop.port,
        path: head.uri.path(),
        query: head.uri.query(),
    };
    let mut response = Response::new(bytes::Bytes::new());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(header::LOCATION, redirect.location(&request, matched.path));
    response
}

/// Response hooks, last plugin first. A reply or a fault in one replaces the response, and the hooks before it see that.
fn response_plugins(connection: &Connection, chain: &mut Chain<'_>, mut answer: Answer, record: &mut Record) -> Answer {
    while let Some(ruling) = chain.response(connection, &mut answer.head, record) {
        match ruling {
            Ruling::Proceed => {}
            Ruling::Reply(reply) => answer = Answer::plugin_reply(reply, record),
            Ruling::Reject(rejection) => answer = Answer::rejected(&rejection, record),
        }
    }
    answer
}

fn response_filters(rule: &penstock_core::route::Rule, backend: Option<&WeightedBackend>, head: &mut response::Parts) {
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
