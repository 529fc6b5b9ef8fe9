//! The life of a plugin on traffic: what is wrong with a candidate changes nothing but status.

use penstock_testing::{
    client::{fetch, get},
    eventually::eventually,
    guests,
    pressure::{Outcome, Pressure, Protocol},
};
use serde_json::Value;

use crate::world::{World, condition, greeting, header_rules, plugin};

/// A world whose plugin greets, under requests that must all be greeted.
async fn greeted() -> (World, Pressure) {
    let world = World::builder()
        .file("plugin.wasm", header_rules())
        .file("plugin.yaml", plugin("plugin.wasm", &greeting("hello")))
        .start()
        .await;
    let response = world.gateway.until(world.port, "/", |response| response.status == 200).await;
    assert_eq!(response.header("x-greeting"), "hello");
    let wanted = |response: &penstock_testing::client::Response| {
        response.status == 200 && response.header("x-greeting") == "hello"
    };
    let pressure = Pressure::start(world.gateway.at(world.port), Protocol::H1, 2, || get("/"), wanted);
    (world, pressure)
}

fn candidate_is(reason: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["candidate"]["reason"] == reason
}

/// Wait for the refusal, and show that the first revision goes on serving and that status says both.
async fn expect_refused(world: &World, pressure: &Pressure, reason: &'static str, message: &str) {
    let status = world.until_status("WasmPlugin", "headers", candidate_is(reason)).await;
    assert_eq!(status["active"]["name"], "header-rules");
    assert_eq!(status["active"]["generation"], 1, "what serves is the first revision");
    assert_eq!(status["candidate"]["phase"], "Rejected");
    let said = status["candidate"]["message"].as_str().unwrap();
    assert!(said.contains(message), "{said}");
    assert_eq!(condition(&status, "Degraded")["reason"], "LastGoodServing", "{status:#}");
    assert_eq!(condition(&status, "Programmed")["reason"], reason, "{status:#}");
    pressure.progress(20).await;
}

/// Put the first state back; it heals without a restart.
async fn expect_healed(world: World, pressure: Pressure) {
    world.gateway.write("plugin.wasm", header_rules());
    world.gateway.write("plugin.yaml", plugin("plugin.wasm", &greeting("hello")));
    let healed = |status: &Value| status["candidate"].is_null() && status["active"]["generation"] != 1;
    let status = world.until_status("WasmPlugin", "headers", healed).await;
    assert_eq!(condition(&status, "Degraded")["status"], "False", "{status:#}");
    pressure.progress(20).await;
    let Outcome { successes, failures } = pressure.stop().await;
    assert_eq!(failures, Vec::<String>::new());
    assert!(successes > 0);
}

#[tokio::test]
async fn a_changed_configuration_shows_in_the_next_responses() {
    let world = World::builder()
        .file("plugin.wasm", header_rules())
        .file("plugin.yaml", plugin("plugin.wasm", &greeting("one")))
        .start()
        .await;
    world.until_header("x-greeting", "one").await;
    world.gateway.write("plugin.yaml", plugin("plugin.wasm", &greeting("two")));
    world.until_header("x-greeting", "two").await;
    let status = world.until_status("WasmPlugin", "headers", |status| status["candidate"].is_null()).await;
    assert_eq!(status["active"]["generation"], 2);
}

#[tokio::test]
async fn a_module_that_traps_in_configure_is_refused() {
    let (world, pressure) = greeted().await;
    world.gateway.write("plugin.wasm", guests::bytes(guests::FAULTY));
    world.gateway.write("plugin.yaml", plugin("plugin.wasm", "{at: configure, fault: trap}"));
    expect_refused(&world, &pressure, "ConfigureTrapped", "configure").await;
    expect_healed(world, pressure).await;
}

#[tokio::test]
async fn a_module_with_an_import_that_it_may_not_have_is_refused_by_its_name() {
    let (world, pressure) = greeted().await;
    world.gateway.write("plugin.wasm", guests::bytes(guests::CALLER));
    expect_refused(&world, &pressure, "ImportNotGranted", "spec.capabilities.outbound").await;
    expect_healed(world, pressure).await;
}

#[tokio::test]
async fn a_module_with_an_import_that_was_not_granted_is_refused_with_the_grant_to_write() {
    let (world, pressure) = greeted().await;
    world.gateway.write("plugin.wasm", guests::bytes(guests::KEEPER));
    expect_refused(&world, &pressure, "ImportNotGranted", "spec.capabilities.").await;
    expect_healed(world, pressure).await;
}

#[tokio::test]
async fn ten_bytes_of_garbage_are_refused() {
    let (world, pressure) = greeted().await;
    world.gateway.write("plugin.wasm", "0123456789");
    expect_refused(&world, &pressure, "InvalidModule", "").await;
    expect_healed(world, pressure).await;
}

#[tokio::test]
async fn a_module_that_is_gone_is_missed_by_nobody_but_status() {
    let (world, pressure) = greeted().await;
    world.gateway.remove("plugin.wasm");
    let degraded = |status: &Value| condition(status, "Degraded")["status"] == "True" || !status["candidate"].is_null();
    world.until_status("WasmPlugin", "headers", degraded).await;
    pressure.progress(20).await;
    expect_healed(world, pressure).await;
}

#[tokio::test]
async fn a_configuration_that_the_plugin_refuses_is_told_with_a_pointer() {
    let (world, pressure) = greeted().await;
    world.gateway.write("plugin.yaml", plugin("plugin.wasm", "{rules: [{response: {set: {'not a name': x}}}]}"));
    expect_refused(&world, &pressure, "InvalidConfig", "/rules/0").await;
    expect_healed(world, pressure).await;
}

#[tokio::test]
async fn a_trap_on_traffic_costs_that_request_and_no_other() {
    let world = World::builder()
        .file("plugin.wasm", guests::bytes(guests::FAULTY))
        .file("plugin.yaml", plugin("plugin.wasm", "{at: request, fault: trap, mark: m}"))
        .start()
        .await;
    let wanted = |response: &penstock_testing::client::Response| response.status == 200;
    let address = world.gateway.at(world.port);
    let pressure = Pressure::start(address, Protocol::H1, 2, || get("/"), wanted);
    let faulty = fetch(address, get("/").header("x-fault", "1")).await.unwrap();
    assert_eq!(faulty.status, 503, "failurePolicy is Closed unless said otherwise");
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, Vec::<String>::new());
}

/// Behind a proxy all requests come from one address; whom the proxy names is counted, and not whom the client names.
#[tokio::test]
async fn clients_behind_a_trusted_proxy_have_their_own_limits() {
    let limits = "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {name: limits}
spec:
  source: {file: {path: plugin.wasm}}
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]
  limits: {hookTime: 100ms}
  capabilities: {metrics: true, rateLimits: [{name: two, limit: 2, window: 744h}]}
  config: {policies: [{name: client, bucket: two, key: [{clientAddress: {}}]}], exempt: [{paths: [/ready]}]}
";
    let world = World::builder()
        .file("plugin.wasm", guests::bytes(guests::RATE_LIMIT))
        .file("plugin.yaml", limits)
        .argument("--trusted-hops=1")
        .start()
        .await;
    world.gateway.until(world.port, "/ready", |response| response.status == 200).await;
    let ask = async |chain: &'static str| {
        fetch(world.gateway.at(world.port), get("/").header("x-forwarded-for", chain)).await.unwrap().status
    };
    for client in ["198.51.100.1", "198.51.100.2"] {
        assert_eq!([ask(client).await, ask(client).await, ask(client).await], [200, 200, 429], "{client}");
    }
    assert_eq!(
        ask("203.0.113.9, 198.51.100.1").await,
        429,
        "what a client says of itself is before what the proxy says"
    );
    assert_eq!(ask("198.51.100.1, 198.51.100.3").await, 200);
}

#[tokio::test]
async fn the_access_log_says_which_plugin_changed_what() {
    let rules = "{rules: [{request: {set: {x-a: '1'}, remove: [x-b]}, response: {set: {x-c: '2'}}}]}";
    let world = World::builder()
        .argument("--access-log=json")
        .argument("--access-log-edits")
        .file("plugin.wasm", header_rules())
        .file("plugin.yaml", plugin("plugin.wasm", rules))
        .start()
        .await;
    world.until_header("x-c", "2").await;
    fetch(world.gateway.at(world.port), get("/last").header("x-b", "1")).await.unwrap();
    let record = eventually("the record", async || {
        let log = world.gateway.log();
        let line = log.lines().find(|line| line.contains("\"target\":\"/last\""))?;
        Some(serde_json::from_str::<Value>(line).unwrap())
    })
    .await;
    let expected = serde_json::json!([
        { "plugin": "WasmPlugin/default/headers", "hook": "request", "set": ["x-a"], "removed": ["x-b"] },
        { "plugin": "WasmPlugin/default/headers", "hook": "response", "set": ["x-c"] },
    ]);
    assert_eq!(record["edits"], expected, "{record:#}");
}
