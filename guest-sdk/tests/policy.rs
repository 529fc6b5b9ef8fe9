//! The harness holds policies to the rules of the gateway.

use std::cell::RefCell;

use penstock_plugin::{
    capability::{clock, counters, exchange, key_value, log, metrics, outbound, random, rate_limit},
    header::{InvalidName, InvalidValue},
    prelude::*,
    testing::*,
};
use serde_json::json;

thread_local! {
    static NEXT: RefCell<Option<Scripted>> = const { RefCell::new(None) };
}

/// Does what a test says.
struct Scripted {
    plan: Plan,
    request: Box<dyn Fn(&Request) -> Verdict>,
    response: Box<dyn Fn(&Response) -> Verdict>,
}

impl Policy for Scripted {
    type Config = ();

    fn configure((): ()) -> Result<Self, Problems> {
        NEXT.take().ok_or_else(|| "no script".into())
    }

    fn plan(&self) -> Plan {
        self.plan.clone()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        (self.request)(request)
    }

    fn on_response(&self, response: &Response) -> Verdict {
        (self.response)(response)
    }
}

fn on(
    gateway: Gateway,
    plan: Plan,
    request: impl Fn(&Request) -> Verdict + 'static,
    response: impl Fn(&Response) -> Verdict + 'static,
) -> Harness<Scripted> {
    NEXT.set(Some(Scripted { plan, request: Box::new(request), response: Box::new(response) }));
    Harness::on(gateway, &json!(null)).expect("the plan is good")
}

fn request(plan: Plan, hook: impl Fn(&Request) + 'static) -> Harness<Scripted> {
    let hook = move |request: &Request| {
        hook(request);
        Verdict::Proceed
    };
    on(Gateway::new(), plan, hook, |_| Verdict::Proceed)
}

/// The fault that a request hook earns.
fn fault(plan: Plan, hook: impl Fn(&Request) + 'static) -> Fault {
    request(plan, hook).get("/").try_run().err().expect("the answer is a fault")
}

#[test]
fn undeclared_writes_are_faults() {
    let plan = || Plan::new().request_writes(["x-a", "x-tenant-*"]);
    let declared = vec!["x-a".to_owned(), "x-tenant-*".to_owned()];
    let undeclared = |name: &str| Fault::UndeclaredWrite { name: name.to_owned(), declared: declared.clone() };
    assert_eq!(fault(plan(), |request| request.set("x-b", "1")), undeclared("x-b"));
    assert_eq!(fault(plan(), |request| request.append("X-Tenant", "1")), undeclared("x-tenant"));
    assert_eq!(fault(plan(), |request| request.remove("x-b")), undeclared("x-b"));
    assert_eq!(fault(plan(), |request| request.set_known(2, "1")), Fault::UnknownIndex { index: 2, declared: 2 },);
    assert_eq!(
        fault(plan(), |request| request.remove_known(1)),
        Fault::UnknownIndex { index: 1, declared: 2 },
        "a prefix has no use as an index",
    );
    let sent = request(plan(), |request| request.set("X-Tenant-Id", "7")).get("/").run().first("x-tenant-id");
    assert_eq!(sent.as_deref(), Some("7"));
}

#[test]
fn names_and_values_are_checked() {
    let all = || Plan::new().request_writes(["*", ":path"]);
    let name = |name: &str, reason| Fault::InvalidName { name: name.to_owned(), reason };
    let value = |name: &str, reason| Fault::InvalidValue { name: name.to_owned(), reason };
    assert_eq!(fault(all(), |r| r.set("x a", "1")), name("x a", InvalidName::NotAToken));
    assert_eq!(fault(all(), |r| r.remove("Upgrade")), name("upgrade", InvalidName::Connection));
    assert_eq!(fault(all(), |r| r.set("content-length", 3_u64)), name("content-length", InvalidName::ContentLength));
    assert_eq!(fault(all(), |r| r.set("x-a", "1\n2")), value("x-a", InvalidValue::Control(b'\n')));
    assert_eq!(fault(all(), |r| r.append(":path", "/a")), Fault::OnlySet(":path".to_owned()));
    assert!(matches!(fault(all(), |r| r.set(":path", "a")), Fault::InvalidValue { .. }));
    assert!(matches!(fault(all(), |r| r.set(":method", "GET")), Fault::UndeclaredWrite { .. }));
}

#[test]
fn answers_have_limits() {
    let plan = || Plan::new().request_writes(["x-a"]);
    let many = |count: usize| move |request: &Request| (0..count).for_each(|_| request.append("x-a", "1"));
    assert_eq!(fault(plan(), many(1025)), Fault::TooMany { found: 1025, most: 1024 });
    assert!(request(plan(), many(1024)).get("/").try_run().is_ok());
    let large = |request: &Request| request.set("x-a", vec![b'a'; 256 * 1024 + 1]);
    assert!(matches!(fault(plan(), large), Fault::TooLarge { .. }));
}

#[test]
fn a_fault_changes_nothing_and_good_edits_apply_in_order() {
    let harness = request(Plan::new().request_writes(["x-a"]), |request| {
        request.set("x-a", "1");
        request.append("X-A", "2");
        request.remove("x-a");
        request.append("x-a", b"\xff");
        request.append("x-a", "3");
    });
    let sent = harness.get("/").header("x-a", "0").run();
    assert_eq!(sent.bytes("x-a"), [&b"\xff"[..], b"3"]);
    assert_eq!(sent.edits().len(), 5);
}

#[test]
fn reads_see_what_arrived_declared_or_not() {
    let harness =
        request(Plan::new().request_reads(["X-Declared"]).request_writes(["x-declared", "x-out"]), |request| {
            request.set("x-declared", "changed");
            let declared = request.header("x-DECLARED").joined().unwrap().into_owned();
            let lazy = request.header("X-Lazy").joined().unwrap().into_owned();
            let absent = request.header("x-absent").len();
            request.set(
                "x-out",
                format!("{} {} {absent}", String::from_utf8_lossy(&declared), String::from_utf8_lossy(&lazy)),
            );
        });
    let sent = harness.get("/").header("x-declared", "1").header("x-declared", "2").header("x-lazy", "3").run();
    assert_eq!(sent.all("x-out"), ["1, 2 3 0"]);
}

#[test]
fn pseudo_headers_have_names_of_their_own() {
    let harness = request(Plan::new().request_reads([":path", "host"]).request_writes(["x-out"]), |request| {
        request.set(
            "x-out",
            format!(
                "{} {} {} {} {:?} {}",
                request.method(),
                request.scheme(),
                request.authority(),
                request.path(),
                request.query(),
                request.client_address()
            ),
        );
    });
    let sent = harness.request("PUT", "/a?b=c").header("Host", "shop.example").run();
    assert_eq!(sent.all("x-out"), ["PUT http shop.example /a Some(\"b=c\") 192.0.2.1"]);
}

#[test]
fn hooks_that_the_plan_does_not_name_are_not_called() {
    let silent = on(Gateway::new(), Plan::new(), |_| panic!("called"), |_| panic!("called"));
    assert_eq!(silent.get("/").run().respond(200).run().edits(), []);
}

#[test]
fn a_token_goes_from_request_to_response() {
    let plan = Plan::new().on_request().response_writes(["x-token"]);
    let harness = on(
        Gateway::new(),
        plan,
        |_| Verdict::ProceedWith(42),
        |response| {
            response.set("x-token", response.token());
            Verdict::Proceed
        },
    );
    assert_eq!(harness.get("/").run().respond(200).run().all("x-token"), ["42"]);
}

#[test]
fn what_is_carried_of_the_request_is_there_for_the_response() {
    let plan = Plan::new().response_reads(["server"]).carried_reads(["x-user", ":method"]).response_writes(["x-out"]);
    let hook = |response: &Response| {
        let user = response.request_header("X-User");
        let method = response.request_header(":method");
        let server = response.header("server");
        response
            .set("x-out", [user.to_str(), method.to_str(), server.to_str()].map(Option::unwrap_or_default).join(" "));
        assert!(exchange::request_headers().is_empty(), "the rest of the request is gone");
        Verdict::Proceed
    };
    let harness = on(Gateway::new(), plan, |_| Verdict::Proceed, hook);
    let sent = harness.get("/").header("x-user", "anna").run();
    assert_eq!(sent.respond(200).header("Server", "origin").run().all("x-out"), ["anna GET origin"]);
}

#[test]
#[should_panic(expected = "declare it with Plan::carried_reads")]
fn what_is_not_carried_is_no_absent_header() {
    let hook = |response: &Response| {
        let _ = response.request_header("x-user");
        Verdict::Proceed
    };
    let harness = on(Gateway::new(), Plan::new().on_response(), |_| Verdict::Proceed, hook);
    let _ = harness.get("/").run().respond(200).run();
}

#[test]
fn replies_are_checked_too() {
    let reply = |reply: fn() -> Reply| {
        let harness = on(Gateway::new(), Plan::new().on_request(), move |_| reply().into(), |_| Verdict::Proceed);
        harness.get("/").try_run().map(|sent| sent.reply().cloned())
    };
    let good = reply(|| Reply::new(429).header("Retry-After", 3_u64).json(&json!({"a": 1}))).unwrap().unwrap();
    assert_eq!((good.status(), good.body()), (429, Some(&br#"{"a":1}"#[..])));
    assert_eq!(
        (good.all("retry-after"), good.all("content-type")),
        (vec!["3".into()], vec!["application/json".into()])
    );
    assert_eq!(reply(|| Reply::new(101)).unwrap_err(), Fault::InvalidReply(101));
    assert!(matches!(reply(|| Reply::new(200).header("te", "x")), Err(Fault::InvalidName { .. })));
    assert!(matches!(reply(|| Reply::new(200).header(":status", "200")), Err(Fault::OnlySet(_))));
    assert!(matches!(reply(|| Reply::new(200).header("x", "\n")), Err(Fault::InvalidValue { .. })));
    assert!(matches!(reply(|| Reply::new(200).body(vec![0; (1 << 20) + 1])), Err(Fault::TooLarge { .. })));
}

#[test]
fn capabilities_are_played() {
    use std::time::Duration;

    let gateway = Gateway::new()
        .bucket("login", 2, Duration::from_secs(60))
        .backend("auth", |method, path| (200, format!("{method} {path}").into_bytes()))
        .silent_backend("slow");
    let hook = |_: &Request| {
        let left = rate_limit::take("login", b"anna", 1).unwrap();
        let spare = rate_limit::peek("login", b"bert", 1).unwrap();
        assert_eq!((spare.remaining, spare.limit), (2, 2));
        assert!(matches!(rate_limit::take("other", b"", 1), Err(rate_limit::RateLimitError::UnknownBucket(_))));
        let count = counters::add("seen", 1, Some(Duration::from_secs(10)));
        key_value::set("last", &count.to_le_bytes(), None).unwrap();
        assert!(key_value::compare_and_set("last", Some(&count.to_le_bytes()), b"x", None).unwrap());
        assert!(!key_value::compare_and_set("last", None, b"y", None).unwrap());
        assert_eq!(key_value::get("last").as_deref(), Some(&b"x"[..]));
        key_value::delete("last");
        assert_eq!(key_value::get("last"), None);
        let answer = outbound::Call::get("auth", "/verify").header("a", "b").send().unwrap();
        assert_eq!((answer.status(), answer.body()), (200, &b"GET /verify"[..]));
        assert!(matches!(outbound::Call::get("slow", "/").send(), Err(outbound::OutboundError::Timeout)));
        assert!(matches!(outbound::Call::get("none", "/").send(), Err(outbound::OutboundError::UnknownBackend(_))));
        assert_eq!(random::bytes(9).len(), 9);
        assert_ne!(random::next(), random::next());
        assert_eq!(exchange::client().address, "192.0.2.1");
        log::line(log::Level::Warn, "seen", &[("count", &count.to_string())]);
        let _ = clock::now();
        if left.allowed { Verdict::Proceed } else { Reply::new(429).header("x-reset", left.reset_ms).into() }
    };
    let harness = on(gateway, Plan::new().on_request(), hook, |_| Verdict::Proceed);
    let limited = || harness.get("/").run().reply().and_then(|reply| reply.first("x-reset"));
    assert_eq!((limited(), limited()), (None, None));
    harness.gateway().advance(Duration::from_secs(20));
    assert_eq!(limited().as_deref(), Some("40000"));
    harness.gateway().advance(Duration::from_secs(40));
    assert_eq!(limited(), None);
    let counts: Vec<_> = harness.gateway().log().into_iter().map(|line| line.fields[0].1.clone()).collect();
    assert_eq!(counts, ["1", "2", "1", "1"], "counters expire");
}

/// Counts requests by method.
struct Counting(metrics::Counter);

impl Policy for Counting {
    type Config = Vec<String>;

    fn configure(labels: Vec<String>) -> Result<Self, Problems> {
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        metrics::Counter::register("requests", "Requests seen.", &["method"]).map_err(|error| format!("{error:?}"))?;
        metrics::Counter::register("requests", "Requests seen.", &labels)
            .map(Self)
            .map_err(|error| format!("{error:?}").into())
    }

    fn plan(&self) -> Plan {
        Plan::new().request_reads([":method"])
    }

    fn on_request(&self, request: &Request) -> Verdict {
        self.0.add(1, &[&request.method()]);
        Verdict::Proceed
    }
}

#[test]
fn metrics_are_registered_once_and_counted_by_label() {
    let harness = Harness::<Counting>::new(json!(["method"]));
    let _ = (harness.get("/").run(), harness.get("/").run(), harness.request("PUT", "/").run());
    assert_eq!(harness.gateway().metric("requests", &["GET"]), Some(2.0));
    assert_eq!(harness.gateway().metric("requests", &["PUT"]), Some(1.0));
    let problems = Harness::<Counting>::try_new(json!(["path"])).err().unwrap();
    assert!(problems.to_string().contains("Conflict"), "{problems}");
}
