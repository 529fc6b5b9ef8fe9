//! The seam to plugins, with a runtime that does what its tests say.

use std::{
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Response, request, response};
use penstock_core::{
    Kind, ResourceRef,
    plugin::{
        BodyOverflow, Called, Carried, ExchangeFacts, FailurePolicy, FaultKind, Hooks, PluginFault, PolicyCall,
        PolicyExchange, PolicyRuntime, PolicyWorker, Proceed, Revision, Verdict,
    },
    reason::Reason,
    route::Rule,
};
use penstock_testing::{
    client::{Connection, get},
    origin::{Answer, Origin},
};

use crate::support::{Gateway, free_address, settings, to, with_policies};

/// What a plugin of these tests does.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// Sets `x-request-<name>` and `x-response-<name>`.
    Edit,
    /// Replies to the request.
    Reply,
    /// Replies in place of the response.
    ReplyLater,
    Fault,
    FaultLater,
    Unavailable,
    /// As `Edit`, after a while.
    Wait,
    /// As `Edit`, and it took long.
    Drudge,
}

#[derive(Clone, Default)]
struct Fake {
    calls: Arc<Mutex<Vec<String>>>,
    wants_break: Arc<AtomicBool>,
}

impl PolicyRuntime for Fake {
    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(self.clone())
    }
}

impl Fake {
    fn note(&self, what: String) {
        self.calls.lock().unwrap().push(what);
    }

    /// From now on a break is wanted, and somebody else waits for it.
    fn drudge(&self) {
        self.wants_break.store(true, Ordering::Relaxed);
        let other = self.clone();
        tokio::task::spawn_local(async move { other.note("somebody else".into()) });
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

fn does(call: &PolicyCall) -> Does {
    *call.revision.loaded().downcast_ref::<Does>().unwrap()
}

fn fault(kind: FaultKind) -> PluginFault {
    PluginFault { kind, message: "on purpose".into() }
}

fn reply(name: &str) -> Verdict {
    let reply = Response::builder().status(429).header("x-replied", name).body(Bytes::from_static(b"slow down"));
    Verdict::Reply(reply.unwrap())
}

impl Fake {
    fn request(
        &self,
        call: &PolicyCall,
        exchange: &ExchangeFacts<'_>,
        head: &mut request::Parts,
    ) -> Result<Verdict, PluginFault> {
        let name = &call.plugin.name;
        let seen = head.headers.get("x-seen").cloned();
        let carried = Carried(vec![seen.into_iter().collect()]);
        head.headers.insert("x-seen", HeaderValue::from_str(name).unwrap());
        if !call.hooks.request {
            return Ok(Verdict::Proceed(Proceed { carried, ..Proceed::default() }));
        }
        self.note(format!("request {name}"));
        assert!(exchange.client.ip().is_loopback() && exchange.request_id.len() == 32 && exchange.scheme == "http");
        if does(call) == Does::Drudge {
            self.drudge();
        }
        match does(call) {
            Does::Edit | Does::ReplyLater | Does::FaultLater | Does::Wait | Does::Drudge => {
                let header = http::HeaderName::try_from(format!("x-request-{name}")).unwrap();
                head.headers.insert(header, HeaderValue::from_static("1"));
                Ok(Verdict::Proceed(Proceed { token: name.len() as u64, carried, ..Proceed::default() }))
            }
            Does::Reply => Ok(reply(name)),
            Does::Fault => Err(fault(FaultKind::Trap)),
            Does::Unavailable => Err(fault(FaultKind::Unavailable)),
        }
    }

    fn response(&self, call: &PolicyCall, kept: &Proceed, head: &mut response::Parts) -> Result<Verdict, PluginFault> {
        let (name, token) = (&call.plugin.name, kept.token);
        let seen = kept.carried.0[0].first().map_or("nothing", |value| value.to_str().unwrap());
        self.note(format!("response {name} {token} {} saw {seen}", head.status.as_u16()));
        match does(call) {
            Does::ReplyLater => Ok(reply(name)),
            Does::Drudge => {
                self.drudge();
                Ok(Verdict::Proceed(Proceed::default()))
            }
            Does::FaultLater => Err(fault(FaultKind::Deadline)),
            _ => {
                let header = http::HeaderName::try_from(format!("x-response-{name}")).unwrap();
                head.headers.insert(header, HeaderValue::from_static("1"));
                Ok(Verdict::Proceed(Proceed::default()))
            }
        }
    }
}

impl PolicyWorker for Fake {
    fn on_request<'a>(
        &'a self,
        call: &'a PolicyCall,
        exchange: &'a ExchangeFacts<'a>,
        head: &'a mut request::Parts,
    ) -> Called<'a, Verdict> {
        waiting(does(call) == Does::Wait, move || self.request(call, exchange, head))
    }

    fn on_response<'a>(
        &'a self,
        call: &'a PolicyCall,
        kept: &'a Proceed,
        _: &'a ExchangeFacts<'a>,
        head: &'a mut response::Parts,
    ) -> Called<'a, Verdict> {
        waiting(does(call) == Does::Wait, move || self.response(call, kept, head))
    }

    fn begin(&self, _: &PolicyCall, _: &ExchangeFacts<'_>) -> Result<Rc<dyn PolicyExchange>, PluginFault> {
        Err(fault(FaultKind::Unavailable))
    }

    fn wants_break(&self) -> bool {
        self.wants_break.swap(false, Ordering::Relaxed)
    }
}

/// The answer at once, or after others had their turn.
fn waiting<'a, T>(waits: bool, run: impl FnOnce() -> Result<T, PluginFault> + 'a) -> Called<'a, T> {
    if !waits {
        return run().into();
    }
    Called::Waiting(Box::pin(async {
        tokio::task::yield_now().await;
        run()
    }))
}

fn call(name: &str, does: Does) -> PolicyCall {
    PolicyCall {
        outbound: Arc::default(),
        redis: Arc::default(),
        plugin: ResourceRef::new(Kind::WasmPlugin, "default", name),
        revision: Revision::new(0, Arc::new(does)),
        failure_policy: FailurePolicy::Closed,
        body_overflow: BodyOverflow::default(),
        hooks: Hooks { request: true, response: true, carries: true, ..Hooks::default() },
    }
}

fn open(call: PolicyCall) -> PolicyCall {
    PolicyCall { failure_policy: FailurePolicy::Open, ..call }
}

struct World {
    fake: Fake,
    origin: Origin,
    gateway: Gateway,
    address: std::net::SocketAddr,
}

impl World {
    fn new(policies: Vec<PolicyCall>) -> Self {
        let origin = Origin::answering(Answer::new(200).body("origin"));
        let rule = to(&[origin.address()]);
        Self::with_rule(with_policies(rule, policies), origin)
    }

    fn with_rule(rule: Rule, origin: Origin) -> Self {
        let fake = Fake::default();
        let gateway = Gateway::start(settings(), Arc::new(fake.clone()));
        let address = gateway.publish(vec![rule]);
        Self { fake, origin, gateway, address }
    }

    async fn ask(&self) -> penstock_testing::client::Response {
        Connection::h1(self.address).await.unwrap().send(get("/")).await.unwrap()
    }
}

#[tokio::test]
async fn hooks_run_in_order_and_back() {
    let world = World::new(vec![call("a", Does::Edit), call("bb", Does::Edit), call("ccc", Does::Edit)]);
    let response = world.ask().await;
    let expected = [
        "request a",
        "request bb",
        "request ccc",
        "response ccc 3 200 saw bb",
        "response bb 2 200 saw a",
        "response a 1 200 saw nothing",
    ];
    assert_eq!(world.fake.calls(), expected);
    assert_eq!((response.header("x-response-a"), response.header("x-response-ccc")), ("1", "1"));
    assert_eq!(world.origin.requests()[0].header("x-request-bb"), "1");
}

#[tokio::test]
async fn hooks_that_were_not_asked_for_are_not_called() {
    let mut silent = call("a", Does::Edit);
    silent.hooks = Hooks::default();
    let mut keeping = call("b", Does::Edit);
    keeping.hooks = Hooks { request: false, ..keeping.hooks };
    let world = World::new(vec![silent, keeping]);
    world.ask().await;
    assert_eq!(world.fake.calls(), ["response b 0 200 saw nothing"]);
}

#[tokio::test]
async fn between_plugins_that_take_long_others_get_their_turn() {
    let world = World::new(vec![call("a", Does::Drudge), call("b", Does::Edit), call("c", Does::Edit)]);
    world.ask().await;
    let calls = world.fake.calls();
    assert_eq!(calls[..4], ["request a", "somebody else", "request b", "request c"]);
    let world = World::new(vec![call("a", Does::Edit), call("b", Does::Edit), call("c", Does::Drudge)]);
    world.ask().await;
    let calls = world.fake.calls();
    let at = calls.iter().position(|call| call.starts_with("response c")).unwrap();
    assert_eq!(calls[at + 1], "somebody else", "{calls:?}");
}

#[tokio::test]
async fn a_plugin_that_waits_keeps_its_turn() {
    let world = World::new(vec![call("a", Does::Edit), call("b", Does::Wait), call("c", Does::Edit)]);
    let response = world.ask().await;
    assert_eq!((response.header("x-response-a"), response.header("x-response-b")), ("1", "1"));
    let calls = world.fake.calls();
    assert_eq!(calls[..3], ["request a", "request b", "request c"]);
    assert_eq!(calls[3..], ["response c 1 200 saw b", "response b 1 200 saw a", "response a 1 200 saw nothing"]);
}

#[tokio::test]
async fn a_reply_passes_the_hooks_before_it() {
    let world = World::new(vec![call("a", Does::Edit), call("b", Does::Reply), call("c", Does::Edit)]);
    let response = world.ask().await;
    assert_eq!((response.status, response.text(), response.header("x-replied")), (429, "slow down", "b"));
    assert_eq!((response.header("x-response-a"), response.header("server")), ("1", "penstock"));
    assert_eq!(world.fake.calls(), ["request a", "request b", "response a 1 429 saw nothing"]);
    assert!(world.origin.requests().is_empty());
    assert!(world.gateway.metrics().contains("reason=\"plugin_reply\"} 1"));
}

#[tokio::test]
async fn a_reply_in_place_of_the_response() {
    let world = World::new(vec![call("a", Does::Edit), call("b", Does::ReplyLater)]);
    let response = world.ask().await;
    assert_eq!((response.status, response.text(), response.header("x-response-a")), (429, "slow down", "1"));
    assert_eq!(world.fake.calls().last().unwrap(), "response a 1 429 saw nothing");
}

#[tokio::test]
async fn faults_closed() {
    for (fault, reason) in [
        (Does::Fault, Reason::PluginFault),
        (Does::FaultLater, Reason::PluginFault),
        (Does::Unavailable, Reason::PluginUnavailable),
    ] {
        let world = World::new(vec![call("a", Does::Edit), call("b", fault)]);
        let response = world.ask().await;
        assert_eq!((response.status, response.text()), (503, reason.text()));
        assert!(response.header("proxy-status").contains(reason.code()));
        assert_eq!(response.header("x-response-a"), "1", "also errors of the gateway pass the hooks before it");
        assert_eq!(world.origin.requests().len(), usize::from(fault == Does::FaultLater));
        let answered = format!("penstock_gateway_answers_total{{reason=\"{}\"}} 1", reason.code());
        assert!(world.gateway.metrics().contains(&answered), "{answered}");
    }
}

#[tokio::test]
async fn faults_open() {
    for fault in [Does::Fault, Does::FaultLater, Does::Unavailable] {
        let world = World::new(vec![open(call("a", fault)), call("b", Does::Edit)]);
        let response = world.ask().await;
        assert_eq!((response.status, response.text(), response.header("x-response-b")), (200, "origin", "1"));
    }
}

#[tokio::test]
async fn errors_of_the_gateway_pass_the_response_hooks() {
    let origin = Origin::start();
    let rule = with_policies(to(&[free_address()]), vec![call("a", Does::Edit)]);
    let world = World::with_rule(rule, origin);
    let response = world.ask().await;
    assert_eq!((response.status, response.header("x-response-a")), (502, "1"));
}
