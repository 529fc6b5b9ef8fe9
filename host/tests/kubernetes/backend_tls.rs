//! BackendTLSPolicy under load: changed without a failure, gone without falling back to plain text, back at once.

use std::net::SocketAddr;

use penstock_testing::{
    certificate::Authority,
    client::{Response, fetch, get},
    eventually::eventually,
    gateway::Gateway,
    origin::{Answer, Origin},
    pressure::{Pressure, Protocol},
};

use serde_json::Value;

use crate::{
    cluster::{NODE, Namespace, class, condition, gateway, route},
    install::Install,
};

/// A backend that speaks TLS, and a Gateway with a route to it.
pub(crate) struct World {
    pub(crate) namespace: Namespace,
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
    _install: Install,
    pub(crate) origin: Origin,
    _process: Gateway,
}

impl World {
    async fn new(name: &str) -> Self {
        Self::with(name, |install| install).await
    }

    pub(crate) async fn with(name: &str, install: impl FnOnce(Install) -> Install) -> Self {
        let namespace = Namespace::new(name);
        let authority = Authority::new();
        let certificate = authority.issue(&["shop.example.com"]);
        let origin = Origin::builder()
            .answer(|_| Answer::new(200).body("secure"))
            .tls(certificate.server(&["http/1.1"]))
            .bind(NODE)
            .start();
        namespace.backend("shop", origin.address());
        let install = install(Install::new(&namespace, "gateway"));
        let manifests = class("$NS", &install.controller, "") + &gateway("web", "$NS");
        namespace.apply(&(manifests + &route("shop", &["web"], "/", "shop")));
        let process = install.start().await;
        let address = namespace.address("web").await;
        namespace.until_routed("shop", &install.controller).await;
        Self { namespace, authority, address, _install: install, origin, _process: process }
    }

    /// A ConfigMap with certificates of authorities.
    pub(crate) fn trust(&self, name: &str, authorities: &[&Authority]) {
        let pem: String = authorities.iter().map(|authority| authority.pem()).collect();
        let literal = format!("--from-literal=ca.crt={pem}");
        self.namespace.kubectl(&["create", "configmap", name, &literal]);
    }

    pub(crate) fn policy(&self, name: &str, ca: &str) {
        self.namespace.apply(&format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{ name: {name} }}
spec:
  targetRefs: [{{ group: '', kind: Service, name: shop }}]
  validation:
    hostname: shop.example.com
    caCertificateRefs: [{{ group: '', kind: ConfigMap, name: {ca} }}]
"
        ));
    }

    pub(crate) async fn until_policy(&self, name: &str, type_: &str, reason: &str) {
        let wanted = |policy: &Value| says(policy, type_, reason);
        self.namespace.until(&format!("backendtlspolicy/{name}"), wanted).await;
    }

    pub(crate) async fn answers(&self, status: u16) -> bool {
        fetch(self.address, get("/")).await.is_ok_and(|response| response.status == status)
    }

    pub(crate) async fn until_status(&self, status: u16) {
        eventually("an answer", async || self.answers(status).await.then_some(())).await;
    }

    /// Requests that must all be answered by the backend.
    pub(crate) fn pressure(&self) -> Pressure {
        Pressure::start(self.address, Protocol::H1, 4, || get("/"), |response| response.text() == "secure")
    }
}

/// Whether this is what is said of the newest generation.
pub(crate) fn says(policy: &Value, type_: &str, reason: &str) -> bool {
    let condition = condition(&policy["status"]["ancestors"][0]["conditions"], type_);
    condition["reason"] == reason && condition["observedGeneration"] == policy["metadata"]["generation"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_replaced_under_load() {
    let world = World::new("replaced").await;
    let later = Authority::new();
    world.trust("now", &[&world.authority]);
    world.trust("soon", &[&later, &world.authority]);
    // Plain text to a backend that speaks TLS: one defined answer.
    world.until_status(502).await;
    world.policy("shop", "now");
    world.until_status(200).await;
    world.until_policy("shop", "Accepted", "Accepted").await;

    let pressure = world.pressure();
    pressure.progress(20).await;
    for ca in ["soon", "now", "soon"] {
        world.policy("shop", ca);
        world.until_policy("shop", "ResolvedRefs", "ResolvedRefs").await;
        pressure.progress(20).await;
    }
    let outcome = pressure.stop().await;
    assert_eq!(outcome.failures, [""; 0]);
}

/// How long it takes until the first success is measured by `cargo xtask scale`.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_goes_and_comes_back_under_load() {
    let world = World::new("comes-back").await;
    world.trust("now", &[&world.authority]);
    world.policy("shop", "now");
    world.until_status(200).await;
    // Each request is answered, in one of two ways: nobody waits for anything, and nobody is answered in plain text.
    let either = |response: &Response| response.text() == "secure" || response.status == 502;
    let pressure = Pressure::start(world.address, Protocol::H1, 4, || get("/"), either);
    for _ in 0..3 {
        pressure.progress(20).await;
        world.namespace.delete("backendtlspolicy/shop");
        world.until_status(502).await;
        pressure.progress(20).await;
        world.policy("shop", "now");
        world.until_status(200).await;
        // Once there was a success, no request meets what was before.
        let after = world.pressure();
        after.progress(100).await;
        assert_eq!(after.stop().await.failures, [""; 0]);
    }
    assert_eq!(pressure.stop().await.failures, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_may_come_later_and_the_older_policy_decides() {
    let world = World::new("late").await;
    world.policy("shop", "late");
    world.until_policy("shop", "ResolvedRefs", "InvalidCACertificateRef").await;
    world.until_policy("shop", "Accepted", "NoValidCACertificate").await;
    world.until_status(500).await;
    world.trust("late", &[&world.authority]);
    world.until_policy("shop", "ResolvedRefs", "ResolvedRefs").await;
    world.until_policy("shop", "Accepted", "Accepted").await;
    world.until_status(200).await;

    // Whoever comes second loses, and harms nobody. Names decide between policies of the same second.
    let stranger = Authority::new();
    world.trust("stranger", &[&stranger]);
    let pressure = world.pressure();
    world.policy("shop-too", "stranger");
    world.until_policy("shop-too", "Accepted", "Conflicted").await;
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, [""; 0]);
    // Without the first one, the second decides: nobody trusts the backend any more.
    world.namespace.delete("backendtlspolicy/shop");
    world.until_policy("shop-too", "Accepted", "Accepted").await;
    world.until_status(502).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_apply_holds_up_no_other_backend() {
    let world = World::new("beside").await;
    let [before, after] = ["before", "after"].map(crate::cluster::origin);
    world.namespace.backend("plain", before.address());
    world.namespace.apply(&route("plain", &["web"], "/plain", "plain"));
    world.policy("shop", "missing");
    world.until_policy("shop", "ResolvedRefs", "InvalidCACertificateRef").await;
    world.until_status(500).await;
    let answers = async |body: &str| {
        let answer = async || fetch(world.address, get("/plain")).await.ok().filter(|response| response.text() == body);
        eventually(body, answer).await;
    };
    answers("before").await;
    world.namespace.backend("plain", after.address());
    answers("after").await;
    world.until_status(500).await;
}
