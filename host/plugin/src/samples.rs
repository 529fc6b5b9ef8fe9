//! Sample exchanges that every candidate must survive before it sees traffic: what careless plugins forget.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use penstock_core::{
    Kind, ResourceRef,
    plugin::{ExchangeFacts, PluginFault, Verdict},
    route::RuleId,
};

use crate::{
    fields::Read,
    hooks::{self, HookContext},
    instance::Instance,
    reason::Step,
};

/// Bytes of headers in the large sample: what the proxy lets through by default, about.
const LARGE: usize = 60 << 10;

/// Run all samples. The instance is not fit for traffic afterwards: it remembers things that never happened.
pub(crate) fn run(instance: &mut Instance, hook: HookContext<'_>) -> Result<(), (Step, PluginFault)> {
    let names = HeaderNames::of(hook);
    for sample in [empty(), large(&names), not_utf8(&names)] {
        exchange(instance, hook, &sample).map_err(|fault| (Step::Sample(sample.name), fault))?;
    }
    Ok(())
}

struct Sample {
    name: &'static str,
    uri: Uri,
    request: HeaderMap,
    response: HeaderMap,
}

/// Headers that the plan reads: others would not reach the plugin.
struct HeaderNames<'a> {
    request: Vec<&'a http::HeaderName>,
    response: Vec<&'a http::HeaderName>,
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
    Sample { name: "empty request", uri: Uri::from_static("/"), request: HeaderMap::new(), response: HeaderMap::new() }
}

fn large(names: &HeaderNames<'_>) -> Sample {
    let fill = |names: &[&http::HeaderName]| {
        let mut headers = HeaderMap::new();
        let size = LARGE / names.len().max(1);
        for name in names {
            // One long value and many short ones.
            headers
                .append(*name, HeaderValue::from_bytes(&vec![b'a'; size / 2]).unwrap_or(HeaderValue::from_static("")));
            for _ in 0..(size / 2 / 64).min(100) {
                headers.append(*name, HeaderValue::from_static("a, b; c=\"d\""));
            }
        }
        headers
    };
    let path = format!("/{}?{}", "a/".repeat(2048), "b=c&".repeat(1024));
    Sample {
        name: "large headers",
        uri: path.parse().unwrap_or_default(),
        request: fill(&names.request),
        response: fill(&names.response),
    }
}

fn not_utf8(names: &HeaderNames<'_>) -> Sample {
    let fill = |names: &[&http::HeaderName]| {
        let value = HeaderValue::from_bytes(b"\xff\xc3(\x80=\xf0\x9f").unwrap_or(HeaderValue::from_static(""));
        names.iter().map(|name| ((*name).clone(), value.clone())).collect()
    };
    Sample {
        name: "headers that are not UTF-8",
        uri: Uri::from_static("/%FF%00/%?%=%C3&%28"),
        request: fill(&names.request),
        response: fill(&names.response),
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
    let hooks = hook.plan.hooks();
    let (mut request, ()) = Request::new(()).into_parts();
    request.uri = sample.uri.clone();
    request.headers = sample.request.clone();
    let original = request.clone();
    let mut given = 0;
    if hooks.request {
        match hooks::on_request(instance, hook, &facts, &mut request)? {
            Verdict::Proceed { token } => given = token,
            Verdict::Reply(_) => return Ok(()),
        }
    }
    if hooks.response {
        let (mut response, ()) = Response::new(()).into_parts();
        response.headers = sample.response.clone();
        hooks::on_response(instance, hook, given, &facts, Some(&original), &mut response)?;
    }
    Ok(())
}
