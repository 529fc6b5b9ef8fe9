//! Ingress through the binary: what is broken harms nobody else, in any order and across a restart.

use penstock_testing::{
    certificate::{Authority, Certificate},
    client::{Connection, fetch, get},
    eventually::eventually,
    gateway::{Gateway, GatewayBuilder},
    origin::{Answer, Origin},
    port::free_port,
};
use serde_json::Value;

use crate::world::{PENSTOCK, backend, condition, gateway, greeting, header_rules};

/// An Ingress for one host, with one path to one Service and what else `spec` has.
fn ingress(name: &str, service: &str, more: &str) -> String {
    format!(
        "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
  rules:
    - host: {name}.example
      http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}
{more}"
    )
}

fn secret(name: &str, certificate: &Certificate) -> String {
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    let (chain, key) = (indented(&certificate.certificate_pem), indented(&certificate.key_pem));
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n  tls.crt: |\n    {chain}\n  tls.key: |\n    {key}\n"
    )
}

fn plugin(name: &str, ingress: &str, config: &str) -> String {
    format!(
        "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{name: {name}}}
spec:
  source: {{file: {{path: headers.wasm}}}}
  targetRefs: [{{group: networking.k8s.io, kind: Ingress, name: {ingress}}}]
  config: {config}
"
    )
}

/// A gateway that serves Ingresses on ports of its own.
struct Served {
    gateway: Gateway,
    http: u16,
    https: u16,
    /// The backend of the Service `origin`.
    _origin: Origin,
}

impl Served {
    async fn start(files: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let (http, https) = (free_port(), free_port());
        let origin = Origin::answering(Answer::new(200).body("origin"));
        let builder = Gateway::builder(PENSTOCK)
            .argument("--ingress-http-port")
            .argument(http.to_string())
            .argument("--ingress-https-port")
            .argument(https.to_string())
            .file("backend.yaml", backend("origin", origin.address().port()));
        Self { gateway: files(builder).start().await, http, https, _origin: origin }
    }

    async fn answer(&self, host: &str) -> u16 {
        fetch(self.gateway.at(self.http), get("/").host(host)).await.unwrap().status
    }

    async fn until_answer(&self, host: &str, status: u16) {
        eventually(&format!("{status} from {host}"), async || (self.answer(host).await == status).then_some(())).await;
    }

    /// The conditions of an Ingress, as `/status` has them.
    async fn status(&self, name: &str) -> Value {
        let status: Value = self.gateway.admin("/status").await.json();
        let resources = status["resources"].as_array().unwrap();
        let found = resources.iter().find(|it| it["kind"] == "Ingress" && it["name"] == name);
        found.map(|it| it["status"].clone()).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_broken_ingress_harms_no_healthy_one_in_any_order_and_across_a_restart() {
    let broken = [
        ingress("service", "gone", ""),
        ingress("secret", "origin", "  tls: [{hosts: [secret.example], secretName: gone}]\n"),
        ingress("class", "origin", "  ingressClassName: nobodys\n"),
        ingress("resource", "origin", "  defaultBackend: {resource: {kind: Bucket, name: static}}\n"),
        ingress("plugin", "origin", ""),
        plugin("bad", "plugin", "{ruels: []}"),
    ]
    .join("---\n");
    // Broken first, then a healthy one beside them.
    let module = header_rules();
    let served = Served::start(|files| files.file("broken.yaml", &broken).file("headers.wasm", module)).await;
    served.gateway.write("healthy.yaml", ingress("healthy", "origin", ""));
    served.until_answer("healthy.example", 200).await;

    // All anew, with everything there from the beginning.
    served.gateway.kill_and_start();
    served.gateway.ready().await;
    // The default backend that is no Service takes what nobody else does, and answers that it cannot.
    let answers = [
        ("healthy.example", 200),
        ("service.example", 500),
        ("secret.example", 200),
        ("class.example", 500),
        ("resource.example", 200),
        ("plugin.example", 503),
        ("nobody.example", 500),
    ];
    for (host, expected) in answers {
        assert_eq!(served.answer(host).await, expected, "{host}");
    }
    let told = async |name: &str, type_: &str| {
        let status = served.status(name).await;
        let found = condition(&status, type_);
        (found["status"].clone(), found["reason"].clone())
    };
    assert_eq!(told("healthy", "Programmed").await, ("True".into(), "Programmed".into()));
    assert_eq!(told("service", "ResolvedRefs").await, ("False".into(), "BackendNotFound".into()));
    assert_eq!(told("secret", "ResolvedRefs").await, ("False".into(), "InvalidCertificateRef".into()));
    assert_eq!(told("class", "Accepted").await, ("False".into(), "ClassNotFound".into()));
    assert_eq!(told("resource", "PartiallyInvalid").await, ("True".into(), "InvalidKind".into()));
    assert_eq!(told("plugin", "Accepted").await, ("False".into(), "PluginUnavailable".into()));

    // Each is mended by itself, without a restart, while the others stay as they are.
    let late = Origin::answering(Answer::new(201));
    served.gateway.write("mended.yaml", backend("gone", late.address().port()));
    served.until_answer("service.example", 201).await;
    served.gateway.write("broken.yaml", broken.replace("{ruels: []}", &greeting("hello")));
    served.until_answer("plugin.example", 200).await;
    assert_eq!(served.answer("healthy.example").await, 200);
}

#[tokio::test]
async fn certificates_by_server_name_and_their_renewal() {
    let authority = Authority::new();
    let (one, other) = (authority.issue(&["one.example"]), authority.issue(&["*.other.example"]));
    let tls = |host: &str, secret: &str| format!("  tls: [{{hosts: ['{host}'], secretName: {secret}}}]\n");
    let served = Served::start(|files| {
        files
            .file("one.yaml", ingress("one", "origin", &tls("one.example", "one")))
            .file("other.yaml", ingress("a.other", "origin", &tls("*.other.example", "other")))
            .file("secret-one.yaml", secret("one", &one))
            .file("secret-other.yaml", secret("other", &other))
    })
    .await;
    let at = served.gateway.at(served.https);
    for (host, certificate) in [("one.example", &one), ("a.other.example", &other)] {
        let mut connection = Connection::tls(at, host, authority.client(&[])).await.unwrap();
        assert_eq!(connection.peer_certificates()[0], certificate.der, "{host}");
        assert_eq!(connection.send(get("/").host(host)).await.unwrap().status, 200, "{host}");
    }
    assert!(Connection::tls(at, "third.example", authority.client(&[])).await.is_err(), "there is no certificate");

    let renewed = authority.issue(&["one.example"]);
    served.gateway.write("secret-one.yaml", secret("one", &renewed));
    eventually("the new certificate", async || {
        let connection = Connection::tls(at, "one.example", authority.client(&[])).await.ok()?;
        (connection.peer_certificates()[0] == renewed.der).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_gateway_on_the_same_port_keeps_its_hosts() {
    let served = Served::start(|files| files.file("healthy.yaml", ingress("healthy", "origin", ""))).await;
    assert_eq!(served.answer("healthy.example").await, 200);
    // For all hosts, and of the same age as everything in files: the Gateway has the port, and the Ingress says so.
    served.gateway.write("gateway.yaml", gateway(served.http));
    served.until_answer("healthy.example", 404).await;
    let status = served.status("healthy").await;
    let programmed = condition(&status, "Programmed");
    assert_eq!(programmed["reason"], "HostnameConflict");
    assert!(programmed["message"].as_str().unwrap().contains("Gateway `default/gw`, which goes first"), "{programmed}");
    served.gateway.remove("gateway.yaml");
    served.until_answer("healthy.example", 200).await;
}
