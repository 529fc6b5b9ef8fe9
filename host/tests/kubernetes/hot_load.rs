//! WasmPlugins from ConfigMaps on live traffic: loaded, configured, refused, removed, without a request lost.

use std::process::Command;

use penstock_testing::{
    client::{Response, get},
    eventually::eventually,
    guests,
    pressure::{Pressure, Protocol},
    registry::Registry,
};
use serde_json::Value;

use crate::{
    cluster::{Namespace, class, condition, gateway, origin, route},
    install::Install,
};

/// What is no module. Not text either, so that kubectl files it as bytes.
pub(crate) const BROKEN: &[u8] = b"\0asm\xff\xff\xff\xff";

/// Put a module into a ConfigMap, in place of the one that is there.
pub(crate) fn module(namespace: &Namespace, name: &str, module: &[u8]) {
    let folder = penstock_testing::tempfile::tempdir().unwrap();
    let (bytes, manifest) = (folder.path().join("bytes"), folder.path().join("manifest"));
    std::fs::write(&bytes, module).unwrap();
    let from = format!("--from-file=module.wasm={}", bytes.display());
    let text = namespace.kubectl(&["create", "configmap", name, &from, "--dry-run=client", "--output=json"]);
    std::fs::write(&manifest, text).unwrap();
    // `apply` would want to note all of it in an annotation.
    namespace.kubectl(&["apply", "--server-side", "-f", manifest.to_str().unwrap()]);
}

/// The module that [`module`] has put there.
pub(crate) const SOURCE: &str = "  source: { configMapRef: { name: rules, key: module.wasm } }\n";

/// A plugin that sets a header of responses, on a target (`Gateway`, `HTTPRoute`, `Ingress`).
pub(crate) fn plugin(kind: &str, target: &str, value: &str) -> String {
    let group = if kind == "Ingress" { "networking.k8s.io" } else { "gateway.networking.k8s.io" };
    wasm_plugin(&format!(
        "{SOURCE}  targetRefs: [{{ group: {group}, kind: {kind}, name: {target} }}]
  config: {{ rules: [{{ response: {{ set: {{ x-rules: {value} }} }} }}] }}"
    ))
}

/// The plugin `rules` with these lines as its `spec`.
pub(crate) fn wasm_plugin(spec: &str) -> String {
    format!(
        "---
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{ name: rules }}
spec:
{spec}
"
    )
}

/// Whether the newest generation serves.
pub(crate) fn is_programmed(plugin: &Value) -> bool {
    let condition = condition(&plugin["status"]["conditions"], "Programmed");
    condition["status"] == "True" && condition["observedGeneration"] == plugin["metadata"]["generation"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_comes_changes_fails_and_goes_under_load() {
    let namespace = Namespace::new("hot-load");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    let world = class("$NS", &install.controller, "") + &gateway("web", "$NS") + &route("shop", &["web"], "/", "shop");
    namespace.apply(&world);
    let _process = install.start().await;
    let address = namespace.address("web").await;
    namespace.until_routed("shop", &install.controller).await;
    let until_header = async |value: &str| {
        eventually(value, async || {
            let response = penstock_testing::client::fetch(address, get("/")).await.ok();
            response.filter(|response| response.header("x-rules") == value)
        })
        .await
    };

    module(&namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    namespace.apply(&plugin("Gateway", "web", "one"));
    // Until its first revision is ready, a plugin that fails closed lets nobody pass; from then on nobody is held up.
    until_header("one").await;
    let pressure =
        Pressure::start(address, Protocol::H2, 4, || get("/"), |response: &Response| response.text() == "shop");
    namespace.until("wasmplugin/rules", is_programmed).await;
    namespace.apply(&plugin("Gateway", "web", "two"));
    until_header("two").await;
    let good = namespace.until("wasmplugin/rules", is_programmed).await;

    // A module that is none: the good one goes on, and everybody can read why.
    module(&namespace, "rules", BROKEN);
    let refused = |plugin: &Value| plugin["status"]["candidate"]["phase"] == "Rejected";
    let status = namespace.until("wasmplugin/rules", refused).await["status"].clone();
    assert_eq!(status["active"], good["status"]["active"]);
    assert_eq!(condition(&status["conditions"], "Degraded")["status"], "True", "{status:#}");
    until_header("two").await;
    let table = namespace.kubectl(&["get", "wasmplugins"]);
    assert!(table.contains("Rejected") && table.contains("SERVES"), "{table}");
    let explained = namespace.kubectl(&["explain", "wasmplugin.spec.source.configMapRef"]);
    assert!(explained.contains("DESCRIPTION"), "{explained}");

    // A configuration that the plugin refuses.
    namespace.apply(&plugin("Gateway", "web", "[1, 2]"));
    namespace
        .until("wasmplugin/rules", |plugin| {
            plugin["status"]["candidate"]["generation"] == plugin["metadata"]["generation"]
        })
        .await;
    until_header("two").await;

    module(&namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    namespace.apply(&plugin("Gateway", "web", "three"));
    until_header("three").await;
    namespace.until("wasmplugin/rules", is_programmed).await;

    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, [""; 0]);
    namespace.delete("wasmplugin/rules");
    until_header("").await;
}

/// Put a module into a registry.
fn push(module: &[u8], reference: &str) {
    let folder = penstock_testing::tempfile::tempdir().unwrap();
    let file = folder.path().join("plugin.wasm");
    std::fs::write(&file, module).unwrap();
    let mut push = Command::new(env!("CARGO_BIN_EXE_penstock"));
    push.args(["plugin", "push", file.to_str().unwrap(), reference]).env("HOME", folder.path());
    let output = push.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_come_from_a_registry_under_load() {
    let namespace = Namespace::new("registry");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    let registry = Registry::start();
    let reference = |tag: &str| format!("{}/plugins/rules:{tag}", registry.address());
    let first = guests::bytes(guests::HEADER_RULES);
    // The same with a note that nobody reads: another module by its digest.
    let second = [&first[..], &[0, 5, 4], b"note"].concat();
    push(&first, &reference("1"));
    push(&second, &reference("2"));
    let from = |tag: &str| {
        let config_map = "{ configMapRef: { name: rules, key: module.wasm } }";
        let plugin = plugin("Gateway", "web", &format!("from-{tag}"));
        plugin.replace(config_map, &format!("{{ oci: {{ ref: '{}' }} }}", reference(tag)))
    };
    let world = class("$NS", &install.controller, "") + &gateway("web", "$NS") + &route("shop", &["web"], "/", "shop");
    namespace.apply(&(world + &from("1")));
    let _process = install.start().await;
    let address = namespace.address("web").await;
    let until_header = async |value: &str| {
        let answer = async || penstock_testing::client::fetch(address, get("/")).await.ok();
        eventually(value, async || answer().await.filter(|response| response.header("x-rules") == value)).await
    };
    until_header("from-1").await;
    let before = namespace.until("wasmplugin/rules", is_programmed).await;
    let pressure =
        Pressure::start(address, Protocol::H2, 4, || get("/"), |response: &Response| response.text() == "shop");
    pressure.progress(20).await;
    namespace.apply(&from("2"));
    until_header("from-2").await;
    let after = namespace.until("wasmplugin/rules", is_programmed).await;
    let digests = [&before, &after].map(|plugin| plugin["status"]["active"]["digest"].clone());
    assert_ne!(digests[0], digests[1]);
    // What is not there changes nothing but the status.
    namespace.apply(&from("3"));
    let told = |plugin: &Value| plugin["status"]["candidate"]["reason"] == "ModuleNotFound";
    let status = namespace.until("wasmplugin/rules", told).await["status"].clone();
    assert_eq!(status["active"], after["status"]["active"], "{status:#}");
    until_header("from-2").await;
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_says_nothing_about_plugins_that_was_not_said_before() {
    let namespace = Namespace::new("plugin-restart");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    let world = class("$NS", &install.controller, "") + &gateway("web", "$NS") + &route("shop", &["web"], "/", "shop");
    module(&namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    namespace.apply(&(world + &plugin("Gateway", "web", "one")));
    let process = install.start().await;
    namespace.until_routed("shop", &install.controller).await;
    let before = namespace.until("wasmplugin/rules", is_programmed).await["status"].clone();

    let since = install.writes().len();
    process.terminate().await;
    let process = install.start().await;
    eventually("the plugin serves again", async || {
        let report = process.admin("/status").await.json();
        let plugin = report["resources"].as_array()?.iter().find(|resource| resource["kind"] == "WasmPlugin")?.clone();
        (condition(&plugin["status"]["conditions"], "Programmed")["status"] == "True").then_some(())
    })
    .await;
    // What follows from that is written before what follows from this.
    namespace.apply(&route("fence", &["web"], "/fence", "shop"));
    namespace.until_routed("fence", &install.controller).await;
    let writes = install.writes().split_off(since);
    assert!(!writes.iter().any(|write| write.object.starts_with("wasmplugins/")), "{writes:?}");
    assert_eq!(namespace.get("wasmplugin/rules")["status"], before);
}
