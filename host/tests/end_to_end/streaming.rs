//! Plugins that see bodies and trailers, in the binary.

use bytes::Bytes;
use penstock_testing::{
    client::{Connection, get, next_chunk, post},
    eventually::eventually,
    guests,
    origin::Answer,
};

use crate::world::World;

/// A plugin of bodies on the whole Gateway, with time enough for builds without optimisations on busy machines.
fn bodies(config: &str) -> String {
    format!(
        "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{name: bodies}}
spec:
  source: {{file: {{path: bodies.wasm}}}}
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: gw}}]
  capabilities: {{metrics: true}}
  limits: {{bodyBuffer: 1Ki, hookTime: 200ms, exchangeTime: 60s}}
  bodyOverflow: Reject
  config: {config}
"
    )
}

async fn world(config: &str) -> World {
    let world = World::builder()
        .file("bodies.wasm", guests::bytes(guests::BODIES))
        .file("plugin.yaml", bodies(config))
        .argument("--plugin-limits=hookTime=1s")
        .start()
        .await;
    world.gateway.until(world.port, "/", |response| response.status == 200).await;
    world
}

/// Wait for a line of the metrics that begins so.
async fn until_metric(world: &World, line: &str) {
    let is_there = async || {
        let text = world.gateway.admin("/metrics").await.text().to_owned();
        text.lines().any(|it| it.starts_with(line)).then_some(())
    };
    eventually(line, is_there).await;
}

/// Resident memory of the gateway in bytes.
fn resident(world: &World) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.gateway.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn a_gibibyte_through_a_plugin_in_constant_memory() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 1 << 10;
    /// What the guest, its copies and the buffers of two connections may take: a fraction of the body.
    const ROOM: usize = 48 << 20;
    let world = world("{response: {mode: stream}, count: true}").await;
    let piece = Bytes::from(vec![b'x'; PIECE]);
    let answer = (0..PIECES).fold(Answer::new(200), |answer, _| answer.chunk(piece.clone()));
    world.origin.answer(move |_| answer.clone());
    let mut connection = Connection::h1(world.gateway.at(world.port)).await.unwrap();
    let mut body = connection.open(get("/large")).await.unwrap().into_body();
    let (mut received, before, mut most) = (0, resident(&world), 0);
    while let Some(chunk) = next_chunk(&mut body).await.unwrap() {
        if received / PIECE != (received + chunk.len()) / PIECE {
            most = most.max(resident(&world));
        }
        received += chunk.len();
    }
    assert_eq!(received, PIECE * PIECES);
    assert!(most < before + ROOM, "it grew from {before} to {most} bytes");
    let seen = r#"penstock_plugin_body_bytes_total{plugin="default/bodies",direction="response"} 107374"#;
    until_metric(&world, seen).await;
}

#[tokio::test]
async fn trailers_of_grpc_move_behind_the_body() {
    let world = world("{trailers: true, count: true}").await;
    let answer = Answer::new(200).header("trailer", "grpc-status").chunk("message").trailer("grpc-status", "5");
    world.origin.answer(move |_| answer.clone());
    let mut connection = Connection::h2(world.gateway.at(world.port)).await.unwrap();
    let response = connection.send(post("/package.Service/Method", "x").accepting_trailers()).await.unwrap();
    assert_eq!((response.status, response.text()), (200, "messagegrpc-status=5\n"));
    assert_eq!((response.trailer("grpc-status"), response.trailer("x-moved")), ("", "1"));
    until_metric(
        &world,
        r#"penstock_plugin_bodies_ended_total{plugin="default/bodies",status="200",error="",grpc="5"}"#,
    )
    .await;
}

#[tokio::test]
async fn what_is_larger_than_the_plugin_buffers_gets_what_the_resource_says() {
    let world = world("{request: {mode: buffer, max: 1024, upper: true}}").await;
    let ask = async |size: usize| {
        let mut connection = Connection::h1(world.gateway.at(world.port)).await.unwrap();
        connection.send(post("/", vec![b'x'; size])).await.unwrap().status
    };
    assert_eq!((ask(1024).await, ask(1025).await), (200, 413));
    assert_eq!(world.origin.requests().last().unwrap().body, vec![b'X'; 1024]);
    let passing = bodies("{request: {mode: buffer, max: 1024, upper: true}}");
    world.gateway.write("plugin.yaml", passing.replace("bodyOverflow: Reject", "bodyOverflow: Pass"));
    eventually("the other answer", async || (ask(1025).await == 200).then_some(())).await;
    assert_eq!(world.origin.requests().last().unwrap().body, vec![b'x'; 1025]);
    world.gateway.write("plugin.yaml", passing.replace("max: 1024", "max: 1025"));
    let refused = |status: &serde_json::Value| status["candidate"]["reason"] == "InvalidPlan";
    let status = world.until_status("WasmPlugin", "bodies", refused).await;
    let message = status["candidate"]["message"].as_str().unwrap();
    assert!(message.contains("spec.limits.bodyBuffer is 1024 bytes"), "{message}");
}
