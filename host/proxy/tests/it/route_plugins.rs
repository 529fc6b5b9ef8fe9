//! Rules whose backend a plugin chooses, with a runtime that does what the request says.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, request, response};
use penstock_core::{
    Kind, ResourceRef,
    backend::BackendProtocol,
    filter::{PathRewrite, UrlRewrite},
    plugin::{
        BodyOverflow, Called, Choice, ExchangeFacts, FailurePolicy, FaultKind, PluginFault, PolicyCall, PolicyExchange,
        PolicyRuntime, PolicyWorker, Proceed, ResponseEdits, Revision, RouteCall, Verdict,
    },
    reason::Reason,
    route::{Action, Failure, Rule, Target, WeightedBackend, WeightedBackends},
};
use penstock_testing::{
    client::{Connection, Response as Answered, get},
    origin::{Answer, Origin},
};

use crate::support::{Gateway, backend, edits, rule, settings, with_policies};

/// Chooses as the request's `x-choose` says: an index, `reply`, `misfit`, `fault`; or nothing.
#[derive(Clone, Copy)]
struct Fake;

impl PolicyRuntime for Fake {
    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(*self)
    }
}

fn fault() -> PluginFault {
    PluginFault { kind: FaultKind::Trap, message: "on purpose".into() }
}

impl PolicyWorker for Fake {
    /// A policy that authenticates: route plugins see what it found out.
    fn on_request<'a>(
        &'a self,
        _: &'a PolicyCall,
        _: &'a ExchangeFacts<'a>,
        head: &'a mut request::Parts,
    ) -> Called<'a, Verdict> {
        head.headers.insert("x-choose", HeaderValue::from_static("1"));
        Ok(Verdict::Proceed(Proceed::default())).into()
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
        Err(fault())
    }

    fn choose<'a>(
        &'a self,
        call: &'a RouteCall,
        exchange: &'a ExchangeFacts<'a>,
        rule: &'a Arc<Rule>,
        head: &'a mut request::Parts,
    ) -> Called<'a, Choice> {
        assert_eq!((&*call.plugin.name, exchange.request_id.len(), &rule.id), ("chooser", 32, exchange.rule));
        let choice = match head.headers.get("x-choose").map(|value| value.to_str().unwrap()) {
            None => Ok(Choice::Default),
            Some("misfit") => Ok(Choice::Misfit(fault())),
            Some("fault") => Err(fault()),
            Some("reply") => {
                Ok(Choice::Reply(Response::builder().status(403).body(Bytes::from_static(b"no")).unwrap()))
            }
            Some(index) => {
                let response_edits = ResponseEdits::new(|head: &mut response::Parts| {
                    head.headers.append("set-cookie", HeaderValue::from_static("stuck=1"));
                    Ok(())
                });
                Ok(Choice::Candidate { index: index.parse().unwrap(), response_edits: Some(response_edits) })
            }
        };
        // One that asked somebody else first, in effect.
        Called::Waiting(Box::pin(async move {
            tokio::task::yield_now().await;
            choice
        }))
    }
}

struct World {
    _gateway: Gateway,
    address: std::net::SocketAddr,
    origins: [Origin; 2],
}

/// Backends of the rule: the first has all the weight, the second none, the third no endpoint, the fourth is no backend.
fn backends(origins: &[Origin; 2]) -> Vec<WeightedBackend> {
    let to = |name: &str, weight: u32, endpoints: &[_]| {
        WeightedBackend::new(
            name,
            weight,
            Target::Backend(Arc::new(backend(name, BackendProtocol::Http1, None, endpoints))),
        )
    };
    let failure = Failure { reason: Reason::InvalidBackend, message: "".into() };
    let lost = WeightedBackend { target: Target::Fail(failure), ..to("lost", 0, &[]) };
    vec![to("a", 1, &[origins[0].address()]), to("b", 0, &[origins[1].address()]), to("c", 0, &[]), lost]
}

impl World {
    fn new(failure_policy: FailurePolicy, change: impl FnOnce(&mut Rule)) -> Self {
        let origins = ["a", "b"].map(|name| Origin::answering(Answer::new(200).body(name)));
        let mut rule = rule(Action::Forward(WeightedBackends::all(backends(&origins))));
        rule.route_plugin = Some(RouteCall {
            outbound: Arc::default(),
            redis: Arc::default(),
            plugin: ResourceRef::new(Kind::WasmPlugin, "default", "chooser"),
            revision: Revision::new(0, Arc::new(())),
            failure_policy,
            rule: 1,
        });
        change(&mut rule);
        let gateway = Gateway::start(settings(), Arc::new(Fake));
        let address = gateway.publish(vec![rule]);
        Self { _gateway: gateway, address, origins }
    }

    async fn ask(&self, choose: &str) -> Answered {
        let request = get("/path");
        let request = if choose.is_empty() { request } else { request.header("x-choose", choose) };
        Connection::h1(self.address).await.unwrap().send(request).await.unwrap()
    }
}

fn backend_at(rule: &mut Rule, index: usize) -> &mut WeightedBackend {
    let Action::Forward(backends) = &mut rule.action else { panic!("no backends") };
    &mut backends.backends[index]
}

#[tokio::test]
async fn the_plugin_chooses_and_marks_the_response() {
    let world = World::new(FailurePolicy::Closed, |_| {});
    let response = world.ask("1").await;
    assert_eq!((response.status, response.text(), response.header("set-cookie")), (200, "b", "stuck=1"));
}

#[tokio::test]
async fn the_weights_decide_where_the_plugin_does_not() {
    let world = World::new(FailurePolicy::Closed, |_| {});
    for (choose, what) in [
        ("", "it chooses nothing"),
        ("2", "a backend without endpoints"),
        ("3", "no backend"),
        ("misfit", "an answer that is none"),
    ] {
        let response = world.ask(choose).await;
        let cookie = response.headers.contains_key("set-cookie");
        assert_eq!((response.status, response.text(), cookie), (200, "a", false), "{what}");
    }
}

#[tokio::test]
async fn a_reply_takes_the_place_of_a_backend() {
    let world = World::new(FailurePolicy::Closed, |_| {});
    let response = world.ask("reply").await;
    assert_eq!((response.status, response.text()), (403, "no"));
    assert!(world.origins.iter().all(|origin| origin.requests().is_empty()));
}

#[tokio::test]
async fn a_fault_is_503_or_the_weights() {
    let response = World::new(FailurePolicy::Closed, |_| {}).ask("fault").await;
    assert_eq!((response.status, response.text()), (503, Reason::PluginFault.text()));
    let response = World::new(FailurePolicy::Open, |_| {}).ask("fault").await;
    assert_eq!((response.status, response.text()), (200, "a"));
}

#[tokio::test]
async fn policies_come_first() {
    let policy = PolicyCall {
        outbound: Arc::default(),
        redis: Arc::default(),
        plugin: ResourceRef::new(Kind::WasmPlugin, "default", "policy"),
        revision: Revision::new(1, Arc::new(())),
        failure_policy: FailurePolicy::Closed,
        body_overflow: BodyOverflow::default(),
        hooks: penstock_core::plugin::Hooks { request: true, ..Default::default() },
    };
    let world = World::new(FailurePolicy::Closed, |rule| *rule = with_policies(rule.clone(), vec![policy]));
    assert_eq!(world.ask("").await.text(), "b", "the header that the policy sets decides");
}

#[tokio::test]
async fn filters_of_the_chosen_backend_apply() {
    let world = World::new(FailurePolicy::Closed, |rule| {
        let rewrite = |path: &str| UrlRewrite { hostname: None, path: Some(PathRewrite::Full(path.into())) };
        rule.rewrite = Some(rewrite("/of-the-rule"));
        let second = backend_at(rule, 1);
        second.request_headers = Some(edits(&[("x-own", "request")]));
        second.response_headers = Some(edits(&[("x-own", "response")]));
        second.rewrite = Some(rewrite("/of-the-backend"));
    });
    let response = world.ask("1").await;
    assert_eq!((response.text(), response.header("x-own")), ("b", "response"));
    let seen = &world.origins[1].requests()[0];
    assert_eq!((seen.path.as_str(), seen.header("x-own")), ("/of-the-backend", "request"));
    assert_eq!(world.ask("0").await.text(), "a");
    assert_eq!(world.origins[0].requests()[0].path, "/of-the-rule");
}

#[tokio::test]
async fn a_single_backend_without_weight_is_for_plugins_alone() {
    let world = World::new(FailurePolicy::Closed, |rule| {
        let Action::Forward(backends) = &mut rule.action else { panic!("no backends") };
        let only = WeightedBackend { weight: 0, ..backends.backends[0].clone() };
        *backends = WeightedBackends::all(vec![only]);
    });
    assert_eq!(world.ask("0").await.text(), "a");
    let response = world.ask("").await;
    assert_eq!((response.status, response.text()), (Reason::NoBackend.status().as_u16(), Reason::NoBackend.text()));
}
