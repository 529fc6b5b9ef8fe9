//! What becomes of requests, and what the backend and the client get.

mod support;

use ext_auth::ExtAuth;
use penstock_plugin::{
    capability::outbound::OutboundError,
    testing::{Received, Sent},
};
use serde_json::json;
use support::{Answered, Guarded, Service, says};

fn count(harness: &Guarded, outcome: &str) -> Option<f64> {
    harness.gateway().metric("decisions", &[outcome])
}

#[track_caller]
fn refused(sent: &Sent<'_, ExtAuth>) -> Received {
    sent.reply().expect("it is refused").clone()
}

#[test]
fn what_the_service_allows_goes_on() {
    for status in [200, 202, 204, 299] {
        let service = Service::answering(says(status, &[("x-other", "1")], "ignored"));
        let harness = service.guards(json!({}));
        let sent = harness.get("/").header("x-own", "1").run();
        assert!(sent.reply().is_none() && sent.edits().is_empty(), "{status}");
        assert_eq!(count(&harness, "allowed"), Some(1.0));
    }
}

#[test]
fn a_response_is_not_touched() {
    let service = Service::answering(says(200, &[], ""));
    let harness = service.guards(json!({"allowed": {"requestHeaders": ["x-user"]}}));
    assert_eq!(harness.plan().hooks(), penstock_plugin::Hooks::REQUEST_HEADERS);
}

#[test]
fn the_backend_gets_what_the_service_says_and_not_what_the_client_does() {
    let service = Service::answering(says(200, &[("x-user", "anna"), ("x-group", "a"), ("x-group", "b")], ""));
    let harness = service.guards(json!({"allowed": {"requestHeaders": ["X-User", "x-group", "x-role"]}}));
    let request = || harness.get("/").header("x-user", "root").header("x-group", "wheel").header("x-role", "admin");
    let sent = request().header("x-own", "1").run();
    assert_eq!(
        (sent.all("x-user"), sent.all("x-group")),
        (vec!["anna".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert!(!sent.has("x-role"), "the service has said nothing of it");
    assert_eq!(sent.all("x-own"), ["1"]);
}

#[test]
fn prefixes_stand_for_all_names_that_begin_so() {
    let answer =
        says(200, &[("x-auth-user", "anna"), ("x-auth-group", "a"), ("x-auth-group", "b"), ("x-other", "1")], "");
    let service = Service::answering(answer);
    let harness = service.guards(json!({"allowed": {"requestHeaders": ["x-auth-*", "x-auth-user"]}}));
    let sent =
        harness.get("/").header("x-auth-user", "root").header("x-auth-role", "admin").header("x-other", "2").run();
    assert_eq!(
        (sent.all("x-auth-user"), sent.all("x-auth-group")),
        (vec!["anna".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert!(!sent.has("x-auth-role"));
    assert_eq!(sent.all("x-other"), ["2"]);
}

#[test]
fn names_that_backends_take_for_vouched_ones_are_forgotten_too() {
    let service = Service::answering(says(200, &[("x-auth-user", "anna")], ""));
    let config = json!({"allowed": {"requestHeaders": ["x-auth-user", "x-role-*"]}, "exempt": [{"paths": ["/free"]}]});
    let harness = service.guards(config);
    for path in ["/", "/free"] {
        let forged = ["X_Auth_User", "x-auth_user", "x_auth-user", "x.auth.user", "x_role_admin", "x-role_admin"];
        let request = forged.iter().fold(harness.get(path), |request, name| request.header(name, "root"));
        let sent = request.header("x_auth_users", "1").header("x_own", "1").run();
        for name in forged {
            assert!(!sent.has(&name.to_ascii_lowercase()), "{name} of {path}");
        }
        assert_eq!((sent.all("x_auth_users"), sent.all("x_own")), (vec!["1".to_owned()], vec!["1".to_owned()]));
        let vouched = sent.all("x-auth-user");
        assert_eq!(vouched, if path == "/" { vec!["anna".to_owned()] } else { vec![] });
    }
    // The service may be behind CGI as well.
    let request =
        harness.get("/").header("x_forwarded_user", "root").header("x_forwarded_for", "1").header("x_own", "1");
    assert!(request.run().reply().is_none());
    assert_eq!((service.told("x_forwarded_user"), service.told("x_forwarded_for")), (vec![], vec![]));
    assert_eq!(service.told("x_own"), ["1"]);
}

#[test]
fn more_names_than_the_gateway_lets_go_are_refused() {
    let service = Service::answering(says(200, &[], ""));
    let config = json!({"allowed": {"requestHeaders": ["x-auth-*"]}, "exempt": [{"paths": ["/free"]}]});
    let harness = service.guards(config);
    let many = |count: u32| {
        let request =
            (0..count).fold(harness.get("/free"), |request, index| request.header(&format!("x-auth-{index}"), "1"));
        let sent = request.run();
        (sent.reply().map(|reply| reply.status()), sent.edits().len())
    };
    assert_eq!(many(500), (None, 500));
    assert_eq!(many(1500), (Some(431), 0), "more edits than the gateway takes: it was a fault");
}

#[test]
fn what_the_service_refuses_is_answered_as_it_says() {
    let headers = [
        ("content-type", "text/html"),
        ("location", "https://login.example/?rd=%2F"),
        ("www-authenticate", "Bearer"),
        ("set-cookie", "csrf=1"),
        ("set-cookie", "state=2"),
        ("content-length", "5"),
        ("connection", "close"),
    ];
    for status in [302, 401, 403, 404, 429] {
        let service = Service::answering(says(status, &headers, "<hi/>"));
        let harness = service.guards(json!({}));
        let reply = refused(&harness.get("/").run());
        assert_eq!((reply.status(), reply.body()), (status, Some(&b"<hi/>"[..])));
        assert_eq!(reply.all("location"), ["https://login.example/?rd=%2F"]);
        assert_eq!(reply.all("set-cookie"), ["csrf=1", "state=2"]);
        assert_eq!(
            (reply.all("www-authenticate"), reply.all("content-type")),
            (vec!["Bearer".into()], vec!["text/html".into()])
        );
        assert_eq!(count(&harness, "denied"), Some(1.0));
    }
}

#[test]
fn the_client_gets_the_headers_that_are_named_and_those_without_which_nothing_works() {
    let headers = [
        ("location", "/login"),
        ("content-type", "text/plain"),
        ("set-cookie", "a=1"),
        ("x-error-code", "7"),
        ("server", "auth"),
    ];
    let service = Service::answering(says(302, &headers, ""));
    let harness = service.guards(json!({"denied": {"responseHeaders": ["X-Error-*"]}}));
    let reply = refused(&harness.get("/").run());
    assert_eq!((reply.all("location"), reply.all("x-error-code")), (vec!["/login".into()], vec!["7".into()]));
    assert!(reply.has("content-type") && !reply.has("set-cookie") && !reply.has("server"));
}

/// What a client cannot bring about: the service is away or broken.
fn undecided() -> [Answered; 5] {
    [
        says(500, &[("x-user", "root")], "stack trace"),
        says(503, &[], ""),
        says(600, &[], ""),
        Err(OutboundError::Timeout),
        Err(OutboundError::Connect("refused".into())),
    ]
}

/// What a client may be able to bring about, or what is a mistake in the resource.
fn unusable() -> [Answered; 6] {
    [
        says(403, &[], vec![b'x'; (1 << 20) + 1]),
        Err(OutboundError::TooLarge(65536)),
        Err(OutboundError::Protocol("the connection was reset".into())),
        Err(OutboundError::InvalidRequest("no".into())),
        Err(OutboundError::UnknownBackend(vec!["auth".into()])),
        Err(OutboundError::Quota),
    ]
}

#[test]
fn without_a_decision_nobody_passes() {
    for (given, status) in [(None, 503), (Some(403), 403)] {
        let service = Service::answering(Err(OutboundError::Timeout));
        let mut config = json!({"onError": "Deny"});
        config["errorStatus"] = json!(given);
        let harness = service.guards(config);
        for answer in undecided().into_iter().chain(unusable()) {
            service.answer(answer);
            let reply = refused(&harness.get("/").run());
            assert_eq!(reply.status(), status);
            let body = String::from_utf8_lossy(reply.body().unwrap_or_default()).into_owned();
            assert!(body.starts_with("it cannot be decided"), "nothing of the service's own trouble: {body}");
        }
        assert_eq!(count(&harness, "failed_closed"), Some(11.0));
    }
}

#[test]
fn requests_pass_without_a_decision_where_that_is_wanted_and_bring_nothing_along() {
    let service = Service::answering(Err(OutboundError::Timeout));
    let harness = service.guards(json!({"onError": "Allow", "allowed": {"requestHeaders": ["x-user", "x-auth-*"]}}));
    for answer in undecided() {
        service.answer(answer);
        let sent = harness.get("/").header("x-user", "root").header("x-auth-role", "admin").run();
        assert!(sent.reply().is_none());
        assert!(!sent.has("x-user") && !sent.has("x-auth-role"), "nobody vouches for them");
    }
    assert_eq!(count(&harness, "failed_open"), Some(5.0));
}

#[test]
fn what_a_client_may_bring_about_lets_nobody_pass() {
    let service = Service::answering(Err(OutboundError::Timeout));
    let harness = service.guards(json!({"onError": "Allow"}));
    for answer in unusable() {
        service.answer(answer);
        assert_eq!(refused(&harness.get("/").run()).status(), 503);
    }
    assert_eq!((count(&harness, "failed_closed"), count(&harness, "failed_open")), (Some(6.0), None));
}

#[test]
fn a_backend_that_was_not_granted_refuses_everybody() {
    let service = Service::answering(says(200, &[], ""));
    let harness = service.guards(json!({"service": {"backend": "elsewhere"}, "onError": "Allow"}));
    assert_eq!(refused(&harness.get("/").run()).status(), 503);
    assert!(service.asked().is_empty());
}

#[test]
fn exempt_requests_pass_unasked_and_bring_nothing_along() {
    let service = Service::answering(says(401, &[], ""));
    let harness = service.guards(json!({
        "allowed": {"requestHeaders": ["x-user"]},
        "exempt": [{"paths": ["/healthz", "/static/**"]}, {"methods": ["OPTIONS"], "clientAddresses": ["192.0.2.0/24"]}],
    }));
    for (method, path, passes) in [
        ("GET", "/healthz", true),
        ("GET", "/healthz?x=/static/", true),
        ("GET", "/static/a/b.css", true),
        ("OPTIONS", "/", true),
        ("GET", "/", false),
        ("GET", "/healthz/", false),
        ("GET", "/?/healthz", false),
    ] {
        let sent = harness.request(method, path).header("x-user", "root").run();
        assert_eq!(sent.reply().is_none(), passes, "{method} {path}");
        assert!(!(passes && sent.has("x-user")), "{method} {path}");
    }
    assert_eq!(service.asked().len(), 3);
    assert_eq!((count(&harness, "exempt"), count(&harness, "denied")), (Some(4.0), Some(3.0)));
    let other = harness.request("OPTIONS", "/").header(":client-address", "198.51.100.1").run();
    assert_eq!(refused(&other).status(), 401, "all parts of a condition must hold");
}
