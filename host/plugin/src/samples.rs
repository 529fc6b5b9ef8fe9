//! Sample exchanges that every candidate must survive before it sees traffic: what careless plugins forget.

mod streaming;

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version, header};
use penstock_core::{
    Kind, ResourceRef,
    plugin::{ExchangeFacts, PluginFault, Proceed, Verdict},
    reason::Reason,
    route::{Action, Failure, Rule, RuleId, Target, WeightedBackend, WeightedBackends},
};

use crate::{
    choose::{self, Choosing},
    fields::Read,
    hooks::{self, HookContext},
    instance::{Instance, at_once},
    reason::Step,
};

/// Bytes of headers in the large sample, with what follows: what the proxy lets through by default, about.
const LARGE: usize = 56 << 10;
/// Headers of the large sample that the plan does not read: plugins may ask for all of a message.
const FOREIGN: usize = 100;
/// Bytes of its cookies.
const COOKIES: usize = 2 << 10;

/// Bytes of a body in the large sample: many chunks.
const LARGE_BODY: usize = 1 << 20;

/// Run all samples. The instance is not fit for traffic afterwards: it remembers things that never happened.
pub(crate) fn run(instance: &mut Instance, hook: HookContext<'_>) -> Result<(), (Step, PluginFault)> {
    let names = HeaderNames::of(hook);
    // No larger than the plugin may hold back: whoever holds must not be refused for it.
    let body = LARGE_BODY.min(usize::try_from(hook.limits.body_buffer).unwrap_or(LARGE_BODY));
    for sample in [empty(), large(&names, body), not_utf8(&names)] {
        exchange(instance, hook, &sample).map_err(|fault| (Step::Sample(sample.name), fault))?;
    }
    Ok(())
}

struct Sample {
    name: &'static str,
    uri: Uri,
    request: HeaderMap,
    response: HeaderMap,
    /// Of both messages, for plugins that see bodies.
    body: Vec<u8>,
}

/// Headers that the plan reads: others would not reach the plugin.
struct HeaderNames<'a> {
    request: Vec<&'a HeaderName>,
    response: Vec<&'a HeaderName>,
}

impl<'a> HeaderNames<'a> {
    fn of(hook: HookContext<'a>) -> Self {
        let header = |read: &'a Read| match read {
            Read::Header(name) => Some(name),
            _ => None,
        };
        let plan = hook.plan;
        Self {
            request: plan.request.reads.iter().chain(&plan.carried).filter_map(header).collect(),
            response: plan.response.reads.iter().filter_map(header).collect(),
        }
    }
}

fn empty() -> Sample {
    Sample {
        name: "empty request",
        uri: Uri::from_static("/"),
        request: HeaderMap::new(),
        response: HeaderMap::new(),
        body: Vec::new(),
    }
}

fn large(names: &HeaderNames<'_>, body: usize) -> Sample {
    let fill = |names: &[&HeaderName]| {
        let mut headers = HeaderMap::new();
        let size = LARGE / names.len().max(1);
        for name in names {
            // One long value and many short ones.
            headers.append(*name, text(&"a".repeat(size / 2)));
            for _ in 0..(size / 2 / 64).min(100) {
                headers.append(*name, HeaderValue::from_static("a, b; c=\"d\""));
            }
        }
        headers
    };
    let path = format!("/{}?{}", "a/".repeat(2048), "b=c&".repeat(1024));
    let mut request = foreign(fill(&names.request));
    request.append(header::COOKIE, text(&"a=b; ".repeat(COOKIES / 5)));
    Sample {
        name: "large headers",
        uri: path.parse().unwrap_or_default(),
        request,
        response: foreign(fill(&names.response)),
        body: vec![b'{'; body],
    }
}

fn foreign(mut headers: HeaderMap) -> HeaderMap {
    let names = (0..FOREIGN).filter_map(|number| HeaderName::try_from(format!("x-sample-{number}")).ok());
    headers.extend(names.map(|name| (name, HeaderValue::from_static("a, b; c=\"d\""))));
    headers
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn not_utf8(names: &HeaderNames<'_>) -> Sample {
    let fill = |names: &[&HeaderName]| {
        let value = HeaderValue::from_bytes(b"\xff\xc3(\x80=\xf0\x9f").unwrap_or(HeaderValue::from_static(""));
        names.iter().map(|name| ((*name).clone(), value.clone())).collect()
    };
    Sample {
        name: "headers that are not UTF-8",
        uri: Uri::from_static("/%FF%00/%?%=%C3&%28"),
        request: fill(&names.request),
        response: fill(&names.response),
        body: b"\xff\xc3(\x80=\xf0\x9f\0".to_vec(),
    }
}

fn exchange(instance: &mut Instance, hook: HookContext<'_>, sample: &Sample) -> Result<(), PluginFault> {
    let rule = RuleId { route: ResourceRef::new(Kind::HTTPRoute, "penstock", "sample"), index: 0, name: None };
    let facts = ExchangeFacts {
        client: SocketAddr::from(([192, 0, 2, 1], 49152)),
        version: Version::HTTP_11,
        scheme: "http",
        server_name: None,
        tls_version: None,
        rule: &rule,
        request_id: "sample",
    };
    let (mut request, ()) = Request::new(()).into_parts();
    request.uri = sample.uri.clone();
    request.headers = sample.request.clone();
    if hook.plan.hooks().choose {
        let rule = Arc::new(with_backends(rule.clone()));
        // An index out of range is judged on live traffic only: what a sample's rule has, nobody can know.
        let choosing = Choosing { number: 1, rule: &rule };
        return at_once(choose::choose(instance, hook, &facts, choosing, &mut request)).map(drop);
    }
    let (mut response, ()) = Response::new(()).into_parts();
    response.headers = sample.response.clone();
    match hook.plan.hooks().streaming {
        None => headers(instance, hook, &facts, (&mut request, &mut response)),
        Some(_) => streaming::run(instance, hook, &facts, (request, response), &sample.body),
    }
}

type Heads<'a> = (&'a mut http::request::Parts, &'a mut http::response::Parts);

/// Both hooks of a policy on headers.
fn headers(
    instance: &mut Instance,
    hook: HookContext<'_>,
    facts: &ExchangeFacts<'_>,
    (request, response): Heads<'_>,
) -> Result<(), PluginFault> {
    let hooks = hook.plan.hooks();
    let mut kept = Proceed { carried: hooks::carry(hook.plan, facts, request), ..Proceed::default() };
    if hooks.request {
        match at_once(hooks::on_request(instance, hook, facts, request))? {
            Verdict::Proceed(proceed) => kept.token = proceed.token,
            Verdict::Reply(_) | Verdict::Hold => return Ok(()),
        }
    }
    if hooks.response {
        at_once(hooks::on_response(instance, hook, &kept, facts, response))?;
    }
    Ok(())
}

/// What route plugins choose from.
fn with_backends(id: RuleId) -> Rule {
    let backend = |name: &str| {
        WeightedBackend::new(
            name,
            1,
            Target::Fail(Failure { reason: Reason::NoEndpoint, message: "a sample has no endpoints".into() }),
        )
    };
    Rule::new(
        id,
        Vec::new(),
        Action::Forward(WeightedBackends::all(vec![backend("penstock/a:80"), backend("penstock/b:80")])),
    )
}
