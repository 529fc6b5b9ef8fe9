//! Plugins that were written with the SDK and built as users build them, through the host.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{num::NonZeroU32, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::request;
use penstock_core::plugin::{
    ActiveRevision, Capabilities, FaultKind, PluginLimits, PluginSpec, PolicyWorker, RateAlgorithm, RateLimit,
    RateWindow,
};
use penstock_testing::guests::{self, CALLER, FAULTY, HEADER_RULES, RATE_LIMIT};
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

/// Heads of 64 KiB, as clients may send them: one long value, many short ones, and what costs most to read.
fn long_heads() -> Vec<(&'static str, request::Parts)> {
    const ROOM: usize = 63 << 10;
    let with = |name: &'static str, fields: Vec<(&'static str, Vec<u8>)>| {
        let mut head = request();
        for (field, value) in fields {
            head.headers.append(field, http::HeaderValue::from_bytes(&value).unwrap());
        }
        (name, head)
    };
    let token = |claims: String| format!("Bearer x.{}.y", BASE64_URL_SAFE_NO_PAD.encode(claims)).into_bytes();
    let objects = |count: usize| format!("[{}0]", "{\"a\":0},".repeat(count));
    let path = |path: String| {
        let mut head = request();
        head.uri = path.parse().unwrap();
        head
    };
    vec![
        with("a long value", vec![("x-a", vec![b'a'; ROOM])]),
        with("a value that is not ASCII", vec![("x-a", vec![0xe4; ROOM])]),
        with("matches everywhere", vec![("x-a", b"ab0;".repeat(ROOM / 4))]),
        with("a value that paths hold encoded", vec![("x-a", vec![b'{'; ROOM])]),
        with("many values", (0..1800).map(|index: usize| ("x-a", format!("{index}a").into_bytes())).collect()),
        with(
            "searched whole",
            vec![("x-a", (0..64).map(|index| format!("{index}a")).collect::<String>().repeat(5).into_bytes())],
        ),
        with("a long token", vec![("authorization", token(objects(5000)))]),
        with("the longest token that is read", vec![("authorization", token(objects(750)))]),
        with("a deep token", vec![("authorization", token("[".repeat(6000)))]),
        with("a long cookie", vec![("cookie", b"a=b; ".repeat(ROOM / 5))]),
        ("a long path", path(format!("/{}", "a/".repeat(ROOM / 2)))),
        ("a long segment", path(format!("/{}", "a".repeat(ROOM)))),
        ("a long query", path(format!("/?{}", "%61=%62&".repeat(ROOM / 8)))),
    ]
}

/// A fault would count against everybody who uses the plugin. Hooks have fifty times the time that they have by default, so that it does not matter what else
/// the machine does: this is about what would take seconds, or more edits and memory than there are.
#[test]
fn heads_of_64_kib_fault_in_no_plugin() {
    let host = Host::start();
    let patterns = |count: usize| (0..count).map(|index| format!("{index}[a-z]+$"));
    let rewrite = |pattern: String| {
        serde_json::json!({ "request": {
        "rewrite": [{ "name": "x-a", "pattern": pattern, "replacement": "$0${request.path}" }],
        "append": { "x-b": "${request.header.x-a:-none}${request.header.cookie:-none}" },
    } })
    };
    let policy = |index: u32| {
        serde_json::json!({ "bucket": "api", "name": index.to_string(),
        "when": { "paths": ["/{a}/{b}/{c}", "/a/**"], "headers": [{ "name": "x-a", "present": true }] }, "key": [
            { "header": "x-a" }, { "cookie": "s" }, { "query": "q" }, { "jwtClaimVerifiedByEarlierFilter": { "claim": "sub" } },
            { "jwtClaimVerifiedByEarlierFilter": { "claim": "/0/a" } }, { "clientAddress": {} }, { "header": "cookie" },
            { "pathTemplate": { "templates": ["/{a}", "/{a}/{b}"], "keep": ["a"] } },
        ] })
    };
    let everywhere = |index: u32| {
        let mut policy = policy(index);
        policy.as_object_mut().unwrap().remove("when");
        policy
    };
    let capabilities = Capabilities {
        metrics: true,
        rate_limits: vec![RateLimit {
            name: "api".into(),
            algorithm: RateAlgorithm::SlidingWindow,
            limit: NonZeroU32::new(1_000_000).unwrap(),
            window: RateWindow::new(Duration::from_secs(60)).unwrap(),
            max_keys: RateLimit::USUAL_KEYS,
            redis: None,
        }],
        ..Capabilities::default()
    };
    let plugins = [
        ("rules", HEADER_RULES, serde_json::json!({ "rules": patterns(64).map(rewrite).collect::<Vec<_>>() })),
        (
            "paths",
            HEADER_RULES,
            serde_json::json!({ "rules": [{ "request": { "set": { ":path": "/${request.header.x-a:-none}" } } }] }),
        ),
        (
            "limits",
            RATE_LIMIT,
            serde_json::json!({ "policies": (0..8).map(policy).chain((8..16).map(everywhere)).collect::<Vec<_>>() }),
        ),
    ];
    for (name, path, config) in plugins {
        let (hook_time, configure_time) = (50 * PluginLimits::default().hook_time, Duration::from_secs(60));
        let limits = PluginLimits { hook_time, configure_time, ..PluginLimits::default() };
        let spec = PluginSpec { limits, capabilities: capabilities.clone(), ..configured(name, path, config) };
        let active = host.activate(&spec);
        let worker = host.host.runtime().worker();
        for (what, head) in long_heads() {
            let result = on_request_of(&*worker, &active, head);
            assert!(result.is_ok(), "{name}: {what}: {result:?}");
        }
    }
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
