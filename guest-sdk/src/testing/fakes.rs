//! The capability interfaces, as the bindings have them, on top of [`Gateway`](super::Gateway).

use std::time::Duration;

use super::gateway::{Entry, Gateway};

fn expiry(now: Duration, ttl: Option<u64>) -> Option<Duration> {
    ttl.map(|ttl| now + Duration::from_millis(ttl))
}

pub(crate) mod exchange_info {
    use super::{super::gateway::values, Gateway};
    use crate::bindings::imports::exchange_info::{Candidate, ClientInfo};
    use crate::wire::{Bytes, Header};

    pub(crate) fn request_header(name: &str) -> Vec<Bytes> {
        values(&Gateway::current().state().request, name)
    }

    pub(crate) fn request_headers() -> Vec<Header> {
        let gateway = Gateway::current();
        let state = gateway.state();
        // In response hooks only carried headers are left, and the list is no way to them.
        if state.response.status() == 0 { state.request.headers() } else { Vec::new() }
    }

    pub(crate) fn response_header(name: &str) -> Vec<Bytes> {
        values(&Gateway::current().state().response, name)
    }

    pub(crate) fn response_headers() -> Vec<Header> {
        Gateway::current().state().response.headers()
    }

    pub(crate) fn client() -> ClientInfo {
        Gateway::current().state().client.clone()
    }

    pub(crate) fn route() -> (String, String) {
        Gateway::current().state().route.clone()
    }

    pub(crate) fn candidates() -> Vec<Candidate> {
        Gateway::current().state().candidates.clone()
    }

    pub(crate) fn ready_endpoints(index: u32) -> u32 {
        Gateway::current().state().candidates.get(index as usize).map_or(0, |candidate| candidate.ready_endpoints)
    }
}

pub(crate) mod log {
    use super::{super::Line, Gateway};
    use crate::bindings::imports::log::Level;

    pub(crate) fn enabled(_level: Level) -> bool {
        true
    }

    pub(crate) fn write(level: Level, message: &str, fields: &[(String, String)]) {
        let line = Line { level, message: message.to_owned(), fields: fields.to_vec() };
        Gateway::current().state().log.push(line);
    }
}

pub(crate) mod clock {
    use super::Gateway;

    pub(crate) fn now() -> u64 {
        u64::try_from(Gateway::current().state().now.as_millis()).expect("tests do not run for half a billion years")
    }

    pub(crate) fn monotonic() -> u64 {
        u64::try_from(Gateway::current().state().now.as_nanos()).expect("tests do not run for five centuries")
    }
}

pub(crate) mod random {
    use super::Gateway;

    pub(crate) fn bytes(len: u32) -> Vec<u8> {
        assert!(len <= 4096, "random bytes: at most 4096 a call, {len} asked for");
        (0..len).map(|_| next().to_le_bytes()[0]).collect()
    }

    /// SplitMix64: any generator that repeats will do.
    pub(crate) fn next() -> u64 {
        let gateway = Gateway::current();
        let mut state = gateway.state();
        state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

pub(crate) mod metrics {
    use super::{super::gateway::Metric, Gateway};
    use crate::bindings::imports::metrics::InvalidMetric;

    /// As the contract states, and the gateway enforces.
    const MOST_METRICS: usize = 32;
    const MOST_LABELS: usize = 8;
    const MOST_BUCKETS: usize = 32;
    const LONGEST_NAME: usize = 64;

    pub(crate) struct Counter(String);
    pub(crate) struct Gauge(String);
    pub(crate) struct Histogram(String);

    impl Counter {
        pub(crate) fn register(name: &str, help: &str, labels: &[String]) -> Result<Self, InvalidMetric> {
            register(name, "counter", help, labels, &[]).map(Self)
        }

        #[expect(clippy::cast_precision_loss, reason = "tests do not count to 2^52")]
        pub(crate) fn add(&self, amount: u64, labels: &[String]) {
            record(&self.0, labels, |value| value + amount as f64);
        }
    }

    impl Gauge {
        pub(crate) fn register(name: &str, help: &str, labels: &[String]) -> Result<Self, InvalidMetric> {
            register(name, "gauge", help, labels, &[]).map(Self)
        }

        pub(crate) fn set(&self, value: f64, labels: &[String]) {
            record(&self.0, labels, |_| value);
        }
    }

    impl Histogram {
        pub(crate) fn register(
            name: &str,
            help: &str,
            labels: &[String],
            buckets: &[f64],
        ) -> Result<Self, InvalidMetric> {
            register(name, "histogram", help, labels, buckets).map(Self)
        }

        pub(crate) fn observe(&self, _value: f64, labels: &[String]) {
            record(&self.0, labels, |count| count + 1.0);
        }
    }

    fn register(
        name: &str,
        kind: &'static str,
        help: &str,
        labels: &[String],
        buckets: &[f64],
    ) -> Result<String, InvalidMetric> {
        let gateway = Gateway::current();
        let mut state = gateway.state();
        assert!(state.configuring, "metric `{name}` is registered outside of `configure`");
        if labels.len() > MOST_LABELS || buckets.len() > MOST_BUCKETS {
            return Err(InvalidMetric::TooMany);
        }
        let reserved = |name: &str| matches!(name, "plugin" | "le");
        let wrong = labels.iter().find(|label| !is_name(label) || reserved(label)).map(String::as_str);
        if let Some(wrong) = wrong.or((!is_name(name)).then_some(name)) {
            return Err(InvalidMetric::InvalidName(wrong.to_owned()));
        }
        let (help, buckets) = (help.to_owned(), buckets.to_vec());
        let metric = Metric { kind, help, labels: labels.to_vec(), buckets, values: Default::default() };
        match state.metrics.get(name) {
            Some(known) if known.is_same(&metric) => {}
            Some(_) => return Err(InvalidMetric::Conflict(name.to_owned())),
            None if state.metrics.len() == MOST_METRICS => return Err(InvalidMetric::TooMany),
            None => drop(state.metrics.insert(name.to_owned(), metric)),
        }
        Ok(name.to_owned())
    }

    fn is_name(name: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(plain) && name.len() <= LONGEST_NAME
    }

    fn record(name: &str, labels: &[String], change: impl FnOnce(f64) -> f64) {
        let gateway = Gateway::current();
        let mut state = gateway.state();
        let metric = state.metrics.get_mut(name).expect("the metric comes from another harness");
        assert_eq!(labels.len(), metric.labels.len(), "metric `{name}` has the labels {:?}", metric.labels);
        let value = metric.values.entry(labels.to_vec()).or_default();
        *value = change(*value);
    }
}

pub(crate) mod rate_limit {
    use std::time::Duration;

    use super::Gateway;
    use crate::bindings::imports::rate_limit::{Decision, RateLimitError};

    pub(crate) fn take(bucket: &str, key: &[u8], cost: u32) -> Result<Decision, RateLimitError> {
        decide(bucket, key, cost, true)
    }

    pub(crate) fn peek(bucket: &str, key: &[u8], cost: u32) -> Result<Decision, RateLimitError> {
        decide(bucket, key, cost, false)
    }

    fn decide(name: &str, key: &[u8], cost: u32, take: bool) -> Result<Decision, RateLimitError> {
        let gateway = Gateway::current();
        let mut state = gateway.state();
        let now = state.now;
        if !state.buckets.contains_key(name) {
            return Err(RateLimitError::UnknownBucket(state.buckets.keys().cloned().collect()));
        }
        if state.buckets_fail {
            return Err(RateLimitError::Unavailable("no answer".to_owned()));
        }
        let bucket = state.buckets.get_mut(name).expect("looked up above");
        let (start, used) = bucket.used.entry(key.to_vec()).or_insert((now, 0));
        if now >= *start + bucket.window {
            (*start, *used) = (now, 0);
        }
        let allowed = *used + u64::from(cost) <= bucket.limit;
        if allowed && take {
            *used += u64::from(cost);
        }
        Ok(Decision {
            allowed,
            limit: bucket.limit,
            remaining: bucket.limit - *used,
            reset_ms: millis(*start + bucket.window - now),
            window_ms: millis(bucket.window),
        })
    }

    fn millis(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }
}

pub(crate) mod counters {
    use super::{Entry, Gateway, expiry};

    pub(crate) fn add(key: &str, delta: i64, ttl: Option<u64>) -> i64 {
        let gateway = Gateway::current();
        let mut state = gateway.state();
        let now = state.now;
        if state.counters.get(key).is_some_and(|entry| !entry.alive(now)) {
            state.counters.remove(key);
        }
        let fresh = || Entry { value: 0, expires: expiry(now, ttl) };
        let entry = state.counters.entry(key.to_owned()).or_insert_with(fresh);
        entry.value = entry.value.saturating_add(delta);
        let value = entry.value;
        if value == 0 {
            // It is as if it had never been: the next write begins its time anew.
            state.counters.remove(key);
        }
        value
    }

    pub(crate) fn get(key: &str) -> i64 {
        let gateway = Gateway::current();
        let state = gateway.state();
        state.counters.get(key).filter(|entry| entry.alive(state.now)).map_or(0, |entry| entry.value)
    }
}

pub(crate) mod key_value {
    use super::{Entry, Gateway, expiry};
    use crate::bindings::imports::key_value::KeyValueError;

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        let gateway = Gateway::current();
        let state = gateway.state();
        state.store.get(key).filter(|entry| entry.alive(state.now)).map(|entry| entry.value.clone())
    }

    /// Of `limits.keyValueBytes`, where the resource does not say.
    const MOST_BYTES: usize = 4 << 20;
    /// What an entry counts beside key and value.
    const OVERHEAD: usize = 128;

    pub(crate) fn set(key: &str, value: &[u8], ttl: Option<u64>) -> Result<(), KeyValueError> {
        if key.len() > 512 || value.len() > 64 * 1024 {
            return Err(KeyValueError::TooLarge);
        }
        let gateway = Gateway::current();
        let mut state = gateway.state();
        let now = state.now;
        state.store.retain(|_, entry| entry.alive(now));
        let others = state.store.iter().filter(|(known, _)| *known != key);
        let others: usize = others.map(|(key, entry)| key.len() + entry.value.len() + OVERHEAD).sum();
        if others + key.len() + value.len() + OVERHEAD > MOST_BYTES {
            return Err(KeyValueError::Full);
        }
        let entry = Entry { value: value.to_vec(), expires: expiry(state.now, ttl) };
        state.store.insert(key.to_owned(), entry);
        Ok(())
    }

    pub(crate) fn delete(key: &str) {
        Gateway::current().state().store.remove(key);
    }

    pub(crate) fn compare_and_set(
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<u64>,
    ) -> Result<bool, KeyValueError> {
        let same = get(key).as_deref() == expected;
        if same {
            set(key, value, ttl)?;
        }
        Ok(same)
    }
}

pub(crate) mod outbound_http {
    use super::Gateway;
    use crate::{
        Direction,
        header::{check_value, check_write},
    };

    pub(crate) use crate::bindings::imports::outbound_http::{OutboundError, Request, Response};

    /// Headers of a request.
    const MOST_HEADERS: usize = 256;

    pub(crate) fn send(request: &Request) -> Result<Response, OutboundError> {
        let gateway = Gateway::current();
        let state = gateway.state();
        let Some(backend) = state.backends.get(&request.backend).cloned() else {
            return Err(OutboundError::UnknownBackend(state.backends.keys().cloned().collect()));
        };
        // The backend may look at the gateway itself.
        drop(state);
        check(request).map_err(OutboundError::InvalidRequest)?;
        gateway.state().call()?;
        backend(request)
    }

    /// What the gateway would refuse of a request.
    fn check(request: &Request) -> Result<(), String> {
        let Request { method, path, headers, .. } = request;
        check_value(":method", method.as_bytes()).map_err(|reason| format!("`{method}` {reason}"))?;
        check_value(":path", path.as_bytes()).map_err(|reason| format!("`{path}` {reason}"))?;
        if headers.len() > MOST_HEADERS {
            return Err(format!("{} headers; {MOST_HEADERS} are allowed", headers.len()));
        }
        for header in headers.iter().filter(|header| header.name != "host") {
            if header.name.starts_with(':') {
                return Err(format!("`{}` is no header name", header.name));
            }
            check_write(&header.name, Direction::Request).map_err(|reason| format!("`{}` {reason}", header.name))?;
        }
        for header in headers {
            check_value(&header.name, &header.value)
                .map_err(|reason| format!("the value of `{}` {reason}", header.name))?;
        }
        if headers.iter().filter(|header| header.name == "host").count() > 1 {
            return Err("`host` can be given once".to_owned());
        }
        Ok(())
    }
}
