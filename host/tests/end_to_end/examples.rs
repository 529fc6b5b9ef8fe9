//! The examples, on other ports and with an origin of the test, but else as they are.

use std::{collections::BTreeMap, fs, process::Command, sync::Arc};

use penstock_testing::{
    client::{Connection, fetch, get, post},
    eventually::eventually,
    gateway::Gateway,
    guests,
    origin::{Answer, Origin},
    port::free_port,
    tempfile::TempDir,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::world::{PENSTOCK, repository};

/// An example that runs.
struct Example {
    gateway: Gateway,
    /// By the port that stands in the files.
    ports: BTreeMap<u16, u16>,
    /// Likewise.
    origins: BTreeMap<u16, Origin>,
}

impl Example {
    async fn start(name: &str) -> Self {
        let ports: BTreeMap<u16, u16> = [8080, 8081, 8443].map(|port| (port, free_port())).into();
        let origins: BTreeMap<u16, Origin> =
            [9000, 9001, 9002].map(|port| (port, Origin::builder().answer(Answer::echo).start())).into();
        let mut builder = Gateway::builder(PENSTOCK);
        if name == "ingress" {
            for (flag, port) in [("--ingress-http-port", 8080), ("--ingress-https-port", 8443)] {
                builder = builder.argument(flag).argument(ports[&port].to_string());
            }
        }
        for (file, mut text) in files(name) {
            let origins = origins.iter().map(|(from, origin)| (*from, origin.address().port()));
            for (from, to) in ports.iter().map(|(from, to)| (*from, *to)).chain(origins) {
                text = text.replace(&format!("port: {from}"), &format!("port: {to}"));
            }
            // Nothing here depends on how fast a busy machine answers.
            builder = builder.file(&file, text.replace("timeout: 500ms", "timeout: 60s"));
        }
        let gateway = builder.start().await;
        // A gateway is ready without plugins that take long, as they do on a busy machine.
        eventually("every plugin serves", async || {
            let status = gateway.admin("/status").await.json();
            let mut plugins = status["resources"].as_array()?.iter().filter(|it| it["kind"] == "WasmPlugin");
            plugins.all(|plugin| !plugin["status"]["active"].is_null()).then_some(())
        })
        .await;
        Self { gateway, ports, origins }
    }

    fn at(&self, port: u16) -> std::net::SocketAddr {
        self.gateway.at(self.ports[&port])
    }
}

/// The resource files of an example by name, with the plugins where this build has them.
pub(crate) fn files(example: &str) -> Vec<(String, String)> {
    let folder = repository().join("examples").join(example);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, with_plugins(text))
    };
    yaml.map(read).collect()
}

fn with_plugins(text: String) -> String {
    let plugins = [
        ("ext-auth", guests::EXT_AUTH),
        ("grpc-web", guests::GRPC_WEB),
        ("header-rules", guests::HEADER_RULES),
        ("rate-limit", guests::RATE_LIMIT),
        ("route-by", guests::ROUTE_BY),
    ];
    plugins.iter().fold(text, |text, (name, path)| text.replace(&format!("../../target/guests/{name}.wasm"), path))
}

#[tokio::test]
async fn quickstart() {
    let example = Example::start("quickstart").await;
    let response = fetch(example.at(8080), get("/hello")).await.unwrap();
    assert_eq!((response.status, response.header("x-greeting")), (200, "hello from a plugin"));
    let response = fetch(example.at(8080), get("/api/items?id=7")).await.unwrap();
    assert_eq!(response.status, 200);
    let asked = example.origins[&9000].requests();
    assert_eq!(asked[0].header("x-gateway"), "penstock");
    assert_eq!(asked.iter().map(|request| &*request.path).collect::<Vec<_>>(), ["/hello", "/items?id=7"]);
}

#[tokio::test]
async fn tls() {
    let example = Example::start("tls").await;
    let response = fetch(example.at(8080), get("/some/path").host("localhost")).await.unwrap();
    let location = format!("https://localhost:{}/some/path", example.ports[&8443]);
    assert_eq!((response.status, response.header("location")), (301, &*location));

    let mut connection = Connection::tls(example.at(8443), "localhost", trusting("tls")).await.unwrap();
    assert_eq!(connection.send(get("/").host("localhost")).await.unwrap().status, 200);
}

/// Who trusts the certificate of an example.
fn trusting(example: &str) -> Arc<ClientConfig> {
    let text = fs::read_to_string(repository().join("examples").join(example).join("certificate.yaml")).unwrap();
    let pem = text.split("tls.crt: |\n").nth(1).unwrap().split("  tls.key").next().unwrap().replace("    ", "");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn ingress() {
    let example = Example::start("ingress").await;
    let ask = async |host: &str, path: &str| fetch(example.at(8080), get(path).host(host)).await.unwrap();
    for path in ["/", "/carton", "/cart", "/cart/7"] {
        let response = ask("localhost", path).await;
        assert_eq!((response.status, response.header("x-greeting")), (200, "hello from a plugin"), "{path}");
    }
    let other = ask("other.example", "/any").await;
    assert_eq!((other.status, other.header("x-greeting")), (200, ""));
    let asked = |port: u16| example.origins[&port].requests().into_iter().map(|it| it.path).collect::<Vec<_>>();
    assert_eq!(
        (asked(9000), asked(9001)),
        (vec!["/".into(), "/carton".into(), "/any".into()], vec!["/cart".into(), "/cart/7".into()])
    );

    let mut connection = Connection::tls(example.at(8443), "localhost", trusting("ingress")).await.unwrap();
    assert_eq!(connection.send(get("/cart").host("localhost")).await.unwrap().status, 200);
    // Both hosts have the same routes, so the connection serves the other one too.
    assert_eq!(connection.send(get("/").host("a.localhost")).await.unwrap().status, 200);
}

#[tokio::test]
async fn grpc() {
    let example = Example::start("grpc").await;
    example.origins[&9000].answer(|request| {
        Answer::new(200)
            .header("content-type", "application/grpc")
            .body(request.body.clone())
            .trailer("grpc-status", "0")
    });
    let call = |path: &str| {
        post(path, &b"\0\0\0\0\x05hello"[..]).header("content-type", "application/grpc").header("te", "trailers")
    };
    let mut connection = Connection::h2(example.at(8080)).await.unwrap();
    let response = connection.send(call("/helloworld.Greeter/SayHello")).await.unwrap();
    assert_eq!(
        (response.status, response.trailer("grpc-status"), &*response.body),
        (200, "0", &b"\0\0\0\0\x05hello"[..])
    );
    assert_eq!(connection.send(call("/other.Service/Method")).await.unwrap().status, 404);
}

#[tokio::test]
async fn canary() {
    let example = Example::start("canary").await;
    let mut connection = Connection::h1(example.at(8080)).await.unwrap();
    for _ in 0..200 {
        assert_eq!(connection.send(get("/")).await.unwrap().status, 200);
    }
    let (stable, canary) = (example.origins[&9000].requests().len(), example.origins[&9001].requests().len());
    assert_eq!(stable + canary, 200);
    // One in ten of 200: fewer than 2 or more than 60 happens once in ten million runs.
    assert!((2..60).contains(&canary), "{canary} of 200");
    connection.send(get("/").header("x-canary", "always")).await.unwrap();
    assert_eq!(example.origins[&9001].requests().len(), canary + 1);
}

#[tokio::test]
async fn rate_limit() {
    let example = Example::start("rate-limit").await;
    let ask = async |request| fetch(example.at(8080), request).await.unwrap();
    let first = ask(get("/")).await;
    assert_eq!((first.status, first.header("ratelimit-policy")), (200, "\"client\";q=10;w=60"));
    for _ in 0..3 {
        assert_eq!(ask(post("/", "x")).await.status, 200);
    }
    let denied = ask(post("/", "x")).await;
    assert_eq!(denied.status, 429);
    assert!(denied.header("ratelimit").starts_with("\"writes\";r=0;t="), "{denied:?}");
    for _ in 0..6 {
        assert_eq!(ask(get("/")).await.status, 200);
    }
    let denied = ask(get("/")).await;
    assert_eq!((denied.status, denied.header("content-type")), (429, "application/problem+json"));
    assert!(!denied.header("retry-after").is_empty());
    assert_eq!(ask(get("/healthz")).await.status, 200);
    assert_eq!(example.origins[&9000].requests().len(), 11, "what is denied never arrives");
}

#[tokio::test]
async fn header_rules() {
    let example = Example::start("header-rules").await;
    let ask = async |request| fetch(example.at(8080), request).await.unwrap();
    let response = ask(get("/v2/items?id=7").header("x-internal-user", "root").header("x-customer", "acme")).await;
    assert_eq!((response.status, response.header("x-served-path")), (200, "/v2/items"));
    assert_eq!((response.header("x-content-type-options"), response.header("cache-control")), ("nosniff", ""));
    let asked = &example.origins[&9000].requests()[0];
    assert_eq!((&*asked.path, asked.header("x-client")), ("/items?id=7", "127.0.0.1"));
    assert_eq!((asked.header("x-asked"), asked.header("x-tenant")), ("GET /v2/items", "acme"));
    assert_eq!((asked.header("x-internal-user"), asked.header("x-customer")), ("", ""));
    assert_eq!(ask(get("/items")).await.header("x-served-path"), "");
}

#[tokio::test]
async fn route_by() {
    let example = Example::start("route-by").await;
    let mut connection = Connection::h1(example.at(8080)).await.unwrap();
    let served = || [9000, 9001, 9002].map(|port| example.origins[&port].requests().len());
    for _ in 0..5 {
        connection.send(get("/").header("x-channel", "beta")).await.unwrap();
    }
    assert_eq!(served(), [0, 5, 0], "testers get green");
    let mut of_canary = Vec::new();
    for user in 0..100 {
        let response = connection.send(get("/").header("cookie", format!("uid={user}"))).await.unwrap();
        if response.header("set-cookie").is_empty() {
            of_canary.push(user);
        }
    }
    // One in ten of 100: fewer than 1 or more than 30 would be no tenth. Which ones never changes, so neither does the result.
    assert!((1..30).contains(&of_canary.len()), "{of_canary:?}");
    assert_eq!(served()[2], of_canary.len());
    for user in &of_canary {
        connection.send(get("/").header("cookie", format!("uid={user}"))).await.unwrap();
    }
    assert_eq!(served()[2], 2 * of_canary.len(), "always the same users");
    let first = connection.send(get("/")).await.unwrap();
    let cookie = first.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(first.header("set-cookie").contains("Max-Age=86400"), "{first:?}");
    let before = served();
    for _ in 0..6 {
        let response = connection.send(get("/").header("cookie", &cookie)).await.unwrap();
        assert_eq!((response.status, response.header("set-cookie")), (200, ""));
    }
    let after = served();
    assert!((0..3).any(|origin| after[origin] == before[origin] + 6), "{before:?} became {after:?}");
}

#[tokio::test]
async fn ext_auth() {
    let example = Example::start("ext-auth").await;
    let ask = async |request| fetch(example.at(8080), request).await.unwrap();
    let asked = || example.origins[&9000].requests();
    let refused = ask(get("/cart").header("authorization", "Bearer guess")).await;
    assert_eq!((refused.status, refused.header("location")), (302, "https://login.example/login"));
    assert!(asked().is_empty(), "what is refused never arrives");

    let known = get("/cart?item=7").header("authorization", "Bearer sesame").header("x-auth-user", "root");
    assert_eq!(ask(known).await.status, 200);
    let asked_for = asked();
    let [question, request] = asked_for.as_slice() else { panic!("{asked_for:?}") };
    assert_eq!((&*question.path, question.header("x-forwarded-uri")), ("/verify", "/cart?item=7"));
    assert_eq!((&*request.path, request.header("x-auth-user")), ("/cart?item=7", "anna"));

    let exempt = async || ask(get("/healthz").header("x-auth-user", "root")).await.status;
    assert_eq!(exempt().await, 200);
    assert_eq!(asked().last().map(|request| request.header("x-auth-user").to_owned()), Some(String::new()));

    let (_, service) = files("ext-auth").into_iter().find(|(file, _)| file == "auth.yaml").unwrap();
    assert!(service.contains("kind: Gateway"), "the service is in one file, which can be taken away");
    example.gateway.remove("auth.yaml");
    example.gateway.until(example.ports[&8080], "/cart", |response| response.status == 503).await;
    assert_eq!(exempt().await, 200, "nobody has to be asked");
}

#[tokio::test]
async fn grpc_web() {
    let example = Example::start("grpc-web").await;
    example.origins[&9000].answer(|request| {
        Answer::new(200)
            .header("content-type", "application/grpc")
            .body(request.body.clone())
            .trailer("grpc-status", "0")
    });
    let call = post("/helloworld.Greeter/SayHello", &b"\0\0\0\0\x05hello"[..]);
    let call = call.header("content-type", "application/grpc-web+proto").header("origin", "https://shop.example");
    let response = fetch(example.at(8080), call).await.unwrap();
    assert_eq!((response.status, response.header("content-type")), (200, "application/grpc-web+proto"));
    assert_eq!(response.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(&*response.body, &b"\0\0\0\0\x05hello\x80\0\0\0\x0fgrpc-status:0\r\n"[..]);
    let preflight = penstock_testing::client::request("OPTIONS", "/helloworld.Greeter/SayHello");
    let preflight = preflight
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-grpc-web");
    let answered = fetch(example.at(8080), preflight).await.unwrap();
    assert_eq!((answered.status, answered.header("access-control-max-age")), (204, "600"));
    assert_eq!(example.origins[&9000].requests().len(), 1, "the preflight does not reach the origin");
}

#[test]
fn every_example_passes_check() {
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        let example = entry.unwrap().file_name().into_string().unwrap();
        let folder = TempDir::new().unwrap();
        for (file, text) in files(&example) {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let output = Command::new(PENSTOCK).arg("check").arg("-f").arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{example}:\n{}", String::from_utf8_lossy(&output.stdout));
    }
}
