//! Lists of ancestors have room for sixteen, and say so when there are more.

#![allow(clippy::unwrap_used, reason = "a test may")]

use penstock_core::{Kind, ResourceRef};
use penstock_translate::{Change, Resources, Settings, Status, resources::Object, translate};
use serde_json::{Value, json};

const V1: &str = "gateway.networking.k8s.io/v1";

/// A route to so many Gateways, with a plugin, and a policy for its Service.
fn world(gateways: u32) -> Resources {
    let mut resources = Resources::default();
    let mut add = |api_version: &str, kind: &str, name: &str, spec: &Value| {
        let document = json!({ "metadata": { "name": name }, "spec": spec });
        resources.apply(Change::Upsert(Object::parse(api_version, kind, document).unwrap()));
    };
    let mut parents = Vec::new();
    for number in 0..gateways {
        let name = format!("gateway-{number}");
        let listener = json!({ "name": "http", "port": 8000 + number, "protocol": "HTTP" });
        add(V1, "Gateway", &name, &json!({ "gatewayClassName": "penstock", "listeners": [listener] }));
        parents.push(json!({ "name": name }));
    }
    let rule = json!({ "backendRefs": [{ "name": "shop", "port": 443 }] });
    add(V1, "HTTPRoute", "shop", &json!({ "parentRefs": parents, "rules": [rule] }));
    add("v1", "Service", "shop", &json!({ "ports": [{ "port": 443 }] }));
    let validation = json!({ "hostname": "shop.example.com", "wellKnownCACertificates": "System" });
    let service = json!({ "group": "", "kind": "Service", "name": "shop" });
    add(V1, "BackendTLSPolicy", "shop", &json!({ "targetRefs": [service], "validation": validation }));
    let target = json!({ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "shop" });
    let plugin = json!({ "source": { "file": { "path": "/plugin.wasm" } }, "targetRefs": [target] });
    add("penstock.dev/v1alpha1", "WasmPlugin", "rules", &plugin);
    resources
}

#[test]
fn those_for_which_there_is_no_room_are_counted() {
    let check = |gateways: u32, expected: [usize; 2], said: &str| {
        let translation = translate(&world(gateways), &Settings::standalone());
        let status = |kind: Kind, name: &str| (*translation.statuses[&ResourceRef::new(kind, "default", name)]).clone();
        let Status::WasmPlugin(plugin) = status(Kind::WasmPlugin, "rules") else { unreachable!() };
        let Status::Policy(policy) = status(Kind::BackendTLSPolicy, "shop") else { unreachable!() };
        assert_eq!([plugin.ancestors.len(), policy.ancestors.len()], expected);
        for condition in [&plugin.conditions[0], &policy.ancestors[0].conditions[0]] {
            assert!(condition.message.ends_with(said), "{gateways}: {condition:?}");
        }
    };
    check(16, [16, 16], "applies to its targets");
    check(20, [16, 16], "; status.ancestors names 16 of 20 Gateways, which are as many as it may");
}
