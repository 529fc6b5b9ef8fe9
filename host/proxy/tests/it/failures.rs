//! What the gateway answers itself: status, text, `proxy-status`, `server`.

use penstock_core::{
    backend::BackendProtocol,
    reason::Reason,
    route::{Action, Failure, Target, WeightedBackend, WeightedBackends},
};
use penstock_testing::{
    client::{Connection, get, next_chunk, post},
    gate::Gate,
    origin::{Answer, Origin},
};

use crate::support::{Gateway, backend, forward, free_address, rule, settings, snapshot, socket, to, to_h2};

#[track_caller]
fn check(response: &penstock_testing::client::Response, reason: Reason) {
    assert_eq!(response.status, reason.status().as_u16());
    assert_eq!(response.header("server"), "penstock");
    let status = format!("penstock; error={}; details=\"{}\"", reason.proxy_status(), reason.code());
    assert_eq!(response.header("proxy-status"), status);
    assert_eq!(response.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(response.text(), reason.text());
}

async fn ask(action: Action) -> penstock_testing::client::Response {
    let (_gateway, address) = Gateway::serving(vec![rule(action)]);
    Connection::h1(address).await.unwrap().send(get("/")).await.unwrap()
}

#[tokio::test]
async fn broken_configuration() {
    let failure = || Failure { reason: Reason::InvalidBackend, message: "Service default/x not found".into() };
    check(&ask(Action::Fail(failure())).await, Reason::InvalidBackend);
    let reference = WeightedBackend::new("default/backend:80", 1, Target::Fail(failure()));
    check(&ask(Action::Forward(WeightedBackends::new([reference]))).await, Reason::InvalidBackend);
    check(&ask(Action::Forward(WeightedBackends::new([]))).await, Reason::NoBackend);
    check(&ask(forward(backend("empty", BackendProtocol::Http1, None, &[]))).await, Reason::NoEndpoint);
}

#[tokio::test]
async fn no_listener_for_the_host() {
    let gateway = Gateway::start(settings(), std::sync::Arc::new(penstock_core::plugin::NoPolicies));
    let address = free_address();
    gateway.proxy.publish(snapshot(vec![socket(address, vec![])]));
    let response = Connection::h1(address).await.unwrap().send(get("/")).await.unwrap();
    check(&response, Reason::NoRoute);
}

#[tokio::test]
async fn dead_endpoints() {
    for rule in [to(&[free_address()]), to_h2(&[free_address()])] {
        let (_gateway, address) = Gateway::serving(vec![rule]);
        let response = Connection::h1(address).await.unwrap().send(get("/")).await.unwrap();
        check(&response, Reason::ConnectFailed);
    }
}

#[tokio::test]
async fn a_dead_endpoint_among_others_costs_no_request() {
    let origin = Origin::answering(Answer::new(200));
    let (_gateway, address) = Gateway::serving(vec![to(&[free_address(), origin.address(), free_address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    for _ in 0..20 {
        assert_eq!(connection.send(post("/", "body")).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_up() {
    let origin = Origin::answering(Answer::reset());
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    check(&connection.send(get("/")).await.unwrap(), Reason::UpstreamReset);
    origin.answer(|_| Answer::new(200));
    assert_eq!(connection.send(get("/")).await.unwrap().status, 200, "the client's connection is not the endpoint's");
}

/// A cut response must not look complete.
#[tokio::test]
async fn an_endpoint_that_hangs_up_in_the_middle() {
    for upstream_h2 in [false, true] {
        for h2 in [false, true] {
            let gate = Gate::new();
            let origin = Origin::answering(Answer::new(200).chunk("half").wait(&gate).then_reset());
            let rule = if upstream_h2 { to_h2(&[origin.address()]) } else { to(&[origin.address()]) };
            let (_gateway, address) = Gateway::serving(vec![rule]);
            let connection = if h2 { Connection::h2(address).await } else { Connection::h1(address).await };
            let mut connection = connection.unwrap();
            let mut body = connection.open(get("/")).await.unwrap().into_body();
            assert_eq!(next_chunk(&mut body).await.unwrap().unwrap(), "half");
            gate.open();
            assert!(next_chunk(&mut body).await.is_err(), "client h2 {h2}, upstream h2 {upstream_h2}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_speak_http() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail.example ESMTP\r\n").await;
            tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    });
    let (_gateway, address) = Gateway::serving(vec![to(&[endpoint])]);
    let response = Connection::h1(address).await.unwrap().send(get("/")).await.unwrap();
    assert_eq!(response.status, 502);
}

#[tokio::test]
async fn an_endpoint_that_never_answers() {
    let gate = Gate::new();
    let origin = Origin::answering(Answer::new(200).after(&gate));
    let mut settings = settings();
    settings.timeouts.response = std::time::Duration::from_millis(200);
    let (_gateway, address) = Gateway::serving_with(settings, vec![to(&[origin.address()])]);
    for h2 in [false, true] {
        let connection = if h2 { Connection::h2(address).await } else { Connection::h1(address).await };
        check(&connection.unwrap().send(get("/")).await.unwrap(), Reason::UpstreamTimeout);
    }
}
