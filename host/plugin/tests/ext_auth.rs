//! The plugin `ext-auth` as a component, through the host.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

mod support;

use std::{sync::Arc, task::Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, request};
use penstock_core::plugin::{Capabilities, OutboundFailure, PluginSpec, Verdict};
use penstock_testing::guests::{self, EXT_AUTH};
use serde_json::{Value, json};
use support::{
    exchange::{facts, request, rule},
    facts::spec,
    outbound::{Answer, World, granted, poll, status, waiting},
};

fn ext_auth(mut config: Value) -> PluginSpec {
    config["service"] = json!({"backend": "auth", "path": "/verify", "timeout": "100ms"});
    config["allowed"] = json!({"requestHeaders": ["x-user", "x-auth-*"]});
    let outbound = vec![granted("auth")];
    PluginSpec {
        config: Arc::new(config),
        capabilities: Capabilities { metrics: true, outbound, ..Capabilities::default() },
        ..spec("auth", guests::bytes(EXT_AUTH))
    }
}

/// From somebody who says of himself that he is root.
fn pretender() -> request::Parts {
    let mut head = request();
    for name in ["x-user", "x-auth-role"] {
        head.headers.insert(name, HeaderValue::from_static("root"));
    }
    head
}

/// What becomes of the request of a [`pretender`] when the service says this.
fn verdict(world: &World, answer: Answer) -> (Verdict, request::Parts) {
    world.client.answer(answer);
    let mut head = pretender();
    let verdict = world.at_once(&mut head).unwrap();
    (verdict, head)
}

fn counted(world: &World, outcome: &str) -> f64 {
    let labels = format!(r#"{{plugin="default/auth",outcome="{outcome}"}}"#);
    world.host.metric(&format!("penstock_plugin_ext_auth_decisions_total{labels}"))
}

#[test]
fn the_service_is_asked_while_others_go_on_and_names_the_client() {
    let world = World::new(&ext_auth(json!({})));
    let (rule, mut first, mut second) = (rule(), pretender(), pretender());
    let facts = facts(&rule);
    let mut one = waiting(world.worker.on_request(&world.call, &facts, &mut first));
    let mut two = waiting(world.worker.on_request(&world.call, &facts, &mut second));
    assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
    world.client.last(|asked| {
        let (request, header) = (&asked.request, |name: &str| asked.request.headers()[name].to_str().unwrap());
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("GET", "/verify"));
        assert_eq!((header("host"), header("x-forwarded-uri")), ("auth.default", "/a?b=c"));
        assert_eq!(header("x-original-url"), "https://a.example/a?b=c");
        assert_eq!(request.headers().get_all("x-in").iter().count(), 2, "all of the client's headers");
        assert!(request.body().is_empty() && asked.timeout.as_millis() <= 100);
    });
    let allowed = Response::builder().header("x-user", "anna").header("x-auth-group", "a").header("x-auth-group", "b");
    world.client.answer(Ok(allowed.body(Bytes::new()).unwrap()));
    assert!(matches!(poll(&mut two), Poll::Ready(Ok(Verdict::Proceed(_)))));
    world.client.answer(status(401));
    assert!(matches!(poll(&mut one), Poll::Ready(Ok(Verdict::Reply(_)))));
    drop((one, two));
    assert_eq!(second.headers["x-user"], "anna");
    assert_eq!(second.headers.get_all("x-auth-group").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!second.headers.contains_key("x-auth-role"), "the service has said nothing of it");
    assert_eq!((counted(&world, "allowed"), counted(&world, "denied")), (1.0, 1.0));
}

#[test]
fn a_refusal_reaches_the_client_as_it_is() {
    let world = World::new(&ext_auth(json!({})));
    let refusal = Response::builder().status(302).header("location", "/login").header("set-cookie", "a=1");
    let refusal = refusal.header("set-cookie", "b=2").header("content-type", "text/plain");
    let (verdict, _) = verdict(&world, Ok(refusal.body(Bytes::from("log in")).unwrap()));
    let Verdict::Reply(reply) = verdict else { panic!("{verdict:?}") };
    assert_eq!((reply.status().as_u16(), reply.body().as_ref()), (302, &b"log in"[..]));
    assert_eq!(
        (&reply.headers()["location"], &reply.headers()["content-type"]),
        (&"/login".parse().unwrap(), &"text/plain".parse().unwrap())
    );
    assert_eq!(reply.headers().get_all("set-cookie").iter().count(), 2);
}

#[test]
fn while_the_service_is_away_on_error_decides() {
    let failures = || [Err(OutboundFailure::Connect("refused".into())), Err(OutboundFailure::Timeout), status(500)];
    let closed = World::new(&ext_auth(json!({"errorStatus": 403})));
    for failure in failures() {
        let (verdict, _) = verdict(&closed, failure);
        assert!(matches!(&verdict, Verdict::Reply(reply) if reply.status().as_u16() == 403), "{verdict:?}");
    }
    assert_eq!(counted(&closed, "failed_closed"), 3.0);

    let open = World::new(&ext_auth(json!({"onError": "Allow"})));
    for failure in failures() {
        let (verdict, head) = verdict(&open, failure);
        assert!(matches!(verdict, Verdict::Proceed(_)), "{verdict:?}");
        assert!(!head.headers.contains_key("x-user") && !head.headers.contains_key("x-auth-role"));
    }
    let (too_large, _) = verdict(&open, Err(OutboundFailure::TooLarge(1000)));
    assert!(matches!(too_large, Verdict::Reply(_)), "that was an answer: {too_large:?}");
    assert_eq!((counted(&open, "failed_open"), counted(&open, "failed_closed")), (3.0, 1.0));
}

#[test]
fn heads_of_64_kib_do_not_fault() {
    let mut spec = ext_auth(json!({}));
    Arc::make_mut(&mut spec.config)["service"] = json!({"backend": "auth", "pathPrefix": "/authz"});
    let world = World::new(&spec);
    let many = (0..1800).map(|index| format!("x-auth-{index}")).collect::<Vec<_>>();
    let heads = [
        Box::new(|head: &mut request::Parts| head.uri = format!("/{}", "a\"{".repeat(20_000)).parse().unwrap())
            as Box<dyn Fn(&mut request::Parts)>,
        Box::new(|head| drop(head.headers.insert("x-a", HeaderValue::from_bytes(&[b'a'; 60_000]).unwrap()))),
        Box::new(move |head| {
            for name in &many {
                head.headers.insert(name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_static("1"));
            }
        }),
    ];
    for (index, change) in heads.iter().enumerate() {
        world.client.answer(status(200));
        let mut head = request();
        change(&mut head);
        let result = world.at_once(&mut head);
        assert!(result.is_ok(), "head {index}: {result:?}");
    }
}

#[test]
fn exempt_requests_ask_nobody() {
    let world = World::new(&ext_auth(json!({"exempt": [{"paths": ["/a/**"]}]})));
    let mut head = pretender();
    assert!(matches!(world.at_once(&mut head), Ok(Verdict::Proceed(_))));
    assert!(!head.headers.contains_key("x-user") && !head.headers.contains_key("x-auth-role"));
    assert_eq!((world.client.asked(), counted(&world, "exempt")), (0, 1.0));
}
