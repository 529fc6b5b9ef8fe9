//! Policies through the host, as the proxy and the controller use it.

mod support;

use support::{
    exchange::{on_request, on_response, token},
    facts::{Host, spec},
    guest::Guest,
};

#[test]
fn a_policy_edits_both_heads() {
    let host = Host::start();
    let active = host.activate(&spec("a", Guest::default().build()));
    assert_eq!((&*active.name, &*active.version), ("test", "1.0.0"));
    assert!(active.hooks.request && active.hooks.response && !active.hooks.keeps_request);

    let worker = host.host.runtime().worker();
    let (verdict, head) = on_request(&*worker, &active).unwrap();
    assert_eq!(token(&verdict), 7);
    assert_eq!(head.headers["x-request"], "1");
    let (_, head) = on_response(&*worker, &active, 7, None).unwrap();
    assert_eq!(head.headers["x-response"], "1");
}
