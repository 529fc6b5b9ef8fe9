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
        request_body: wit::BodyMode::None,
        response_body: wit::BodyMode::None,
    }
}

fn check(plan: wit::Plan) -> Result<Plan, InvalidPlan> {
    Plan::check(plan, World::Header, &PluginLimits::default())
}

fn refused(change: impl FnOnce(&mut wit::Plan), expected: &str) {
    let mut plan = plan();
    change(&mut plan);
    assert_eq!(check(plan).unwrap_err().to_string(), expected);
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
        |plan| plan.request_reads = vec!["x-a".into(), "x-b".into(), "x-a".into()],
        "request-reads[2]: `x-a` is there already; name it once",
    );
    refused(
        |plan| plan.response_writes = vec!["x-*".into(), "x-*".into()],
        "response-writes[1]: `x-*` is there already; name it once",
    );
    refused(
        |plan| plan.hooks = wit::Hooks::END,
        "hooks: `end` needs the interface exchange-policy, which this component does not export",
    );
    refused(
        |plan| plan.hooks = wit::Hooks::CHOOSE,
        "hooks: `choose` needs the interface route-policy, which this component does not export",
    );
    refused(
        |plan| plan.response_body = wit::BodyMode::Buffer(1),
        "response-body: a body can only be seen through the interface exchange-policy, which this component does not export",
    );
}

#[test]
fn hooks_are_those_of_the_plan() {
    let hooks = |change: fn(&mut wit::Plan)| {
        let mut plan = plan();
        change(&mut plan);
        check(plan).unwrap().hooks()
    };
    assert_eq!(hooks(|_| {}), Hooks { request: true, response: true, ..Hooks::default() });
    assert_eq!(hooks(|plan| plan.hooks = wit::Hooks::empty()), Hooks::default());
    assert_eq!(
        hooks(|plan| plan.carried_reads = vec![":path".into()]),
        Hooks { request: true, response: true, carries: true, ..Hooks::default() }
    );
    // What only a response hook would see is not taken down without one.
    assert_eq!(
        hooks(|plan| {
            plan.carried_reads = vec![":path".into()];
            plan.hooks = wit::Hooks::REQUEST_HEADERS;
        }),
        Hooks { request: true, ..Hooks::default() }
    );
}

#[test]
fn streaming_plans() {
    let limits = PluginLimits { body_buffer: 1000, ..PluginLimits::default() };
    let check = |change: fn(&mut wit::Plan)| {
        let mut plan = wit::Plan { hooks: wit::Hooks::empty(), ..plan() };
        change(&mut plan);
        let plan = Plan::check(plan, World::Streaming, &limits).map_err(|error| error.to_string())?;
        Ok::<_, String>(plan.hooks().streaming.unwrap())
    };
    assert_eq!(check(|_| {}), Ok(StreamingHooks::default()));
    let all = check(|plan| {
        plan.hooks =
            wit::Hooks::REQUEST_BODY | wit::Hooks::RESPONSE_BODY | wit::Hooks::RESPONSE_TRAILERS | wit::Hooks::END;
        (plan.request_body, plan.response_body) = (wit::BodyMode::Buffer(1000), wit::BodyMode::Stream);
    });
    let expected = StreamingHooks {
        request_body: BodyMode::Buffer(1000),
        request_trailers: false,
        response_body: BodyMode::Stream,
        response_trailers: true,
        end: true,
    };
    assert_eq!(all, Ok(expected));
    let too_much = check(|plan| {
        plan.hooks = wit::Hooks::REQUEST_BODY;
        plan.request_body = wit::BodyMode::Buffer(1001);
    });
    let message =
        "request-body: buffer(1001) is more than the resource allows; spec.limits.bodyBuffer is 1000 bytes".to_string();
    assert_eq!(too_much, Err(message));
    let disagree =
        "hooks and response-body disagree: a body hook needs a body mode, and a body mode its hook".to_string();
    assert_eq!(check(|plan| plan.response_body = wit::BodyMode::Stream), Err(disagree.clone()));
    assert_eq!(check(|plan| plan.hooks = wit::Hooks::RESPONSE_BODY), Err(disagree));
    assert!(check(|plan| plan.hooks = wit::Hooks::CHOOSE).is_err());
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

#[test]
fn route_plugins_have_one_hook() {
    let check = |hooks| Plan::check(wit::Plan { hooks, ..plan() }, World::Route, &PluginLimits::default());
    assert_eq!(check(wit::Hooks::CHOOSE).unwrap().hooks(), Hooks { choose: true, ..Hooks::default() });
    assert_eq!(check(wit::Hooks::empty()).unwrap().hooks(), Hooks::default());
    for (hooks, name) in [
        (wit::Hooks::CHOOSE | wit::Hooks::RESPONSE_HEADERS, "response-headers"),
        (wit::Hooks::CHOOSE | wit::Hooks::END, "end"),
    ] {
        let error = check(hooks).unwrap_err().to_string();
        assert_eq!(error, format!("hooks: a route plugin has `choose` alone; it cannot have `{name}`"));
    }
}
