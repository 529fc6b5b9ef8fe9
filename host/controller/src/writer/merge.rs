//! What the status of an object should become, given what is there and what is wanted.
//!
//! Others write into the same status: conditions of other types, entries of other controllers. All of that stays byte by byte, and where it is.
//! Of ours, what says the same stays too, with its time; so an object that is as it should be is not written.

use std::collections::BTreeSet;

use penstock_core::{Kind, ResourceRef};
use serde_json::{Map, Value};

use crate::sources::cluster::{Namespaces, Signature, is_signed};

/// Types of conditions that this gateway sets, and removes when they do not hold any more.
const OWN_CONDITIONS: [&str; 9] = [
    "Accepted",
    "Conflicted",
    "Degraded",
    "OverlappingTLSConfig",
    "PartiallyInvalid",
    "Programmed",
    "ResolvedRefs",
    "RulesOverlap",
    "SupportedVersion",
];

/// Fields that are absent when there is nothing to say.
const OPTIONAL_FIELDS: [&str; 4] = ["active", "attachedListenerSets", "candidate", "probation"];

/// The limits of the lists of entries.
const MAX_PARENTS: usize = 32;
const MAX_ANCESTORS: usize = penstock_translate::status::MAX_ANCESTORS;

/// What is the same for all objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge<'a> {
    /// Entries with this `controllerName` are ours …
    pub(super) controller: &'a str,
    /// … but for those about these, and about what is in namespaces that are not ours: another installation of the same name looks after them.
    pub(super) others: &'a BTreeSet<ResourceRef>,
    pub(super) namespaces: &'a Namespaces,
    /// The time of whatever changes now.
    pub(super) now: &'a str,
}

impl Merge<'_> {
    /// The status to write; none if the one that is there is right. `wanted` is none if we have nothing to say about the object (any more); then
    /// what we signed goes, or our entries where they name us.
    pub(super) fn apply(
        &self,
        id: &ResourceRef,
        live: &Value,
        signature: Option<&Signature>,
        wanted: Option<&Value>,
    ) -> Option<Value> {
        let empty = Map::new();
        let live = live.as_object().unwrap_or(&empty);
        let merged = match (wanted.and_then(Value::as_object), id.kind) {
            (Some(wanted), _) => self.whole(id, live, wanted),
            (None, kind) if is_signed(kind) => signature?.withdrawn_from(live),
            (None, _) => self.withdrawn(id, live),
        };
        (merged != *live).then_some(Value::Object(merged))
    }

    fn whole(&self, id: &ResourceRef, live: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
        let mut merged = live.clone();
        if id.kind == Kind::WasmPlugin
            && let Some(ancestors) = self.beside_others(id, live, wanted)
        {
            merged.insert("ancestors".to_owned(), ancestors.into());
            return merged;
        }
        for field in OPTIONAL_FIELDS {
            merged.remove(field);
        }
        for (field, value) in wanted {
            let before = live.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let items = || value.as_array().map(Vec::as_slice).unwrap_or_default();
            let value = match field.as_str() {
                "active" => self.active(live.get(field), value),
                "conditions" => self.conditions(before, items()).into(),
                "listeners" => self.listeners(before, items()).into(),
                "parents" => self.entries(id, before, items(), "parentRef", MAX_PARENTS).into(),
                "ancestors" => self.entries(id, before, items(), "ancestorRef", MAX_ANCESTORS).into(),
                _ => value.clone(),
            };
            merged.insert(field.clone(), value);
        }
        merged
    }

    /// Several installations may run the same plugin, and there is room for one story about it: that of the installation with the first entry. The
    /// entries of a plugin of which another one tells the story; none if we do.
    fn beside_others(
        &self,
        id: &ResourceRef,
        live: &Map<String, Value>,
        wanted: &Map<String, Value>,
    ) -> Option<Vec<Value>> {
        let items = |status: &Map<String, Value>| status.get("ancestors").and_then(Value::as_array).cloned();
        let (before, wanted) = (items(live).unwrap_or_default(), items(wanted).unwrap_or_default());
        let entries = self.entries(id, &before, &wanted, "ancestorRef", MAX_ANCESTORS);
        let is_ours = |entry: &Value| {
            entry["controllerName"] == self.controller && !self.is_others(&Reference::of(&entry["ancestorRef"], id))
        };
        entries.first().is_some_and(|first| !is_ours(first)).then_some(entries)
    }

    /// What serves, since when: as long as it is the same revision, nobody begins to count anew.
    fn active(&self, live: Option<&Value>, wanted: &Value) -> Value {
        let is_same = |live: &&Value| ["generation", "digest"].iter().all(|field| live[field] == wanted[field]);
        let since = live.filter(is_same).map(|live| &live["since"]).filter(|since| since.is_string());
        let mut active = wanted.clone();
        active["since"] = since.cloned().unwrap_or_else(|| self.now.into());
        active
    }

    /// Whether another installation of our name looks after what is said about this.
    fn is_others(&self, reference: &Reference<'_>) -> bool {
        self.others.contains(&reference.parent()) || self.namespaces.leaves_out(reference.namespace)
    }

    /// Without anything of ours. What describes the object as a whole goes with our last entry.
    fn withdrawn(&self, id: &ResourceRef, live: &Map<String, Value>) -> Map<String, Value> {
        let mut merged = live.clone();
        for (field, reference) in [("parents", "parentRef"), ("ancestors", "ancestorRef")] {
            let Some(before) = live.get(field).and_then(Value::as_array) else { continue };
            let left = self.entries(id, before, &[], reference, usize::MAX);
            if left.is_empty() && !before.is_empty() && id.kind == Kind::WasmPlugin {
                return Map::new();
            }
            merged.insert(field.to_owned(), left.into());
        }
        merged
    }

    fn conditions(&self, live: &[Value], wanted: &[Value]) -> Vec<Value> {
        let of_type = |type_: &Value| wanted.iter().find(|condition| condition["type"] == *type_);
        let is_ours = |type_: &Value| type_.as_str().is_some_and(|type_| OWN_CONDITIONS.contains(&type_));
        let mut merged = Vec::with_capacity(live.len().max(wanted.len()));
        for before in live {
            match of_type(&before["type"]) {
                Some(wanted) => merged.push(self.condition(before, wanted)),
                None if is_ours(&before["type"]) => {}
                None => merged.push(before.clone()),
            }
        }
        let new = wanted.iter().filter(|wanted| !live.iter().any(|before| before["type"] == wanted["type"]));
        merged.extend(new.map(|wanted| stamped(wanted, self.now.into())));
        merged
    }

    fn condition(&self, live: &Value, wanted: &Value) -> Value {
        let generation = |condition: &Value| condition["observedGeneration"].as_i64().unwrap_or_default();
        // Another instance has seen a later generation: it knows better.
        let outdated = generation(live) > generation(wanted);
        let same = ["status", "reason", "message"].iter().all(|field| live[field] == wanted[field]);
        if outdated || same && generation(live) == generation(wanted) {
            return live.clone();
        }
        let since = &live["lastTransitionTime"];
        let flipped = live["status"] != wanted["status"] || !since.is_string();
        stamped(wanted, if flipped { self.now.into() } else { since.clone() })
    }

    /// By name; listeners that are gone go, the others stay in their order.
    fn listeners(&self, live: &[Value], wanted: &[Value]) -> Vec<Value> {
        let stay = live.iter().filter_map(|before| {
            let wanted = wanted.iter().find(|wanted| wanted["name"] == before["name"])?;
            Some(self.entry(before, wanted))
        });
        let new = wanted.iter().filter(|wanted| !live.iter().any(|before| before["name"] == wanted["name"]));
        stay.chain(new.map(|wanted| self.entry(&Value::Null, wanted))).collect()
    }

    /// By reference and controller; ours that are gone go, and all others stay where they are.
    fn entries(&self, id: &ResourceRef, live: &[Value], wanted: &[Value], reference: &str, limit: usize) -> Vec<Value> {
        let same = |a: &Value, b: &Value| Reference::of(&a[reference], id) == Reference::of(&b[reference], id);
        let mut left: Vec<&Value> = wanted.iter().collect();
        let mut merged = Vec::with_capacity(live.len().max(wanted.len()));
        for before in live {
            if before["controllerName"] != self.controller {
                merged.push(before.clone());
            } else if let Some(at) = left.iter().position(|wanted| same(before, wanted)) {
                merged.push(self.entry(before, left.remove(at)));
            } else if self.is_others(&Reference::of(&before[reference], id)) {
                merged.push(before.clone());
            }
        }
        let room = limit.saturating_sub(merged.len());
        merged.extend(left.into_iter().take(room).map(|wanted| self.entry(&Value::Null, wanted)));
        merged
    }

    /// Every field as wanted, and in its conditions what is to stay.
    fn entry(&self, live: &Value, wanted: &Value) -> Value {
        let mut merged = live.as_object().cloned().unwrap_or_default();
        for (field, value) in wanted.as_object().into_iter().flatten() {
            let before = live[field].as_array().map(Vec::as_slice).unwrap_or_default();
            let value = match (field.as_str(), value) {
                ("conditions", Value::Array(wanted)) => self.conditions(before, wanted).into(),
                // The defaults that the API server filled in mean the same.
                ("parentRef" | "ancestorRef", _) if live[field].is_object() => live[field].clone(),
                _ => value.clone(),
            };
            merged.insert(field.clone(), value);
        }
        Value::Object(merged)
    }
}

/// A condition with its time.
fn stamped(condition: &Value, since: Value) -> Value {
    let mut condition = condition.clone();
    condition["lastTransitionTime"] = since;
    condition
}

/// A reference to a parent with all defaults.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    section: Option<&'a str>,
    port: Option<i64>,
}

impl<'a> Reference<'a> {
    fn of(reference: &'a Value, id: &'a ResourceRef) -> Self {
        let text = |field: &str| reference[field].as_str();
        Self {
            group: text("group").unwrap_or("gateway.networking.k8s.io"),
            kind: text("kind").unwrap_or("Gateway"),
            namespace: text("namespace").unwrap_or(&id.namespace),
            name: text("name").unwrap_or_default(),
            section: text("sectionName").filter(|section| !section.is_empty()),
            port: reference["port"].as_i64(),
        }
    }

    fn parent(&self) -> ResourceRef {
        let kind = if self.kind == "ListenerSet" { Kind::ListenerSet } else { Kind::Gateway };
        ResourceRef::new(kind, self.namespace, self.name)
    }
}

/// Whether two statuses differ in counts alone: of routes that are attached, or of ListenerSets.
pub(super) fn differ_in_counts_alone(one: &Value, other: &Value) -> bool {
    fn without(status: &Value) -> Value {
        let mut status = status.clone();
        if let Some(status) = status.as_object_mut() {
            status.remove("attachedListenerSets");
        }
        let listeners = status.get_mut("listeners").and_then(Value::as_array_mut);
        for listener in listeners.into_iter().flatten().filter_map(Value::as_object_mut) {
            listener.remove("attachedRoutes");
        }
        status
    }
    without(one) == without(other)
}

/// The JSON merge patch (RFC 7396) that leads from one status to another.
pub(super) fn patch(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for field in from.keys().filter(|field| !to.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    for (field, value) in to {
        match from.get(field) {
            Some(before) if before == value => {}
            Some(before) => drop(patch.insert(field.clone(), self::patch(before, value))),
            None => drop(patch.insert(field.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
#[path = "merge/tests.rs"]
mod tests;
