//! Change under load: routes, plugin configuration, certificate and module in turn, and no request is lost.

use std::sync::Arc;

use penstock_testing::{
    certificate::{Authority, Certificate},
    client::{Connection, get},
    eventually::eventually,
    guests,
    port::free_port,
    pressure::{Pressure, Protocol},
};
use rustls::ClientConfig;

use crate::world::{World, greeting, header_rules, plugin, route};

/// Rounds of four changes each, unless `ROUNDS` says otherwise: 250 make a thousand changes.
const ROUNDS: usize = 50;

pub(crate) fn secret(certificate: &Certificate) -> String {
    let indent = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: certificate}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indent(&certificate.certificate_pem),
        indent(&certificate.key_pem)
    )
}

pub(crate) fn https_gateway(port: u16) -> String {
    format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: secure}}
spec:
  gatewayClassName: penstock
  listeners:
    - name: https
      port: {port}
      protocol: HTTPS
      tls: {{certificateRefs: [{{name: certificate}}]}}
"
    )
}

async fn until_presented(world: &World, port: u16, client: &Arc<ClientConfig>, wanted: &Certificate) {
    eventually("the new certificate", async || {
        let connection = Connection::tls(world.gateway.at(port), "localhost", Arc::clone(client)).await.ok()?;
        (connection.peer_certificates().first() == Some(&wanted.der)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_request_is_lost_while_everything_changes() {
    let authority = Authority::new();
    let (client, secure) = (authority.client(&["h2"]), free_port());
    let world = World::builder()
        .file("secret.yaml", secret(&authority.issue(&["localhost"])))
        .file("https.yaml", https_gateway(secure))
        .file("secure.yaml", route("secure", "/", "").replace("{name: gw}", "{name: secure}"))
        .file("plugin.wasm", header_rules())
        .file("plugin.yaml", plugin("plugin.wasm", &greeting("start")))
        .file("second.wasm", guests::bytes(guests::FAULTY))
        .file("second.yaml", second("second.wasm", "start"))
        .start()
        .await;
    let wanted = |response: &penstock_testing::client::Response| {
        response.status == 200 && response.text() == "origin" && !response.header("x-greeting").is_empty()
    };
    let rounds = std::env::var("ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut pressures: Vec<_> = [Protocol::H1, Protocol::H2]
        .map(|protocol| Pressure::start(world.gateway.at(world.port), protocol, 2, || get("/"), wanted))
        .into();
    // Each request with a handshake of its own: certificates matter to no other.
    let anew = || get("/").host("localhost").header("connection", "close");
    let is_ok = |response: &penstock_testing::client::Response| response.status == 200;
    let tls = Protocol::Tls(authority.client(&["http/1.1"]));
    pressures.push(Pressure::start(world.gateway.at(secure), tls, 1, anew, is_ok));

    for round in 0..rounds {
        let mark = format!("r{round}");
        world.gateway.write("route.yaml", route("all", "/", &mark));
        world.until_header("x-route", &mark).await;
        world.gateway.write("plugin.yaml", plugin("plugin.wasm", &greeting(&mark)));
        world.until_header("x-greeting", &mark).await;
        let certificate = authority.issue(&["localhost"]);
        world.gateway.write("secret.yaml", secret(&certificate));
        until_presented(&world, secure, &client, &certificate).await;
        // Another module under the same name: the marks of the two differ in the header that they set.
        let (module, config) = match round % 2 {
            0 => (header_rules(), format!("{{rules: [{{response: {{set: {{x-faulty: {mark}}}}}}}]}}")),
            _ => (guests::bytes(guests::FAULTY), format!("{{mark: {mark}}}")),
        };
        world.gateway.write("second.wasm", module);
        world.gateway.write("second.yaml", second_with("second.wasm", &config));
        world.until_header("x-faulty", &mark).await;
    }

    for pressure in pressures {
        pressure.progress(20).await;
        let outcome = pressure.stop().await;
        assert_eq!(outcome.failures, Vec::<String>::new());
        assert!(outcome.successes > rounds as u64, "{outcome:?}");
    }
}

fn second(module: &str, mark: &str) -> String {
    second_with(module, &format!("{{mark: {mark}}}"))
}

fn second_with(module: &str, config: &str) -> String {
    plugin(module, config).replace("name: headers", "name: second")
}
