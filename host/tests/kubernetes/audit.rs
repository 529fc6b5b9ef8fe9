//! What was written, as the API server has it on record.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Where the API server of the test cluster writes it.
const LOG: &str = "/run/penstock/logs/audit.log";

/// Requests that have not ended by then never will: the API server crashed meanwhile.
const ENDING: Duration = Duration::from_secs(5);

/// One write of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// `httproutes/shop`; with the subresource, if it is another one than the status.
    pub(crate) object: String,
    pub(crate) code: i64,
}

/// All writes of this user but those of its Lease and its events, in their order.
///
/// That a request has begun is on record before it does anything, and that it was answered only a moment after everybody can see what it did. So
/// whatever has begun is waited for.
pub(crate) fn writes(user: &str) -> Vec<Write> {
    let deadline = Instant::now() + ENDING;
    loop {
        let events: Vec<_> = events(user).into_iter().filter(is_write).collect();
        let ids = |stage: &str| -> BTreeSet<&str> {
            events
                .iter()
                .filter(|event| event["stage"] == stage)
                .filter_map(|event| event["auditID"].as_str())
                .collect()
        };
        if ids("RequestReceived").is_subset(&ids("ResponseComplete")) || Instant::now() > deadline {
            return events.iter().filter(|event| event["stage"] == "ResponseComplete").map(write).collect();
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_write(event: &Value) -> bool {
    !matches!(resource(event), "leases" | "events") && !matches!(verb(event), "get" | "list" | "watch")
}

fn write(event: &Value) -> Write {
    Write { object: object(event), code: event["responseStatus"]["code"].as_i64().unwrap() }
}

/// Which objects this user has read one by one.
pub(crate) fn reads(user: &str) -> Vec<String> {
    events(user).iter().filter(|event| verb(event) == "get").map(object).collect()
}

/// Everything of this user that is on record.
pub(crate) fn events(user: &str) -> Vec<Value> {
    let log = fs::read_to_string(LOG).unwrap_or_else(|error| panic!("{LOG}: {error}; {}", crate::cluster::HINT));
    // Most lines are those of others, and not worth more than a look.
    let events =
        log.lines().filter(|line| line.contains(user)).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["user"]["username"] == user).collect()
}

fn verb(event: &Value) -> &str {
    event["verb"].as_str().unwrap_or_default()
}

/// How often each object was written, whatever the answer.
pub(crate) fn count(writes: &[Write]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for write in writes {
        *counts.entry(write.object.as_str()).or_default() += 1;
    }
    counts
}

fn resource(event: &Value) -> &str {
    event["objectRef"]["resource"].as_str().unwrap_or_default()
}

fn object(event: &Value) -> String {
    let name = event["objectRef"]["name"].as_str().unwrap_or_default();
    match event["objectRef"]["subresource"].as_str() {
        Some("status") => format!("{}/{name}", resource(event)),
        subresource => format!("{}/{name} ({subresource:?})", resource(event)),
    }
}
