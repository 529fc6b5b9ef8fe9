//! The way out for plugins: a runtime whose request hook asks a backend, and tells the origin what came of it.

use std::{cell::OnceCell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, request, response};
use penstock_core::{
    Kind, ResourceRef,
    backend::{Backend, BackendProtocol},
    plugin::{
        BodyOverflow, Called, ExchangeFacts, FailurePolicy, FaultKind, Hooks, OutboundClient, OutboundRequest,
        PluginFault, PolicyCall, PolicyExchange, PolicyRuntime, PolicyWorker, Proceed, Revision, Verdict,
    },
};
use penstock_testing::{
    client::{Connection, get},
    gate::Gate,
    origin::{Answer, Origin},
};

use crate::support::{Gateway, backend, free_address, settings, to, with_policies};

/// Asks this backend, unless the request says that it need not.
struct Asks {
    backend: Arc<Backend>,
    timeout: Duration,
}

struct Fake(Arc<Asks>);

struct Worker {
    asks: Arc<Asks>,
    client: OnceCell<Arc<dyn OutboundClient>>,
}

impl PolicyRuntime for Fake {
    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(Worker { asks: self.0.clone(), client: OnceCell::new() })
    }
}

impl Worker {
    async fn ask(&self, head: &mut request::Parts) -> Result<Verdict, PluginFault> {
        let mut request = Request::new(Bytes::from_static(b"question"));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = "/ask?a=b".parse().unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static("auth.default"));
        let client = self.client.get().expect("the proxy connects before the first call");
        let Asks { backend, timeout } = &*self.asks;
        let request = OutboundRequest { backend: backend.clone(), request, timeout: *timeout, max_response: 10 };
        let said = match client.send(request).await {
            Ok(answer) => format!("{} {}", answer.status().as_u16(), String::from_utf8_lossy(answer.body())),
            Err(failure) => format!("{failure:?}"),
        };
        head.headers.insert("x-said", HeaderValue::try_from(said).unwrap());
        Ok(Verdict::Proceed(Proceed::default()))
    }
}

impl PolicyWorker for Worker {
    fn on_request<'a>(
        &'a self,
        _: &'a PolicyCall,
        _: &'a ExchangeFacts<'a>,
        head: &'a mut request::Parts,
    ) -> Called<'a, Verdict> {
        if head.headers.contains_key("x-quick") {
            return Ok(Verdict::Proceed(Proceed::default())).into();
        }
        Called::Waiting(Box::pin(self.ask(head)))
    }

    fn on_response<'a>(
        &'a self,
        _: &'a PolicyCall,
        _: &'a Proceed,
        _: &'a ExchangeFacts<'a>,
        _: &'a mut response::Parts,
    ) -> Called<'a, Verdict> {
        Ok(Verdict::Proceed(Proceed::default())).into()
    }

    fn begin(&self, _: &PolicyCall, _: &ExchangeFacts<'_>) -> Result<Rc<dyn PolicyExchange>, PluginFault> {
        Err(PluginFault { kind: FaultKind::Unavailable, message: "it has no such hook".into() })
    }

    fn connect(&self, client: Arc<dyn OutboundClient>) {
        assert!(self.client.set(client).is_ok(), "once");
    }
}

struct World {
    _gateway: Gateway,
    address: std::net::SocketAddr,
    origin: Origin,
}

impl World {
    fn new(helper: std::net::SocketAddr, timeout: Duration) -> Self {
        let origin = Origin::answering(Answer::new(200));
        let policy = PolicyCall {
            plugin: ResourceRef::new(Kind::WasmPlugin, "default", "asks"),
            revision: Revision::new(0, Arc::new(())),
            failure_policy: FailurePolicy::Closed,
            body_overflow: BodyOverflow::default(),
            hooks: Hooks { request: true, ..Hooks::default() },
            outbound: Arc::default(),
            redis: Arc::default(),
        };
        let rule = with_policies(to(&[origin.address()]), vec![policy]);
        let backend = Arc::new(backend("auth", BackendProtocol::Http1, None, &[helper]));
        // One worker: who waits and who does not share it.
        let mut settings = settings();
        settings.workers = std::num::NonZeroUsize::MIN;
        let gateway = Gateway::start(settings, Arc::new(Fake(Arc::new(Asks { backend, timeout }))));
        let address = gateway.publish(vec![rule]);
        Self { _gateway: gateway, address, origin }
    }

    async fn said(&self) -> String {
        Connection::h1(self.address).await.unwrap().send(get("/")).await.unwrap();
        self.origin.requests().last().unwrap().header("x-said").to_owned()
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_backend_answers() {
    let helper = Origin::answering(Answer::new(403).body("no"));
    let world = World::new(helper.address(), LONG);
    assert_eq!(world.said().await, "403 no");
    assert_eq!(world.said().await, "403 no");
    let asked = helper.requests();
    assert_eq!(
        (asked[0].method.as_str(), asked[0].path.as_str(), &*asked[0].body),
        ("POST", "/ask?a=b", &b"question"[..])
    );
    assert_eq!(asked[0].authority, "auth.default");
    assert_eq!(asked[0].connection, asked[1].connection, "over the same connection");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_taken() {
    let helper = Origin::answering(Answer::new(200).body("01234567890"));
    assert_eq!(World::new(helper.address(), LONG).said().await, "TooLarge(10)");
    let helper = Origin::answering(Answer::new(200).chunk("0123456").chunk("7890"));
    assert_eq!(World::new(helper.address(), LONG).said().await, "TooLarge(10)", "of unknown length as well");
}

#[tokio::test]
async fn a_backend_that_closes_at_once_and_one_that_is_not_there() {
    let helper = Origin::answering(Answer::reset());
    let said = World::new(helper.address(), LONG).said().await;
    assert!(said.starts_with("Protocol("), "{said}");
    let said = World::new(free_address(), LONG).said().await;
    assert!(said.starts_with("Connect("), "{said}");
}

#[tokio::test]
async fn a_backend_that_never_answers_costs_only_who_asked() {
    let gate = Gate::new();
    let helper = {
        let gate = gate.clone();
        Origin::builder().answer(move |_| Answer::new(200).after(&gate)).start()
    };
    let world = World::new(helper.address(), Duration::from_millis(300));
    let mut slow = Connection::h1(world.address).await.unwrap();
    let asking = tokio::spawn(async move { slow.send(get("/")).await.unwrap() });
    // Others on the same worker go on while that one waits.
    let mut quick = Connection::h1(world.address).await.unwrap();
    for _ in 0..20 {
        assert_eq!(quick.send(get("/").header("x-quick", "1")).await.unwrap().status, 200);
    }
    assert_eq!(asking.await.unwrap().status, 200);
    let said: Vec<_> = world.origin.requests().iter().map(|request| request.header("x-said").to_owned()).collect();
    assert_eq!(said.iter().filter(|said| *said == "Timeout").count(), 1);
    gate.open();
}
