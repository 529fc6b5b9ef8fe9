//! What an Ingress, which has no room for conditions, is told by Events; and its addresses when it is somebody else's.

use serde_json::{Value, json};

use crate::{
    cluster::{Namespace, ingress_class, kubectl, origin},
    install::Install,
};
use penstock_testing::eventually::eventually;

fn ingress(name: &str, class: &str, service: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name} }}
spec:
  ingressClassName: {class}
  rules:
  - host: {name}.example.com
    http: {{ paths: [{{ path: /, pathType: Prefix, backend: {{ service: {{ name: {service}, port: {{ number: 80 }} }} }} }}] }}
"
    )
}

fn has_addresses(ingress: &Value) -> bool {
    ingress["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|addresses| !addresses.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_were_written_before_a_restart_go_when_it_is_somebody_elses() {
    let namespace = Namespace::new("left");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    namespace.apply(&(ingress_class("$NS", &install.controller) + &ingress_class("$NS-other", "example.org/other")));
    namespace.apply(&(ingress("stays", "$NS", "shop") + &ingress("leaves", "$NS", "shop")));
    namespace.apply(&ingress("theirs", "$NS-other", "shop"));
    let theirs = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } }).to_string();
    namespace.kubectl(&["patch", "ingress/theirs", "--subresource=status", "--type=merge", "--patch", &theirs]);
    let process = install.start().await;
    for name in ["ingress/stays", "ingress/leaves"] {
        namespace.until(name, has_addresses).await;
    }
    process.terminate().await;
    namespace.apply(&ingress("leaves", "$NS-other", "shop"));
    let _process = install.start().await;
    namespace.until("ingress/leaves", |ingress| !has_addresses(ingress)).await;
    assert!(has_addresses(&namespace.get("ingress/stays")));
    assert_eq!(namespace.get("ingress/theirs")["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_ingress_is_an_event_of_it() {
    let namespace = Namespace::new("told");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    namespace.apply(&(ingress_class("$NS", &install.controller) + &ingress("shop", "$NS", "shop")));
    let process = install.start().await;
    namespace.until("ingress/shop", has_addresses).await;
    namespace.apply(&ingress("shop", "$NS", "missing"));
    let about = |reason: &str| {
        let fields = format!("--field-selector=reason={reason}");
        let arguments = ["--namespace", &namespace.name, "get", "events.events.k8s.io", &fields, "--output=json"];
        serde_json::from_str::<Value>(&kubectl(&arguments)).unwrap()["items"][0].clone()
    };
    let event = eventually("an event", async || Some(about("BackendNotFound")).filter(Value::is_object)).await;
    assert_eq!((&event["type"], &event["regarding"]["name"]), (&"Warning".into(), &"shop".into()));
    let note = event["note"].as_str().unwrap();
    assert!(note.contains("ResolvedRefs: ") && note.contains("missing"), "{note}");
    let logged = async || process.log().contains("an Ingress is not served as it says").then_some(());
    eventually("a line in the log", logged).await;
    let described = namespace.kubectl(&["describe", "ingress", "shop"]);
    assert!(described.contains("BackendNotFound"), "{described}");
    namespace.apply(&ingress("shop", "$NS", "shop"));
    eventually("the end of it", async || Some(about("Serving")).filter(Value::is_object)).await;
}
