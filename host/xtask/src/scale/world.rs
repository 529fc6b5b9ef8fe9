//! What is created on the API server, and one change after the other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::http::Client;
use crate::process;

/// Connections that create routes: as many as an API server on a small machine can keep busy.
const CREATORS: usize = 8;

/// How long a change may take before it counts as lost.
pub(super) const LOST: Duration = Duration::from_secs(30);

const NAMESPACE: &str = "penstock-scale";
const GATEWAY_API: &str = "/apis/gateway.networking.k8s.io/v1";

/// Gateways and routes in a namespace.
pub(super) struct World {
    /// `kubectl proxy`.
    api: SocketAddr,
    routes: usize,
    gateways: usize,
}

impl World {
    /// A namespace with one Service and the Gateways.
    pub(super) fn create(api: SocketAddr, routes: usize, gateways: usize) -> Result<Self> {
        let world = Self { api, routes, gateways };
        let mut client = world.connect()?;
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": { "name": "penstock" },
            "spec": { "controllerName": "penstock.dev/gateway-controller" },
        });
        create(&mut client, &format!("{GATEWAY_API}/gatewayclasses"), &class)?;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        create(&mut client, "/api/v1/namespaces", &namespace)?;
        Self::service(&mut client, "web", 80, 3000)?;
        for number in 0..gateways {
            let gateway = json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": { "name": format!("gateway-{number}") },
                "spec": {
                    "gatewayClassName": "penstock",
                    "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" }],
                },
            });
            create(&mut client, &path("gateways"), &gateway)?;
        }
        Ok(world)
    }

    /// A Service whose only endpoint is this port of the node.
    pub(super) fn service(client: &mut Client, name: &str, port: u16, target: u16) -> Result<()> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "ports": [{ "port": port, "targetPort": target }] },
        });
        create(client, &core("services"), &service)?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4", "ports": [{ "port": target }], "endpoints": [{ "addresses": ["10.240.0.1"] }],
        });
        create(client, &format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"), &slice)
    }

    /// `kubectl proxy` may have started a moment ago.
    pub(super) fn connect(&self) -> Result<Client> {
        let began = Instant::now();
        loop {
            match Client::connect(self.api, "localhost") {
                Err(_) if began.elapsed() < LOST => process::pause(Duration::from_millis(20)),
                other => return other,
            }
        }
    }

    pub(super) fn create_routes(&self) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            let mut client = self.connect()?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.routes || process::interrupted() {
                    return Ok(());
                }
                create(&mut client, &path("httproutes"), &self.route(number))?;
            }
        };
        std::thread::scope(|scope| {
            let creators: Vec<_> = (0..CREATORS).map(|_| scope.spawn(work)).collect();
            creators.into_iter().try_for_each(|creator| creator.join().expect("a creator does not panic"))
        })
    }

    fn route(&self, number: usize) -> Value {
        let mark = json!([{ "name": "x-revision", "value": "0" }]);
        let filter = json!({ "type": "ResponseHeaderModifier", "responseHeaderModifier": { "set": mark } });
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": format!("route-{number}") },
            "spec": {
                "parentRefs": [{ "name": format!("gateway-{}", number % self.gateways) }],
                "hostnames": [host(number)],
                "rules": [{ "filters": [filter], "backendRefs": [{ "name": "web", "port": 80 }] }],
            },
        })
    }

    /// Every route says that it is accepted, and every Gateway how many it has.
    pub(super) fn ensure_programmed(&self) -> Result<()> {
        let mut client = self.connect()?;
        let routes = client.get(&path("httproutes"))?.json()?;
        let routes = routes["items"].as_array().context("a list")?;
        let accepted = |route: &&Value| route["status"]["parents"][0]["conditions"][0]["status"] == "True";
        let good = routes.iter().filter(accepted).count();
        ensure!(good == self.routes, "{good} of {} routes are accepted", self.routes);
        let gateways = client.get(&path("gateways"))?.json()?;
        let gateways = gateways["items"].as_array().context("a list")?;
        let attached =
            |gateway: &Value| gateway["status"]["listeners"][0]["attachedRoutes"].as_u64().unwrap_or_default();
        let attached: u64 = gateways.iter().map(attached).sum();
        ensure!(attached == self.routes as u64, "Gateways count {attached} routes of {}", self.routes);
        Ok(())
    }

    /// Change one route, and measure from the answer of the API server to the first response by the new rule.
    pub(super) fn time_change(&self, number: usize) -> Result<Duration> {
        // Spread over all routes, the same ones each time.
        let at = number.wrapping_mul(2_654_435_761) % self.routes;
        let mut client = self.connect()?;
        let mut traffic = Client::connect(Self::address(&mut client, at % self.gateways)?, &host(at))?;
        let mark = format!("{}", number + 1);
        let place = "/spec/rules/0/filters/0/responseHeaderModifier/set/0/value";
        let patch = json!([{ "op": "replace", "path": place, "value": mark }]).to_string();
        let route = format!("{}/route-{at}", path("httproutes"));
        let answer = client.send("PATCH", &route, "application/json-patch+json", &patch)?;
        let began = Instant::now();
        ensure!(answer.status == 200, "the API server answers {}: {}", answer.status, answer.text());
        loop {
            if traffic.get("/")?.header("x-revision") == Some(&mark) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > LOST {
                bail!("the change of route-{at} had no effect within {LOST:?}");
            }
        }
    }

    /// Where a Gateway accepts connections.
    pub(super) fn address(client: &mut Client, gateway: usize) -> Result<SocketAddr> {
        let gateway = client.get(&format!("{}/gateway-{gateway}", path("gateways")))?.json()?;
        let address = gateway["status"]["addresses"][0]["value"].as_str().context("the Gateway has no address")?;
        Ok(SocketAddr::new(address.parse()?, 80))
    }

    /// Everything goes with the namespace; the API server takes its time, and nobody has to wait.
    pub(super) fn delete(&self) -> Result<()> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}");
        let answer = self.connect()?.send("DELETE", &path, "application/json", "")?;
        ensure!(answer.status < 300, "the namespace cannot be deleted: {}", answer.text());
        Ok(())
    }
}

fn host(number: usize) -> String {
    format!("host-{number}.example.com")
}

pub(super) fn path(plural: &str) -> String {
    format!("{GATEWAY_API}/namespaces/{NAMESPACE}/{plural}")
}

/// Where objects of the core are, in the namespace of this command.
pub(super) fn core(plural: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{plural}")
}

/// Create an object; one that is there already stays.
pub(super) fn create(client: &mut Client, path: &str, object: &Value) -> Result<()> {
    let answer = client.send("POST", path, "application/json", &object.to_string())?;
    ensure!(matches!(answer.status, 201 | 409), "{path} answers {}: {}", answer.status, answer.text());
    Ok(())
}
