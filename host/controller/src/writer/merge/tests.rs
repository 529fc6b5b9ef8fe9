use serde_json::json;

use super::*;
use crate::sources::cluster::WatchedNamespaces;

const NOW: &str = "2026-02-02T00:00:00Z";
const BEFORE: &str = "2026-01-01T00:00:00Z";
const OURS: &str = "penstock.dev/gateway-controller";

fn id(kind: Kind) -> ResourceRef {
    ResourceRef::new(kind, "default", "it")
}

/// The status to write, and the same once more: what was written needs no further write. Namespace `theirs` is left out.
#[track_caller]
fn merged(kind: Kind, live: &Value, wanted: Option<&Value>, others: &[&str]) -> Option<Value> {
    let others = others.iter().map(|name| ResourceRef::new(Kind::Gateway, "default", *name)).collect();
    let names = ["default".to_owned()].into();
    let namespaces = Namespaces::new(Some(WatchedNamespaces { names, labels: None }));
    namespaces.select(&"theirs".into(), None);
    let merge = Merge { controller: OURS, others: &others, namespaces: &namespaces, now: NOW };
    let result = merge.apply(&id(kind), live, None, wanted);
    let there = result.as_ref().unwrap_or(live);
    assert_eq!(Merge { now: "later", ..merge }.apply(&id(kind), there, None, wanted), None, "not idempotent");
    result
}

fn condition(type_: &str, status: &str, message: &str, generation: i64, since: Option<&str>) -> Value {
    let mut condition =
        json!({"type": type_, "status": status, "reason": "Why", "message": message, "observedGeneration": generation});
    if let Some(since) = since {
        condition["lastTransitionTime"] = since.into();
    }
    condition
}

fn parent(name: &str, controller: &str, conditions: &[Value]) -> Value {
    let group = "gateway.networking.k8s.io";
    json!({"parentRef": {"group": group, "kind": "Gateway", "name": name}, "controllerName": controller, "conditions": conditions})
}

#[test]
fn only_a_flipped_status_moves_the_time() {
    let live = json!({"conditions": [condition("Accepted", "True", "old", 1, Some(BEFORE)), condition("Programmed", "True", "on", 1, Some(BEFORE))]});
    let wanted = json!({"conditions": [condition("Accepted", "True", "new", 2, None), condition("Programmed", "False", "off", 2, None)]});
    let expected = json!({"conditions": [condition("Accepted", "True", "new", 2, Some(BEFORE)), condition("Programmed", "False", "off", 2, Some(NOW))]});
    assert_eq!(merged(Kind::Gateway, &live, Some(&wanted), &[]), Some(expected));
}

#[test]
fn what_says_the_same_is_not_written() {
    // Another order, a field that the API server filled in, and times of their own.
    let live = json!({"parents": [{
        "controllerName": OURS,
        "conditions": [condition("ResolvedRefs", "True", "", 1, Some(BEFORE)), condition("Accepted", "True", "", 1, Some(BEFORE))],
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default", "name": "web"},
    }]});
    let wanted = json!({"parents": [parent("web", OURS, &[condition("Accepted", "True", "", 1, None), condition("ResolvedRefs", "True", "", 1, None)])]});
    assert_eq!(merged(Kind::HTTPRoute, &live, Some(&wanted), &[]), None);
}

#[test]
fn entries_of_others_stay_as_they_are_and_where_they_are() {
    let foreign = |name: &str| {
        let mut entry = parent(name, "example.com/other", &[condition("Accepted", "False", "theirs", 7, Some(BEFORE))]);
        entry["theirField"] = json!({"z": 1, "a": [null]});
        entry
    };
    let own = |message: &str, since| parent("mine", OURS, &[condition("Accepted", "True", message, 1, Some(since))]);
    let live = json!({"parents": [foreign("a"), own("old", BEFORE), foreign("mine"), parent("gone", OURS, &[])]});
    let wanted = json!({"parents": [
        parent("new", OURS, &[condition("Accepted", "True", "", 1, None)]),
        parent("mine", OURS, &[condition("Accepted", "True", "new", 1, None)]),
    ]});
    let new = parent("new", OURS, &[condition("Accepted", "True", "", 1, Some(NOW))]);
    let expected = json!({"parents": [foreign("a"), own("new", BEFORE), foreign("mine"), new]});
    let result = merged(Kind::HTTPRoute, &live, Some(&wanted), &[]).unwrap();
    assert_eq!(result.to_string(), expected.to_string(), "byte by byte");
}

#[test]
fn conditions_of_others_stay() {
    let foreign = json!({"type": "example.com/Stale", "status": "True", "lastTransitionTime": BEFORE});
    let live = json!({
        "conditions": [foreign, condition("Accepted", "Unknown", "Waiting for controller", 0, Some("1970-01-01T00:00:00Z"))],
        "listeners": [{"name": "http", "attachedRoutes": 0, "conditions": [foreign, condition("PartiallyInvalid", "True", "", 1, Some(BEFORE))]}],
        "theirs": true,
    });
    let wanted = json!({
        "conditions": [condition("Accepted", "True", "", 1, None)],
        "listeners": [{"name": "http", "attachedRoutes": 2, "conditions": []}],
    });
    let expected = json!({
        "conditions": [foreign, condition("Accepted", "True", "", 1, Some(NOW))],
        "listeners": [{"name": "http", "attachedRoutes": 2, "conditions": [foreign]}],
        "theirs": true,
    });
    assert_eq!(merged(Kind::Gateway, &live, Some(&wanted), &[]), Some(expected));
}

#[test]
fn a_later_generation_is_left_to_who_has_seen_it() {
    let live = json!({"conditions": [condition("Accepted", "False", "later", 3, Some(BEFORE))]});
    let wanted = json!({"conditions": [condition("Accepted", "True", "earlier", 2, None)]});
    assert_eq!(merged(Kind::Gateway, &live, Some(&wanted), &[]), None);
}

#[test]
fn our_entries_go_when_there_is_nothing_to_say() {
    let foreign = parent("a", "example.com/other", &[]);
    let live = json!({"parents": [parent("a", OURS, &[]), foreign, parent("b", OURS, &[])]});
    let expected = json!({"parents": [foreign]});
    assert_eq!(merged(Kind::HTTPRoute, &live, None, &[]), Some(expected));
    assert_eq!(merged(Kind::HTTPRoute, &json!({"parents": [foreign]}), None, &[]), None);
    assert_eq!(merged(Kind::HTTPRoute, &Value::Null, None, &[]), None);
    assert_eq!(
        merged(Kind::Gateway, &json!({"conditions": [condition("Accepted", "True", "", 1, None)]}), None, &[]),
        None
    );
}

#[test]
fn entries_of_another_installation_with_our_name_stay() {
    let live = json!({"parents": [parent("theirs", OURS, &[]), parent("gone", OURS, &[])]});
    let expected = json!({"parents": [parent("theirs", OURS, &[])]});
    assert_eq!(merged(Kind::HTTPRoute, &live, None, &["theirs"]), Some(expected));
}

#[test]
fn entries_about_namespaces_that_are_left_out_stay() {
    let about = |namespace: &str| {
        let mut entry = parent("web", OURS, &[]);
        entry["parentRef"]["namespace"] = namespace.into();
        entry
    };
    let live = json!({"parents": [about("theirs"), about("gone"), about("default")]});
    let expected = json!({"parents": [about("theirs")]});
    assert_eq!(merged(Kind::HTTPRoute, &live, None, &[]), Some(expected));
}

fn ancestor(name: &str, controller: &str) -> Value {
    json!({"ancestorRef": {"name": name}, "controllerName": controller, "conditions": []})
}

#[test]
fn of_a_plugin_in_several_installations_one_tells_the_story() {
    const OTHER: &str = "example.com/other";
    let story = |version: &str, ancestors: &[Value]| {
        let conditions = [condition("Programmed", "True", version, 1, Some(BEFORE))];
        json!({"conditions": conditions, "active": {"generation": 1, "version": version, "since": BEFORE}, "ancestors": ancestors})
    };
    let ours = story("ours", &[ancestor("ours", OURS)]);
    let check = |live: Value, others: &[&str], expected: Option<Value>| {
        assert_eq!(merged(Kind::WasmPlugin, &live, Some(&ours), others), expected, "{live:#}");
    };
    // The other one was there before: we add our entry, and leave the rest.
    let both = [ancestor("theirs", OTHER), ancestor("ours", OURS)];
    check(story("theirs", &both[..1]), &[], Some(story("theirs", &both)));
    check(story("theirs", &both), &[], None);
    // We were, or the other one has left: the story is ours.
    let both = [ancestor("ours", OURS), ancestor("theirs", OTHER)];
    check(story("theirs", &both), &[], Some(story("ours", &both)));
    check(story("theirs", &both[..1]), &[], Some(story("ours", &both[..1])));
    // An installation with our name is another one too.
    let both = [ancestor("theirs", OURS), ancestor("ours", OURS)];
    check(story("theirs", &both), &["theirs"], None);
    check(story("theirs", &both), &[], Some(story("ours", &both[1..])));
}

#[test]
fn what_serves_does_so_since_it_was_first_said() {
    let status = |digest: &str, since: Option<&str>| {
        let mut active = json!({"generation": 1, "digest": digest, "name": "headers"});
        if let Some(since) = since {
            active["since"] = since.into();
        }
        json!({"active": active, "ancestors": [ancestor("web", OURS)]})
    };
    let check = |live: Value, digest: &str, expected: Option<Value>| {
        assert_eq!(merged(Kind::WasmPlugin, &live, Some(&status(digest, None)), &[]), expected);
    };
    check(json!({}), "a", Some(status("a", Some(NOW))));
    check(status("a", Some(BEFORE)), "a", None);
    check(status("a", Some(BEFORE)), "b", Some(status("b", Some(NOW))));
    let mut renamed = status("a", Some(BEFORE));
    renamed["active"]["name"] = "another".into();
    check(renamed, "a", Some(status("a", Some(BEFORE))));
}

/// What the API server may hold, in fields that hold no conditions.
#[test]
fn every_field_counts_when_statuses_are_compared() {
    let gateway = |address: &str, kinds: &[&str], sets: u32| {
        let kinds: Vec<Value> = kinds.iter().map(|kind| json!({"kind": kind})).collect();
        json!({
            "addresses": [{"type": "IPAddress", "value": address}],
            "attachedListenerSets": sets,
            "listeners": [{"name": "http", "attachedRoutes": 1, "supportedKinds": kinds, "conditions": []}],
        })
    };
    let live = gateway("10.0.0.1", &["HTTPRoute", "GRPCRoute"], 1);
    let check = |wanted: Value, is_written: bool| {
        let expected = is_written.then(|| wanted.clone());
        assert_eq!(merged(Kind::Gateway, &live, Some(&wanted), &[]), expected);
    };
    check(live.clone(), false);
    check(gateway("10.0.0.2", &["HTTPRoute", "GRPCRoute"], 1), true);
    check(gateway("10.0.0.1", &["HTTPRoute"], 1), true);
    check(gateway("10.0.0.1", &["HTTPRoute", "GRPCRoute"], 2), true);
    let class = |features: &[&str]| {
        let features: Vec<Value> = features.iter().map(|name| json!({"name": name})).collect();
        json!({"supportedFeatures": features})
    };
    let check = |live: &[&str], wanted: &[&str], is_written: bool| {
        let found = merged(Kind::GatewayClass, &class(live), Some(&class(wanted)), &[]);
        assert_eq!(found, is_written.then(|| class(wanted)));
    };
    check(&["Gateway"], &["Gateway"], false);
    check(&["Gateway"], &["Gateway", "HTTPRoute"], true);
    check(&["Gateway", "Mesh"], &["Gateway"], true);
}

#[test]
fn a_plugin_that_serves_nobody_of_ours_says_nothing() {
    let ancestor =
        |controller: &str| json!({"ancestorRef": {"name": "web"}, "controllerName": controller, "conditions": []});
    let live = |ancestors: Value| json!({"conditions": [condition("Accepted", "True", "", 1, None)], "active": {"generation": 1}, "ancestors": ancestors});
    let ours = live(json!([ancestor(OURS)]));
    assert_eq!(merged(Kind::WasmPlugin, &ours, None, &[]), Some(json!({})));
    assert_eq!(merged(Kind::WasmPlugin, &live(json!([ancestor("example.com/other")])), None, &[]), None);
}

#[test]
fn lists_that_are_full_take_no_more() {
    let foreign: Vec<Value> = (0..31).map(|at| parent(&format!("p{at}"), "example.com/other", &[])).collect();
    let wanted = json!({"parents": [parent("a", OURS, &[]), parent("b", OURS, &[])]});
    let result = merged(Kind::HTTPRoute, &json!({"parents": foreign}), Some(&wanted), &[]).unwrap();
    assert_eq!(result["parents"].as_array().unwrap().len(), 32);
}

#[test]
fn fields_that_do_not_hold_any_more_go() {
    let live = json!({
        "candidate": {"phase": "Rejected", "reason": "X"},
        "probation": {"until": BEFORE},
        "active": {"generation": 1},
        "ancestors": [],
    });
    let wanted = json!({"active": {"generation": 2}, "ancestors": []});
    let expected = json!({"active": {"generation": 2, "since": NOW}, "ancestors": []});
    assert_eq!(merged(Kind::WasmPlugin, &live, Some(&wanted), &[]), Some(expected));
}

#[test]
fn patches() {
    let check = |from: Value, to: Value, expected: Value| assert_eq!(patch(&from, &to), expected);
    check(
        json!({"a": 1, "b": {"c": 1, "d": 2}, "l": [1]}),
        json!({"b": {"c": 3}, "l": [2]}),
        json!({"a": null, "b": {"d": null, "c": 3}, "l": [2]}),
    );
    check(Value::Null, json!({"a": 1}), json!({"a": 1}));
    check(json!({"a": 1}), json!({"a": 1}), json!({}));
}

/// Nothing in the status of an Ingress tells whose it is, so it is left alone unless it is ours.
#[test]
fn the_addresses_of_an_ingress_are_replaced_or_left_alone() {
    let theirs = json!({"loadBalancer": {"ingress": [{"hostname": "lb.example.com", "ports": [{"port": 80, "protocol": "TCP"}]}]}});
    assert_eq!(merged(Kind::Ingress, &theirs, None, &[]), None);
    let wanted = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}});
    assert_eq!(merged(Kind::Ingress, &theirs, Some(&wanted), &[]), Some(wanted.clone()));
    assert_eq!(merged(Kind::Ingress, &wanted, Some(&wanted), &[]), None);
    let nothing = json!({"loadBalancer": {}});
    assert_eq!(merged(Kind::Ingress, &wanted, Some(&nothing), &[]), Some(nothing.clone()));
    assert_eq!(merged(Kind::Ingress, &nothing, Some(&nothing), &[]), None);
}

#[test]
fn counts_are_all_that_differs_or_not() {
    let status = |routes: u32, sets: u32, reason: &str| {
        json!({
            "attachedListenerSets": sets,
            "conditions": [{ "type": "Accepted", "reason": reason }],
            "listeners": [{ "name": "http", "attachedRoutes": routes }],
        })
    };
    let one = status(1, 0, "Accepted");
    assert!(differ_in_counts_alone(&one, &status(2, 1, "Accepted")));
    assert!(!differ_in_counts_alone(&one, &status(2, 0, "Invalid")));
    assert!(!differ_in_counts_alone(&one, &json!({})));
}
