//! `outbound-http`: calls of backends, which wait.
//!
//! Its function is an asynchronous one, so stores that have it are called on fibers: while a plugin waits, the worker goes on with other
//! exchanges. What it waits for is not its own time: CPU time stands still. How long a hook waits is bounded by `limits.wallTime`, over all its
//! calls. Where there is no message that could wait (describe, configure, self-test, the validator, the beginning and the end of an
//! exchange), every call answers at once that there is no network.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header, uri::PathAndQuery};
use penstock_core::{
    backend::{Backend, Endpoint},
    plugin::{Outbound, OutboundBackend, OutboundClient, OutboundFailure, OutboundRequest, RedisBucket},
    route::Target,
};
use wasmtime::{StoreContextMut, component::Linker};

use crate::{
    contract::{
        OUTBOUND_HTTP,
        types::{Header, OutboundAnswer, OutboundCall, OutboundError},
    },
    instance::InstanceState,
    metrics::{CallMetrics, OutboundOutcome},
    names,
};

/// Headers of a request.
const MOST_HEADERS: usize = 256;

/// What a hook may call.
pub(crate) struct Network {
    /// None where nobody sends.
    pub(crate) client: Option<Arc<dyn OutboundClient>>,
    pub(crate) backends: Arc<[OutboundBackend]>,
    /// Buckets that it may ask.
    pub(crate) redis: Arc<[RedisBucket]>,
    /// When the hook has waited for long enough.
    pub(crate) until: Instant,
    /// What is left of `limits.outboundCalls` for the exchange at hand.
    pub(crate) calls_left: u32,
    /// How many decisions of Redis this hook may still ask for.
    pub(crate) decisions_left: u32,
    pub(crate) metrics: Arc<CallMetrics>,
}

/// With a network: stores that import this are called on fibers.
pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(OUTBOUND_HTTP)?;
    instance.func_wrap_async("send", |mut store: StoreContextMut<'_, InstanceState>, (call,): (OutboundCall,)| {
        Box::new(async move { Ok((send(&mut store, call).await,)) })
    })
}

/// Without: for the process that validates, which has no need of fibers.
pub(super) fn link_nowhere(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    type Sent = (Result<OutboundAnswer, OutboundError>,);
    let mut instance = linker.instance(OUTBOUND_HTTP)?;
    instance.func_wrap("send", |_: StoreContextMut<'_, InstanceState>, (_,): (OutboundCall,)| {
        Ok::<Sent, _>((Err(no_network()),))
    })
}

async fn send(
    store: &mut StoreContextMut<'_, InstanceState>,
    call: OutboundCall,
) -> Result<OutboundAnswer, OutboundError> {
    let Some(network) = &mut store.data_mut().network else { return Err(no_network()) };
    let answer = match network.begin(&call) {
        Err(error) => Err(error),
        Ok(waiting) => {
            store.data_mut().pause();
            let answered = waiting.await;
            answered.map(OutboundAnswer::from).map_err(OutboundError::from)
        }
    };
    if let Some(network) = &store.data().network {
        network.count(&call.backend, &answer);
    }
    answer
}

impl Network {
    /// Judge a call, and begin it.
    fn begin(&mut self, call: &OutboundCall) -> Result<Outbound, OutboundError> {
        let client = self.client.clone().ok_or_else(no_network)?;
        let Some(granted) = self.granted(&call.backend) else {
            return Err(OutboundError::UnknownBackend(self.backends.iter().map(|it| it.name.to_string()).collect()));
        };
        let wanted = call.timeout_ms.map_or(granted.timeout, |timeout| Duration::from_millis(timeout.into()));
        let left = self.until.saturating_duration_since(Instant::now());
        let timeout = wanted.min(granted.timeout).min(left);
        let max_response = granted.max_response;
        let backend = match &granted.target {
            Target::Backend(backend) => Arc::clone(backend),
            Target::Fail(failure) => return Err(OutboundError::Connect(failure.message.to_string())),
        };
        let request = request(&backend, call).map_err(OutboundError::InvalidRequest)?;
        self.calls_left = self.calls_left.checked_sub(1).ok_or(OutboundError::Quota)?;
        if timeout.is_zero() {
            return Err(OutboundError::Timeout);
        }
        Ok(client.send(OutboundRequest { backend, request, timeout, max_response }))
    }

    fn granted(&self, name: &str) -> Option<&OutboundBackend> {
        self.backends.iter().find(|backend| *backend.name == *name)
    }

    /// Only granted names become labels: the others are the plugin's invention, without bound.
    fn count(&self, name: &str, answer: &Result<OutboundAnswer, OutboundError>) {
        let name = self.granted(name).map_or("", |granted| &granted.name);
        self.metrics.outbound(name, OutboundOutcome::of(answer));
    }
}

/// What there is to say to a plugin that calls where nobody can wait.
fn no_network() -> OutboundError {
    OutboundError::Connect(
        "there is no network here: calls are for the hooks of requests and responses, and for `choose`".into(),
    )
}

/// The request, if the plugin may send it. Otherwise what is wrong.
fn request(backend: &Backend, call: &OutboundCall) -> Result<Request<Bytes>, String> {
    let method = Method::from_bytes(call.method.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
    let method =
        method.ok_or_else(|| format!("`{}` is no method that a plugin can send", names::shorten(&call.method)))?;
    let visible = call.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let path = call.path.parse::<PathAndQuery>().ok().filter(|_| visible && call.path.starts_with('/'));
    let path = path.ok_or_else(|| format!("`{}` is no path; it begins with `/`", names::shorten(&call.path)))?;
    if call.headers.len() > MOST_HEADERS {
        return Err(format!("{} headers; {MOST_HEADERS} are allowed", call.headers.len()));
    }
    let mut request = Request::new(Bytes::copy_from_slice(&call.body));
    *request.method_mut() = method;
    *request.uri_mut() = path.into();
    for Header { name, value } in &call.headers {
        let field =
            if name == "host" { header::HOST } else { names::writable(name).map_err(|error| error.to_string())? };
        let value =
            HeaderValue::from_bytes(value).map_err(|_| format!("the value of `{field}` has control characters"))?;
        request.headers_mut().append(field, value);
    }
    if !request.headers().contains_key(header::HOST) {
        let host = HeaderValue::try_from(host(backend))
            .map_err(|_| "the backend has no name that could be a host".to_owned())?;
        request.headers_mut().insert(header::HOST, host);
    }
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return Err("`host` can be given once".into());
    }
    Ok(request)
}

/// The host of a request that names none: what the certificate must say, the host that is connected to, or `service.namespace`.
fn host(backend: &Backend) -> String {
    if let Some(tls) = &backend.key.tls {
        return tls.server_name.to_string();
    }
    if let Some(Endpoint::Name(name, _)) = backend.endpoints.load().endpoints.first() {
        return name.to_string();
    }
    let (namespace, name) = backend.key.name.rsplit_once('/').unwrap_or(("", &backend.key.name));
    format!("{name}.{}", namespace.rsplit('/').next().unwrap_or_default())
}

impl From<Response<Bytes>> for OutboundAnswer {
    fn from(response: Response<Bytes>) -> Self {
        let (head, body) = response.into_parts();
        let header = |(name, value): (&http::HeaderName, &HeaderValue)| Header {
            name: name.as_str().into(),
            value: value.as_bytes().to_vec(),
        };
        Self { status: head.status.as_u16(), headers: head.headers.iter().map(header).collect(), body: body.into() }
    }
}

impl From<OutboundFailure> for OutboundError {
    fn from(failure: OutboundFailure) -> Self {
        match failure {
            OutboundFailure::Timeout => Self::Timeout,
            OutboundFailure::Connect(why) => Self::Connect(why),
            OutboundFailure::TooLarge(limit) => Self::TooLarge(limit),
            OutboundFailure::Protocol(why) => Self::Protocol(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;
    use penstock_core::backend::{BackendKey, BackendProtocol};

    use super::*;

    fn backend(name: &str) -> Backend {
        let key = BackendKey { name: name.into(), port: 80, protocol: BackendProtocol::Http1, tls: None };
        Backend { key, endpoints: Arc::new(ArcSwap::default()) }
    }

    fn call(method: &str, path: &str, headers: &[(&str, &[u8])]) -> OutboundCall {
        OutboundCall {
            backend: "a".into(),
            method: method.into(),
            path: path.into(),
            headers: headers
                .iter()
                .map(|(name, value)| Header { name: (*name).into(), value: value.to_vec() })
                .collect(),
            body: b"body".to_vec(),
            timeout_ms: None,
        }
    }

    #[test]
    fn a_request_is_passed_on() {
        let request =
            request(&backend("default/auth"), &call("PUT", "/a?b=c", &[("x-a", b"1"), ("x-a", b"\xff")])).unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("PUT", "/a?b=c"));
        assert_eq!(
            (request.headers()["host"].to_str().unwrap(), request.body().as_ref()),
            ("auth.default", &b"body"[..])
        );
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn the_plugin_may_name_the_host() {
        let named = call("GET", "/", &[("host", b"auth.example")]);
        assert_eq!(request(&backend("default/auth"), &named).unwrap().headers()["host"], "auth.example");
        let twice = call("GET", "/", &[("host", b"a"), ("host", b"b")]);
        assert_eq!(request(&backend("default/auth"), &twice).unwrap_err(), "`host` can be given once");
    }

    #[test]
    fn requests_that_http_cannot_carry_are_refused() {
        #[track_caller]
        fn check(call: &OutboundCall, expected: &str) {
            assert_eq!(request(&backend("default/auth"), call).unwrap_err(), expected);
        }
        check(&call("CONNECT", "/", &[]), "`CONNECT` is no method that a plugin can send");
        check(&call("a b", "/", &[]), "`a b` is no method that a plugin can send");
        check(&call("GET", "", &[]), "`` is no path; it begins with `/`");
        check(&call("GET", "http://elsewhere/", &[]), "`http://elsewhere/` is no path; it begins with `/`");
        check(&call("GET", "/a b", &[]), "`/a b` is no path; it begins with `/`");
        check(&call("GET", "/", &[("x-a", b"a\r\nb: c")]), "the value of `x-a` has control characters");
        check(
            &call("GET", "/", &[("transfer-encoding", b"chunked")]),
            "`transfer-encoding` belongs to the connection, not to the message",
        );
        check(&call("GET", "/", &[("content-length", b"1")]), "`content-length` is set by the gateway");
        check(&call("GET", "/", &[("x-a", &b"1"[..]); 257]), "257 headers; 256 are allowed");
    }
}
