//! One record for each request: begun with it, closed once, when its response is over or given up.

use std::{
    borrow::Cow,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderValue, StatusCode};
use penstock_core::{ResourceRef, backend::Endpoint, plugin::Summary, reason::Reason};

use crate::{
    access::{self, LogFields, Outcome},
    body::Progress,
    connection::Connection,
    policies::Exchange,
    worker::RuleState,
};

/// What is known about an exchange. Closed when dropped, so that no way out of an exchange can forget it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) connection: Rc<Connection>,
    started: Instant,
    rule: Option<Rc<RuleState>>,
    progress: Option<Rc<Progress>>,
    status: Option<StatusCode>,
    reason: Option<Reason>,
    sent: u64,
    complete: bool,
    /// Only if someone looks at them: an access log, or plugins that take part.
    log: Option<Box<LogFields>>,
    exchange: Option<Rc<Exchange>>,
}

impl Record {
    pub(crate) fn begin(connection: Rc<Connection>) -> Self {
        connection.request_begins();
        let log = connection.worker.access_log.is_on().then(Box::default);
        let (rule, progress) = (None, None);
        let (status, reason) = (None, None);
        let (started, sent, complete, exchange) = (Instant::now(), 0, false, None);
        Self { connection, started, rule, progress, status, reason, sent, complete, log, exchange }
    }

    /// The fields of the access log, if anyone wants them.
    pub(crate) fn log(&mut self) -> Option<&mut LogFields> {
        self.log.as_deref_mut()
    }

    /// Whether it is to be noted down what plugins changed.
    pub(crate) fn notes_edits(&self) -> bool {
        self.log.is_some() && self.connection.worker.access_log.has_edits()
    }

    pub(crate) fn set_rule(&mut self, rule: Rc<RuleState>) {
        self.rule = Some(rule);
    }

    pub(crate) fn set_progress(&mut self, progress: Rc<Progress>) {
        self.progress = Some(progress);
    }

    /// Plugins take part in the exchange. Those that hear of its end hear of the endpoint too, whether or not there is a log.
    pub(crate) fn set_exchange(&mut self, exchange: Rc<Exchange>) {
        self.exchange = Some(exchange);
        self.log.get_or_insert_default();
    }

    pub(crate) fn set_endpoint(&mut self, endpoint: &Endpoint, attempts: u32) {
        if let Some(log) = &mut self.log {
            log.endpoint = Some(endpoint.clone());
            log.attempts = attempts;
        }
    }

    pub(crate) fn answer(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The gateway itself answers, or the exchange failed. The first reason stands.
    pub(crate) fn fail(&mut self, reason: Reason) {
        self.reason.get_or_insert(reason);
    }

    /// The exchange broke off in a plugin, or with one.
    pub(crate) fn fail_in_plugin(&mut self, reason: Reason, detail: Cow<'static, str>, plugin: Option<&ResourceRef>) {
        self.fail(reason);
        if let Some(log) = &mut self.log {
            log.detail = detail.into_owned();
            log.plugin = plugin.cloned();
        }
    }

    pub(crate) fn count_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    pub(crate) fn grpc_status(&mut self, status: HeaderValue) {
        if let Some(log) = &mut self.log {
            log.grpc_status = Some(status);
        }
    }

    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }
}

impl Record {
    /// What end hooks hear.
    fn summary(&self, received: u64, took: Duration) -> Summary {
        let log = self.log.as_deref();
        let grpc_status =
            log.and_then(|log| log.grpc_status.as_ref()).and_then(|status| status.to_str().ok()?.parse().ok());
        let error = self.reason.filter(|reason| *reason != Reason::PluginReply);
        Summary {
            status: self.status.map_or(0, |status| status.as_u16()),
            request_bytes: received,
            response_bytes: self.sent,
            duration: took,
            upstream: log.and_then(|log| log.endpoint.as_ref()).map(access::endpoint),
            grpc_status,
            error: error.map(Reason::code),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let worker = &self.connection.worker;
        let took = self.started.elapsed();
        if !self.complete && self.reason.is_none() {
            self.reason = Some(Reason::ClientClosed);
        }
        if let Some(reason) = self.reason {
            worker.metrics().count_reason(reason);
        }
        let received = self.progress.as_ref().map_or(0, |progress| progress.received());
        let series = self.rule.as_ref().map_or(&worker.unrouted, |rule| &rule.series);
        let shard = series.shard(worker.index);
        shard.observe(self.status, took);
        shard.received.add(received);
        shard.sent.add(self.sent);
        if let Some(exchange) = self.exchange.take() {
            exchange.conclude(self.summary(received, took));
        }
        if let Some(log) = &self.log {
            let (status, reason, sent, is_h2) = (self.status, self.reason, self.sent, self.connection.is_h2());
            let outcome = Outcome { status, reason, received, sent, took, is_h2 };
            worker.metrics().log_dropped.add(worker.access_log.write(log, &outcome));
        }
        self.connection.request_ends();
    }
}
