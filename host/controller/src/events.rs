//! Kubernetes Events: what an operator wants to read in `kubectl describe wasmplugin` beside the conditions, which only know the present; in
//! `kubectl describe ingress`, which has no room for conditions; and of any object whose conditions somebody else overwrites.
//!
//! Few: a revision serves, was refused, was rolled back; an Ingress is refused, served in part, in order again; somebody else keeps writing the same
//! status. Nothing is told about what was so when
//! this instance began to follow, and what flaps is told about every few seconds, with the latest. Losing one is no loss: conditions say what
//! holds, and what is wrong with an Ingress is in the log too.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use penstock_core::{Kind, ResourceRef};
use penstock_translate::{
    ConditionStatus, Status, Statuses,
    status::{IngressStatus, WasmPluginStatus},
};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::Instant,
};

use crate::{
    health::Health,
    metrics::ClusterMetrics,
    sources::cluster::LiveObjects,
    status::Clock,
    timer::sleep_until,
    writer::{Desired, FIELD_MANAGER},
};

/// Events about one object are at least so far apart.
const APART: Duration = Duration::from_secs(5);

/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1000;

/// Tells the cluster what happened.
pub(crate) struct Reporter {
    pub(crate) client: Client,
    pub(crate) live: Arc<LiveObjects>,
    pub(crate) controller: Arc<str>,
    pub(crate) identity: String,
    pub(crate) clock: Clock,
    pub(crate) metrics: ClusterMetrics,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct News {
    reason: &'static str,
    warns: bool,
    note: String,
}

/// What is known of plugins, and what waits to be told.
#[derive(Debug, Default)]
struct Notebook {
    seen: BTreeMap<ResourceRef, Arc<Status>>,
    /// All of them as they were last read.
    read: Arc<Statuses>,
    told: BTreeMap<ResourceRef, Instant>,
    waiting: BTreeMap<ResourceRef, News>,
    /// Something has been seen before: what is new now happened now.
    began: bool,
}

impl Reporter {
    /// Report until the controller is gone.
    pub(crate) async fn run(
        self,
        mut desired: watch::Receiver<Option<Desired>>,
        leading: watch::Receiver<bool>,
        mut contested: UnboundedReceiver<ResourceRef>,
    ) {
        let mut notebook = Notebook::default();
        loop {
            if let Some(desired) = &*desired.borrow_and_update() {
                notebook.read(&desired.statuses);
            }
            let due = notebook.due(Instant::now());
            if *leading.borrow() {
                for (id, news) in due {
                    self.tell(&id, news).await;
                }
            }
            let pause = notebook.next();
            tokio::select! {
                changed = desired.changed() => if changed.is_err() { return },
                Some(id) = contested.recv() => notebook.contested(id),
                () = sleep_until(pause) => {}
            }
        }
    }

    async fn tell(&self, id: &ResourceRef, news: News) {
        let Some(uid) = self.live.get(id).map(|object| object.uid.to_string()) else { return };
        let reason = news.reason;
        let event = self.event(id, uid, news);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let api: Api<Event> = Api::namespaced(self.client.clone(), event_namespace(id));
        match api.create(&parameters, &event).await {
            Ok(_) => self.metrics.told(reason),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(object = %id, reason, error, "cannot write an event; the status has what it says");
            }
        }
    }

    fn event(&self, id: &ResourceRef, uid: String, news: News) -> Event {
        let now = (self.clock)();
        let action = if id.kind == Kind::WasmPlugin { "Rollout" } else { "Serve" };
        let namespace = Some(id.namespace.to_string()).filter(|namespace| !namespace.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", id.name, now.as_nanosecond())),
                namespace: Some(event_namespace(id).to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(if news.warns { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(news.reason.to_owned()),
            action: Some(action.to_owned()),
            note: Some(news.note),
            reporting_controller: Some(self.controller.to_string()),
            reporting_instance: Some(self.identity.clone()),
            regarding: Some(ObjectReference {
                api_version: self.live.served(id.kind).map(|resource| resource.api_version),
                kind: Some(id.kind.to_string()),
                name: Some(id.name.to_string()),
                namespace,
                uid: Some(uid),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}

/// Events about what is in no namespace are in this one, where `kubectl describe` looks for them.
fn event_namespace(id: &ResourceRef) -> &str {
    if id.namespace.is_empty() { "default" } else { &id.namespace }
}

impl Notebook {
    /// Somebody else keeps changing the status of an object.
    fn contested(&mut self, id: ResourceRef) {
        let note = "somebody else keeps changing this status, so it is written less and less often; is its class owned by two installations?";
        self.waiting.insert(id, News { reason: "StatusContested", warns: true, note: note.to_owned() });
    }

    /// Compare with what was seen before. Several things in a row become the last of them.
    fn read(&mut self, statuses: &Arc<Statuses>) {
        if self.began && Arc::ptr_eq(&self.read, statuses) {
            return;
        }
        self.read = Arc::clone(statuses);
        for (id, status) in statuses.iter().filter(|(id, _)| matches!(id.kind, Kind::WasmPlugin | Kind::Ingress)) {
            let before = self.seen.insert(id.clone(), Arc::clone(status));
            if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, status)) {
                continue;
            }
            let Some(news) = news(before.as_deref(), status) else { continue };
            if id.kind == Kind::Ingress && news.warns {
                tracing::warn!(object = %id, reason = news.reason, note = news.note, "an Ingress is not served as it says");
            }
            if self.began {
                self.waiting.insert(id.clone(), news);
            }
        }
        self.began = true;
        self.seen.retain(|id, _| statuses.contains_key(id));
        self.waiting.retain(|id, _| statuses.contains_key(id));
        self.told.retain(|id, _| statuses.contains_key(id));
    }

    fn due(&mut self, now: Instant) -> Vec<(ResourceRef, News)> {
        let may = |id: &ResourceRef| self.told.get(id).is_none_or(|told| now.duration_since(*told) >= APART);
        let ids: Vec<ResourceRef> = self.waiting.keys().filter(|id| may(id)).cloned().collect();
        let due: Vec<_> = ids.into_iter().filter_map(|id| self.waiting.remove_entry(&id)).collect();
        self.told.extend(due.iter().map(|(id, _)| (id.clone(), now)));
        due
    }

    fn next(&self) -> Option<Instant> {
        self.waiting.keys().filter_map(|id| Some(*self.told.get(id)? + APART)).min()
    }
}

/// What happened between two statuses of an object, if it is worth telling.
fn news(before: Option<&Status>, now: &Status) -> Option<News> {
    match (before, now) {
        (Some(Status::WasmPlugin(before)), Status::WasmPlugin(now)) => news_of_plugin(Some(before), now),
        (_, Status::WasmPlugin(now)) => news_of_plugin(None, now),
        (Some(Status::Ingress(before)), Status::Ingress(now)) => news_of_ingress(Some(before), now),
        (_, Status::Ingress(now)) => news_of_ingress(None, now),
        _ => None,
    }
}

/// What is wrong with it now, if that is something else than before; or that nothing is any more.
fn news_of_ingress(before: Option<&IngressStatus>, now: &IngressStatus) -> Option<News> {
    let faults = |status: &IngressStatus| -> Vec<(&'static str, String)> {
        let bad = status.conditions.iter().filter(|it| Health::of(it.type_, text(it.status), it.reason) == Health::Bad);
        bad.map(|it| (it.reason, format!("{}: {}", it.type_, it.message))).collect()
    };
    let (before, now) = (before.map(faults).unwrap_or_default(), faults(now));
    if before == now {
        return None;
    }
    let Some((reason, _)) = now.first() else {
        return Some(News { reason: "Serving", warns: false, note: "everything in it is served".to_owned() });
    };
    let notes: Vec<&str> = now.iter().map(|(_, note)| note.as_str()).collect();
    Some(News { reason, warns: true, note: cut(notes.join("; ")) })
}

fn text(status: ConditionStatus) -> &'static str {
    match status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    }
}

/// What happened between two statuses of a plugin.
fn news_of_plugin(before: Option<&WasmPluginStatus>, now: &WasmPluginStatus) -> Option<News> {
    let served_before = before.and_then(|before| before.active.as_ref());
    let serves = match &now.active {
        Some(active) => format!("{} {} of generation {} serves", active.name, active.version, active.generation),
        None => "nothing serves".to_owned(),
    };
    let rejected = |status: &WasmPluginStatus| {
        let candidate = status.candidate.as_ref().filter(|candidate| candidate.phase == "Rejected")?;
        Some((candidate.generation, candidate.reason, candidate.message.clone()))
    };
    if let Some((generation, reason, message)) = rejected(now)
        && before.and_then(rejected).as_ref() != rejected(now).as_ref()
    {
        let why = message.as_deref().or(reason).unwrap_or("no reason is known");
        let served = served_before.is_some_and(|active| active.generation == generation);
        let fell = served && now.active.as_ref().is_none_or(|active| active.generation != generation);
        let (event, what) = if fell { ("RolledBack", "was rolled back") } else { ("Rejected", "was refused") };
        let note = cut(format!("generation {generation} {what}: {why}; {serves}"));
        return Some(News { reason: event, warns: true, note });
    }
    let active = now.active.as_ref()?;
    let same = |before: &&penstock_translate::status::ActiveStatus| {
        before.generation == active.generation && before.digest == active.digest
    };
    let is_new = served_before.filter(same).is_none();
    is_new.then(|| News { reason: "Serving", warns: false, note: cut(format!("{serves} ({})", active.digest)) })
}

fn cut(mut note: String) -> String {
    if note.len() > LONGEST_NOTE {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE - '…'.len_utf8()));
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use penstock_translate::{
        Condition,
        status::{ActiveStatus, CandidateStatus, LoadBalancer},
    };

    use super::*;

    fn status(active: Option<i64>, rejected: Option<(i64, &str)>) -> WasmPluginStatus {
        WasmPluginStatus {
            conditions: Vec::new(),
            active: active.map(|generation| ActiveStatus {
                generation,
                digest: "sha256:aa".into(),
                name: "headers".into(),
                version: "1.0.0".into(),
                artifact: None,
                restored: false,
            }),
            candidate: rejected.map(|(generation, message)| CandidateStatus {
                generation,
                digest: None,
                artifact: None,
                phase: "Rejected",
                reason: Some("InvalidConfig"),
                message: Some(message.to_owned()),
                retry: None,
            }),
            probation: None,
            ancestors: Vec::new(),
        }
    }

    #[test]
    fn what_is_worth_telling() {
        #[track_caller]
        fn check(before: Option<&WasmPluginStatus>, now: &WasmPluginStatus, expected: Option<(&str, &str)>) {
            let found = news_of_plugin(before, now);
            assert_eq!(found.as_ref().map(|news| (news.reason, news.note.as_str())), expected);
        }
        let serves = "headers 1.0.0 of generation 1 serves";
        check(None, &status(Some(1), None), Some(("Serving", &format!("{serves} (sha256:aa)"))));
        check(Some(&status(Some(1), None)), &status(Some(1), None), None);
        let refused = format!("generation 2 was refused: a typo; {serves}");
        check(Some(&status(Some(1), None)), &status(Some(1), Some((2, "a typo"))), Some(("Rejected", &refused)));
        check(Some(&status(Some(1), Some((2, "a typo")))), &status(Some(1), Some((2, "a typo"))), None);
        let fell = format!("generation 2 was rolled back: it trapped; {serves}");
        check(Some(&status(Some(2), None)), &status(Some(1), Some((2, "it trapped"))), Some(("RolledBack", &fell)));
        check(Some(&status(Some(1), Some((2, "a typo")))), &status(Some(1), None), None);
        let nothing = "generation 1 was refused: a typo; nothing serves";
        check(None, &status(None, Some((1, "a typo"))), Some(("Rejected", nothing)));
    }

    #[test]
    fn what_is_wrong_with_an_ingress() {
        use ConditionStatus::{False, True};
        let status = |conditions: &[(&'static str, ConditionStatus, &'static str)]| {
            let condition = |&(type_, status, reason)| {
                let message = "a reason".to_owned();
                Condition { type_, status, reason, message, observed_generation: 1 }
            };
            let conditions = conditions.iter().map(condition).collect();
            IngressStatus { conditions, load_balancer: LoadBalancer::default() }
        };
        let good = status(&[("Accepted", True, "Accepted"), ("RulesOverlap", True, "OtherRuleWins")]);
        let bad = status(&[
            ("Accepted", True, "Accepted"),
            ("ResolvedRefs", False, "BackendNotFound"),
            ("PartiallyInvalid", True, "UnsupportedValue"),
        ]);
        let check = |before: Option<&IngressStatus>, now: &IngressStatus, expected: Option<(&str, bool, &str)>| {
            let found = news_of_ingress(before, now);
            assert_eq!(found.as_ref().map(|news| (news.reason, news.warns, news.note.as_str())), expected);
        };
        let note = "ResolvedRefs: a reason; PartiallyInvalid: a reason";
        check(None, &good, None);
        check(None, &bad, Some(("BackendNotFound", true, note)));
        check(Some(&good), &bad, Some(("BackendNotFound", true, note)));
        check(Some(&bad), &bad, None);
        check(Some(&bad), &good, Some(("Serving", false, "everything in it is served")));
    }

    #[test]
    fn a_plugin_that_flaps_is_told_about_now_and_then() {
        let id = ResourceRef::new(Kind::WasmPlugin, "default", "headers");
        let statuses = |status| Arc::new(Statuses::from([(id.clone(), Arc::new(Status::WasmPlugin(status)))]));
        let (mut notebook, start) = (Notebook::default(), Instant::now());
        notebook.read(&statuses(status(Some(1), None)));
        assert_eq!(notebook.due(start), [], "what was so before is no news");
        let mut told = 0;
        for turn in 0..100 {
            notebook.read(&statuses(status(Some(1 + turn % 2), None)));
            told += notebook.due(start + Duration::from_millis(100) * turn.try_into().unwrap()).len();
        }
        assert_eq!(told, 2, "in ten seconds");
        notebook.contested(id.clone());
        assert_eq!(notebook.due(start + Duration::from_secs(60))[0].1.reason, "StatusContested");
        notebook.read(&Arc::default());
        assert_eq!(notebook.next(), None);
    }

    #[test]
    fn notes_are_as_long_as_they_may_be() {
        assert_eq!(cut("é".repeat(600)).len(), LONGEST_NOTE - 1);
        assert_eq!(cut("short".into()), "short");
    }
}
