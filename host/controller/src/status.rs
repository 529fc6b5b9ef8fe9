//! The board on which everyone can read what is in effect and why something is not.
//!
//! Readers load a pointer; they never wait for the loop, and the loop never waits for them.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use penstock_core::{ResourceRef, fact::SocketState};
use penstock_translate::{Condition, ConditionStatus, Status, Statuses};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{readiness::Unready, sources::files::Problem};

/// Tells the time. Injected, so that tests decide when things happen.
pub type Clock = fn() -> Timestamp;

/// Plugins had a fair chance after that time: a module of some megabytes is fetched, compiled and tried in a few seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Current statuses, sockets and problems.
pub struct StatusBoard {
    clock: Clock,
    current: ArcSwap<Posted>,
    waiting: ArcSwapOption<Unready>,
    /// How long plugins are waited for when everything else is ready, and since when they are.
    patience: Duration,
    plugins_since: OnceLock<Timestamp>,
    /// Once ready, always ready: a plugin that is added later must not take the instance out of service.
    ready: OnceLock<()>,
    draining: AtomicBool,
    /// Upgrades as long as the loop lives.
    owner: OnceLock<Weak<Owner>>,
}

/// Held by the loop, also while it unwinds: when it is gone, nobody posts any more.
pub(crate) struct Owner;

#[derive(Default)]
struct Posted {
    entries: Arc<BTreeMap<ResourceRef, Arc<Entry>>>,
    /// What the entries were made of.
    statuses: Arc<Statuses>,
    sockets: BTreeMap<SocketAddr, SocketState>,
    problems: Vec<Problem>,
}

/// The status of a resource, and since when each of its conditions has its `status`, in their order.
struct Entry {
    status: Arc<Status>,
    since: Vec<Timestamp>,
    /// Since when the revision of a plugin serves.
    serving: Option<Timestamp>,
}

/// Everything on the board, as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of the gateway.
    pub version: String,
    /// What the instance waits for before it is ready; none once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// By kind, namespace and name.
    pub resources: Vec<ResourceReport>,
    /// Where it listens.
    pub sockets: Vec<SocketReport>,
    /// What is wrong with files. The resources concerned are as they last were good.
    pub problems: Vec<ProblemReport>,
}

/// One resource with its status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// Kind.
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// In the shape of the resource's `.status`.
    pub status: Value,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SocketReport {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether it accepts.
    pub bound: bool,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemReport {
    /// `file:line:column`.
    pub place: String,
    /// The resource, if it could be told which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Field and fault.
    pub message: String,
    /// Whether an earlier, good version of the resource is in effect.
    pub last_good_serves: bool,
}

impl StatusBoard {
    /// An empty board.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            current: ArcSwap::default(),
            waiting: ArcSwapOption::from_pointee(Unready::Starting),
            patience: PATIENCE,
            plugins_since: OnceLock::new(),
            ready: OnceLock::new(),
            draining: AtomicBool::new(false),
            owner: OnceLock::new(),
        }
    }

    /// Wait so long for plugins when everything else is ready.
    #[must_use]
    pub fn waiting_for_plugins(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Whether the instance may take traffic; if not, what it waits for. A plugin that does not come, because its registry hangs, is waited for
    /// for a while: it must not keep the traffic of all others away.
    ///
    /// # Errors
    /// What it waits for.
    pub fn readiness(&self) -> Result<(), Unready> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Unready::Draining);
        }
        if self.ready.get().is_some() {
            return Ok(());
        }
        match self.waiting.load().as_deref() {
            None => Ok(()),
            Some(Unready::Plugins(plugins)) if self.has_lost_patience() => {
                self.ready.get_or_init(|| {
                    let without = plugins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    tracing::warn!(without, "ready; plugins that are on their way still are waited for no longer");
                });
                Ok(())
            }
            Some(waiting) => Err(waiting.clone()),
        }
    }

    fn has_lost_patience(&self) -> bool {
        let since = *self.plugins_since.get_or_init(self.clock);
        (self.clock)().duration_since(since).unsigned_abs() >= self.patience
    }

    /// Whether changes are followed. If the loop ended by a defect, what was published goes on serving, but only a restart makes it change.
    pub fn is_alive(&self) -> bool {
        self.owner.get().is_none_or(|owner| owner.strong_count() > 0)
    }

    pub(crate) fn attach(&self) -> Arc<Owner> {
        let owner = Arc::new(Owner);
        // A board has one loop; a second one would not be watched over.
        let _ = self.owner.set(Arc::downgrade(&owner));
        owner
    }

    /// The end has begun: whoever asks is told to send traffic elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether a socket could not be bound.
    pub fn has_failed_sockets(&self) -> bool {
        self.current.load().sockets.values().any(|state| matches!(state, SocketState::Failed(_)))
    }

    pub(crate) fn wait_for(&self, unready: Unready) {
        if let Unready::Plugins(_) = unready {
            self.plugins_since.get_or_init(self.clock);
        }
        self.waiting.store(Some(Arc::new(unready)));
    }

    /// Post what is so now. Only the loop posts.
    pub(crate) fn publish(
        &self,
        statuses: &Arc<Statuses>,
        sockets: &BTreeMap<SocketAddr, SocketState>,
        problems: Vec<Problem>,
        unready: Option<Unready>,
    ) {
        let (now, before) = ((self.clock)(), self.current.load());
        let entries = if Arc::ptr_eq(&before.statuses, statuses) {
            Arc::clone(&before.entries)
        } else {
            let entries = statuses.iter().map(|(resource, status)| {
                let before = before.entries.get(resource);
                (resource.clone(), Entry::following(before, status, now))
            });
            Arc::new(entries.collect())
        };
        let posted = Posted { entries, statuses: Arc::clone(statuses), sockets: sockets.clone(), problems };
        self.current.store(Arc::new(posted));
        match unready {
            Some(unready) => self.wait_for(unready),
            None => {
                self.waiting.store(None);
                self.ready.get_or_init(|| tracing::info!("ready"));
            }
        }
    }

    /// Everything on the board.
    pub fn report(&self) -> Report {
        let posted = self.current.load();
        let resources = posted.entries.iter().map(|(resource, entry)| ResourceReport {
            kind: resource.kind.to_string(),
            namespace: resource.namespace.to_string(),
            name: resource.name.to_string(),
            status: entry.to_json(),
        });
        let sockets = posted.sockets.iter().map(|(address, state)| SocketReport {
            address: *address,
            bound: *state == SocketState::Bound,
            message: match state {
                SocketState::Failed(message) => Some(message.to_string()),
                SocketState::Bound | SocketState::Closed => None,
            },
        });
        let problems = posted.problems.iter().map(|problem| ProblemReport {
            place: problem.place(),
            resource: problem.resource.as_ref().map(ToString::to_string),
            message: problem.message(),
            last_good_serves: problem.resource.as_ref().is_some_and(|it| posted.entries.contains_key(it)),
        });
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            waiting_for: self.readiness().err().map(|waiting| waiting.to_string()),
            resources: resources.collect(),
            sockets: sockets.collect(),
            problems: problems.collect(),
        }
    }
}

impl fmt::Debug for StatusBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusBoard").field("resources", &self.current.load().entries.len()).finish_non_exhaustive()
    }
}

impl Entry {
    /// A condition keeps its time unless its `status` flips: a new reason, message or generation is no transition.
    fn following(before: Option<&Arc<Self>>, status: &Arc<Status>, now: Timestamp) -> Arc<Self> {
        if let Some(before) = before.filter(|before| Arc::ptr_eq(&before.status, status)) {
            return Arc::clone(before);
        }
        let since = match before {
            None => status.conditions().map(|_| now).collect(),
            Some(before) => {
                let known = before.times();
                let time = |(part, condition): (_, &Condition)| match known.get(&(part, condition.type_)) {
                    Some((status, since)) if *status == condition.status => *since,
                    _ => now,
                };
                status.conditions().map(|(part, condition)| time((part.into_owned(), condition))).collect()
            }
        };
        let serves = |status: &Status| match status {
            Status::WasmPlugin(status) => status.active.as_ref().map(|it| (it.generation, Arc::clone(&it.digest))),
            _ => None,
        };
        let serving = serves(status).map(|revision| {
            let same = before.filter(|before| serves(&before.status).as_ref() == Some(&revision));
            same.and_then(|before| before.serving).unwrap_or(now)
        });
        Arc::new(Self { status: Arc::clone(status), since, serving })
    }

    fn times(&self) -> BTreeMap<(String, &'static str), (ConditionStatus, Timestamp)> {
        let conditions = self.status.conditions().zip(&self.since);
        conditions
            .map(|((part, condition), since)| ((part.into_owned(), condition.type_), (condition.status, *since)))
            .collect()
    }

    fn to_json(&self) -> Value {
        let mut json = serde_json::to_value(&self.status).unwrap_or_default();
        stamp(&mut json, &mut self.since.iter());
        if let Some(serving) = self.serving {
            json["active"]["since"] = time(serving);
        }
        json
    }
}

/// Whole seconds, as Kubernetes writes times.
fn time(time: Timestamp) -> Value {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// Put the times into the conditions: those of the resource itself, then those of its parts, which is the order of `Status::conditions`.
fn stamp<'t>(status: &mut Value, since: &mut impl Iterator<Item = &'t Timestamp>) {
    let Value::Object(fields) = status else { return };
    for condition in fields.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(since) = since.next() {
            condition["lastTransitionTime"] = time(*since);
        }
    }
    for parts in ["listeners", "parents", "ancestors"] {
        for part in fields.get_mut(parts).and_then(Value::as_array_mut).into_iter().flatten() {
            stamp(part, since);
        }
    }
}

#[cfg(test)]
mod tests;
