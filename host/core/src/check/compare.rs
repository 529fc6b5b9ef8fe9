//! What came of an exchange against what was wanted. Pure.

use http::{HeaderMap, header::HOST, request};
use serde::Serialize;

use super::{
    Expected, Refusal, RequestWanted, ResponseWanted,
    outcome::{End, Outcome, Passed},
    values::{BodyWanted, HeadersWanted, excerpt, shown},
};

/// One thing that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Below `expect`.
    pub field: String,
    /// What was expected there.
    pub wanted: String,
    /// What was there.
    pub found: String,
}

/// Collects.
#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn add(&mut self, field: impl Into<String>, wanted: impl Into<String>, found: impl Into<String>) {
        self.0.push(Difference { field: field.into(), wanted: wanted.into(), found: found.into() });
    }
}

/// What differs; nothing if all is as wanted.
#[must_use]
pub fn compare(expected: &Expected, outcome: &Outcome) -> Vec<Difference> {
    let mut differences = Differences::default();
    if let Some(wanted) = &expected.request {
        match &outcome.request {
            Some(found) => request(wanted, found, &mut differences),
            None => differences.add("request", "a request to the backend", ending(&outcome.end)),
        }
    }
    end(expected, &outcome.end, &mut differences);
    if let Some(wanted) = expected.candidate.as_ref().filter(|wanted| outcome.chosen.as_ref() != Some(*wanted)) {
        let found = outcome.chosen.clone().unwrap_or_else(|| format!("none was chosen: {}", ending(&outcome.end)));
        differences.add("candidate", wanted, found);
    }
    if let Some(wanted) = &expected.rejected {
        differences.add("rejected", wanted.to_string(), "the configuration was accepted");
    }
    differences.0
}

/// What differs when the configuration was refused and no exchange took place.
#[must_use]
pub fn compare_rejection(expected: &Expected, reason: &str, message: &str) -> Vec<Difference> {
    let mut differences = Differences::default();
    match &expected.rejected {
        Some(wanted) => refusal("rejected", wanted, reason, message, &mut differences),
        None => differences.add("rejected", "a configuration that is accepted", format!("{reason}: {message}")),
    }
    differences.0
}

fn end(expected: &Expected, end: &End, differences: &mut Differences) {
    if let Some(wanted) = &expected.aborted {
        match end {
            End::Aborted(why) if why.contains(wanted) => {}
            end => differences.add("aborted", format!("an exchange that is given up: {wanted}"), ending(end)),
        }
        return;
    }
    match (end, &expected.response, &expected.reply, &expected.fault) {
        (End::Fault(_, fault), _, _, Some(wanted)) => {
            refusal("fault", wanted, &fault.kind.to_string(), &fault.message, differences);
        }
        (End::Reply(reply), _, Some(wanted), _) => {
            let (status, headers) = (reply.status().as_u16(), reply.headers());
            response("reply", wanted, (status, headers, reply.body(), &HeaderMap::new()), differences);
        }
        (End::Response(found), Some(wanted), ..) => {
            let (status, headers) = (found.head.status.as_u16(), &found.head.headers);
            response("response", wanted, (status, headers, &found.body, &found.trailers), differences);
        }
        (end, _, _, Some(wanted)) => differences.add("fault", format!("a fault: {wanted}"), ending(end)),
        (end, _, Some(_), _) => differences.add("reply", "an answer of the plugin itself", ending(end)),
        (end, Some(_), ..) => differences.add("response", "the response of the backend", ending(end)),
        (End::Response(_), None, None, None) => {}
        // A rejection that was wanted is said to be missing, which is enough.
        (_, None, None, None) if expected.rejected.is_some() => {}
        (end @ End::Aborted(_), None, None, None) => {
            differences.add("aborted", "an exchange that is not given up", ending(end));
        }
        (end @ End::Fault(..), None, None, None) => differences.add("fault", "no fault", ending(end)),
        (end @ End::Reply(_), None, None, None) => {
            differences.add("reply", "no answer of the plugin itself", ending(end));
        }
    }
}

/// In a few words.
fn ending(end: &End) -> String {
    match end {
        End::Response(found) => format!("the response of the backend ({})", found.head.status.as_u16()),
        End::Reply(reply) => format!("the plugin answered itself: {}", reply.status().as_u16()),
        End::Aborted(why) => format!("the exchange was given up: {why}"),
        End::Fault(hook, fault) => format!("a fault in {hook}: {}: {}", fault.kind, fault.message),
    }
}

fn refusal(field: &str, wanted: &Refusal, kind: &str, message: &str, differences: &mut Differences) {
    if wanted.kind().is_some_and(|wanted| wanted != kind) || !message.contains(wanted.message()) {
        differences.add(field, wanted.to_string(), format!("{kind}: {message}"));
    }
}

fn request(wanted: &RequestWanted, found: &Passed<request::Parts>, differences: &mut Differences) {
    let head = &found.head;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = match head.uri.authority() {
        Some(authority) => authority.as_str().to_owned(),
        None => head.headers.get(HOST).map_or_else(String::new, |host| String::from_utf8_lossy(host.as_bytes()).into()),
    };
    for (name, wanted, found) in [
        ("method", &wanted.method, head.method.as_str()),
        ("path", &wanted.path, path),
        ("authority", &wanted.authority, &authority),
    ] {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
            differences.add(format!("request.{name}"), wanted, found);
        }
    }
    headers("request.headers", &wanted.headers, &head.headers, differences);
    absent("request.absent", &wanted.absent, &head.headers, differences);
    body("request.body", wanted.body.as_ref(), &found.body, differences);
    headers("request.trailers", &wanted.trailers, &found.trailers, differences);
}

fn response(
    field: &str,
    wanted: &ResponseWanted,
    (status, found, bytes, trailers): (u16, &HeaderMap, &[u8], &HeaderMap),
    differences: &mut Differences,
) {
    if let Some(wanted) = wanted.status.filter(|wanted| *wanted != status) {
        differences.add(format!("{field}.status"), wanted.to_string(), status.to_string());
    }
    headers(&format!("{field}.headers"), &wanted.headers, found, differences);
    absent(&format!("{field}.absent"), &wanted.absent, found, differences);
    body(&format!("{field}.body"), wanted.body.as_ref(), bytes, differences);
    headers(&format!("{field}.trailers"), &wanted.trailers, trailers, differences);
}

fn headers(field: &str, wanted: &HeadersWanted, found: &HeaderMap, differences: &mut Differences) {
    for (name, wanted) in &wanted.0 {
        let values: Vec<&[u8]> = found.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
        if !wanted.fit(&values) {
            differences.add(format!("{field}.{name}"), wanted.to_string(), shown(values));
        }
    }
}

fn absent(field: &str, names: &[String], found: &HeaderMap, differences: &mut Differences) {
    for name in names {
        let values: Vec<&[u8]> = found.get_all(name.as_str()).iter().map(http::HeaderValue::as_bytes).collect();
        if !values.is_empty() {
            differences.add(format!("{field}: {name}"), "no such header", shown(values));
        }
    }
}

fn body(field: &str, wanted: Option<&BodyWanted>, found: &[u8], differences: &mut Differences) {
    if let Some(wanted) = wanted.filter(|wanted| !wanted.fits(found)) {
        let found = match wanted {
            BodyWanted::Size(_) => format!("{} bytes", found.len()),
            _ => excerpt(found),
        };
        differences.add(field, wanted.to_string(), found);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::plugin::{FaultKind, PluginFault};
    use bytes::Bytes;
    use http::{Request, Response};
    use serde_json::{Value, json};

    use super::*;

    fn expected(value: Value) -> Expected {
        serde_json::from_value(value).unwrap()
    }

    fn passed<H>(head: H, body: &'static str) -> Passed<H> {
        Passed { head, body: Bytes::from_static(body.as_bytes()), trailers: HeaderMap::new() }
    }

    fn proceeded() -> Outcome {
        let request = Request::get("/a?b").header("host", "h").header("x-a", "1").body(()).unwrap().into_parts().0;
        let response = Response::builder().status(201).header("x-b", "2").body(()).unwrap().into_parts().0;
        Outcome {
            request: Some(passed(request, "up")),
            chosen: None,
            end: End::Response(passed(response, "down")),
            time: Duration::ZERO,
        }
    }

    fn replied() -> Outcome {
        let reply = Response::builder().status(403).body(Bytes::from_static(b"no")).unwrap();
        Outcome { request: None, chosen: None, end: End::Reply(reply), time: Duration::ZERO }
    }

    fn faulted() -> Outcome {
        let fault = PluginFault { kind: FaultKind::Trap, message: "unreachable".into() };
        Outcome { request: None, chosen: None, end: End::Fault("the request hook", fault), time: Duration::ZERO }
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "what is wanted is written where it is checked")]
    fn check(wanted: Value, outcome: &Outcome, fields: &[&str]) {
        let found = compare(&expected(wanted.clone()), outcome);
        assert_eq!(found.iter().map(|it| it.field.as_str()).collect::<Vec<_>>(), fields, "{wanted} {found:#?}");
    }

    #[test]
    fn an_exchange_that_proceeds() {
        let outcome = proceeded();
        check(json!({}), &outcome, &[]);
        check(json!({ "request": { "method": "GET", "path": "/a?b", "authority": "h", "body": "up" } }), &outcome, &[]);
        check(json!({ "request": { "headers": { "X-A": "1" }, "absent": ["x-c"] } }), &outcome, &[]);
        check(
            json!({ "request": { "path": "/a", "absent": ["x-a"] } }),
            &outcome,
            &["request.path", "request.absent: x-a"],
        );
        check(json!({ "response": { "status": 201, "headers": { "x-b": "2" }, "body": "down" } }), &outcome, &[]);
        check(
            json!({ "response": { "status": 200, "headers": { "x-b": "3" }, "body": { "size": 1 }, "trailers": { "t": "1" } } }),
            &outcome,
            &["response.status", "response.headers.x-b", "response.body", "response.trailers.t"],
        );
        check(json!({ "reply": {} }), &outcome, &["reply"]);
        check(json!({ "fault": "any" }), &outcome, &["fault"]);
        check(json!({ "rejected": "InvalidConfig" }), &outcome, &["rejected"]);
        check(json!({ "candidate": "default" }), &outcome, &["candidate"]);
    }

    #[test]
    fn an_exchange_that_the_plugin_answers() {
        check(json!({}), &replied(), &["reply"]);
        check(json!({ "reply": { "status": 403, "body": { "contains": "n" } } }), &replied(), &[]);
        check(json!({ "reply": { "status": 401 } }), &replied(), &["reply.status"]);
        check(json!({ "response": {} }), &replied(), &["response"]);
        check(json!({ "request": {}, "reply": {} }), &replied(), &["request"]);
    }

    #[test]
    fn an_exchange_that_faults() {
        check(json!({}), &faulted(), &["fault"]);
        check(json!({ "fault": "trap" }), &faulted(), &[]);
        check(json!({ "fault": { "kind": "trap", "message": "unreach" } }), &faulted(), &[]);
        check(json!({ "fault": { "message": "other" } }), &faulted(), &["fault"]);
        check(json!({ "fault": "deadline" }), &faulted(), &["fault"]);
        check(json!({ "response": {} }), &faulted(), &["response"]);
    }

    #[test]
    fn a_backend_that_is_chosen() {
        let outcome = Outcome { chosen: Some("default/a:80".into()), request: None, ..proceeded() };
        check(json!({ "candidate": "default/a:80", "response": { "status": 201 } }), &outcome, &[]);
        check(json!({ "candidate": "default" }), &outcome, &["candidate"]);
        check(json!({ "candidate": "default", "reply": {} }), &replied(), &["candidate"]);
    }

    #[test]
    fn an_exchange_that_is_given_up() {
        let outcome =
            || Outcome { request: None, chosen: None, end: End::Aborted("too odd".into()), time: Duration::ZERO };
        check(json!({}), &outcome(), &["aborted"]);
        check(json!({ "aborted": "odd" }), &outcome(), &[]);
        check(json!({ "aborted": "even" }), &outcome(), &["aborted"]);
        check(json!({ "aborted": "" }), &proceeded(), &["aborted"]);
    }

    #[test]
    fn a_configuration_that_is_refused() {
        let fields = |wanted: Value| compare_rejection(&expected(wanted), "InvalidConfig", "/a: no").len();
        assert_eq!(fields(json!({ "rejected": "InvalidConfig" })), 0);
        assert_eq!(fields(json!({ "rejected": { "reason": "InvalidConfig", "message": "/a" } })), 0);
        assert_eq!(fields(json!({ "rejected": "TimeLimitExceeded" })), 1);
        assert_eq!(fields(json!({})), 1);
    }
}
