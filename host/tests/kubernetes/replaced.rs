//! What is replaced by force, which deletes and creates it, was never away: also what is read only because somebody refers to it.
//!
//! The gateway hears of the end of the one and a moment later of the other one, however slow this machine is.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use penstock_testing::{
    certificate::{Authority, Certificate},
    client::{Connection, Response, get},
    origin::Recorded,
    pressure::{Pressure, Protocol},
};
use tokio::task::JoinHandle;

use crate::{
    backend_tls::{World, says},
    cluster::{Namespace, class, gateway, origin, route},
    install::Install,
    outage::{Relay, patiently},
};

/// How often each test replaces something.
const TIMES: usize = 5;

/// Nobody notices most of the replacements, of each of which this is what failed. Not all: a machine may stand still for longer than the gateway waits.
fn assert_unnoticed(failures: &[Vec<String>]) {
    let unnoticed = failures.iter().filter(|failures| failures.is_empty()).count();
    assert_eq!(failures.len(), TIMES);
    assert!(unnoticed > TIMES / 2, "{failures:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_replaced_is_never_missing() {
    let relay = Relay::start().await;
    let world = World::with("moment", |install| install.through(&relay.address.to_string())).await;
    world.trust("now", &[&world.authority]);
    world.policy("shop", "now");
    world.until_status(200).await;
    let connections =
        |requests: &[Recorded]| requests.iter().map(|request| request.connection).collect::<BTreeSet<_>>();
    let (mut failures, mut kept) = (Vec::new(), 0);
    for _ in 0..TIMES {
        let pressure = world.pressure();
        pressure.progress(100).await;
        let before = world.origin.requests().len();
        relay
            .late(async || {
                world.namespace.delete("backendtlspolicy/shop");
                world.policy("shop", "now");
            })
            .await;
        // It is another object, so it has no status before the gateway has seen it.
        let accepted = || says(&world.namespace.get("backendtlspolicy/shop"), "Accepted", "Accepted");
        patiently("the new one is seen", async || accepted().then_some(())).await;
        let since = world.origin.requests().len();
        pressure.progress(100).await;
        let requests = world.origin.requests();
        kept += usize::from(!connections(&requests[..before]).is_disjoint(&connections(&requests[since..])));
        failures.push(pressure.stop().await.failures);
    }
    assert_unnoticed(&failures);
    assert!(kept > TIMES / 2, "what was connected still is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_replaced_is_never_missing() {
    let relay = Relay::start().await;
    let world = World::with("other-ca", |install| install.through(&relay.address.to_string())).await;
    world.trust("ca", &[&world.authority]);
    world.policy("shop", "ca");
    world.until_status(200).await;
    // Trusted, or not: who has no CA at all is answered with 500.
    let either = |response: &Response| response.text() == "secure" || response.status == 502;
    let stranger = Authority::new();
    let mut failures = Vec::new();
    for (authority, status) in [(&stranger, 502), (&world.authority, 200)].into_iter().cycle().take(TIMES) {
        let pressure = Pressure::start(world.address, Protocol::H1, 4, || get("/"), either);
        pressure.progress(20).await;
        relay
            .late(async || {
                world.namespace.delete("configmap/ca");
                world.trust("ca", &[authority]);
            })
            .await;
        patiently("the other one decides", async || world.answers(status).await.then_some(())).await;
        pressure.progress(20).await;
        failures.push(pressure.stop().await.failures);
    }
    assert_unnoticed(&failures);
}

/// New connections without pause, each with a request.
struct Callers {
    stopped: Arc<AtomicBool>,
    failures: JoinHandle<Vec<String>>,
}

impl Callers {
    fn start(address: SocketAddr, authority: &Authority) -> Self {
        let (stopped, client) = (Arc::<AtomicBool>::default(), authority.client(&["http/1.1"]));
        let is_over = Arc::clone(&stopped);
        let failures = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let answer = async {
                    let mut connection = Connection::tls(address, "localhost", Arc::clone(&client)).await?;
                    connection.send(get("/")).await
                };
                match answer.await {
                    Ok(response) if response.text() == "shop" => {}
                    Ok(response) => failures.push(format!("{} {}", response.status, response.text())),
                    Err(error) => failures.push(format!("{error}: {:?}", std::error::Error::source(&error))),
                }
            }
            failures
        });
        Self { stopped, failures }
    }

    async fn stop(self) -> Vec<String> {
        self.stopped.store(true, Ordering::Relaxed);
        self.failures.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_replaced_is_never_missing() {
    let relay = Relay::start().await;
    let namespace = Namespace::new("certificate");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let authority = Authority::new();
    let store = |certificate: &Certificate| {
        let (chain, key) = (&certificate.certificate_pem, &certificate.key_pem);
        let literals = [format!("--from-literal=tls.crt={chain}"), format!("--from-literal=tls.key={key}")];
        let kind = "--type=kubernetes.io/tls";
        namespace.kubectl(&["create", "secret", "generic", "web", kind, &literals[0], &literals[1]]);
    };
    let first = authority.issue(&["localhost"]);
    store(&first);
    let install = Install::new(&namespace, "gateway").through(&relay.address.to_string());
    let https = "listeners: [{ name: https, port: 443, protocol: HTTPS, tls: { certificateRefs: [{ name: web }] } }, ";
    let gateway = gateway("web", "$NS").replace("listeners: [", https);
    namespace.apply(&(class("$NS", &install.controller, "") + &gateway + &route("shop", &["web"], "/", "shop")));
    let _process = install.start().await;
    let address = SocketAddr::new(namespace.address("web").await.ip(), 443);
    namespace.until_routed("shop", &install.controller).await;
    let client = authority.client(&["http/1.1"]);
    let presents = async |certificate: &Certificate| {
        let connection = Connection::tls(address, "localhost", Arc::clone(&client)).await.ok()?;
        (connection.peer_certificates().first() == Some(&certificate.der)).then_some(())
    };
    patiently("the first one", async || presents(&first).await).await;
    let mut failures = Vec::new();
    for _ in 0..TIMES {
        let (callers, next) = (Callers::start(address, &authority), authority.issue(&["localhost"]));
        relay
            .late(async || {
                namespace.delete("secret/web");
                store(&next);
            })
            .await;
        patiently("the next one", async || presents(&next).await).await;
        failures.push(callers.stop().await);
    }
    assert_unnoticed(&failures);
}
