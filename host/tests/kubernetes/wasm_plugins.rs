//! WasmPlugins as a real API server takes, refuses and shows them, and what is said of one whose module cannot be had.

use std::time::Instant;

use penstock_testing::{eventually::eventually, gateway::Gateway, guests, port::free_address};
use serde_json::Value;

use crate::{
    audit::count,
    cluster::{Namespace, class, condition, gateway, origin, route},
    hot_load::{BROKEN, SOURCE, is_programmed, module, plugin, wasm_plugin},
    install::{Install, Two},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_what_cannot_be_meant() {
    let namespace = Namespace::new("validation");
    let refused = |spec: &str, expected: &str| {
        let said = namespace.refused(&wasm_plugin(spec));
        assert!(said.contains(expected), "{spec}\n{said}");
    };
    let target = |target: &str| format!("{SOURCE}  targetRefs: [{{ {target} }}]");
    let gateway_api = "group: gateway.networking.k8s.io";
    refused("  source: {}", "exactly one of");
    let two = "  source: { configMapRef: { name: a, key: b }, file: { path: /a } }";
    refused(two, "exactly one of");
    refused(&target(&format!("{gateway_api}, kind: Service, name: shop")), "a plugin applies to one of Gateway");
    refused(&target("group: '', kind: Gateway, name: web"), "a plugin applies to one of Gateway");
    refused(&target(&format!("{gateway_api}, kind: Ingress, name: shop")), "Ingress (networking.k8s.io)");
    let part = "group: networking.k8s.io, kind: Ingress, name: shop, sectionName: first";
    refused(&target(part), "the rules of an Ingress have no names");
    refused(&format!("{SOURCE}  failurePolicy: Maybe"), "Unsupported value");
    refused(&format!("{SOURCE}  priority: high"), "priority");
    for good in [
        format!("{gateway_api}, kind: Gateway, name: web, sectionName: http"),
        format!("{gateway_api}, kind: HTTPRoute, name: shop"),
        format!("{gateway_api}, kind: GRPCRoute, name: shop"),
        "group: networking.k8s.io, kind: Ingress, name: shop".to_owned(),
    ] {
        namespace.apply(&wasm_plugin(&target(&good)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_and_one_entry_for_each_gateway_tell_the_story() {
    let namespace = Namespace::new("story");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    let gateways = gateway("first", "$NS") + &gateway("second", "$NS");
    let world = class("$NS", &install.controller, "") + &gateways + &route("shop", &["first", "second"], "/", "shop");
    module(&namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    namespace.apply(&(world + &plugin("HTTPRoute", "shop", "one")));
    let _process = install.start().await;
    let entries = |plugin: &Value| -> Vec<(String, String, Value)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = plugin["status"]["ancestors"].as_array().cloned().unwrap_or_default();
        let entry = |it: &Value| {
            let accepted = condition(&it["conditions"], "Accepted")["status"].clone();
            (text(&it["ancestorRef"]["name"]), text(&it["controllerName"]), accepted)
        };
        all.iter().map(entry).collect()
    };
    let ours = |name: &str| (name.to_owned(), install.controller.clone(), Value::from("True"));
    let both = [ours("first"), ours("second")];
    let good = namespace.until("wasmplugin/rules", |plugin| is_programmed(plugin) && entries(plugin) == both).await;

    let line = |columns: &[&str]| -> Vec<String> {
        let table = namespace.kubectl(&["get", "wp", "rules"]);
        let mut lines = table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(lines.next().unwrap(), columns, "{table}");
        lines.next().unwrap()
    };
    let columns = ["NAME", "ACCEPTED", "PROGRAMMED", "SERVES", "GENERATION", "CANDIDATE", "REASON", "AGE"];
    let version = good["status"]["active"]["version"].as_str().unwrap();
    // Without a candidate its columns are empty.
    assert_eq!(line(&columns)[..5], ["rules", "True", "True", version, "1"]);
    module(&namespace, "rules", BROKEN);
    namespace.until("wasmplugin/rules", |plugin| plugin["status"]["candidate"]["phase"] == "Rejected").await;
    let shown = line(&columns);
    assert_eq!(shown[..6], ["rules", "True", "False", version, "1", "Rejected"]);
    let rejected = namespace.get("wasmplugin/rules");
    assert_eq!(shown[6], rejected["status"]["candidate"]["reason"], "{shown:?}");

    // A Gateway that is gone takes its entry with it.
    namespace.delete("gateway/first");
    namespace.until("wasmplugin/rules", |plugin| entries(plugin) == [ours("second")]).await;
}

/// How often a process has tried to get the module of a plugin.
async fn attempts(process: &Gateway) -> Option<u64> {
    let report = process.admin("/status").await.json();
    let plugin = report["resources"].as_array()?.iter().find(|resource| resource["kind"] == "WasmPlugin")?.clone();
    plugin["status"]["candidate"]["retry"]["attempts"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_is_written_about_once() {
    let namespace = Namespace::new("dead-registry");
    let install = Install::new(&namespace, "gateway");
    let source = format!("  source: {{ oci: {{ ref: '{}/plugins/rules:1' }} }}\n", free_address());
    let target = "  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: web }]";
    namespace
        .apply(&(class("$NS", &install.controller, "") + &gateway("web", "$NS") + &wasm_plugin(&(source + target))));
    let process = install.start().await;
    namespace.until_condition("wasmplugin/rules", "Programmed", "False").await;
    let tried = async |process: &Gateway, times: u64| {
        let enough = async || attempts(process).await.filter(|attempts| *attempts >= times);
        eventually("some attempts", enough).await
    };
    tried(&process, 3).await;
    let before = namespace.get("wasmplugin/rules");
    let since = install.writes().len();
    process.terminate().await;
    let process = install.start().await;
    tried(&process, 3).await;
    // What follows from the attempts is written before what follows from this.
    namespace.apply(&route("fence", &["web"], "/fence", "shop"));
    namespace.until("httproute/fence", |route| route["status"]["parents"][0].is_object()).await;
    let writes = install.writes().split_off(since);
    assert!(!writes.iter().any(|write| write.object.starts_with("wasmplugins/")), "{writes:?}");
    assert_eq!(namespace.get("wasmplugin/rules")["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
}

/// Two installations whose Gateways share a plugin. Each has its entry, and one of them tells the rest; when it has nothing to do with the plugin
/// any more, the other one does.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_installations_one_tells_the_story_of_a_plugin() {
    let backend = origin("shop");
    let manifests = route("shop", &["one", "two"], "/", "shop") + &plugin("HTTPRoute", "shop", "first");
    let both = Two::new("shared", backend.address(), &manifests);
    let Two { namespace, one, two, .. } = &both;
    module(namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    let controllers = |plugin: &Value| -> Vec<String> {
        let all = plugin["status"]["ancestors"].as_array().cloned().unwrap_or_default();
        all.iter().map(|it| it["controllerName"].as_str().unwrap().to_owned()).collect()
    };
    let first = one.start().await;
    namespace.until("wasmplugin/rules", is_programmed).await;
    let second = two.start().await;
    let all = [one.controller.clone(), two.controller.clone()];
    // The second one says of its Gateway what its users need to know: it does not tell the rest.
    let serves = |plugin: &Value| {
        let ancestors = plugin["status"]["ancestors"].as_array().cloned().unwrap_or_default();
        let holds = |entry: &Value, type_| condition(&entry["conditions"], type_)["status"] == "True";
        ancestors.iter().all(|it| ["Accepted", "ResolvedRefs", "Programmed"].iter().all(|type_| holds(it, type_)))
    };
    let before = namespace.until("wasmplugin/rules", |plugin| controllers(plugin) == all && serves(plugin)).await;
    // A route at each of them is written after what there is to say about the plugin.
    let settled = async |name: &str| {
        namespace.apply(&route(name, &["one", "two"], &format!("/{name}"), "shop"));
        both.until_routed(name).await;
    };
    settled("settled").await;
    let after = namespace.get("wasmplugin/rules");
    assert_eq!(after["status"], before["status"]);
    let writes = both.written("wasmplugins/rules");
    settled("still").await;
    assert_eq!(both.written("wasmplugins/rules"), writes, "nobody writes what the other one wrote");

    // The first one loses its Gateway.
    namespace.delete("gateway/one");
    let only = [two.controller.clone()];
    namespace.until("wasmplugin/rules", |plugin| controllers(plugin) == only).await;
    module(namespace, "rules", BROKEN);
    namespace.until_condition("wasmplugin/rules", "Programmed", "False").await;
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_flaps_between_good_and_bad_is_written_now_and_then() {
    let namespace = Namespace::new("flapping");
    let install = Install::new(&namespace, "gateway");
    module(&namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    namespace.apply(&(class("$NS", &install.controller, "") + &gateway("web", "$NS")));
    namespace.apply(&plugin("Gateway", "web", "good"));
    let _process = install.start().await;
    namespace.until("wasmplugin/rules", is_programmed).await;
    let (since, began) = (install.writes().len(), Instant::now());
    for _ in 0..20 {
        for value in ["[1, 2]", "good"] {
            namespace.apply(&plugin("Gateway", "web", value));
        }
    }
    let good = namespace.until("wasmplugin/rules", is_programmed).await;
    assert_eq!(good["status"]["candidate"], Value::Null, "{good:#}");
    let writes = install.writes().split_off(since);
    let written = count(&writes).get("wasmplugins/rules").copied().unwrap_or_default();
    // Six at once, and no six more before it has been quiet for two seconds: however slow this machine is, it cannot be more.
    let most = 6 + 6 * (began.elapsed().as_secs() / 2 + 1);
    assert!(u64::try_from(written).unwrap() <= most, "{written} writes");
}

/// The API server takes an object that is deeper than a parser goes, and hands it out in one document with all others of its kind.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_too_deep_keeps_nobody_elses_from_being_read() {
    let namespace = Namespace::new("deep");
    let install = Install::new(&namespace, "gateway");
    module(&namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    let target = "  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: web }]";
    let config = format!("  config: {{ a: {}{} }}", "[".repeat(500), "]".repeat(500));
    let deep = wasm_plugin(&format!("{SOURCE}{target}\n{config}")).replace("name: rules }\n", "name: deep }\n");
    namespace.apply(&(class("$NS", &install.controller, "") + &gateway("web", "$NS") + &deep));
    let process = install.start().await;
    // All of it is more than this test can parse.
    let message = "--output=jsonpath={.status.conditions[?(@.type==\"Accepted\")].message}";
    let refused = async || {
        namespace.kubectl(&["get", "wasmplugin/deep", message]).contains("spec.config: has more than 64").then_some(())
    };
    eventually("it is refused", refused).await;
    namespace.apply(&plugin("Gateway", "web", "one"));
    namespace.until("wasmplugin/rules", is_programmed).await;
    process.terminate().await;
    let _process = install.start().await;
    namespace.apply(&plugin("Gateway", "web", "two"));
    namespace.until("wasmplugin/rules", is_programmed).await;
}
