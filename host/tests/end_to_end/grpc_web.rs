//! gRPC-Web through the gateway: what comes when, and the official client against a gRPC server of somebody else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use penstock_testing::{
    client::{Connection, fetch, get, next_chunk, post},
    gate::Gate,
    gateway::Gateway,
    guests,
    origin::{Answer, Origin},
    port::free_port,
};

use crate::{
    greeter::Greeter,
    world::{PENSTOCK, backend, gateway},
};

/// A message of five bytes, as gRPC frames it.
const HELLO: &[u8] = b"\0\0\0\0\x05hello";
const END: &[u8] = b"\x80\0\0\0\x0fgrpc-status:0\r\n";

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: all}
spec:
  parentRefs: [{name: gw}]
  rules:
    - backendRefs: [{name: origin, port: 80}]
";

/// A gateway with the plugin in front of one gRPC service.
struct Web {
    gateway: Gateway,
    port: u16,
}

impl Web {
    async fn start(origin: u16) -> Self {
        let port = free_port();
        let plugin = crate::world::plugin(guests::GRPC_WEB, "{cors: {allowOrigins: ['*']}}");
        let builder = Gateway::builder(PENSTOCK).file("gateway.yaml", gateway(port)).file("route.yaml", ROUTE);
        let builder = builder.file("backend.yaml", backend("origin", origin)).file("plugin.yaml", plugin);
        Self { gateway: builder.start().await, port }
    }

    async fn connect(&self, h2: bool) -> Connection {
        let address = self.gateway.at(self.port);
        if h2 { Connection::h2(address).await.unwrap() } else { Connection::h1(address).await.unwrap() }
    }
}

fn grpc(answer: Answer) -> Answer {
    answer.header("content-type", "application/grpc")
}

#[tokio::test]
async fn calls_are_translated_over_both_versions_of_http() {
    let echo = |request: &penstock_testing::origin::Recorded| {
        grpc(Answer::new(200)).body(request.body.clone()).trailer("grpc-status", "0")
    };
    let origin = Origin::builder().answer(echo).start();
    let web = Web::start(origin.address().port()).await;
    for h2 in [false, true] {
        let mut connection = web.connect(h2).await;
        let binary = post("/s.S/M", HELLO).header("content-type", "application/grpc-web").header("grpc-timeout", "1S");
        let response = connection.send(binary).await.unwrap();
        assert_eq!((response.status, response.header("content-type")), (200, "application/grpc-web+proto"));
        assert_eq!(&*response.body, [HELLO, END].concat(), "HTTP/2: {h2}");
        assert_eq!(response.trailer("grpc-status"), "", "trailers are moved, not copied");
        let text = post("/s.S/M", "AAAAAAVoZWxsbw==").header("content-type", "application/grpc-web-text");
        let response = connection.send(text).await.unwrap();
        assert_eq!(&*response.body, b"AAAAAAVoZWxsbw==gAAAAA9ncnBjLXN0YXR1czowDQo=", "HTTP/2: {h2}");
    }
    for request in origin.requests() {
        assert_eq!((request.header("content-type"), request.header("te")), ("application/grpc", "trailers"));
        assert_eq!((&*request.body, &*request.path), (HELLO, "/s.S/M"));
    }
    assert_eq!(origin.requests()[0].header("grpc-timeout"), "1S");
}

#[tokio::test]
async fn messages_arrive_one_by_one() {
    let gate = Gate::new();
    let answer = grpc(Answer::new(200)).chunk(HELLO).wait(&gate).chunk(HELLO).trailer("grpc-status", "0");
    let origin = Origin::answering(answer);
    let web = Web::start(origin.address().port()).await;
    let mut connection = web.connect(true).await;
    let call = post("/s.S/M", HELLO).header("content-type", "application/grpc-web");
    let mut body = connection.open(call.header("accept", "application/grpc-web-text")).await.unwrap().into_body();
    let mut seen = Vec::new();
    while seen.len() < 16 {
        seen.extend(next_chunk(&mut body).await.unwrap().unwrap());
    }
    assert_eq!(seen, b"AAAAAAVoZWxsbw==", "the first message is there while the backend waits");
    gate.open();
    while let Some(chunk) = next_chunk(&mut body).await.unwrap() {
        seen.extend(chunk);
    }
    assert_eq!(seen, b"AAAAAAVoZWxsbw==AAAAAAVoZWxsbw==gAAAAA9ncnBjLXN0YXR1czowDQo=");
}

#[tokio::test]
async fn what_the_gateway_answers_is_a_status_and_the_rest_is_untouched() {
    let origin = Origin::answering(Answer::new(503).header("retry-after", "3").body("<h1>sorry</h1>"));
    let web = Web::start(origin.address().port()).await;
    let address = web.gateway.at(web.port);
    let call = || post("/s.S/M", HELLO).header("content-type", "application/grpc-web+proto");
    let response = fetch(address, call()).await.unwrap();
    assert_eq!((response.status, response.header("grpc-status"), &*response.body), (200, "14", &b""[..]));
    assert_eq!(
        (response.header("grpc-message"), response.header("retry-after")),
        ("the call was answered with HTTP status 503", "3")
    );
    let plain = fetch(address, get("/page")).await.unwrap();
    assert_eq!((plain.status, &*plain.body), (503, &b"<h1>sorry</h1>"[..]));
    // No endpoint at all: the gateway itself answers.
    web.gateway.write(
        "backend.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: origin}\nspec: {ports: [{port: 80}]}\n",
    );
    web.gateway.until(web.port, "/page", |response| response.body != plain.body).await;
    let response = fetch(address, call()).await.unwrap();
    assert_eq!((response.status, response.header("grpc-status")), (200, "14"));
    let bad = post("/s.S/M", "???").header("content-type", "application/grpc-web-text");
    assert_eq!(fetch(address, bad).await.unwrap().status, 200);
}

#[tokio::test]
async fn other_exchanges_and_binary_bodies_stay_out_of_the_plugin() {
    let echo = |request: &penstock_testing::origin::Recorded| {
        grpc(Answer::new(200)).body(request.body.clone()).trailer("grpc-status", "0")
    };
    let origin = Origin::builder().answer(echo).start();
    let web = Web::start(origin.address().port()).await;
    let calls = async |hook: &str| {
        let metrics = web.gateway.admin("/metrics").await;
        let series = format!("penstock_plugin_calls_total{{plugin=\"default/headers\",hook=\"{hook}\"}} ");
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut connection = web.connect(true).await;
    let native = connection.send(post("/s.S/M", HELLO).header("content-type", "application/grpc")).await.unwrap();
    assert_eq!((native.trailer("grpc-status"), &*native.body), ("0", HELLO));
    assert_eq!(calls("request").await, 1);
    for hook in ["request_body", "response", "response_body", "response_trailers"] {
        assert_eq!(calls(hook).await, 0, "{hook} of an exchange that is not gRPC-Web");
    }
    connection.send(post("/s.S/M", HELLO).header("content-type", "application/grpc-web")).await.unwrap();
    let seen = [calls("request").await, calls("response").await, calls("response_trailers").await];
    assert_eq!(seen, [2, 1, 1]);
    assert_eq!([calls("request_body").await, calls("response_body").await], [0, 0], "binary bodies pass untouched");
}

/// The npm packages of the test, in the target directory. None: they cannot be had, and this is not CI.
fn packages() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc_web");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpc-web");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::read(source.join("package-lock.json")).unwrap();
    let installed = fs::read(folder.join("package-lock.json")).is_ok_and(|installed| installed == lock);
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    if installed && folder.join("node_modules/.package-lock.json").exists() {
        return Some(folder);
    }
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    let outcome = match Command::new("npm").args(arguments).current_dir(&folder).output() {
        Ok(output) if output.status.success() => return Some(folder),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let message = format!("`npm ci` in {} failed, so the official client is not tested:\n{outcome}", folder.display());
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("{message}");
    None
}

#[tokio::test]
async fn the_official_client_calls_a_grpc_server() {
    let Some(folder) = packages() else { return };
    let greeter = Greeter::start().await;
    let web = Web::start(greeter.port).await;
    let host = format!("http://{}", web.gateway.at(web.port));
    let run = move || Command::new("node").arg("client.js").arg(host).current_dir(folder).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{}", web.gateway.log());
    assert!(said.contains("all calls answered"), "{said}");
}
