//! The last good revision of a plugin is on record in the cluster: an instance with an empty disk finds it there.

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
    cluster::{Namespace, class, condition, gateway, kubectl, origin, route},
    hot_load::{SOURCE, module, wasm_plugin},
    install::Install,
    outage::patiently,
};

/// What the Secret says, which nobody may read elsewhere.
const SECRET: &str = "not-to-be-shown";

struct World {
    namespace: Namespace,
    install: Install,
    _backend: Origin,
}

/// A plugin with a configuration, whose last rule takes a value of a Secret. What is refused is not watched, and what is good is so at once.
fn plugin(rules: &str) -> String {
    wasm_plugin(&format!(
        "{SOURCE}  targetRefs: [{{ group: gateway.networking.k8s.io, kind: Gateway, name: web }}]
  config: {{ rules: {rules} }}
  secretRefs: [{{ name: token, key: value, as: /rules/0/response/set/x-token }}]
  probation: {{ for: 0s }}"
    ))
}

/// Rules that set a header of responses.
fn rules(value: &str) -> String {
    plugin(&format!("[{{ response: {{ set: {{ x-rules: {value} }} }} }}]"))
}

/// A configuration that the plugin refuses.
fn faulty() -> String {
    plugin("[{ response: { set: { x-rules: [1, 2] } } }]")
}

impl World {
    async fn start(name: &str) -> (Self, Gateway) {
        let namespace = Namespace::new(name);
        let backend = origin("shop");
        namespace.backend("shop", backend.address());
        module(&namespace, "rules", &guests::bytes(guests::HEADER_RULES));
        namespace.kubectl(&["create", "secret", "generic", "token", &format!("--from-literal=value={SECRET}")]);
        let install = Install::new(&namespace, "gateway");
        let world = class("$NS", &install.controller, "") + &gateway("web", "$NS");
        namespace.apply(&(world + &route("shop", &["web"], "/", "shop")));
        let process = install.start().await;
        namespace.address("web").await;
        (Self { namespace, install, _backend: backend }, process)
    }

    async fn serves(&self, value: &str) -> SocketAddr {
        let address = self.namespace.address("web").await;
        eventually(value, async || fetch(address, get("/")).await.ok().filter(|it| it.header("x-rules") == value))
            .await;
        address
    }

    async fn is_programmed(&self) -> Value {
        self.namespace.until_condition("wasmplugin/rules", "Programmed", "True").await
    }

    async fn is_refused(&self) -> Value {
        let refused = |plugin: &Value| {
            plugin["status"]["candidate"]["phase"] == "Rejected"
                && plugin["status"]["candidate"]["generation"] == plugin["metadata"]["generation"]
        };
        self.namespace.until("wasmplugin/rules", refused).await
    }

    fn records(&self) -> Vec<Value> {
        let list = self.namespace.get("controllerrevisions");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Wait until the only record is of this generation.
    async fn recorded(&self, generation: i64) -> Value {
        eventually("the record", async || match self.records().as_slice() {
            [record] if record["data"]["generation"] == generation => Some(record.clone()),
            _ => None,
        })
        .await
    }

    /// A route of this name is, and so is what there was to say before it.
    async fn is_told(&self, fence: &str) {
        self.namespace.apply(&route(fence, &["web"], "/fence", "shop"));
        self.namespace.until_routed(fence, &self.install.controller).await;
    }

    /// How often records were written.
    fn writes(&self) -> usize {
        self.install.writes().iter().filter(|write| write.object.starts_with("controllerrevisions/")).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_an_empty_disk_serves_what_was_good() {
    let (world, process) = World::start("records").await;
    world.namespace.apply(&rules("one"));
    world.serves("one").await;
    let good = world.is_programmed().await;
    let record = world.recorded(1).await;
    assert_eq!(record["data"]["digest"], good["status"]["active"]["digest"]);
    assert_eq!(record["metadata"]["ownerReferences"][0]["uid"], good["metadata"]["uid"]);
    assert!(!record.to_string().contains(SECRET), "{record}");

    // A faulty revision; then another process, which has never seen the good one. It finds it, and has nothing to say that was not said.
    world.namespace.apply(&faulty());
    let before = world.is_refused().await["status"].clone();
    let since = world.install.writes().len();
    process.terminate().await;
    let process = world.install.start().await;
    world.serves("one").await;
    let restored = async || {
        let report = process.admin("/status").await.json();
        let plugin = report["resources"].as_array()?.iter().find(|it| it["kind"] == "WasmPlugin")?["status"].clone();
        (plugin["active"]["restored"] == true && plugin["candidate"]["phase"] == "Rejected").then_some(plugin)
    };
    let status = eventually("it is restored, and the newer one refused", restored).await;
    let generations = (&status["active"]["generation"], &status["candidate"]["generation"]);
    assert_eq!(generations, (&1.into(), &2.into()), "{status:#}");
    world.is_told("first").await;
    assert_eq!(world.namespace.get("wasmplugin/rules")["status"], before);
    let writes = world.install.writes().split_off(since);
    assert!(!writes.iter().any(|write| write.object.starts_with("wasmplugins/")), "{writes:?}");
    assert_eq!(world.recorded(1).await["metadata"], record["metadata"]);

    // The next good one takes its place, and is not written again, whoever starts.
    world.namespace.apply(&rules("three"));
    world.serves("three").await;
    world.is_programmed().await;
    let record = world.recorded(3).await;
    let writes = world.writes();
    process.terminate().await;
    let _process = world.install.start().await;
    world.serves("three").await;
    world.is_told("second").await;
    assert_eq!(world.recorded(3).await["metadata"], record["metadata"]);
    assert_eq!(world.writes(), writes);

    // Deleted, it is gone with its record: one of the same name does not get what was good of it.
    world.namespace.delete("wasmplugin/rules");
    // By the cluster's own garbage collection, which looks for new kinds every half a minute.
    patiently("no record", async || world.records().is_empty().then_some(())).await;
    world.namespace.apply(&faulty());
    let refused = world.is_refused().await;
    assert_eq!(refused["status"]["active"], Value::Null, "{:#}", refused["status"]);
    assert_eq!(world.records(), [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_was_replaced_where_it_was_cannot_be_restored_and_status_says_so() {
    let (world, process) = World::start("module-replaced").await;
    world.namespace.apply(&rules("one"));
    world.is_programmed().await;
    world.recorded(1).await;
    module(&world.namespace, "rules", crate::hot_load::BROKEN);
    world.is_refused().await;
    process.terminate().await;
    let _process = world.install.start().await;
    let plugin = world
        .namespace
        .until("wasmplugin/rules", |plugin| {
            let degraded = condition(&plugin["status"]["conditions"], "Degraded");
            degraded["message"].as_str().unwrap_or_default().contains("not restored from the record in the cluster")
        })
        .await;
    let message = condition(&plugin["status"]["conditions"], "Degraded")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("its module was sha256:"), "{message}");
}

/// An installation whose operator has not granted it.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_everything_else_works() {
    let namespace = Namespace::new("unrecorded");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    let mut role: Value = serde_json::from_str(&kubectl(&["get", "clusterrole/penstock", "--output=json"])).unwrap();
    role["metadata"] = serde_json::json!({ "name": namespace.name });
    role["rules"].as_array_mut().unwrap().retain(|rule| rule["apiGroups"][0] != "apps");
    namespace.apply(&role.to_string());
    let binding = format!("{}-gateway", namespace.name);
    kubectl(&["delete", "clusterrolebinding", &binding]);
    let account = format!("--serviceaccount={}:gateway", namespace.name);
    kubectl(&["create", "clusterrolebinding", &binding, &format!("--clusterrole={}", namespace.name), &account]);
    let world = class("$NS", &install.controller, "") + &gateway("web", "$NS") + &route("shop", &["web"], "/", "shop");
    namespace.apply(&world);
    let _process = install.start().await;
    namespace.until_routed("shop", &install.controller).await;
}
