//! Which parts of a status this installation wrote, in this process or in one before it.
//!
//! Routes and policies name the author of each entry. A Gateway, a ListenerSet, a GatewayClass and an Ingress do not, so when one of them is not ours
//! any more, the status alone does not tell what to take back. The API server knows: it keeps on record who wrote which field
//! (`metadata.managedFields`), and each installation has a name of its own there.
//!
//! Only what nobody else has written since is ours. A field that somebody else sets to the value that it has stays with whom it was, so a condition may
//! have several writers: its author is who wrote its message. Whoever has written the addresses has taken the object over, with everything in it; where
//! we have not, so has the author of what a controller says of the whole object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use penstock_core::Kind;
use serde_json::{Map, Value, json};

/// Conditions that every controller sets of the objects that are its own.
const OF_THE_CONTROLLER: [&str; 2] = ["Accepted", "Programmed"];

const ADDRESSES: &str = "f:addresses";

type Fields = Map<String, Value>;

/// The fields of a status that are ours, as `managedFields` names them below `f:status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature(Fields);

/// Whether statuses of this kind do not name their author.
pub(crate) fn is_signed(kind: Kind) -> bool {
    matches!(kind, Kind::GatewayClass | Kind::Gateway | Kind::ListenerSet | Kind::Ingress)
}

impl Signature {
    /// What `manager` wrote; none if nothing of it is left.
    pub(crate) fn of(metadata: &ObjectMeta, manager: &str) -> Option<Self> {
        let (mut ours, mut others) = (Fields::new(), Vec::new());
        let is_status = |entry: &&ManagedFieldsEntry| entry.subresource.as_deref() == Some("status");
        for entry in metadata.managed_fields.iter().flatten().filter(is_status) {
            let Some(fields) = entry.fields_v1.as_ref().and_then(status_fields) else { continue };
            if entry.manager.as_deref() == Some(manager) { ours.extend(fields.clone()) } else { others.push(fields) }
        }
        if others.iter().any(|theirs| takes_over(&ours, theirs)) {
            return None;
        }
        others.into_iter().for_each(|fields| subtract(&mut ours, fields));
        (!ours.is_empty()).then_some(Self(ours))
    }

    /// The status without what is ours. Everything else is as it was.
    pub(crate) fn withdrawn_from(&self, status: &Fields) -> Fields {
        let mut left = status.clone();
        retain(&mut left, "conditions", |condition| !is_ours(&self.0, condition));
        retain(&mut left, "supportedFeatures", |feature| item(&self.0, "supportedFeatures", "name", feature).is_none());
        retain(&mut left, "listeners", |listener| match item(&self.0, "listeners", "name", listener) {
            Some(fields) => silence(fields, listener),
            None => true,
        });
        for field in ["addresses", "attachedListenerSets"] {
            if self.0.contains_key(&format!("f:{field}")) {
                left.remove(field);
            }
        }
        if self.0.get("f:loadBalancer").is_some_and(|fields| fields.get("f:ingress").is_some())
            && let Some(balancer) = left.get_mut("loadBalancer").and_then(Value::as_object_mut)
        {
            balancer.remove("ingress");
        }
        left
    }
}

fn status_fields(fields: &FieldsV1) -> Option<&Fields> {
    fields.0.get("f:status")?.as_object()
}

fn takes_over(ours: &Fields, theirs: &Fields) -> bool {
    let conditions = theirs.get("f:conditions");
    let says = |type_: &str| conditions.and_then(|all| all.get(key("type", type_))).is_some_and(has_message);
    theirs.contains_key(ADDRESSES) || !ours.contains_key(ADDRESSES) && OF_THE_CONTROLLER.into_iter().any(says)
}

fn has_message(condition: &Value) -> bool {
    condition.get("f:message").is_some()
}

/// What somebody else wrote is not ours.
fn subtract(ours: &mut Fields, theirs: &Fields) {
    for (name, field) in theirs {
        let is_condition = name.starts_with("k:{\"type\":");
        if name == "." || is_condition && !has_message(field) {
            continue; // that there is such a thing says nothing, and of a condition the message decides
        }
        match (ours.get_mut(name).and_then(Value::as_object_mut), field.as_object()) {
            (Some(own), Some(their)) if !is_condition && !own.is_empty() && !their.is_empty() => subtract(own, their),
            _ => drop(ours.remove(name)),
        }
    }
}

/// How `managedFields` names an item of a list by one of its fields.
fn key(field: &str, value: &str) -> String {
    format!("k:{}", json!({ field: value }))
}

/// What is ours of an item in a list.
fn item<'a>(fields: &'a Fields, list: &str, by: &str, item: &Value) -> Option<&'a Fields> {
    fields.get(&format!("f:{list}"))?.get(key(by, item[by].as_str()?))?.as_object()
}

/// A condition of ours speaks of a generation. Those that the API server puts where there are none do not, and count as written by whoever left none.
fn is_ours(fields: &Fields, condition: &Value) -> bool {
    condition["observedGeneration"].is_number() && item(fields, "conditions", "type", condition).is_some()
}

/// Take what is ours out of a listener. Whether anything is left to say about it.
fn silence(fields: &Fields, listener: &mut Value) -> bool {
    let Some(left) = listener.as_object_mut() else { return false };
    retain(left, "conditions", |condition| !is_ours(fields, condition));
    let speaks = left.contains_key("conditions");
    if speaks && fields.contains_key("f:attachedRoutes") {
        left.insert("attachedRoutes".to_owned(), 0.into());
    }
    speaks
}

/// Keep some items of a list, and the list if any is left: where conditions are missing, the API server says that a controller is waited for.
fn retain(status: &mut Fields, list: &str, mut keep: impl FnMut(&mut Value) -> bool) {
    let Some(items) = status.get_mut(list).and_then(Value::as_array_mut) else { return };
    let before = items.len();
    items.retain_mut(|item| keep(item));
    if items.is_empty() && before > 0 {
        status.remove(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&str, &str, Value)]) -> ObjectMeta {
        let entry = |(manager, subresource, fields): &(&str, &str, Value)| {
            json!({
                "manager": manager, "operation": "Update", "subresource": subresource,
                "fieldsV1": { "f:status": fields },
            })
        };
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        serde_json::from_value(json!({ "managedFields": entries })).unwrap()
    }

    /// What is left of a status when the fields are ours, and others theirs.
    #[track_caller]
    fn check(status: &Value, ours: Value, theirs: Option<Value>, expected: &Value) {
        let mut entries = vec![("penstock-a", "status", ours)];
        entries.extend(theirs.map(|fields| ("other", "status", fields)));
        let signature = Signature::of(&metadata(&entries), "penstock-a");
        let status = status.as_object().unwrap();
        let left = signature.map_or_else(|| status.clone(), |signature| signature.withdrawn_from(status));
        assert_eq!(&Value::Object(left), expected);
    }

    fn condition(type_: &str) -> Value {
        json!({ "type": type_, "status": "True", "observedGeneration": 1 })
    }

    fn foreign() -> Value {
        json!({ "type": "example.com/Seen", "status": "True" })
    }

    #[test]
    fn who_wrote_the_addresses_of_an_ingress_is_on_record() {
        let check = |manager: &str, subresource: &str, fields: Value, expected: bool| {
            let metadata = metadata(&[(manager, subresource, fields)]);
            let status = json!({ "loadBalancer": { "ingress": [] } });
            let signature = Signature::of(&metadata, "penstock-a");
            let left = signature.map(|it| it.withdrawn_from(status.as_object().unwrap()));
            let withdrawn = left.is_some_and(|left| left["loadBalancer"] == json!({}));
            assert_eq!(withdrawn, expected, "{metadata:?}");
        };
        let addresses = || json!({ "f:loadBalancer": { "f:ingress": {} } });
        check("penstock-a", "status", addresses(), true);
        check("penstock-b", "status", addresses(), false);
        check("penstock-a", "", addresses(), false);
        check("penstock-a", "status", json!({ "f:loadBalancer": {} }), false);
    }

    fn gateway() -> Value {
        json!({
            "addresses": [{ "type": "IPAddress", "value": "192.0.2.1" }],
            "conditions": [condition("Accepted"), foreign(), condition("Programmed")],
            "listeners": [
                { "name": "http", "attachedRoutes": 2, "conditions": [condition("Programmed"), foreign()] },
                { "name": "https", "attachedRoutes": 1, "conditions": [condition("Programmed")] },
                { "name": "theirs", "attachedRoutes": 1, "conditions": [condition("Programmed")] },
            ],
        })
    }

    fn all_of_it() -> Value {
        let programmed = json!({ "k:{\"type\":\"Programmed\"}": { ".": {}, "f:status": {} } });
        let listener = json!({ ".": {}, "f:name": {}, "f:attachedRoutes": {}, "f:conditions": programmed });
        let accepted = json!({ ".": {}, "f:status": {}, "f:message": {} });
        json!({
            "f:addresses": {},
            "f:conditions": { "k:{\"type\":\"Accepted\"}": accepted, "k:{\"type\":\"Programmed\"}": accepted },
            "f:listeners": { "k:{\"name\":\"http\"}": listener, "k:{\"name\":\"https\"}": listener },
        })
    }

    #[test]
    fn of_a_gateway_everything_goes_that_is_ours() {
        let left = json!({
            "conditions": [foreign()],
            "listeners": [
                { "name": "http", "attachedRoutes": 0, "conditions": [foreign()] },
                { "name": "theirs", "attachedRoutes": 1, "conditions": [condition("Programmed")] },
            ],
        });
        check(&gateway(), all_of_it(), None, &left);
        let seen = json!({ ".": {}, "f:status": {} });
        let seen = json!({ "f:conditions": { "k:{\"type\":\"example.com/Seen\"}": seen } });
        check(&gateway(), all_of_it(), Some(seen), &left);
        let waits = json!({ "conditions": [{ "type": "Accepted", "status": "Unknown", "reason": "Pending" }] });
        check(&waits, all_of_it(), None, &waits);
        let last = json!({ "conditions": [condition("Accepted")] });
        check(&last, all_of_it(), None, &json!({}));
    }

    #[test]
    fn whoever_took_it_over_has_all_of_it() {
        let part = |field: &str| json!({ "f:conditions": { "k:{\"type\":\"Programmed\"}": { field: {} } } });
        check(&gateway(), all_of_it(), Some(json!({ "f:addresses": {} })), &gateway());
        let (mut ours, mut status) = (all_of_it(), gateway());
        ours.as_object_mut().unwrap().remove("f:addresses");
        status.as_object_mut().unwrap().remove("addresses");
        check(&status, ours.clone(), Some(part("f:message")), &status);
        // Who has touched it otherwise has not.
        let left = json!({ "conditions": [foreign()], "listeners": status["listeners"].clone() });
        ours.as_object_mut().unwrap().remove("f:listeners");
        check(&status, ours, Some(part("f:lastTransitionTime")), &left);
    }

    #[test]
    fn a_part_that_somebody_else_wrote_stays() {
        let routes = json!({ "f:listeners": { "k:{\"name\":\"http\"}": { "f:attachedRoutes": {} } } });
        let mut left = gateway();
        left["conditions"] = json!([foreign()]);
        left["listeners"] = json!([gateway()["listeners"][0], gateway()["listeners"][2]]);
        left["listeners"][0]["conditions"] = json!([foreign()]);
        left.as_object_mut().unwrap().remove("addresses");
        check(&gateway(), all_of_it(), Some(routes), &left);
        // Another installation that says the same in the same words has written nothing; its own words are its own.
        let both = json!({ "addresses": [], "conditions": [condition("Accepted"), condition("Programmed")] });
        let theirs = json!({ "f:conditions": { "k:{\"type\":\"Programmed\"}": { "f:message": {} } } });
        check(&both, all_of_it(), Some(theirs), &json!({ "conditions": [condition("Programmed")] }));
    }

    #[test]
    fn features_of_a_class_go_by_name() {
        let status = json!({ "supportedFeatures": [{ "name": "Gateway" }, { "name": "Theirs" }] });
        let fields = json!({ "f:supportedFeatures": { "k:{\"name\":\"Gateway\"}": { ".": {}, "f:name": {} } } });
        check(&status, fields, None, &json!({ "supportedFeatures": [{ "name": "Theirs" }] }));
    }
}
