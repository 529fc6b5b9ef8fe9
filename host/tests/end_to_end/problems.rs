//! One broken resource harms nobody else, and says why.

use penstock_testing::{
    client::{fetch, get},
    port::free_port,
};
use serde_json::Value;

use crate::world::{World, condition, route};

#[tokio::test]
async fn an_unknown_field_is_told_with_its_place_while_the_last_good_version_serves() {
    let world = World::builder().file("other.yaml", route("other", "/other", "one")).start().await;
    let broken = route("other", "/other", "two").replace("backendRefs", "backendRef");
    world.gateway.write("other.yaml", broken);

    let problem = penstock_testing::eventually::eventually("the problem", async || {
        world.status().await["problems"].as_array()?.first().cloned()
    })
    .await;
    let place = world.gateway.folder().join("other.yaml:8:7");
    assert_eq!(problem["place"], place.display().to_string());
    assert_eq!(problem["message"], "spec.rules[0]: unknown field `backendRef`; did you mean `backendRefs`?");
    assert_eq!(problem["resource"], "HTTPRoute/default/other");
    assert_eq!(problem["lastGoodServes"], true);

    let at = world.gateway.at(world.port);
    assert_eq!(fetch(at, get("/other")).await.unwrap().header("x-route"), "one");
    assert_eq!(fetch(at, get("/")).await.unwrap().status, 200);

    world.gateway.write("other.yaml", route("other", "/other", "three"));
    world.gateway.until(world.port, "/other", |response| response.header("x-route") == "three").await;
    assert_eq!(world.status().await["problems"], Value::Array(vec![]));
}

#[tokio::test]
async fn a_listener_whose_secret_is_missing_says_so_and_the_other_serves() {
    let world = World::builder().start().await;
    let (plain, secret) = (world.port, free_port());
    world.gateway.write(
        "gateway.yaml",
        format!(
            "{}    - name: https\n      port: {secret}\n      protocol: HTTPS\n      tls: {{certificateRefs: [{{name: missing}}]}}\n",
            crate::world::gateway(plain)
        ),
    );
    let listeners = |status: &Value| status["listeners"].as_array().is_some_and(|listeners| listeners.len() == 2);
    let status = world.until_status("Gateway", "gw", listeners).await;
    let resolved = condition(&status["listeners"][1], "ResolvedRefs");
    assert_eq!((&resolved["status"], &resolved["reason"]), (&"False".into(), &"InvalidCertificateRef".into()));
    assert!(resolved["message"].as_str().unwrap().contains("missing"), "{resolved}");
    assert_eq!(condition(&status["listeners"][0], "Programmed")["status"], "True");
    assert_eq!(fetch(world.gateway.at(plain), get("/")).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_route_to_a_missing_service_answers_500_and_never_falls_through() {
    let world = World::builder()
        .file("broken.yaml", route("broken", "/broken", "").replace("name: origin", "name: nobody"))
        .start()
        .await;
    let status = world.until_status("HTTPRoute", "broken", |status| !status["parents"].is_null()).await;
    let resolved = condition(&status["parents"][0], "ResolvedRefs");
    assert_eq!((&resolved["status"], &resolved["reason"]), (&"False".into(), &"BackendNotFound".into()));
    let at = world.gateway.at(world.port);
    assert_eq!(fetch(at, get("/broken")).await.unwrap().status, 500);
    assert_eq!(fetch(at, get("/")).await.unwrap().status, 200);
}

#[tokio::test]
async fn of_two_routes_that_want_the_same_the_first_by_name_serves() {
    let world = World::builder()
        .file("b.yaml", route("b", "/same", "b"))
        .file("c.yaml", route("c", "/same", "c"))
        .start()
        .await;
    for name in ["b", "c"] {
        let status = world.until_status("HTTPRoute", name, |status| !status["parents"].is_null()).await;
        assert_eq!(condition(&status["parents"][0], "Accepted")["status"], "True", "{status:#}");
    }
    let at = world.gateway.at(world.port);
    assert_eq!(fetch(at, get("/same")).await.unwrap().header("x-route"), "b");
    world.gateway.remove("b.yaml");
    world.gateway.until(world.port, "/same", |response| response.header("x-route") == "c").await;
}

#[tokio::test]
async fn listeners_that_cannot_share_a_port_are_told_so() {
    let world = World::builder().start().await;
    let taken = free_port();
    world.gateway.write(
        "second.yaml",
        format!(
            "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: second}}
spec:
  gatewayClassName: penstock
  listeners:
    - {{name: a, port: {taken}, protocol: HTTP}}
    - {{name: b, port: {taken}, protocol: HTTP}}
"
        ),
    );
    let status = world.until_status("Gateway", "second", |status| !status["listeners"].is_null()).await;
    for listener in status["listeners"].as_array().unwrap() {
        let conflicted = condition(listener, "Conflicted");
        assert_eq!((&conflicted["status"], &conflicted["reason"]), (&"True".into(), &"HostnameConflict".into()));
    }
    assert_eq!(fetch(world.gateway.at(world.port), get("/")).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_so_and_taken_over_once_it_is_free() {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let world = World::builder().start().await;
    world.gateway.write("second.yaml", crate::world::gateway(port).replace("name: gw", "name: second"));
    let sockets = penstock_testing::eventually::eventually("the socket", async || {
        let status = world.status().await;
        let sockets = status["sockets"].as_array()?.clone();
        sockets.into_iter().find(|socket| socket["bound"] == false)
    })
    .await;
    assert!(sockets["address"].as_str().unwrap().ends_with(&format!(":{port}")), "{sockets}");
    assert!(sockets["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!(fetch(world.gateway.at(world.port), get("/")).await.unwrap().status, 200);

    drop(taken);
    world.gateway.until(port, "/", |response| response.status == 404).await;
}
