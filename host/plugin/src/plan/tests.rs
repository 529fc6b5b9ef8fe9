use http::HeaderName;

use super::*;
use crate::names::Pseudo;

fn plan() -> wit::Plan {
    wit::Plan {
        hooks: wit::Hooks::REQUEST_HEADERS | wit::Hooks::RESPONSE_HEADERS,
        request_reads: vec![],
        response_reads: vec![],
        carried_reads: vec![],
        request_writes: vec![],
        response_writes: vec![],
        request_body: BodyMode::None,
        response_body: BodyMode::None,
    }
}

fn refused(change: impl FnOnce(&mut wit::Plan), expected: &str) {
    let mut plan = plan();
    change(&mut plan);
    assert_eq!(Plan::check(plan).unwrap_err().to_string(), expected);
}

#[test]
fn invalid_plans_are_refused_with_their_place() {
    refused(
        |plan| plan.request_reads = vec!["x-a".into(), "X-B".into()],
        "request-reads[1]: `X-B` cannot be read; lower case header names and `:method`, `:scheme`, `:authority`, `:path`, \
         `:client-address` can",
    );
    refused(
        |plan| plan.response_reads = vec![":status".into()],
        "response-reads[0]: `:status` cannot be read; lower case header names can (the status is an argument)",
    );
    refused(
        |plan| plan.carried_reads = vec![":status".into()],
        "carried-reads[0]: `:status` cannot be read; lower case header names and `:method`, `:scheme`, `:authority`, `:path`, \
         `:client-address` can",
    );
    refused(
        |plan| plan.request_writes = vec!["te".into()],
        "request-writes[0]: `te` belongs to the connection, not to the message",
    );
    refused(
        |plan| plan.response_writes = vec!["x-*".into(), "content-length".into()],
        "response-writes[1]: `content-length` is set by the gateway",
    );
    refused(|plan| plan.response_writes = vec!["x".into(); 257], "response-writes has 257 names; 256 are allowed");
    refused(
        |plan| plan.hooks = wit::Hooks::END,
        "hooks: `end` needs the interface exchange-policy, which this component does not export",
    );
    refused(
        |plan| plan.hooks = wit::Hooks::CHOOSE,
        "hooks: `choose` needs the interface route-policy, which this component does not export",
    );
    refused(
        |plan| plan.response_body = BodyMode::Buffer(1),
        "response-body: a body can only be seen through the interface exchange-policy, which this component does not export",
    );
}

#[test]
fn hooks_are_those_of_the_plan() {
    let hooks = |change: fn(&mut wit::Plan)| {
        let mut plan = plan();
        change(&mut plan);
        Plan::check(plan).unwrap().hooks()
    };
    assert_eq!(hooks(|_| {}), Hooks { request: true, response: true, keeps_request: false });
    assert_eq!(hooks(|plan| plan.hooks = wit::Hooks::empty()), Hooks::default());
    assert_eq!(
        hooks(|plan| plan.carried_reads = vec![":path".into()]),
        Hooks { request: true, response: true, keeps_request: true }
    );
    // What only a response hook would see is not kept without one.
    assert_eq!(
        hooks(|plan| {
            plan.carried_reads = vec![":path".into()];
            plan.hooks = wit::Hooks::REQUEST_HEADERS;
        }),
        Hooks { request: true, response: false, keeps_request: false }
    );
}

#[test]
fn writes_cover_names_prefixes_and_indices() {
    let names = ["x-a", "x-b-*", ":path"].map(String::from);
    let writes = Writes::parse("request-writes", &names, Direction::Request).unwrap();
    let header = |name| Target::Header(HeaderName::from_static(name));
    assert_eq!(writes.named("x-a"), Ok(header("x-a")));
    assert_eq!(writes.named("x-b-1"), Ok(header("x-b-1")));
    assert_eq!(writes.named(":path"), Ok(Target::Pseudo(Pseudo::Path)));
    assert_eq!(writes.named("x-c"), Err(InvalidTarget::Undeclared("x-c".into())));
    assert_eq!(writes.named("x-b"), Err(InvalidTarget::Undeclared("x-b".into())));
    assert_eq!(writes.known(0), Ok(&header("x-a")));
    assert_eq!(writes.known(1), Err(InvalidTarget::Prefix(1)));
    assert_eq!(writes.known(3), Err(InvalidTarget::Index { index: 3, len: 3 }));
}

#[test]
fn a_prefix_for_everything_does_not_cover_what_is_forbidden() {
    let writes = Writes::parse("request-writes", &["*".into()], Direction::Request).unwrap();
    assert!(writes.named("anything").is_ok());
    for name in ["connection", "te", "host", "content-length", ":path", ":status", "X-Upper"] {
        assert!(writes.named(name).is_err(), "{name}");
    }
}
