//! What is broken harms nobody else: in every order, and across restarts.

use std::net::SocketAddr;

use penstock_testing::{
    client::{fetch, get},
    eventually::eventually,
    gateway::Gateway,
    guests,
    origin::Origin,
};

use serde_json::Value;

use crate::{
    cluster::{Namespace, class, condition, gateway, ingress_class, origin, route},
    hot_load::{BROKEN, SOURCE, module, plugin, wasm_plugin},
    install::Install,
};

/// Healthy: a Gateway, a route `/good`, and one for everything, into which nothing broken may fall through.
fn good(controller: &str) -> String {
    let routes = route("good", &["web"], "/good", "good") + &route("rest", &["web"], "/", "rest");
    class("$NS", controller, "") + &gateway("web", "$NS") + &routes
}

/// Broken: a plugin without a module, a route without a backend, a listener without a certificate.
fn bad() -> String {
    let mut all = plugin("HTTPRoute", "bad-plugin", "mended") + &route("bad-plugin", &["web"], "/bad-plugin", "good");
    all += &route("bad-backend", &["web"], "/bad-backend", "missing");
    all += "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: half }
spec:
  gatewayClassName: $NS
  listeners:
  - { name: http, port: 80, protocol: HTTP }
  - { name: https, port: 443, protocol: HTTPS, tls: { certificateRefs: [{ name: certificate }] } }
---
apiVersion: v1
kind: Secret
metadata: { name: certificate }
stringData: { tls.crt: nothing, tls.key: nothing }
";
    all + &route("half", &["half"], "/", "good")
}

struct World {
    namespace: Namespace,
    install: Install,
    good: Origin,
    rest: Origin,
}

impl World {
    fn new(name: &str) -> Self {
        let namespace = Namespace::new(name);
        let (good, rest) = (origin("good"), origin("rest"));
        namespace.backend("good", good.address());
        namespace.backend("rest", rest.address());
        module(&namespace, "rules", BROKEN);
        let install = Install::new(&namespace, "gateway");
        Self { namespace, install, good, rest }
    }

    async fn serves(&self, address: SocketAddr, path: &str, status: u16, body: &str) {
        eventually(&format!("{path} is answered with {status} {body}"), async || {
            let response = fetch(address, get(path)).await.ok()?;
            (response.status == status && response.text().contains(body)).then_some(())
        })
        .await;
    }

    async fn is_healthy(&self) -> SocketAddr {
        let address = self.namespace.address("web").await;
        for name in ["good", "rest"] {
            self.namespace.until_routed(name, &self.install.controller).await;
        }
        self.serves(address, "/good", 200, "good").await;
        self.serves(address, "/", 200, "rest").await;
        address
    }

    /// A route of this name is, and so is what there was to say before it.
    async fn is_said(&self, fence: &str) {
        self.namespace.apply(&route(fence, &["web"], "/fence", "good"));
        self.namespace.until_routed(fence, &self.install.controller).await;
    }

    /// There is an Event about an object, for `kubectl describe`.
    async fn is_told(&self, kind: &str, name: &str, reason: &str) {
        let selector = format!("--field-selector=reason={reason},regarding.kind={kind},regarding.name={name}");
        let events = || self.namespace.kubectl(&["get", "events.events.k8s.io", &selector, "--output=name"]);
        eventually(&format!("an Event {reason} about {name}"), async || (!events().is_empty()).then_some(())).await;
    }

    /// What is broken says so, and answers for itself.
    async fn is_told_apart(&self) {
        let address = self.is_healthy().await;
        // A status is written after the routes are in effect, so from here on nothing may fall through.
        self.namespace.until_routed("bad-plugin", &self.install.controller).await;
        self.namespace
            .until("httproute/bad-backend", |route| {
                let conditions = &route["status"]["parents"][0]["conditions"];
                condition(conditions, "ResolvedRefs")["reason"] == "BackendNotFound"
                    && condition(conditions, "Accepted")["status"] == "True"
            })
            .await;
        self.namespace.until("wasmplugin/rules", |it| it["status"]["candidate"]["phase"] == "Rejected").await;
        // Who looks at the route is told too.
        let is_degraded = |route: &Value| {
            let degraded = condition(&route["status"]["parents"][0]["conditions"], "Degraded").clone();
            degraded["reason"] == "PluginUnavailable" && degraded["message"].as_str().unwrap().contains("/rules`")
        };
        self.namespace.until("httproute/bad-plugin", is_degraded).await;
        self.serves(address, "/bad-plugin", 503, "").await;
        self.serves(address, "/bad-backend", 500, "").await;
        let half = self
            .namespace
            .until("gateway/half", |gateway| {
                let listeners = &gateway["status"]["listeners"];
                condition(&listeners[0]["conditions"], "Programmed")["status"] == "True"
                    && condition(&listeners[1]["conditions"], "ResolvedRefs")["reason"] == "InvalidCertificateRef"
            })
            .await;
        let half: SocketAddr =
            format!("{}:80", half["status"]["addresses"][0]["value"].as_str().unwrap()).parse().unwrap();
        self.serves(half, "/", 200, "good").await;
    }

    /// Make everything good that is not.
    async fn is_mended(&self) {
        self.namespace.backend("missing", self.good.address());
        module(&self.namespace, "rules", &guests::bytes(guests::HEADER_RULES));
        let address = self.is_healthy().await;
        self.serves(address, "/bad-backend", 200, "good").await;
        self.serves(address, "/bad-plugin", 200, "good").await;
        assert_eq!(fetch(address, get("/bad-plugin")).await.unwrap().header("x-rules"), "mended");
        self.namespace.until_condition("wasmplugin/rules", "Programmed", "True").await;
        let is_over = |route: &Value| condition(&route["status"]["parents"][0]["conditions"], "Degraded").is_null();
        self.namespace.until("httproute/bad-plugin", is_over).await;
        // Nobody has fallen through while it was broken.
        let rest: Vec<_> = self.rest.requests().into_iter().map(|request| request.path).collect();
        assert!(rest.iter().all(|path| path == "/"), "{rest:?}");
    }
}

async fn restart(process: &Gateway) {
    process.kill_and_start();
    process.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_after_healthy() {
    let world = World::new("good-bad");
    let process = world.install.start().await;
    world.namespace.apply(&good(&world.install.controller));
    world.is_healthy().await;
    restart(&process).await;
    world.is_healthy().await;
    world.namespace.apply(&bad());
    world.is_told_apart().await;
    // What was said of the broken ones holds after a restart too, so nothing is written.
    world.is_said("first").await;
    let since = world.install.writes().len();
    restart(&process).await;
    world.is_told_apart().await;
    world.is_said("second").await;
    let writes = world.install.writes().split_off(since);
    assert!(writes.iter().all(|it| ["httproutes/second", "gateways/web"].contains(&it.object.as_str())), "{writes:?}");
    world.is_mended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_after_broken() {
    let world = World::new("bad-good");
    let process = world.install.start().await;
    world.namespace.apply(&bad());
    restart(&process).await;
    world.namespace.apply(&good(&world.install.controller));
    world.is_told_apart().await;
    restart(&process).await;
    world.is_told_apart().await;
    world.is_mended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_healthy_at_once() {
    let world = World::new("both");
    world.namespace.apply(&(bad() + &good(&world.install.controller)));
    let process = world.install.start().await;
    world.is_told_apart().await;
    restart(&process).await;
    world.is_told_apart().await;
    // Deleted while it is broken: it does not come back.
    world.namespace.delete("httproute/bad-plugin");
    world.namespace.delete("wasmplugin/rules");
    let address = world.is_healthy().await;
    world.serves(address, "/bad-plugin", 200, "rest").await;
    restart(&process).await;
    let address = world.is_healthy().await;
    world.serves(address, "/bad-plugin", 200, "rest").await;
}

/// An Ingress of everything below a path to a Service.
fn ingress(name: &str, path: &str, backend: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name} }}
spec:
  ingressClassName: $NS
  rules:
  - http:
      paths: [{{ path: {path}, pathType: Prefix, backend: {{ service: {{ name: {backend}, port: {{ number: 80 }} }} }} }}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_ingress_beside_healthy_ones() {
    let world = World::new("ingress");
    let class = ingress_class("$NS", &world.install.controller);
    let healthy = ingress("good", "/good", "good") + &ingress("rest", "/", "rest");
    let bad = ingress("bad", "/bad", "missing") + &ingress("refused", "/refused", "good");
    world.namespace.apply(&(class + &bad + &healthy));
    let process = world.install.start().await;
    // What the instance has seen become so is told by an Event.
    let has_address = |it: &Value| it["status"]["loadBalancer"]["ingress"].is_array();
    world.namespace.until("ingress/refused", has_address).await;
    world.namespace.apply(&plugin("Ingress", "refused", "one"));
    for restarts in [true, false] {
        for name in ["good", "rest"] {
            let address = |it: &Value| it["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned);
            let it = world.namespace.until(&format!("ingress/{name}"), |it| address(it).is_some()).await;
            let address: SocketAddr = format!("{}:80", address(&it).unwrap()).parse().unwrap();
            world.serves(address, "/good", 200, "good").await;
            world.serves(address, "/", 200, "rest").await;
            world.serves(address, "/bad", 500, "").await;
            world.serves(address, "/refused", 503, "").await;
        }
        if restarts {
            world.is_told("Ingress", "refused", "PluginUnavailable").await;
            world.is_told("WasmPlugin", "rules", "Rejected").await;
            restart(&process).await;
        }
    }
    world.namespace.backend("missing", world.good.address());
    let it = world.namespace.get("ingress/bad");
    let address = format!("{}:80", it["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().unwrap());
    world.serves(address.parse().unwrap(), "/bad", 200, "good").await;
    let rest: Vec<_> = world.rest.requests().into_iter().map(|request| request.path).collect();
    assert!(rest.iter().all(|path| path == "/"), "{rest:?}");
}

/// Whoever makes names of addresses must not see one go because an instance starts.
#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_with_a_plugin_keeps_its_address_over_a_restart() {
    let world = World::new("ingress-plugin");
    module(&world.namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    let manifests = ingress_class("$NS", &world.install.controller) + &ingress("shop", "/", "good");
    world.namespace.apply(&(manifests + &plugin("Ingress", "shop", "one")));
    let process = world.install.start().await;
    let has_address = async |name: &str| {
        let has_one = |it: &Value| it["status"]["loadBalancer"]["ingress"].is_array();
        world.namespace.until(&format!("ingress/{name}"), has_one).await;
    };
    has_address("shop").await;
    world.namespace.until_condition("wasmplugin/rules", "Programmed", "True").await;
    for fence in ["first", "second"] {
        let since = world.install.writes().len();
        process.kill_and_start();
        process.ready().await;
        // Written after whatever there is to say of the other one.
        world.namespace.apply(&ingress(fence, "/fence", "good"));
        has_address(fence).await;
        let writes = world.install.writes().split_off(since);
        assert!(writes.iter().all(|it| it.object == format!("ingresses/{fence}")), "{writes:?}");
    }
}

/// Nothing is behind the last good revision. When it fails too, its exchanges get what `failurePolicy` says, nobody else notices, and there is
/// nothing to write.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_revision_fails_too() {
    let world = World::new("fails-too");
    module(&world.namespace, "rules", &guests::bytes(guests::FAULTY));
    let revision = |config: &str| {
        let target = "  targetRefs: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: good }]";
        wasm_plugin(&format!("{SOURCE}{target}\n  config: {config}"))
    };
    let manifests = good(&world.install.controller) + &revision("{ mark: one, at: request, fault: trap }");
    world.namespace.apply(&manifests);
    let _process = world.install.start().await;
    let address = world.is_healthy().await;
    let serves = async || {
        let answer = async || fetch(address, get("/good")).await.ok().filter(|it| it.header("x-faulty") == "one");
        eventually("the first revision", answer).await;
    };
    serves().await;
    world.namespace.apply(&revision("{ mark: [two] }"));
    let refused = |it: &Value| it["status"]["candidate"]["phase"] == "Rejected";
    let before = world.namespace.until("wasmplugin/rules", refused).await["status"].clone();
    serves().await;
    world.is_said("first").await;
    let since = world.install.writes().len();
    // Some are answered by the faults themselves, and the rest because it is not called any more for a while.
    for _ in 0..20 {
        assert_eq!(fetch(address, get("/good").header("x-fault", "1")).await.unwrap().status, 503);
    }
    world.serves(address, "/", 200, "rest").await;
    serves().await;
    world.is_said("second").await;
    assert_eq!(world.namespace.get("wasmplugin/rules")["status"], before);
    let writes = world.install.writes().split_off(since);
    assert!(writes.iter().all(|it| ["httproutes/second", "gateways/web"].contains(&it.object.as_str())), "{writes:?}");
}

/// What fails a second time goes on with what was good; what is deleted while it is broken stays away, whatever was good of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_fails_again_and_is_deleted_does_not_come_back() {
    let world = World::new("fallback");
    module(&world.namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    world.namespace.apply(&(good(&world.install.controller) + &plugin("HTTPRoute", "good", "one")));
    let process = world.install.start().await;
    let has_header = async |value: &str| {
        let address = world.namespace.address("web").await;
        let answer = async || fetch(address, get("/good")).await.ok().filter(|it| it.header("x-rules") == value);
        let response = eventually(&format!("x-rules: {value}"), answer).await;
        assert_eq!(response.status, 200);
    };
    has_header("one").await;
    world.namespace.until_condition("wasmplugin/rules", "Programmed", "True").await;
    let refused = async |before: &Value| {
        let is_refused = |it: &Value| {
            let candidate = &it["status"]["candidate"];
            candidate["phase"] == "Rejected" && candidate["reason"] != before["candidate"]["reason"]
        };
        world.namespace.until("wasmplugin/rules", is_refused).await["status"].clone()
    };
    world.namespace.apply(&plugin("HTTPRoute", "good", "[1, 2]"));
    let first = refused(&Value::Null).await;
    has_header("one").await;
    module(&world.namespace, "rules", BROKEN);
    let second = refused(&first).await;
    has_header("one").await;
    assert_eq!(second["active"], first["active"], "{second:#}");
    restart(&process).await;
    has_header("one").await;

    world.namespace.delete("wasmplugin/rules");
    has_header("").await;
    restart(&process).await;
    world.is_healthy().await;
    has_header("").await;
    process.terminate().await;
    let _process = world.install.start().await;
    world.is_healthy().await;
    has_header("").await;
}
