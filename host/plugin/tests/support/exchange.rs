//! Calling hooks as the proxy does.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Request, Response, Version, request, response};
use penstock_core::{
    Kind, ResourceRef,
    plugin::{ActiveRevision, Carried, ExchangeFacts, Hooks, PluginFault, PolicyCall, PolicyWorker, Proceed, Verdict},
    route::RuleId,
};

use super::{facts::call, guest::TRIGGER};

pub fn rule() -> RuleId {
    RuleId { route: ResourceRef::new(Kind::HTTPRoute, "default", "web"), index: 3, name: None }
}

pub fn facts(rule: &RuleId) -> ExchangeFacts<'_> {
    ExchangeFacts {
        client: SocketAddr::from(([192, 0, 2, 7], 4711)),
        version: Version::HTTP_11,
        scheme: "https",
        server_name: Some("a.example"),
        tls_version: Some("TLSv1.3"),
        rule,
        request_id: "r1",
    }
}

/// `GET /a?b=c` with `host`, two `x-in` and one `x-request`.
pub fn request() -> request::Parts {
    let builder = Request::get("/a?b=c").header("host", "a.example").header("x-in", "1").header("x-in", "2");
    builder.header("x-request", "before").body(()).unwrap().into_parts().0
}

pub fn response() -> response::Parts {
    Response::builder().header("server", "origin").header("x-response", "before").body(()).unwrap().into_parts().0
}

/// Run the request hook on [`request`].
pub fn on_request(
    worker: &dyn PolicyWorker,
    active: &ActiveRevision,
) -> Result<(Verdict, request::Parts), PluginFault> {
    on_request_of(worker, active, request())
}

/// Run the request hook. After a fault, assert that the head is untouched.
pub fn on_request_of(
    worker: &dyn PolicyWorker,
    active: &ActiveRevision,
    mut head: request::Parts,
) -> Result<(Verdict, request::Parts), PluginFault> {
    let before = head.clone();
    match worker.on_request(&call(active), &facts(&rule()), &mut head).at_once() {
        Ok(verdict) => Ok((verdict, head)),
        Err(fault) => {
            assert_eq!((head.method, head.uri, head.headers), (before.method, before.uri, before.headers), "{fault}");
            Err(fault)
        }
    }
}

/// Run the response hook on [`response`].
pub fn on_response(
    worker: &dyn PolicyWorker,
    active: &ActiveRevision,
    token: u64,
    request: Option<&request::Parts>,
) -> Result<(Verdict, response::Parts), PluginFault> {
    on_response_of(worker, active, token, request, response())
}

/// Run the response hook. After a fault, assert that the head is untouched.
pub fn on_response_of(
    worker: &dyn PolicyWorker,
    active: &ActiveRevision,
    token: u64,
    request: Option<&request::Parts>,
    mut head: response::Parts,
) -> Result<(Verdict, response::Parts), PluginFault> {
    let before = head.clone();
    let kept = Proceed { token, carried: carried(worker, active, request), ..Proceed::default() };
    match worker.on_response(&call(active), &kept, &facts(&rule()), &mut head).at_once() {
        Ok(verdict) => Ok((verdict, head)),
        Err(fault) => {
            assert_eq!((head.status, head.headers), (before.status, before.headers), "{fault}");
            Err(fault)
        }
    }
}

/// What a plugin takes down of a request, without its hook.
fn carried(worker: &dyn PolicyWorker, active: &ActiveRevision, request: Option<&request::Parts>) -> Carried {
    let Some(request) = request else { return Carried::default() };
    let call = call(active);
    let silent = PolicyCall { hooks: Hooks { request: false, ..call.hooks }, ..call };
    match worker.on_request(&silent, &facts(&rule()), &mut request.clone()).at_once() {
        Ok(Verdict::Proceed(proceed)) => proceed.carried,
        other => panic!("{other:?}"),
    }
}

/// With a header more.
pub fn with<'a>(headers: &'a mut HeaderMap, (name, value): (&'static str, &'static str)) -> &'a mut HeaderMap {
    headers.insert(name, HeaderValue::from_static(value));
    headers
}

/// The request hook meets the guests' trigger.
pub fn triggered_request(
    worker: &dyn PolicyWorker,
    active: &ActiveRevision,
) -> Result<(Verdict, request::Parts), PluginFault> {
    let mut head = request();
    with(&mut head.headers, TRIGGER);
    on_request_of(worker, active, head)
}

/// The response hook meets the guests' trigger.
pub fn triggered_response(
    worker: &dyn PolicyWorker,
    active: &ActiveRevision,
) -> Result<(Verdict, response::Parts), PluginFault> {
    let mut head = response();
    with(&mut head.headers, TRIGGER);
    on_response_of(worker, active, 0, None, head)
}

/// Both hooks of a good plugin do what [`super::guest::Guest`] does by default.
#[track_caller]
pub fn works(worker: &dyn PolicyWorker, active: &ActiveRevision) {
    let (_, head) = on_request(worker, active).unwrap();
    assert_eq!(head.headers["x-request"], "1");
    let (_, head) = on_response(worker, active, 0, None).unwrap();
    assert_eq!(head.headers["x-response"], "1");
}

/// What comes of a call that is repeated until it is made: after faults that took long there is a pause.
pub fn once_called<T>(mut call: impl FnMut() -> Result<T, PluginFault>) -> Result<T, PluginFault> {
    loop {
        match call() {
            Err(fault) if fault.message.contains("faulted too often") => std::thread::yield_now(),
            made => return made,
        }
    }
}

/// It does what it should again.
#[track_caller]
pub fn recovers(worker: &dyn PolicyWorker, active: &ActiveRevision) {
    once_called(|| on_request(worker, active)).unwrap();
    works(worker, active);
}

/// The token of a verdict that proceeds.
pub fn token(verdict: &Verdict) -> u64 {
    match verdict {
        Verdict::Proceed(proceed) => proceed.token,
        Verdict::Reply(_) | Verdict::Hold => panic!("{verdict:?}"),
    }
}
