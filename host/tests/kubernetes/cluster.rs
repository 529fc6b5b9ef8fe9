//! A namespace of a test's own, and what stands in it.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use penstock_testing::{
    PATIENCE,
    eventually::eventually,
    origin::{Answer, Origin},
};
use serde_json::{Value, json};

/// How to run these tests.
pub(crate) const HINT: &str = "these tests run inside the test cluster: cargo xtask test --only kubernetes";

/// The node's address. Backends of tests listen here, since the API refuses endpoints on loopback.
pub(crate) const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 240, 0, 1));

static PREPARED: Once = Once::new();
static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// A namespace, deleted when it is dropped.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    /// A new one. The definitions and roles that users install are there.
    pub(crate) fn new(name: &str) -> Self {
        PREPARED.call_once(|| {
            let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
            for file in ["namespace.yaml", "crds"] {
                kubectl(&["apply", "--server-side", "--force-conflicts", "-f", deploy.join(file).to_str().unwrap()]);
            }
            plugins_are_served();
        });
        // What belongs to no namespace is named after it and stays behind, so no two tests may have the same, whatever they call theirs.
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        kubectl(&["create", "namespace", &name]);
        Self { name }
    }

    /// kubectl in this namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Apply manifests. `$NS` in them is the name of the namespace, which names what is not in any namespace too.
    pub(crate) fn apply(&self, manifests: &str) {
        let manifests = manifests.replace("$NS", &self.name);
        kubectl_with(&["--namespace", &self.name, "apply", "-f", "-"], &manifests);
    }

    /// What the API server says to manifests that it refuses.
    pub(crate) fn refused(&self, manifests: &str) -> String {
        let manifests = manifests.replace("$NS", &self.name);
        let output = run(&["--namespace", &self.name, "apply", "-f", "-"], &manifests);
        assert!(!output.status.success(), "the API server took it:\n{manifests}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Delete what `kind/name` says, and wait until it is gone.
    pub(crate) fn delete(&self, what: &str) {
        self.kubectl(&["delete", what, "--wait"]);
    }

    /// An object as it is now.
    pub(crate) fn get(&self, what: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", what, "--output=json"])).unwrap()
    }

    /// Wait until an object is as it should be, and return it. It need not be there yet, and the API server may be busy.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let last = std::cell::RefCell::new(Value::Null);
        let probe = async || {
            let output = run(&["--namespace", &self.name, "get", what, "--output=json"], "");
            if !output.status.success() {
                *last.borrow_mut() = String::from_utf8_lossy(&output.stderr).into();
                return None;
            }
            let object: Value = serde_json::from_slice(&output.stdout).unwrap();
            *last.borrow_mut() = object["status"].clone();
            wanted(&object).then_some(object)
        };
        let waited = std::panic::AssertUnwindSafe(eventually(what, probe));
        match futures_util::FutureExt::catch_unwind(waited).await {
            Ok(object) => object,
            Err(_) => panic!("{what} does not become as wanted; its status is {:#}", last.borrow()),
        }
    }

    /// Wait until a condition of the object itself is so.
    pub(crate) async fn until_condition(&self, what: &str, type_: &str, status: &str) -> Value {
        self.until(what, |object| {
            let condition = condition(&object["status"]["conditions"], type_);
            condition["status"] == status && condition["observedGeneration"] == object["metadata"]["generation"]
        })
        .await
    }

    /// Where a Gateway accepts connections on port 80, as soon as it does.
    pub(crate) async fn address(&self, gateway: &str) -> SocketAddr {
        let gateway = self.until_condition(&format!("gateway/{gateway}"), "Programmed", "True").await;
        let address = gateway["status"]["addresses"][0]["value"].as_str().unwrap();
        SocketAddr::new(address.parse().unwrap(), 80)
    }

    /// Wait until a route is attached to its (first) parent that this controller serves, and its backends are found.
    pub(crate) async fn until_routed(&self, route: &str, controller: &str) {
        self.until(&format!("httproute/{route}"), |object| {
            let entries = object["status"]["parents"].as_array().cloned().unwrap_or_default();
            entries.iter().filter(|entry| entry["controllerName"] == controller).any(|entry| {
                let is_true = |type_| {
                    let condition = condition(&entry["conditions"], type_);
                    condition["status"] == "True" && condition["observedGeneration"] == object["metadata"]["generation"]
                };
                is_true("Accepted") && is_true("ResolvedRefs")
            })
        })
        .await;
    }

    /// A Service whose only endpoint is this address.
    pub(crate) fn backend(&self, name: &str, address: SocketAddr) {
        self.apply(&format!(
            "
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ ports: [{{ port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: {name}, labels: {{ kubernetes.io/service-name: {name} }} }}
addressType: IPv4
ports: [{{ port: {} }}]
endpoints: [{{ addresses: [\"{}\"] }}]
",
            address.port(),
            address.ip(),
        ));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cluster goes with the run; this only keeps the tests that follow from having more to look at.
        let classes = format!("--selector=penstock.dev/test={}", self.name);
        for arguments in [
            &["delete", "gatewayclass,ingressclass", &classes][..],
            &["delete", "namespace", &self.name, "--wait=false"],
        ] {
            let _ = Command::new("kubectl").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// An origin that the API accepts as an endpoint.
pub(crate) fn origin(body: &'static str) -> Origin {
    Origin::builder().answer(move |_| Answer::new(200).body(body)).bind(NODE).start()
}

/// A GatewayClass.
pub(crate) fn class(name: &str, controller: &str, labels: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{ name: {name}, labels: {{ penstock.dev/test: $NS, {labels} }} }}
spec: {{ controllerName: {controller} }}
"
    )
}

/// An IngressClass of an installation.
pub(crate) fn ingress_class(name: &str, controller: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{ name: {name}, labels: {{ penstock.dev/test: $NS }} }}
spec: {{ controller: {controller} }}
"
    )
}

/// A Gateway with one listener for HTTP on port 80.
pub(crate) fn gateway(name: &str, class: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: {name} }}
spec:
  gatewayClassName: {class}
  listeners: [{{ name: http, port: 80, protocol: HTTP }}]
"
    )
}

/// A route of everything below a path to a Service.
pub(crate) fn route(name: &str, gateways: &[&str], path: &str, backend: &str) -> String {
    let parents: Vec<_> = gateways.iter().map(|name| json!({ "name": name })).collect();
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {name} }}
spec:
  parentRefs: {}
  rules:
  - matches: [{{ path: {{ type: PathPrefix, value: {path} }} }}]
    backendRefs: [{{ name: {backend}, port: 80 }}]
",
        Value::from(parents)
    )
}

/// The condition of a type; null if there is none.
pub(crate) fn condition<'a>(conditions: &'a Value, type_: &str) -> &'a Value {
    let all = conditions.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

/// Wait until the API server takes WasmPlugins, whose definition has just come: it says that it knows them a moment before it does.
pub(crate) fn plugins_are_served() {
    let wait = ["wait", "crd/wasmplugins.penstock.dev", "--for=condition=Established"];
    let deadline = Instant::now() + PATIENCE;
    for arguments in [&wait[..], &["get", "wasmplugins.penstock.dev", "--all-namespaces"]] {
        loop {
            let output = run(arguments, "");
            if output.status.success() {
                break;
            }
            assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// kubectl as administrator; what it prints.
pub(crate) fn kubectl(arguments: &[&str]) -> String {
    kubectl_with(arguments, "")
}

fn kubectl_with(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    let said = [output.stdout.clone(), output.stderr].concat();
    assert!(output.status.success(), "kubectl {arguments:?}\n{input}\n{}", String::from_utf8_lossy(&said));
    String::from_utf8(output.stdout).unwrap()
}

/// kubectl, whatever comes of it.
pub(crate) fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("kubectl: {error}; {HINT}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The folder in which the cluster keeps its files.
pub(crate) fn folder() -> PathBuf {
    let kubeconfig = std::env::var_os("KUBECONFIG").unwrap_or_else(|| panic!("no KUBECONFIG; {HINT}"));
    Path::new(&kubeconfig).parent().unwrap().to_owned()
}
