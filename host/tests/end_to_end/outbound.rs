//! Backends that misbehave towards plugins which call them, on real sockets: each row says what such a backend does and what the plugin is told.
//! All share one worker with neighbours that are served all the time.
//!
//! Nothing waits for a time: a backend that drips does so as neighbours are answered, and what ends its calls is the `timeout` of the resource.

use std::{
    io::{Read as _, Write as _, copy, sink},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use penstock_testing::{
    client::{Connection, Response, fetch, get},
    gateway::Gateway,
    guests,
    origin::{Answer, Origin},
    port::free_port,
    pressure::{Pressure, Protocol},
};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::world::{PENSTOCK, World, backend, condition, gateway, greeting, header_rules, plugin, route};

/// Something that a plugin may call, and that does with a connection what it likes. It ends with the process of the test.
fn hostile(behave: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let behave = Arc::new(behave);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let behave = Arc::clone(&behave);
            thread::spawn(move || behave(stream));
        }
    });
    port
}

/// Takes what comes, until the other side has enough.
fn listens(mut stream: TcpStream) {
    drop(copy(&mut stream, &mut sink()));
}

/// Writes these bytes, and ends the connection or keeps it.
fn says(bytes: &'static str, keeps: bool) -> u16 {
    hostile(move |mut stream| {
        let asked = stream.read(&mut [0; 4096]);
        if asked.and_then(|_| stream.write_all(bytes.as_bytes())).is_ok() && keeps {
            listens(stream);
        }
    })
}

/// Writes these bytes, then what comes of `more` for as long as the other side listens.
fn writes(first: &'static str, more: impl Fn() -> &'static [u8] + Send + Sync + 'static) -> u16 {
    hostile(move |mut stream| {
        // The request first: a response without one is none.
        let asked = stream.read(&mut [0; 4096]);
        let mut written = asked.and_then(|_| stream.write_all(first.as_bytes()));
        while written.is_ok() {
            written = stream.write_all(more());
        }
    })
}

/// Lets a byte go when it is told to.
#[derive(Clone, Default)]
struct Tap(Arc<(Mutex<usize>, Condvar)>);

impl Tap {
    fn drip(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    fn next(&self) -> &'static [u8] {
        let drops = self.0.0.lock().unwrap();
        let mut drops = self.0.1.wait_while(drops, |drops| *drops == 0).unwrap();
        *drops -= 1;
        b"a"
    }
}

/// The route `/<name>` with a plugin that calls the backend `asked`, to which it was granted the backend `<name>`.
fn caller(name: &str, asked: &str, timeout: &str, limits: &str) -> String {
    let route = route(name, &format!("/{name}"), "");
    format!(
        "\
{route}---
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{name: {name}}}
spec:
  source: {{file: {{path: {caller}}}}}
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}]
  capabilities: {{outbound: [{{name: granted, backendRef: {{name: {name}, port: 80}}, timeout: {timeout}, maxResponseBytes: 1Ki}}]}}
  limits: {limits}
  config: {{backend: {asked}}}
",
        caller = guests::CALLER,
    )
}

/// Beside these callers, on the same worker: the neighbours, which are another route with a plugin of its own.
async fn world(callers: &[(&str, u16, String)]) -> (World, Pressure) {
    // What the plugin was told comes back.
    let told =
        |request: &penstock_testing::origin::Recorded| Answer::new(200).header("x-told", request.header("x-called"));
    let (origin, port) = (Origin::builder().answer(told).start(), free_port());
    let greets = plugin("plugin.wasm", &greeting("hello")).replace("Gateway, name: gw", "HTTPRoute, name: greeted");
    let mut builder = Gateway::builder(PENSTOCK)
        .argument("--workers")
        .argument("1")
        .file("gateway.yaml", gateway(port))
        .file("backend.yaml", backend("origin", origin.address().port()))
        .file("plugin.wasm", header_rules())
        .file("greeted.yaml", format!("{}---\n{greets}", route("greeted", "/greeted", "")));
    for (name, port, resources) in callers {
        builder = builder.file(&format!("{name}.yaml"), format!("{resources}---\n{}", backend(name, *port)));
    }
    let world = World { gateway: builder.start().await, origin, port };
    // A gateway is ready without plugins that take long, as they do on a busy machine.
    for (name, ..) in callers {
        world.until_status("WasmPlugin", name, |status| !status["active"].is_null()).await;
    }
    let greeted = |response: &Response| response.status == 200 && response.header("x-greeting") == "hello";
    world.gateway.until(port, "/greeted", greeted).await;
    let pressure = Pressure::start(world.gateway.at(port), Protocol::H1, 2, || get("/greeted"), greeted);
    (world, pressure)
}

/// Every plugin serves as before, and no neighbour has noticed anything.
async fn unharmed(world: &World, callers: &[(&str, u16, String)], pressure: Pressure) {
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, Vec::<String>::new());
    for (name, ..) in callers {
        let status = world.until_status("WasmPlugin", name, |status| status["active"]["generation"] == 1).await;
        assert!(status["candidate"].is_null(), "{status:#}");
        assert_eq!(condition(&status, "Degraded")["status"], "False", "{status:#}");
    }
    assert_eq!(world.gateway.admin("/livez").await.status, 200);
}

#[tokio::test]
async fn whatever_a_backend_does_the_plugin_is_told_and_nobody_else_notices() {
    let tap = Tap::default();
    let drips = |first| {
        let tap = tap.clone();
        writes(first, move || tap.next())
    };
    let redirects = Origin::answering(Answer::new(302).header("location", "/"));
    const CHUNK: &[u8] = &[b'x'; 16 << 10];
    let interim: &'static [u8] = "HTTP/1.1 100 Continue\r\n\r\n".repeat(700).leak().as_bytes();
    let rows = [
        ("silent", hostile(listens), "Timeout"),
        ("head-drips", drips("HTTP/1.1 200 OK\r\nx-drip: "), "Timeout"),
        ("body-drips", drips("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"), "Timeout"),
        ("endless-head", writes("HTTP/1.1 200 OK\r\nx-a: ", || CHUNK), "Protocol"),
        ("endless-body", writes("HTTP/1.1 200 OK\r\n\r\n", || CHUNK), "TooLarge(1024)"),
        ("large", writes("HTTP/1.1 200 OK\r\ncontent-length: 1025\r\n\r\n", || CHUNK), "TooLarge(1024)"),
        ("interim-heads", writes("", move || interim), "Timeout"),
        ("cut-off", says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234", false), "Protocol"),
        ("garbage", says("220 mail.example ESMTP\r\n", true), "Protocol"),
        ("two-lengths", says("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12", true), "Protocol"),
        ("closes", hostile(drop), "Protocol"),
        ("absent", free_port(), "Connect"),
        ("redirects", redirects.address().port(), "302"),
        ("unnamed", redirects.address().port(), "UnknownBackend"),
    ];
    let callers = rows.each_ref().map(|(name, port, expected)| {
        let asked = if *name == "unnamed" { "elsewhere" } else { "granted" };
        // Short where it is what must end the call, and else as good as none: the machine may be busy.
        let timeout = if *expected == "Timeout" { "500ms" } else { "60s" };
        (*name, *port, caller(name, asked, timeout, "{wallTime: 60s}"))
    });
    let (world, pressure) = world(&callers).await;
    let address = world.gateway.at(world.port);
    let mut asking = JoinSet::new();
    for (name, _, expected) in rows {
        asking.spawn(async move { (name, expected, fetch(address, get(&format!("/{name}"))).await.unwrap()) });
    }
    let mut neighbour = Connection::h1(address).await.unwrap();
    let mut wrong = Vec::new();
    while !asking.is_empty() {
        // A byte for each answer that a neighbour gets.
        assert_eq!(neighbour.send(get("/greeted")).await.unwrap().status, 200);
        tap.drip();
        while let Some(asked) = asking.try_join_next() {
            let (name, expected, response) = asked.unwrap();
            if response.status != 200 || !response.header("x-told").contains(expected) {
                wrong.push(format!("{name}: not {expected}, but {}: {}", response.status, response.header("x-told")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(redirects.requests().len(), 1, "nobody follows a redirection");
    unharmed(&world, &callers, pressure).await;
}

#[tokio::test]
async fn a_plugin_that_sleeps_in_every_exchange_has_its_places_and_no_more() {
    const PLACES: usize = 4;
    let called = Arc::new(Semaphore::new(0));
    let silent = {
        let called = Arc::clone(&called);
        hostile(move |stream| {
            called.add_permits(1);
            listens(stream);
        })
    };
    let calls = async |count: usize| called.acquire_many(u32::try_from(count).unwrap()).await.unwrap().forget();
    // Nobody is answered before the test is over: who waits, waits.
    let limits = format!("{{wallTime: 60s, waiting: {PLACES}}}");
    let sleepy = caller("sleepy", "granted", "60s", &limits);
    let callers = [("sleepy", silent, sleepy)];
    let (world, pressure) = world(&callers).await;
    let address = world.gateway.at(world.port);
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        asking.spawn(fetch(address, get("/sleepy")));
    }
    for _ in PLACES..20 {
        let refused = asking.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(refused.status, 503, "there is no place for it: {refused:?}");
    }
    calls(PLACES).await;
    pressure.progress(50).await;
    assert_eq!(asking.len(), PLACES, "they wait still");
    // Who leaves makes room, as soon as the gateway notices.
    asking.shutdown().await;
    loop {
        tokio::select! {
            () = calls(1) => break,
            refused = fetch(address, get("/sleepy")) => assert_eq!(refused.unwrap().status, 503),
        }
    }
    unharmed(&world, &callers, pressure).await;
}
