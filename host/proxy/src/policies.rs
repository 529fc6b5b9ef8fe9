//! The plugins of a rule around an exchange: request hooks in order, response hooks in reverse.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, request, response};
use penstock_core::{
    plugin::{ExchangeFacts, FailurePolicy, FaultKind, PluginFault, PolicyCall, Verdict},
    reason::Reason,
    route::{Rule, RuleId},
};
use smallvec::SmallVec;

use crate::{connection::Connection, headers, record::Record, respond::Rejection};

/// The plugins that an exchange has met so far.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    rule: &'a Rule,
    client: std::net::SocketAddr,
    /// None if there is no plugin that could ask.
    request_id: Option<HeaderValue>,
    /// Which calls proceeded, with their tokens: their response hooks run whatever becomes of the request.
    met: SmallVec<[(usize, u64); 4]>,
    /// The request's head, for hooks that read it later.
    kept: Option<Box<request::Parts>>,
}

/// What a hook made of the exchange.
#[derive(Debug)]
pub(crate) enum Ruling {
    Proceed,
    Reply(Response<Bytes>),
    Reject(Rejection),
}

impl<'a> Chain<'a> {
    pub(crate) fn new(rule: &'a Rule, client: std::net::SocketAddr, headers: &HeaderMap) -> Self {
        let request_id = if rule.policies.is_empty() { None } else { headers::request_id(headers) };
        Self { rule, client, request_id, met: SmallVec::new(), kept: None }
    }

    /// All request hooks, up to the first that does not let the request go on.
    pub(crate) fn request(
        &mut self,
        connection: &Connection,
        head: &mut request::Parts,
        record: &mut Record,
    ) -> Ruling {
        let rule = self.rule;
        for (index, call) in rule.policies.iter().enumerate() {
            if !call.hooks.request {
                self.met.push((index, 0));
                continue;
            }
            let facts = self.facts(connection, &rule.id);
            match connection.worker.policies.on_request(call, &facts, head) {
                Ok(Verdict::Proceed { token }) => self.met.push((index, token)),
                Ok(Verdict::Reply(reply)) => {
                    note(record, call);
                    return Ruling::Reply(reply);
                }
                Err(fault) => {
                    if let Some(rejection) = judge(connection, call, fault, record) {
                        return Ruling::Reject(rejection);
                    }
                }
            }
        }
        if rule.policies.iter().any(|call| call.hooks.response && call.hooks.keeps_request) {
            self.kept = Some(Box::new(head.clone()));
        }
        Ruling::Proceed
    }

    /// The response hook of the plugin that was met last, which is then done with. None when all are.
    pub(crate) fn response(
        &mut self,
        connection: &Connection,
        head: &mut response::Parts,
        record: &mut Record,
    ) -> Option<Ruling> {
        let (index, token) = self.met.pop()?;
        let call = &self.rule.policies[index];
        if !call.hooks.response {
            return Some(Ruling::Proceed);
        }
        let facts = self.facts(connection, &self.rule.id);
        let kept = self.kept.as_deref().filter(|_| call.hooks.keeps_request);
        Some(match connection.worker.policies.on_response(call, token, &facts, kept, head) {
            Ok(Verdict::Proceed { .. }) => Ruling::Proceed,
            Ok(Verdict::Reply(reply)) => {
                note(record, call);
                Ruling::Reply(reply)
            }
            Err(fault) => judge(connection, call, fault, record).map_or(Ruling::Proceed, Ruling::Reject),
        })
    }

    fn facts<'f>(&'f self, connection: &'f Connection, rule: &'f RuleId) -> ExchangeFacts<'f> {
        ExchangeFacts {
            client: self.client,
            version: connection.version(),
            scheme: connection.scheme().as_str(),
            server_name: connection.server_name(),
            tls_version: connection.tls.as_ref().map(|tls| tls.version),
            rule,
            request_id: self.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default(),
        }
    }
}

/// A fault costs the exchange what the plugin's failure policy says.
fn judge(connection: &Connection, call: &PolicyCall, fault: PluginFault, record: &mut Record) -> Option<Rejection> {
    connection.worker.shared.metrics.plugin_fault(call, fault.kind);
    note(record, call);
    match call.failure_policy {
        FailurePolicy::Open => None,
        FailurePolicy::Closed if fault.kind == FaultKind::Unavailable => {
            Some(Rejection::new(Reason::PluginUnavailable, fault.message))
        }
        FailurePolicy::Closed => Some(Rejection::new(Reason::PluginFault, fault.to_string())),
    }
}

fn note(record: &mut Record, call: &PolicyCall) {
    if let Some(log) = record.log() {
        log.plugin = Some(call.plugin.clone());
    }
}
