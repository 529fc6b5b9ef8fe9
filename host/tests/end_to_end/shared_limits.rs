//! Limits that gateways share by a Redis, from resource files to answers.

use penstock_testing::{
    client::{fetch, get},
    eventually::eventually,
    gateway::Gateway,
    guests,
    origin::{Answer, Origin},
    port::free_port,
    redis::{PASSWORD, Redis},
};
use tokio::task::JoinSet;

use crate::{
    examples::files,
    world::{PENSTOCK, World, backend, condition},
};

/// Ten an hour for all requests.
fn limits(redis: &str) -> String {
    format!(
        "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{name: limits}}
spec:
  source: {{file: {{path: {module}}}}}
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: gw}}]
  capabilities:
    metrics: true
    rateLimits: [{{name: hourly, limit: 10, window: 1h, redis: {{backendRef: {{name: redis, port: 80}}, {redis}}}}}]
  config: {{policies: [{{bucket: hourly}}], onUnavailable: Deny}}
",
        module = guests::RATE_LIMIT,
    )
}

fn secret(password: &str) -> String {
    format!("{{apiVersion: v1, kind: Secret, metadata: {{name: redis}}, stringData: {{password: {password}}}}}")
}

const LOGIN: &str = "passwordSecretRef: {name: redis, key: password}, timeout: 5s";

async fn serving(redis: &Redis, plugin: String, secret: &str) -> World {
    let builder = World::builder().file("plugin.yaml", plugin).file("secret.yaml", secret);
    let world = builder.file("redis.yaml", backend("redis", redis.address().port())).start().await;
    world.until_status("WasmPlugin", "limits", |status| !status["active"].is_null()).await;
    world
}

async fn ask(world: &World) -> u16 {
    fetch(world.gateway.at(world.port), get("/")).await.unwrap().status
}

/// How many of 40 requests, half to each and all at the same time, pass.
async fn passed(worlds: &[World; 2]) -> usize {
    let mut requests = JoinSet::new();
    for index in 0..40 {
        let world = &worlds[index % 2];
        requests.spawn(fetch(world.gateway.at(world.port), get("/")));
    }
    let answers = requests.join_all().await;
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status).collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

#[tokio::test]
async fn one_limit_holds_over_two_gateways_as_long_as_redis_is_there() {
    let redis = Redis::builder().with_password().start();
    let plugin = || limits(&format!("{LOGIN}, whenUnavailable: Local"));
    let worlds =
        [serving(&redis, plugin(), &secret(PASSWORD)).await, serving(&redis, plugin(), &secret(PASSWORD)).await];
    assert_eq!(passed(&worlds).await, 10);
    for world in &worlds {
        for page in ["/status", "/config", "/metrics"] {
            assert!(!world.gateway.admin(page).await.text().contains(PASSWORD), "{page}");
        }
    }
    let metric = "penstock_plugin_rate_limit_store_requests_total{plugin=\"default/limits\",bucket=\"hourly\"";
    let metrics = worlds[0].gateway.admin("/metrics").await;
    assert!(metrics.text().contains(&format!("{metric},outcome=\"answered\"}} 20")), "{}", metrics.text());

    let stopped = redis.stop();
    assert_eq!(passed(&worlds).await, 20, "each has a bucket of its own");
    let redis = stopped.start();
    for world in &worlds {
        eventually("a decision of Redis", async || (ask(world).await == 200).then_some(())).await;
    }
    let left: usize = passed(&worlds).await;
    assert!(left < 10, "{left} of what is left of ten");
    assert_eq!(redis.command(&["--raw", "DBSIZE"]), "1");
    for world in worlds {
        assert!(world.gateway.terminate().await.success());
        let log = world.gateway.log();
        assert!(!log.contains(PASSWORD), "{log}");
        assert_eq!(log.matches("Redis cannot be asked").count(), 1, "an outage is one line:\n{log}");
        assert_eq!(log.matches("Redis answers again").count(), 1, "{log}");
    }
}

#[tokio::test]
async fn a_login_that_fails_is_an_outage_until_the_secret_is_right() {
    let redis = Redis::builder().with_password().start();
    let world = serving(&redis, limits(&format!("{LOGIN}, whenUnavailable: Refuse")), &secret("wrong-password")).await;
    let status = eventually("that Redis refuses the login", async || {
        let status = ask(&world).await;
        let metrics = world.gateway.admin("/metrics").await;
        metrics.text().contains("bucket=\"hourly\",outcome=\"refused\"").then_some(status)
    })
    .await;
    assert_eq!(status, 503, "onUnavailable: Deny");
    let since = world.status().await["resources"].clone();
    world.gateway.remove("secret.yaml");
    let unresolved = |status: &serde_json::Value| condition(status, "ResolvedRefs")["status"] == "False";
    let status = world.until_status("WasmPlugin", "limits", unresolved).await;
    let message = condition(&status, "ResolvedRefs")["message"].to_string();
    assert!(
        message.contains("rateLimits[0].redis.passwordSecretRef.name: there is no Secret `default/redis`"),
        "{message}"
    );
    assert_eq!(ask(&world).await, 503);
    world.gateway.write("secret.yaml", secret(PASSWORD));
    eventually("a decision of Redis", async || (ask(&world).await == 200).then_some(())).await;
    let active = |resources: &serde_json::Value| {
        let resources = resources.as_array().cloned().unwrap_or_default();
        let plugin = resources.into_iter().find(|it| it["name"] == "limits").unwrap();
        plugin["status"]["active"].clone()
    };
    assert_eq!(active(&world.status().await["resources"]), active(&since), "a password is no part of a revision");
    // What waits on its way to the log is written by its end.
    assert!(world.gateway.terminate().await.success());
    let log = world.gateway.log();
    assert!(log.contains("WRONGPASS") && !log.contains("wrong-password"), "{log}");
}

#[tokio::test]
async fn the_example_shares_one_limit() {
    let redis = Redis::builder().with_password().start();
    let origin = Origin::answering(Answer::new(200));
    let replaced = |text: &str, port: u16| {
        [("8080", port), ("9000", origin.address().port()), ("6379", redis.address().port())]
            .iter()
            .fold(text.replace("timeout: 50ms", "timeout: 5s"), |text, (from, to)| {
                text.replace(&format!("port: {from}"), &format!("port: {to}"))
            })
    };
    let mut gateways = Vec::new();
    for port in [free_port(), free_port()] {
        let files = files("rate-limit-shared");
        let builder = files
            .iter()
            .fold(Gateway::builder(PENSTOCK), |builder, (name, text)| builder.file(name, replaced(text, port)));
        let gateway = builder.start().await;
        eventually("the plugin serves", async || {
            let status = gateway.admin("/status").await.json();
            let mut resources = status["resources"].as_array()?.iter();
            resources.any(|it| it["kind"] == "WasmPlugin" && !it["status"]["active"].is_null()).then_some(())
        })
        .await;
        gateways.push((gateway, port));
    }
    let mut statuses = Vec::new();
    for index in 0..12 {
        let (gateway, port) = &gateways[index % 2];
        statuses.push(fetch(gateway.at(*port), get("/")).await.unwrap().status);
    }
    assert_eq!(statuses, [[200; 10].as_slice(), &[429; 2]].concat());
}
