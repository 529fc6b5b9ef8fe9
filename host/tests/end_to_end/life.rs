//! From the first byte to the last: readiness, signals, the admin server.

use penstock_testing::{
    client::{Connection, fetch, get, post, request},
    eventually::eventually,
    gate::Gate,
    origin::Answer,
};
use rustix::process::Signal;

use crate::world::World;

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_ends_with_0() {
    let world = World::builder().start().await;
    let gate = Gate::new();
    let held = gate.clone();
    world.origin.answer(move |_| Answer::new(200).after(&held).body("late"));
    let address = world.gateway.at(world.port);
    let in_flight = tokio::spawn(async move { fetch(address, get("/slow")).await });
    world.origin.wait_for(1).await;

    world.gateway.signal(Signal::TERM);
    eventually("the gateway to refuse connections", async || Connection::h1(address).await.err()).await;
    assert_eq!(world.gateway.admin("/readyz").await.status, 503);
    gate.open();

    let response = in_flight.await.unwrap().unwrap();
    assert_eq!((response.status, response.text()), (200, "late"));
    assert_eq!(response.header("connection"), "close");
    assert_eq!(world.gateway.exited().await.code(), Some(0));
}

/// Whoever sends traffic here is told by /readyz first, and connections are taken for a while; a second signal is not made to wait.
#[tokio::test]
async fn a_drain_can_wait_until_nothing_new_comes() {
    let world = World::builder().argument("--drain-delay").argument("3600").start().await;
    world.gateway.signal(Signal::TERM);
    eventually("the drain", async || (world.gateway.admin("/readyz").await.status == 503).then_some(())).await;
    let response = fetch(world.gateway.at(world.port), get("/")).await.unwrap();
    assert_eq!((response.status, response.text()), (200, "origin"));
    assert_eq!(response.header("connection"), "", "as before");
    world.gateway.signal(Signal::TERM);
    assert_eq!(world.gateway.exited().await.code(), Some(0));
}

#[tokio::test]
async fn limits_are_what_the_command_line_says() {
    let world = World::builder().argument("--max-body-size").argument("10").argument("--access-log").argument("json");
    let world = world.start().await;
    let address = world.gateway.at(world.port);
    assert_eq!(fetch(address, post("/", "1234567890")).await.unwrap().status, 200);
    assert_eq!(fetch(address, post("/", "12345678901")).await.unwrap().status, 413);
    // One record a request, with the reason for what the gateway answered itself.
    let mut records = eventually("both records", async || {
        let log = world.gateway.log();
        let records: Vec<serde_json::Value> = log
            .lines()
            .filter(|line| line.contains("\"status\""))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (records.len() == 2).then_some(records)
    })
    .await;
    // Each worker writes its own.
    records.sort_by_key(|record| record["status"].as_u64());
    assert_eq!((&records[0]["status"], &records[0]["reason"]), (&200.into(), &serde_json::Value::Null));
    assert_eq!((&records[1]["status"], &records[1]["reason"]), (&413.into(), &"body_too_large".into()));
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let world = World::builder().start().await;
    let gate = Gate::new();
    let held = gate.clone();
    world.origin.answer(move |_| Answer::new(200).after(&held));
    let address = world.gateway.at(world.port);
    let in_flight = tokio::spawn(async move { fetch(address, get("/slow")).await });
    world.origin.wait_for(1).await;

    world.gateway.signal(Signal::TERM);
    eventually("the drain", async || (world.gateway.admin("/readyz").await.status == 503).then_some(())).await;
    world.gateway.signal(Signal::TERM);
    assert_eq!(world.gateway.exited().await.code(), Some(0));
    assert!(in_flight.await.unwrap().is_err(), "it was cut");
    gate.open();
}

#[tokio::test]
async fn sighup_reads_all_files_again() {
    let world = World::builder().start().await;
    let reloads = async || {
        let metrics = world.gateway.admin("/metrics").await;
        let line =
            metrics.text().lines().find(|line| line.starts_with("penstock_reloads_total{result=\"ok\"}"))?.to_owned();
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let before = reloads().await.expect("the first reading is counted");
    world.gateway.signal(Signal::HUP);
    eventually("another reading", async || reloads().await.filter(|now| *now > before)).await;
    assert_eq!(fetch(world.gateway.at(world.port), get("/")).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_server_of_modules_that_never_answers_keeps_nobody_elses_traffic_away() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let plugin = format!(
        "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{name: hangs}}
spec:
  source: {{http: {{url: 'http://{}/a.wasm', sha256: '{}'}}}}
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: hangs}}]
",
        silent.local_addr().unwrap(),
        "0".repeat(64),
    );
    let world = World::builder()
        .file("plugin.yaml", plugin)
        .file("hangs.yaml", crate::world::route("hangs", "/hangs", ""))
        .argument("--plugin-wait=1")
        .start()
        .await;
    let address = world.gateway.at(world.port);
    assert_eq!(fetch(address, get("/")).await.unwrap().status, 200);
    assert_eq!(fetch(address, get("/hangs")).await.unwrap().status, 503);
    let status = world.until_status("WasmPlugin", "hangs", |status| status["candidate"]["phase"] == "Fetching").await;
    assert_eq!(crate::world::condition(&status, "Programmed")["reason"], "Pending", "{status:#}");
    assert!(world.gateway.log().contains("plugins that are on their way still"), "{}", world.gateway.log());
}

#[tokio::test]
async fn the_admin_server_answers_its_pages_and_nothing_else() {
    let world = World::builder().start().await;
    for page in ["/", "/livez", "/readyz", "/metrics", "/status", "/config"] {
        assert_eq!(world.gateway.admin(page).await.status, 200, "{page}");
    }
    let missing = world.gateway.admin("/statuz").await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("/status"), "{}", missing.text());
    let refused = fetch(world.gateway.admin_address(), request("POST", "/status")).await.unwrap();
    assert_eq!((refused.status, refused.header("allow")), (405, "GET"));
}

#[tokio::test]
async fn the_configuration_in_effect_shows_no_secret() {
    let certificate = penstock_testing::certificate::Authority::new().issue(&["localhost"]);
    let port = penstock_testing::port::free_port();
    let world = World::builder()
        .file("secret.yaml", crate::changes::secret(&certificate))
        .file("https.yaml", crate::changes::https_gateway(port))
        .start()
        .await;
    let config = world.gateway.admin("/config").await;
    assert!(config.text().contains("Secret/default/certificate"), "{}", config.text());
    let key = certificate.key_pem.lines().nth(1).unwrap();
    assert!(!config.text().contains(key) && !config.text().contains("PRIVATE"));
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let world = World::builder().start().await;
    fetch(world.gateway.at(world.port), get("/")).await.unwrap();
    let metrics = world.gateway.admin("/metrics").await;
    for line in
        ["penstock_resources{kind=\"HTTPRoute\"} 1", "penstock_snapshots_total ", "penstock_translation_seconds_count "]
    {
        assert!(metrics.text().contains(line), "no {line} in:\n{}", metrics.text());
    }
}
