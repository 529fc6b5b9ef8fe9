//! Services and EndpointSlices as they should be.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use penstock_core::{Kind, ResourceRef};
use serde_json::{Map, Value, json};

use super::{APPLIED, CONTROLLER, GATEWAY_NAME, MANAGED_BY};
use crate::{ServiceType, gateway::GatewayState};

/// The longest name of a Service, and value of a label.
const LONGEST: usize = 63;

/// Makes the objects of one Gateway.
pub(super) struct Maker<'a> {
    pub(super) state: &'a GatewayState<'a>,
    pub(super) service: &'a ResourceRef,
    pub(super) controller: &'a str,
    /// Of the Gateway, each with that of the instances.
    pub(super) ports: &'a BTreeMap<u16, u16>,
}

impl Maker<'_> {
    pub(super) fn service(&self, type_: ServiceType) -> Value {
        let ports = self.ports.iter().map(
            |(port, target)| json!({ "name": port_name(*port), "protocol": "TCP", "port": port, "targetPort": target }),
        );
        finished(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(&self.service.name, &[]),
            "spec": { "type": type_.to_string(), "ports": ports.collect::<Vec<_>>() },
        }))
    }

    /// The instances of one slice, with the ports of this Gateway.
    pub(super) fn slice(&self, instances: &EndpointSlice) -> (ResourceRef, Value) {
        let source = instances.metadata.name.as_deref().unwrap_or_default();
        let name = format!("{}-{:08x}", self.service.name, fnv(source.as_bytes()) >> 32);
        let labels = [
            ("kubernetes.io/service-name", &*self.service.name),
            ("endpointslice.kubernetes.io/managed-by", "penstock.dev"),
        ];
        let ports = self
            .ports
            .iter()
            .map(|(port, target)| json!({ "name": port_name(*port), "protocol": "TCP", "port": target }));
        let endpoints = instances.endpoints.iter().flatten().map(|endpoint| {
            let mut copy = Map::new();
            copy.insert("addresses".into(), json!(endpoint.addresses));
            for (field, value) in [
                ("conditions", json!(endpoint.conditions)),
                ("nodeName", json!(endpoint.node_name)),
                ("zone", json!(endpoint.zone)),
            ] {
                if !value.is_null() {
                    copy.insert(field.into(), value);
                }
            }
            copy
        });
        let manifest = finished(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": self.metadata(&name, &labels),
            "addressType": instances.address_type,
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": ports.collect::<Vec<_>>(),
        }));
        (ResourceRef::new(Kind::EndpointSlice, self.service.namespace.clone(), name), manifest)
    }

    /// What the Gateway wants its infrastructure to carry, and below it what tells to whom the object belongs.
    fn metadata(&self, name: &str, labels: &[(&str, &str)]) -> Value {
        let gateway = self.state.gateway;
        let infrastructure = gateway.spec.infrastructure.clone().unwrap_or_default();
        let mut all: BTreeMap<String, String> = infrastructure.labels;
        let gateway_name = label_value(&self.state.id.name);
        let own = [MANAGED_BY, (CONTROLLER, self.controller), (GATEWAY_NAME, &gateway_name)];
        all.extend(own.iter().chain(labels).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        json!({
            "name": name,
            "namespace": *self.service.namespace,
            "labels": all,
            "annotations": infrastructure.annotations,
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "name": *self.state.id.name,
                "uid": gateway.metadata.uid.as_deref().unwrap_or_default(),
                "controller": true,
            }],
        })
    }
}

/// With a mark of its contents.
fn finished(mut manifest: Value) -> Value {
    let mark = format!("{:016x}", fnv(manifest.to_string().as_bytes()));
    manifest["metadata"]["annotations"][APPLIED] = mark.into();
    manifest
}

fn port_name(port: u16) -> String {
    format!("port-{port}")
}

/// GEP-1762 names what belongs to a Gateway so; where a Service cannot have the name, a similar one.
pub(super) fn service_name(gateway: &str, class: &str) -> String {
    let name = format!("{gateway}-{class}");
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() <= LONGEST && name.chars().all(is_plain) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return name;
    }
    let letters: String = name.chars().map(|c| if is_plain(c) { c } else { '-' }).take(LONGEST - 12).collect();
    format!("gw-{}-{:08x}", letters.trim_matches('-'), fnv(name.as_bytes()) >> 32)
}

/// A text as the value of a label.
pub(crate) fn label_value(text: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if text.len() <= LONGEST && text.chars().all(is_allowed) {
        return text.to_owned();
    }
    let letters: String = text.chars().map(|c| if is_allowed(c) { c } else { '-' }).take(LONGEST - 9).collect();
    format!("{letters}-{:08x}", fnv(text.as_bytes()) >> 32)
}

/// FNV-1a, written out: names must not change with the version of a library.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Whether everything that is wanted is there. Others may add to it: the API server its defaults, a cloud its annotations.
pub(super) fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| match live.get(key) {
            Some(live) => contains(live, wanted),
            None => is_empty(wanted) || matches!(key.as_str(), "apiVersion" | "kind"),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_whatever_the_gateway_is_called() {
        assert_eq!(service_name("web", "penstock"), "web-penstock");
        let long = service_name(&"a".repeat(253), "penstock");
        assert!(long.len() <= LONGEST && long.starts_with("gw-aaa"), "{long}");
        assert!(service_name("1.example.com", "penstock").starts_with("gw-1-example-com-penstock-"));
        assert_ne!(service_name("a.b", "c"), service_name("a-b", "c"));
        assert_eq!(label_value("web"), "web");
        assert_eq!(label_value(&"a".repeat(253)).len(), LONGEST);
        assert_ne!(label_value("a/b"), label_value("a-b"));
    }

    #[test]
    fn what_others_add_is_no_difference() {
        let wanted = json!({ "spec": { "ports": [{ "port": 80 }] }, "metadata": { "annotations": {} } });
        let live = json!({ "spec": { "ports": [{ "port": 80, "nodePort": 30001 }], "clusterIP": "10.96.0.9" }, "metadata": {} });
        assert!(contains(&live, &wanted));
        assert!(!contains(&json!({ "spec": { "ports": [{ "port": 81 }] } }), &wanted));
        assert!(!contains(&json!({ "spec": { "ports": [] } }), &wanted));
    }
}
