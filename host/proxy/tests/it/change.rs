//! Change without loss: snapshots, listeners, certificates, drain.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use penstock_core::{
    fact::SocketState,
    listener::{Listener, Socket, SocketProtocol},
    matching::RouteTable,
    plugin::NoPolicies,
};
use penstock_testing::{
    client::{Connection, Raw, get, next_chunk},
    eventually::eventually,
    gate::Gate,
    origin::{Answer, Origin},
};

use crate::support::{Gateway, free_address, listener, settings, snapshot, socket, to};

/// Clients that ask without pause, each over one connection for as long as the gateway lets it.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |n| tokio::spawn(Self::client(address, n % 2 == 0, stop.clone(), done.clone()));
        Self { clients: (0..clients).map(client).collect(), stop, done }
    }

    async fn client(
        address: SocketAddr,
        h2: bool,
        stop: Arc<AtomicBool>,
        done: Arc<AtomicUsize>,
    ) -> Result<(), String> {
        let connect = || async move { if h2 { Connection::h2(address).await } else { Connection::h1(address).await } };
        let mut connection = connect().await.map_err(|error| format!("{error:?}"))?;
        while !stop.load(SeqCst) {
            if connection.is_closed() {
                connection = connect().await.map_err(|error| format!("{error:?}"))?;
            }
            let response = connection.send(get("/")).await.map_err(|error| format!("h2 {h2}: {error:?}"))?;
            if response.status != 200 {
                return Err(format!("{} {}", response.status, response.header("proxy-status")));
            }
            if response.header("connection") == "close" {
                connection = connect().await.map_err(|error| format!("{error:?}"))?;
            }
            done.fetch_add(1, SeqCst);
        }
        Ok(())
    }

    /// Wait for so many more requests.
    async fn requests(&self, count: usize) {
        let target = self.done.load(SeqCst) + count;
        eventually("requests to be answered", async || {
            let failed = self.clients.iter().any(tokio::task::JoinHandle::is_finished);
            (failed || self.done.load(SeqCst) >= target).then_some(())
        })
        .await;
    }

    async fn finish(self) -> usize {
        self.stop.store(true, SeqCst);
        for client in self.clients {
            client.await.unwrap().unwrap();
        }
        self.done.load(SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_snapshots_under_load() {
    let origins = [Origin::answering(Answer::new(200).body("a")), Origin::answering(Answer::new(200).body("b"))];
    let (gateway, address) = Gateway::serving(vec![to(&[origins[0].address()])]);
    let load = Load::start(address, 4);
    for round in 0..300 {
        gateway.proxy.publish(snapshot(vec![socket(address, vec![to(&[origins[round % 2].address()])])]));
        load.requests(3).await;
    }
    assert!(load.finish().await >= 900);
    assert!(
        origins.iter().all(|origin| origin.requests().len() > 100),
        "both snapshots were in effect again and again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_come_and_go_under_load() {
    let steady = Origin::answering(Answer::new(200));
    let rule = to(&[steady.address()]);
    let penstock_core::route::Action::Forward(backends) = &rule.action else { panic!() };
    let penstock_core::route::Target::Backend(backend) = &backends.backends[0].target else { panic!() };
    let cell = backend.endpoints.clone();
    let (_gateway, address) = Gateway::serving(vec![rule]);
    let load = Load::start(address, 4);
    for _ in 0..20 {
        let rolled = Origin::answering(Answer::new(200));
        let both = [steady.address(), rolled.address()].map(penstock_core::backend::Endpoint::Address).to_vec();
        cell.store(Arc::new(penstock_core::backend::EndpointSet { endpoints: both }));
        load.requests(20).await;
        assert!(!rolled.requests().is_empty());
        let only = vec![penstock_core::backend::Endpoint::Address(steady.address())];
        cell.store(Arc::new(penstock_core::backend::EndpointSet { endpoints: only }));
        // Whatever was on its way to the one that goes has been answered.
        load.requests(20).await;
    }
    load.finish().await;
}

#[tokio::test]
async fn requests_in_flight_survive_a_snapshot() {
    let gate = Gate::new();
    let slow = Origin::answering(Answer::new(200).chunk("first").wait(&gate).chunk("last"));
    let fast = Origin::answering(Answer::new(200).body("fast"));
    let (gateway, address) = Gateway::serving(vec![to(&[slow.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    let mut body = connection.open(get("/")).await.unwrap().into_body();
    assert_eq!(next_chunk(&mut body).await.unwrap().unwrap(), "first");
    gateway.proxy.publish(snapshot(vec![socket(address, vec![to(&[fast.address()])])]));
    gate.open();
    assert_eq!(next_chunk(&mut body).await.unwrap().unwrap(), "last");
    assert_eq!(next_chunk(&mut body).await.unwrap(), None);
    assert_eq!(connection.send(get("/")).await.unwrap().text(), "fast", "the same connection, the new snapshot");
}

#[tokio::test]
async fn listeners_come_and_go() {
    let gate = Gate::new();
    let origin = Origin::start();
    let rules = || vec![to(&[origin.address()])];
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let (first, second) = (free_address(), free_address());
    gateway.proxy.publish(snapshot(vec![socket(first, rules())]));
    let mut stays = Connection::h1(first).await.unwrap();
    stays.send(get("/")).await.unwrap();
    gateway.proxy.publish(snapshot(vec![socket(first, rules()), socket(second, rules())]));
    let mut leaves = Connection::h1(second).await.unwrap();
    leaves.send(get("/")).await.unwrap();
    let mut idle = Raw::connect(second).await.unwrap();
    idle.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    idle.read_response().await.unwrap();
    origin.answer({
        let gate = gate.clone();
        move |_| Answer::new(200).chunk("a").wait(&gate).chunk("b")
    });
    let mut body = leaves.open(get("/")).await.unwrap().into_body();
    gateway.proxy.publish(snapshot(vec![socket(first, rules())]));
    eventually("the port to be closed", async || tokio::net::TcpStream::connect(second).await.err()).await;
    // What was under way is finished, and what was idle is closed without a word.
    gate.open();
    while next_chunk(&mut body).await.unwrap().is_some() {}
    assert_eq!(idle.read_to_end().await.unwrap(), "");
    assert_eq!(stays.send(get("/")).await.unwrap().status, 200);
    let expected = [(first, SocketState::Bound), (second, SocketState::Bound), (second, SocketState::Closed)];
    assert_eq!(gateway.facts.sockets(), expected);
}

#[tokio::test]
async fn a_connection_on_a_closed_listener_is_served_once_more() {
    let origin = Origin::answering(Answer::new(200).body("served"));
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    connection.send(get("/")).await.unwrap();
    gateway.proxy.publish(snapshot(vec![]));
    // The request was on its way when the listener was removed.
    let response = connection.send(get("/")).await.unwrap();
    assert_eq!((response.status, response.text()), (200, "served"));
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let origin = Origin::start();
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let free = free_address();
    let world =
        || snapshot(vec![socket(address, vec![to(&[origin.address()])]), socket(free, vec![to(&[origin.address()])])]);
    gateway.proxy.publish(world());
    gateway.proxy.publish(world());
    let mut facts = gateway.facts.sockets();
    facts.sort_by_key(|(at, _)| *at == address);
    assert_eq!(facts.len(), 2, "the same failure is reported once: {facts:?}");
    assert_eq!(facts[0], (free, SocketState::Bound), "a healthy socket is not hurt");
    let SocketState::Failed(text) = &facts[1].1 else { panic!("{facts:?}") };
    assert!(text.contains("in use by another process"), "{text}");
    drop(taken);
    gateway.proxy.publish(world());
    assert_eq!(gateway.facts.sockets().last().unwrap(), &(address, SocketState::Bound), "it heals");
    assert_eq!(Connection::h1(address).await.unwrap().send(get("/")).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_second_gateway_on_the_same_port() {
    let origin = Origin::start();
    let (_first, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let second = Gateway::start(settings(), Arc::new(NoPolicies));
    second.proxy.publish(snapshot(vec![socket(address, vec![])]));
    let SocketState::Failed(text) = &second.facts.sockets()[0].1 else { panic!("{:?}", second.facts.sockets()) };
    assert!(text.contains("in use by another process"), "{text}");
}

#[tokio::test]
async fn a_listener_that_is_removed_and_added_again_at_once() {
    let origin = Origin::answering(Answer::new(200));
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    for _ in 0..20 {
        gateway.proxy.publish(snapshot(vec![]));
        gateway.proxy.publish(snapshot(vec![socket(address, vec![to(&[origin.address()])])]));
        assert_eq!(Connection::h1(address).await.unwrap().send(get("/")).await.unwrap().status, 200);
    }
    assert!(gateway.facts.sockets().iter().all(|(_, state)| !matches!(state, SocketState::Failed(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_loses_nothing() {
    let origin = Origin::answering(Answer::new(200));
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let (stop, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> =
        (0..6).map(|n| tokio::spawn(client_until_refused(address, n % 2 == 0, stop.clone(), lost.clone()))).collect();
    origin.wait_for(200).await;
    let report = gateway.proxy.drain(Duration::from_secs(15)).await;
    assert_eq!(report.cut, 0, "{report:?}");
    assert!(report.finished >= 1, "{report:?}");
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(lost.load(SeqCst), 0);
}

/// Ask until no new connection can be made. Whatever is sent on a connection that was served must be answered. One that was not may be
/// reset: the kernel may have established it between the last look at the queue and the closing of the socket.
async fn client_until_refused(address: SocketAddr, h2: bool, stop: Arc<AtomicBool>, lost: Arc<AtomicUsize>) {
    while !stop.load(SeqCst) {
        let connection = if h2 { Connection::h2(address).await } else { Connection::h1(address).await };
        let Ok(mut connection) = connection else { return };
        let mut served = 0;
        while !connection.is_closed() && !stop.load(SeqCst) {
            let response = connection.send(get("/")).await;
            served += 1;
            match response {
                Ok(response) if response.header("connection") == "close" => break,
                Ok(response) => assert_eq!(response.status, 200),
                // GOAWAY may overtake a request that HTTP/2 then declares unprocessed; a client sends it again.
                Err(error) if h2 && format!("{error:?}").contains("GoAway") => break,
                Err(_) if connection.is_closed() && (h2 || served == 1) => break,
                Err(error) => {
                    eprintln!("lost: h2 {h2}: {error:?}");
                    lost.fetch_add(1, SeqCst);
                    break;
                }
            }
        }
    }
}

/// A connection of HTTP/2 is told (GOAWAY): its exchange ends well, and it takes no other.
#[tokio::test]
async fn a_drain_says_goodbye_to_http2() {
    let gate = Gate::new();
    let origin = Origin::answering(Answer::new(200).chunk("a").wait(&gate).chunk("b"));
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut connection = Connection::h2(address).await.unwrap();
    let mut body = connection.open(get("/")).await.unwrap().into_body();
    next_chunk(&mut body).await.unwrap();
    let drain = gateway.proxy.drain(Duration::from_secs(30));
    let client = async {
        eventually("GOAWAY", async || connection.open(get("/")).await.err()).await;
        gate.open();
        let mut rest = Vec::new();
        while let Some(chunk) = next_chunk(&mut body).await.unwrap() {
            rest.extend(chunk);
        }
        assert_eq!(rest, b"b");
    };
    let (report, ()) = tokio::join!(drain, client);
    assert_eq!((report.finished, report.cut), (1, 0));
}

/// Series of routes that are gone go with them, once nobody is counted in them any more.
#[tokio::test]
async fn metrics_of_a_route_go_with_it() {
    let origin = Origin::answering(Answer::new(200));
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let address = gateway.publish(vec![to(&[origin.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    connection.send(get("/")).await.unwrap();
    assert!(gateway.metrics().contains("route=\"HTTPRoute/default/route\""));
    // The same listener without the route; the worker lets go of what it knew with the next request.
    let empty = Listener { routes: Arc::new(RouteTable::build(&[], None)), ..listener("", vec![], vec![]) };
    gateway.proxy.publish(snapshot(vec![Socket::new(address, SocketProtocol::Http, vec![Arc::new(empty)])]));
    eventually("the end of the series", async || {
        connection.send(get("/")).await.unwrap();
        (!gateway.metrics().contains("route=\"HTTPRoute/default/route\"")).then_some(())
    })
    .await;
    assert!(gateway.metrics().contains("penstock_requests"), "others stay");
}

#[tokio::test]
async fn nothing_is_opened_after_a_drain() {
    let origin = Origin::start();
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    assert_eq!(gateway.proxy.drain(Duration::from_secs(5)).await, penstock_proxy::DrainReport { finished: 0, cut: 0 });
    gateway.proxy.publish(snapshot(vec![socket(address, vec![to(&[origin.address()])])]));
    eventually("the port to be closed", async || tokio::net::TcpStream::connect(address).await.err()).await;
}

#[tokio::test]
async fn a_drain_cuts_at_its_deadline() {
    let gate = Gate::new();
    let origin = Origin::answering(Answer::new(200).chunk("a").wait(&gate));
    let (gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    let mut body = connection.open(get("/")).await.unwrap().into_body();
    next_chunk(&mut body).await.unwrap();
    let report = gateway.proxy.drain(Duration::from_millis(300)).await;
    assert_eq!((report.finished, report.cut), (0, 1));
    assert!(next_chunk(&mut body).await.is_err());
}
