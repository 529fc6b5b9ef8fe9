//! Small worlds for tests: resources as text, a gateway that serves them, and what its status says.

use std::path::Path;

use penstock_testing::{
    client::Response,
    eventually::eventually,
    gateway::{Gateway, GatewayBuilder},
    guests,
    origin::{Answer, Origin},
    port::free_port,
};
use serde_json::Value;

/// The program under test.
pub(crate) const PENSTOCK: &str = env!("CARGO_BIN_EXE_penstock");

/// A gateway with one listener, one route `all` to an origin that answers 200, and what else a test adds.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) origin: Origin,
    pub(crate) port: u16,
}

/// The resources of a [`World`].
pub(crate) struct WorldBuilder {
    builder: GatewayBuilder,
    origin: Origin,
    port: u16,
}

impl World {
    pub(crate) fn builder() -> WorldBuilder {
        let (origin, port) = (Origin::answering(Answer::new(200).body("origin")), free_port());
        let builder = Gateway::builder(PENSTOCK)
            .file("gateway.yaml", gateway(port))
            .file("backend.yaml", backend("origin", origin.address().port()))
            .file("route.yaml", route("all", "/", ""));
        WorldBuilder { builder, origin, port }
    }

    /// Ask until the answer has this header with this value.
    pub(crate) async fn until_header(&self, name: &str, value: &str) -> Response {
        self.gateway.until(self.port, "/", |response| response.header(name) == value).await
    }

    /// What `/status` says now.
    pub(crate) async fn status(&self) -> Value {
        self.gateway.admin("/status").await.json()
    }

    /// Wait until the status of a resource is as wanted, and return it.
    pub(crate) async fn until_status(&self, kind: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("the status of {kind} {name}");
        eventually(&what, async || {
            let status = self.status().await;
            let resources = status["resources"].as_array().cloned().unwrap_or_default();
            let found = resources.into_iter().find(|resource| resource["kind"] == kind && resource["name"] == name);
            found.map(|resource| resource["status"].clone()).filter(&wanted)
        })
        .await
    }
}

impl WorldBuilder {
    pub(crate) fn file(mut self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        self.builder = self.builder.file(name, contents);
        self
    }

    pub(crate) fn argument(mut self, argument: impl Into<std::ffi::OsString>) -> Self {
        self.builder = self.builder.argument(argument);
        self
    }

    /// With a data directory.
    pub(crate) fn data_dir(mut self) -> Self {
        self.builder = self.builder.data_dir();
        self
    }

    pub(crate) async fn start(self) -> World {
        World { gateway: self.builder.start().await, origin: self.origin, port: self.port }
    }
}

/// A condition in a status or in one of its parts.
pub(crate) fn condition<'s>(part: &'s Value, type_: &str) -> &'s Value {
    let conditions = part["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

pub(crate) fn gateway(port: u16) -> String {
    format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gw}}
spec:
  gatewayClassName: penstock
  listeners:
    - {{name: http, port: {port}, protocol: HTTP}}
"
    )
}

/// A Service with one endpoint on loopback.
pub(crate) fn backend(name: &str, port: u16) -> String {
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}

/// A route of a path prefix to the Service `origin`; with a mark, responses carry it in `x-route`.
pub(crate) fn route(name: &str, path: &str, mark: &str) -> String {
    let filters = match mark {
        "" => String::new(),
        mark => format!(
            "\n      filters:\n        - type: ResponseHeaderModifier\n          responseHeaderModifier: {{set: [{{name: \
             x-route, value: {mark}}}]}}"
        ),
    };
    format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: gw}}]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]
      backendRefs: [{{name: origin, port: 80}}]{filters}
"
    )
}

/// A plugin on the whole Gateway, from a file of this world.
pub(crate) fn plugin(module: &str, config: &str) -> String {
    format!(
        "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{name: headers}}
spec:
  source: {{file: {{path: {module}}}}}
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: gw}}]
  config: {config}
"
    )
}

/// A configuration of header-rules that greets with this word.
pub(crate) fn greeting(word: &str) -> String {
    format!("{{rules: [{{response: {{set: {{x-greeting: {word}}}}}}}]}}")
}

/// The bytes of header-rules.
pub(crate) fn header_rules() -> Vec<u8> {
    guests::bytes(guests::HEADER_RULES)
}

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
