//! Plugins that were written with the SDK and built as users build them, through the host.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use http::request;
use penstock_core::plugin::{ActiveRevision, FaultKind, PluginSpec, PolicyWorker};
use penstock_testing::guests::{self, CALLER, FAULTY, HEADER_RULES};
use support::{
    exchange::{on_request, on_request_of, on_response, once_called, request, token, with},
    facts::{Host, spec},
};

fn configured(name: &str, path: &str, config: serde_json::Value) -> PluginSpec {
    PluginSpec { config: config.into(), ..spec(name, guests::bytes(path)) }
}

#[test]
fn header_rules_changes_both_heads() {
    let host = Host::start();
    let config = serde_json::json!({ "rules": [
        {
            "when": { "path": { "prefix": "/a" }, "headers": [{ "name": "x-in", "exact": "2" }] },
            "request": {
                "rename": { "x-request": "x-renamed" },
                "set": { "x-set": "client ${client.address}" },
                "append": { "x-in": ["3", "4"] }
            },
            "response": {
                "rewrite": [{ "name": "server", "pattern": "^ori(gin)$", "replacement": "re${1}" }],
                "remove": ["x-response"]
            }
        },
        { "when": { "path": { "prefix": "/other" } }, "response": { "set": { "x-not": "here" } } }
    ] });
    let active = host.activate(&configured("rules", HEADER_RULES, config));
    assert_eq!(&*active.name, "header-rules");
    let worker = host.host.runtime().worker();
    let before = request();
    let (verdict, head) = on_request(&*worker, &active).unwrap();
    let values = |name| head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(values("x-set"), ["client 192.0.2.7"]);
    assert_eq!(values("x-in"), ["1", "2", "3", "4"]);
    assert_eq!((values("x-renamed"), values("x-request")), (vec!["before"], vec![]));
    let (_, head) = on_response(&*worker, &active, token(&verdict), Some(&before)).unwrap();
    assert_eq!(head.headers["server"], "regin");
    assert!(!head.headers.contains_key("x-response") && !head.headers.contains_key("x-not"));
}

#[test]
fn a_configuration_that_does_not_fit_is_explained() {
    let host = Host::start();
    let refused = |config| {
        let rejection = host.host.validate(&configured("rules", HEADER_RULES, config)).unwrap_err();
        (rejection.reason, rejection.message)
    };
    let (reason, message) = refused(serde_json::json!({ "rules": [{ "reqest": {} }] }));
    assert_eq!(reason, "InvalidConfig");
    assert!(
        message.starts_with("spec.config: /rules/0/reqest: unknown field `reqest`; did you mean `request`?"),
        "{message}"
    );
    let (reason, message) = refused(serde_json::json!({ "rules": [{ "request": { "set": { "x-a": 1 } } }] }));
    assert_eq!(
        (reason, &*message),
        ("InvalidConfig", r#"spec.config: /rules/0/request/set/x-a: the value is not of type "string""#)
    );
    let (reason, message) = refused(serde_json::Value::Null);
    assert_eq!((reason, &*message), ("InvalidConfig", "spec.config: /: the field `rules` is missing"));
    // Right by the schema, and still wrong: the plugin itself says so.
    let (reason, message) =
        refused(serde_json::json!({ "rules": [{ "request": { "set": { "connection": "close" } } }] }));
    assert_eq!(reason, "InvalidConfig");
    assert!(message.starts_with("spec.config: /rules/0/request/set/connection: "), "{message}");
}

fn trigger(worker: &dyn PolicyWorker, active: &ActiveRevision) -> FaultKind {
    let mut head: request::Parts = request();
    with(&mut head.headers, ("x-fault", "1"));
    on_request_of(worker, active, head).unwrap_err().kind
}

#[test]
fn faults_of_compiled_code() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    for (generation, (fault, kind)) in [
        ("trap", FaultKind::Trap),
        ("recursion", FaultKind::Trap),
        ("loop", FaultKind::Deadline),
        ("memory", FaultKind::Memory),
        ("undeclared-write", FaultKind::InvalidAnswer),
    ]
    .into_iter()
    .enumerate()
    {
        let config = serde_json::json!({ "fault": fault, "at": "request", "mark": "m" });
        let mut spec = configured("faulty", FAULTY, config);
        spec.generation = generation.try_into().unwrap();
        if kind == FaultKind::Memory {
            // It writes to what it takes, and the kernel needs longer than a hook may to hand out 16 MiB.
            spec.limits.hook_time = Duration::from_secs(5);
        }
        let active = host.activate(&spec);
        assert_eq!(trigger(&*worker, &active), kind, "{fault}");
        assert!(once_called(|| on_request(&*worker, &active)).is_ok(), "{fault}: the next one");
    }
}

#[test]
fn a_capability_that_is_not_granted_is_refused_by_name() {
    let host = Host::start();
    let rejection =
        host.host.validate(&configured("caller", CALLER, serde_json::json!({ "backend": "a" }))).unwrap_err();
    assert_eq!(rejection.reason, "ImportNotGranted");
    assert!(rejection.message.contains("`penstock:plugin/outbound-http@0.1.0`"), "{rejection:?}");
}
