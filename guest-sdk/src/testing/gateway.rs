//! The gateway as capabilities see it.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use super::Message;
use crate::{
    bindings::imports::{exchange_info, log::Level, outbound_http},
    wire,
};

/// What stands behind the capabilities in a test: a clock that stands still, random numbers that repeat, stores in memory, and backends
/// that are closures. Clones share their state. It refuses what a gateway refuses where the resource does not set `spec.limits`: eight calls of backends in
/// an exchange, 4 MiB of values, 32 metrics. Buckets have fixed windows, those of a gateway slide.
#[derive(Clone, Default)]
pub struct Gateway(Rc<RefCell<State>>);

/// A line that the plugin has logged.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// The message.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

type Backend = Rc<dyn Fn(&outbound_http::Request) -> Result<outbound_http::Response, outbound_http::OutboundError>>;

pub(super) struct State {
    pub(super) now: Duration,
    pub(super) random: u64,
    pub(super) log: Vec<Line>,
    pub(super) configuring: bool,
    pub(super) metrics: BTreeMap<String, Metric>,
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) buckets_fail: bool,
    pub(super) counters: BTreeMap<String, Entry<i64>>,
    pub(super) store: BTreeMap<String, Entry<Vec<u8>>>,
    pub(super) backends: BTreeMap<String, Backend>,
    /// Of backends, in the exchange at hand.
    calls: u32,
    pub(super) request: Message,
    pub(super) response: Message,
    pub(super) client: exchange_info::ClientInfo,
    pub(super) route: (String, String),
    pub(super) candidates: Vec<exchange_info::Candidate>,
}

pub(super) struct Metric {
    pub(super) kind: &'static str,
    pub(super) help: String,
    pub(super) labels: Vec<String>,
    pub(super) buckets: Vec<f64>,
    pub(super) values: BTreeMap<Vec<String>, f64>,
}

pub(super) struct Bucket {
    pub(super) limit: u64,
    pub(super) window: Duration,
    /// By key: when the window began, and what was taken since.
    pub(super) used: BTreeMap<Vec<u8>, (Duration, u64)>,
}

pub(super) struct Entry<T> {
    pub(super) value: T,
    pub(super) expires: Option<Duration>,
}

/// Of `limits.outboundCalls`, where the resource does not say.
const MOST_CALLS: u32 = 8;

impl State {
    /// One more call of a backend.
    pub(super) fn call(&mut self) -> Result<(), outbound_http::OutboundError> {
        if self.calls == MOST_CALLS {
            return Err(outbound_http::OutboundError::Quota);
        }
        self.calls += 1;
        Ok(())
    }
}

impl Metric {
    /// Whether registering the one and the other means the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let of = |metric: &Self| (metric.kind, metric.help.clone(), metric.labels.clone(), metric.buckets.clone());
        of(self) == of(other)
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            // 2025-01-01T00:00:00Z
            now: Duration::from_secs(1_735_689_600),
            random: 0,
            log: Vec::new(),
            configuring: false,
            metrics: BTreeMap::new(),
            buckets: BTreeMap::new(),
            buckets_fail: false,
            counters: BTreeMap::new(),
            store: BTreeMap::new(),
            backends: BTreeMap::new(),
            calls: 0,
            request: Message::default(),
            response: Message::default(),
            client: exchange_info::ClientInfo {
                address: "192.0.2.1".to_owned(),
                port: 49152,
                protocol: "HTTP/1.1".to_owned(),
                tls: None,
            },
            route: ("HTTPRoute/test/route".to_owned(), "0".to_owned()),
            candidates: Vec::new(),
        }
    }
}

impl Gateway {
    /// Grants nothing that has a name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants a bucket of the rate-limit capability: this many units in each fixed window.
    #[must_use]
    pub fn bucket(self, name: &str, limit: u64, window: Duration) -> Self {
        let bucket = Bucket { limit, window, used: BTreeMap::new() };
        self.0.borrow_mut().buckets.insert(name.to_owned(), bucket);
        self
    }

    /// Grants a backend of the outbound-http capability. It answers status and body for method and path.
    #[must_use]
    pub fn backend(self, name: &str, answer: impl Fn(&str, &str) -> (u16, Vec<u8>) + 'static) -> Self {
        self.backend_with(name, move |request| {
            let (status, body) = answer(&request.method, &request.path);
            Ok(outbound_http::Response { status, headers: Vec::new(), body })
        })
    }

    /// Grants a backend of the outbound-http capability that times out.
    #[must_use]
    pub fn silent_backend(self, name: &str) -> Self {
        self.backend_with(name, |_| Err(outbound_http::OutboundError::Timeout))
    }

    /// Grants a backend of the outbound-http capability that sees the whole request and answers with headers, or not at all.
    #[must_use]
    pub fn backend_with(
        self,
        name: &str,
        answer: impl Fn(&outbound_http::Request) -> Result<outbound_http::Response, outbound_http::OutboundError> + 'static,
    ) -> Self {
        self.0.borrow_mut().backends.insert(name.to_owned(), Rc::new(answer));
        self
    }

    /// Whether the store behind the buckets fails to answer from now on.
    pub fn fail_buckets(&self, fail: bool) {
        self.0.borrow_mut().buckets_fail = fail;
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.0.borrow_mut().now += time;
    }

    /// What was logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        self.0.borrow().log.clone()
    }

    /// The keys for which a bucket was asked so far, in no particular order: what a plugin counts separately, and how long it makes it.
    #[must_use]
    pub fn bucket_keys(&self, name: &str) -> Vec<Vec<u8>> {
        self.0.borrow().buckets.get(name).map_or_else(Vec::new, |bucket| bucket.used.keys().cloned().collect())
    }

    /// A counter's or gauge's value, or how often a histogram was observed; for these values of its labels.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let labels: Vec<_> = labels.iter().map(ToString::to_string).collect();
        self.0.borrow().metrics.get(name).and_then(|metric| metric.values.get(&labels).copied())
    }

    pub(super) fn state(&self) -> std::cell::RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// An exchange begins: what it may use is whole again.
    pub(super) fn begin(&self) {
        self.0.borrow_mut().calls = 0;
    }

    /// The exchange at hand, for what plugins read lazily. `carried` is what is left of the request in response hooks.
    pub(super) fn exchange(&self, request: &Message, response: Option<&Message>, carried: &[String]) {
        let mut state = self.0.borrow_mut();
        state.request = request.clone();
        if response.is_some() {
            state.request.fields.retain(|(name, _)| carried.contains(name));
        }
        state.response = response.cloned().unwrap_or_default();
        if let Some(address) = request.first(":client-address") {
            state.client.address = address;
        }
    }

    /// Runs plugin code with this gateway behind its capabilities.
    pub(super) fn run<R>(&self, plugin: impl FnOnce() -> R) -> R {
        let before = CURRENT.replace(self.clone());
        // A failing assertion unwinds through here; the next test on this thread must not find this gateway.
        let _restore = Restore(Some(before));
        plugin()
    }

    /// As [`Gateway::run`], while metrics may be registered.
    pub(super) fn configure<R>(&self, plugin: impl FnOnce() -> R) -> R {
        self.state().configuring = true;
        let result = self.run(plugin);
        self.state().configuring = false;
        result
    }

    /// The gateway of the plugin that runs on this thread.
    pub(super) fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }
}

thread_local! {
    static CURRENT: RefCell<Gateway> = RefCell::default();
}

struct Restore(Option<Gateway>);

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            CURRENT.set(before);
        }
    }
}

impl<T> Entry<T> {
    pub(super) fn alive(&self, now: Duration) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// All values of a header, as the bindings have them.
pub(super) fn values(message: &Message, name: &str) -> Vec<wire::Bytes> {
    message.bytes(name).into_iter().map(<[u8]>::to_vec).collect()
}
