//! Reading documents: what is refused names the field, what is unknown survives, what means the same is equal.

#![allow(clippy::unwrap_used, reason = "a test may")]

use penstock_core::Kind;
use penstock_translate::{Change, Resources, resources::Object};
use serde_json::{Value, json};

const V1: &str = "gateway.networking.k8s.io/v1";

fn parse(api_version: &str, kind: &str, mut document: Value) -> Result<Object, String> {
    document["apiVersion"] = api_version.into();
    document["kind"] = kind.into();
    Object::parse(api_version, kind, document).map_err(|error| error.to_string())
}

#[track_caller]
fn check_error(api_version: &str, kind: &str, document: Value, expected: &str) {
    assert_eq!(parse(api_version, kind, document).unwrap_err(), expected);
}

#[test]
fn errors_name_the_field() {
    let gateway = |listener: Value| json!({"metadata": {"name": "a"}, "spec": {"gatewayClassName": "c", "listeners": [listener]}});
    check_error(
        V1,
        "Gateway",
        gateway(json!({"name": "http", "port": "80", "protocol": "HTTP"})),
        "spec.listeners[0].port: invalid type: string \"80\", expected i32",
    );
    check_error(
        V1,
        "Gateway",
        gateway(json!({"name": "http", "port": 80})),
        "spec.listeners[0]: missing field `protocol`",
    );
    check_error(V1, "HTTPRoute", json!({"metadata": {}, "spec": {}}), "metadata.name: a name is required");
    check_error(V1, "HTTPRoute", json!({"metadata": {"name": "a"}}), "the document: missing field `spec`");
    check_error(
        "v1",
        "Service",
        json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": "http"}]}}),
        "spec.ports[0].port: invalid type: string \"http\", expected i32",
    );
}

#[test]
fn unknown_kinds_name_the_nearest() {
    check_error(
        V1,
        "HttpRoute",
        json!({}),
        "kind `HttpRoute` (apiVersion `gateway.networking.k8s.io/v1`) is not one that Penstock reads; did you mean `HTTPRoute`?",
    );
    check_error(
        "apps/v1",
        "Deployment",
        json!({}),
        "kind `Deployment` (apiVersion `apps/v1`) is not one that Penstock reads",
    );
    check_error(
        "networking.k8s.io/v1",
        "Gateway",
        json!({}),
        "apiVersion: `networking.k8s.io/v1` has no kind Gateway; use `gateway.networking.k8s.io/v1`",
    );
}

#[test]
fn unknown_values_and_fields_survive() {
    let route = json!({
        "metadata": {"name": "a"},
        "spec": {"new": 1, "rules": [{"filters": [{"type": "Teleport", "teleport": {}}], "matches": [{"path": {"type": "Glob", "value": "*"}}]}]},
    });
    assert!(matches!(parse(V1, "HTTPRoute", route), Ok(Object::HTTPRoute(_))));
}

#[test]
fn null_means_absent_but_in_configuration() {
    let plugin = json!({
        "metadata": {"name": "a", "labels": null},
        "spec": {"source": {"file": {"path": "/a.wasm"}, "configMapRef": null}, "targetRefs": null, "config": {"a": null}},
    });
    let Ok(Object::WasmPlugin(plugin)) = parse("penstock.dev/v1alpha1", "WasmPlugin", plugin) else { panic!("reads") };
    assert_eq!(plugin.spec.config, Some(json!({"a": null})));
    assert!(plugin.spec.target_refs.is_empty());
}

#[test]
fn namespaces_are_filled_in_where_they_belong() {
    let of = |api_version: &str, kind: &str, document: Value| {
        parse(api_version, kind, document).unwrap().reference().to_string()
    };
    assert_eq!(of("v1", "Service", json!({"metadata": {"name": "a"}})), "Service/default/a");
    let class = json!({"metadata": {"name": "a", "namespace": "x"}, "spec": {"controllerName": "c"}});
    assert_eq!(of(V1, "GatewayClass", class), "GatewayClass/a");
}

#[test]
fn what_means_the_same_is_no_change() {
    let service = |version: &str, status: Value| {
        let metadata = json!({
            "name": "a", "resourceVersion": version, "managedFields": [{"manager": version}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": version},
        });
        parse("v1", "Service", json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}, "status": status}))
            .unwrap()
    };
    let mut resources = Resources::default();
    assert!(resources.apply(Change::Upsert(service("1", json!({})))));
    let conditions = json!([{"type": "Ready", "status": "True", "reason": "a", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let others = json!({"conditions": conditions, "loadBalancer": {"ingress": []}});
    assert!(!resources.apply(Change::Upsert(service("2", others))));
    // Where it is a Gateway's, these are the Gateway's addresses.
    let balanced = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}});
    assert!(resources.apply(Change::Upsert(service("3", balanced.clone()))));
    assert!(!resources.apply(Change::Upsert(service("4", balanced))));
    assert!(resources.apply(Change::Delete(service("3", Value::Null).reference())));
    assert!(!resources.apply(Change::Delete(service("3", Value::Null).reference())));
}

#[test]
fn slices_follow_their_label() {
    let slice = |service: &str| {
        let labels = json!({"kubernetes.io/service-name": service});
        let document = json!({"metadata": {"name": "s", "labels": labels}, "addressType": "IPv4", "endpoints": null});
        parse("discovery.k8s.io/v1", "EndpointSlice", document).unwrap()
    };
    let mut resources = Resources::default();
    assert!(resources.apply(Change::Upsert(slice("a"))));
    assert!(!resources.apply(Change::Upsert(slice("a"))));
    assert!(resources.apply(Change::Upsert(slice("b"))));
    assert_eq!(resources.endpoint_slices.keys().map(ToString::to_string).collect::<Vec<_>>(), ["Service/default/b"]);
    assert!(resources.apply(Change::Delete(slice("b").reference())));
    assert!(resources.endpoint_slices.is_empty());
}

#[test]
fn schemas_describe_whole_objects() {
    for kind in Object::KINDS {
        let schema = Object::schema(*kind);
        for field in ["apiVersion", "kind", "metadata"] {
            assert!(schema["properties"].get(field).is_some(), "{kind} has no {field}");
        }
        assert!(!schema.to_string().contains("\"$ref\""), "{kind} has references");
    }
    let path = "/properties/spec/properties/rules/items/properties/matches/items/properties/path/properties/type/enum";
    let types = Object::schema(Kind::HTTPRoute).pointer(path).unwrap();
    for known in ["Exact", "PathPrefix", "RegularExpression"] {
        assert!(types.as_array().unwrap().contains(&known.into()), "{types}");
    }
    assert_eq!(Object::schema(Kind::TCPRoute), &Value::Null);
}
