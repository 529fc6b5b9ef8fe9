//! What a store holds beside the guest: its limits, and the exchange at hand for as long as a hook runs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use penstock_core::{
    plugin::{Capabilities, ExchangeFacts, PluginLimits},
    route::{Rule, RuleId},
};
use smallvec::SmallVec;

use super::limits::{CpuBudget, MemoryLimit};
use crate::{
    capability::{Stores, metrics::Metric},
    fields::{Read, RequestHead},
    imports::{clock::Reading, log::LogGate, outbound::Network, wasi::Wasi},
};

/// The data of a store.
pub(crate) struct InstanceState {
    pub(super) memory: MemoryLimit,
    pub(super) cpu: CpuBudget,
    /// `limits.bodyBuffer`.
    pub(super) body_buffer: u64,
    /// Only during a hook, and only for components that import `exchange-info`.
    pub(crate) exchange: Option<ExchangeView>,
    /// Only kept up to date for components that import `log`.
    pub(crate) log: LogGate,
    /// Forgotten at the end of each hook.
    pub(crate) clock: Option<Reading>,
    /// Only during a hook that may wait.
    pub(crate) network: Option<Network>,
    /// Only if it is granted.
    pub(crate) wasi: Option<Box<Wasi>>,
    /// Shared by all instances of the plugin.
    pub(crate) stores: Arc<Stores>,
    /// Those that this instance registered; handles are indices.
    pub(crate) metrics: Vec<Arc<Metric>>,
    /// Whether `configure` runs, when alone metrics can be registered.
    pub(crate) configuring: bool,
}

impl InstanceState {
    /// Bytes of linear memory that the instance has taken so far.
    pub(crate) fn memory_used(&self) -> u64 {
        self.memory.used()
    }

    /// State for an instance of `plugin` (`namespace/name`).
    pub(crate) fn new(plugin: Arc<str>, granted: &Capabilities, limits: &PluginLimits, stores: Arc<Stores>) -> Self {
        Self {
            memory: MemoryLimit::new(limits.memory),
            cpu: CpuBudget::default(),
            body_buffer: limits.body_buffer,
            exchange: None,
            log: LogGate::new(plugin, limits.log_lines, Arc::clone(&stores)),
            clock: None,
            network: None,
            wasi: granted.wasi.then(|| Box::new(Wasi::new(granted.log))),
            stores,
            metrics: Vec::new(),
            configuring: false,
        }
    }

    /// CPU time of the last call, to a tick.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.cpu.spent()
    }

    /// The call at hand has ended.
    pub(super) fn call_ended(&mut self) {
        if let Some(wasi) = &self.wasi {
            wasi.drain(&mut self.log);
        }
    }

    /// The call at hand begins to wait.
    pub(crate) fn pause(&mut self) {
        self.cpu.pause();
    }
}

/// The exchange as `exchange-info` sees it. It shares the heads with the caller for the time of one hook: both hold an `Arc`, so the
/// store can be borrowed while values of the head are passed to the guest.
pub(crate) struct ExchangeView {
    pub(crate) request: RequestView,
    pub(crate) response: Option<Arc<HeaderMap>>,
    pub(crate) client: SocketAddr,
    pub(crate) version: Version,
    pub(crate) tls: Option<(&'static str, Option<Box<str>>)>,
    pub(crate) rule: RuleId,
    /// The rule with its backends, for route plugins.
    pub(crate) candidates: Option<Arc<Rule>>,
}

/// What is known of the request.
pub(crate) enum RequestView {
    /// In request hooks: all of it.
    Whole(Arc<LentRequest>),
    /// In all others: what the plan carries.
    Carried(Vec<(Read, SmallVec<[HeaderValue; 1]>)>),
}

/// A request head, moved out of the exchange for the time of a hook.
pub(crate) struct LentRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) scheme: Box<str>,
}

impl ExchangeView {
    pub(crate) fn new(exchange: &ExchangeFacts<'_>, request: RequestView, response: Option<Arc<HeaderMap>>) -> Self {
        Self {
            request,
            response,
            client: exchange.client,
            version: exchange.version,
            tls: exchange.tls_version.map(|version| (version, exchange.server_name.map(Box::from))),
            rule: exchange.rule.clone(),
            candidates: None,
        }
    }

    /// As a route plugin sees it.
    pub(crate) fn with_candidates(self, rule: Arc<Rule>) -> Self {
        Self { candidates: Some(rule), ..self }
    }
}

impl LentRequest {
    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead { method: &self.method, uri: &self.uri, headers: &self.headers, scheme: &self.scheme }
    }
}
