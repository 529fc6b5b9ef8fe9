//! Requests there, responses back.

use penstock_testing::{
    client::{Connection, Raw, get, post, request},
    origin::{Answer, Origin},
};

use crate::support::{Gateway, to, to_h2};

#[tokio::test]
async fn http1_to_http1() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut connection = Connection::h1(address).await.unwrap();
    for _ in 0..3 {
        let response = connection.send(get("/hello?a=b").host("example.com").header("x-a", "1")).await.unwrap();
        assert_eq!(response.status, 200);
        let echo = response.json();
        assert_eq!(echo["path"], "/hello?a=b");
        assert_eq!(echo["authority"], "example.com");
        assert_eq!(echo["headers"]["x-a"][0], "1");
    }
    let response = connection.send(post("/", "body")).await.unwrap();
    assert_eq!(response.json()["body"], "body");
    let requests = origin.requests();
    assert!(requests.iter().all(|request| request.connection == 0), "one client, one worker, one upstream connection");
}

#[tokio::test]
async fn all_combinations_of_protocols() {
    let origin = Origin::start();
    for rule in [to(&[origin.address()]), to_h2(&[origin.address()])] {
        let (_gateway, address) = Gateway::serving(vec![rule]);
        for h2 in [false, true] {
            let connection = if h2 { Connection::h2(address).await } else { Connection::h1(address).await };
            let mut connection = connection.unwrap();
            let large = "x".repeat(300_000);
            let response = connection.send(post("/p?q", large.clone()).host("a.example:81")).await.unwrap();
            assert_eq!(response.status, 200);
            let echo = response.json();
            assert_eq!(echo["authority"], "a.example:81");
            assert_eq!(echo["path"], "/p?q");
            assert_eq!(echo["body"], large);
            let response = connection.send(request("HEAD", "/head")).await.unwrap();
            assert_eq!((response.status, response.body.len()), (200, 0));
            assert_ne!(response.header("content-length"), "");
            assert_ne!(
                response.header("content-length"),
                "0",
                "a HEAD response tells the length of what GET would bring"
            );
            let response = connection.send(get("/again")).await.unwrap();
            assert_eq!(response.json()["path"], "/again");
        }
    }
}

#[tokio::test]
async fn responses_without_a_body() {
    for status in [204, 304] {
        let origin = Origin::answering(Answer::new(status).header("x-a", "1"));
        let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
        let mut connection = Connection::h1(address).await.unwrap();
        for _ in 0..2 {
            let response = connection.send(get("/")).await.unwrap();
            assert_eq!((response.status, response.header("x-a"), response.body.len()), (status, "1", 0));
        }
        assert_eq!(origin.requests().last().unwrap().connection, 0);
    }
}

#[tokio::test]
async fn http10_clients() {
    let origin = Origin::answering(Answer::new(200).chunk("a").chunk("b"));
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let response = Raw::exchange(address, "GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(response.starts_with("HTTP/1.0 200 "), "{response}");
    assert!(response.ends_with("\r\n\r\nab"), "no chunks for HTTP/1.0: {response}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let mut raw = Raw::connect(address).await.unwrap();
    let requests: String = (0..5).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
    raw.write(requests).await.unwrap();
    for n in 0..5 {
        let response = raw.read_response().await.unwrap();
        assert!(response.contains(&format!("\"path\":\"/{n}\"")), "{n}: {response}");
    }
}
