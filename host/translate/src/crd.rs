//! The CustomResourceDefinitions of Penstock's own kinds, made from the Rust types: what `kubectl explain` says is what the source says.

use penstock_core::{Kind, check::Checks};
use serde_json::{Map, Value, json};

use crate::{
    plugin::{LONGEST_POINTER, TARGETS as PLUGIN_TARGETS},
    resources::{Object, common::PENSTOCK_GROUP},
};

/// All definitions, as they are applied.
pub fn definitions() -> Vec<Value> {
    vec![wasm_plugin()]
}

fn wasm_plugin() -> Value {
    let schema = Object::schema(Kind::WasmPlugin);
    let mut spec = structural(&schema["properties"]["spec"]);
    add_rules(&mut spec);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("wasmplugins.{PENSTOCK_GROUP}") },
        "spec": {
            "group": PENSTOCK_GROUP,
            "names": {
                "kind": "WasmPlugin",
                "listKind": "WasmPluginList",
                "plural": "wasmplugins",
                "singular": "wasmplugin",
                "shortNames": ["wp"],
                "categories": ["penstock"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns(),
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "description": schema["description"],
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": { "type": "string" },
                        "kind": { "type": "string" },
                        "metadata": { "type": "object" },
                        "spec": spec,
                        "status": status(),
                    },
                } },
            }],
        },
    })
}

/// The story of a plugin in one line: is it in order, what serves, what does not and why.
fn columns() -> Value {
    let condition = |type_: &str| format!(".status.conditions[?(@.type==\"{type_}\")].status");
    let column = |name: &str, path: &str, type_: &str, description: &str| json!({ "name": name, "type": type_, "jsonPath": path, "description": description });
    json!([
        column("Accepted", &condition("Accepted"), "string", "Whether the resource is in order"),
        column("Programmed", &condition("Programmed"), "string", "Whether this generation serves"),
        column("Serves", ".status.active.version", "string", "The version that serves now"),
        column("Generation", ".status.active.generation", "integer", "The generation that serves now"),
        column("Candidate", ".status.candidate.phase", "string", "What becomes of a newer generation"),
        column("Reason", ".status.candidate.reason", "string", "Why the newer generation does not serve"),
        column("Age", ".metadata.creationTimestamp", "date", "Since when the resource is there"),
    ])
}

/// What the types cannot say.
fn add_rules(spec: &mut Value) {
    let properties = &mut spec["properties"];
    let sources = properties["source"]["properties"].as_object().cloned().unwrap_or_default();
    let given: Vec<String> = sources.keys().map(|source| format!("has(self.{source})")).collect();
    let names: Vec<&str> = sources.keys().map(String::as_str).collect();
    properties["source"]["x-kubernetes-validations"] = json!([{
        "rule": format!("[{}].filter(given, given).size() == 1", given.join(", ")),
        "message": format!("exactly one of {} is required", names.join(", ")),
    }]);
    properties["targetRefs"]["items"]["x-kubernetes-validations"] = target_rules();
    // Bounded, so that the rules have a bounded cost.
    properties["targetRefs"]["maxItems"] = 16.into();
    properties["secretRefs"]["maxItems"] = 64.into();
    properties["secretRefs"]["items"]["properties"]["as"]["maxLength"] = LONGEST_POINTER.into();
    let checks = &mut properties["checks"];
    checks["maxItems"] = Checks::MOST.into();
    checks["x-kubernetes-list-type"] = "map".into();
    checks["x-kubernetes-list-map-keys"] = json!(["name"]);
    let limits = &mut properties["capabilities"]["properties"]["rateLimits"];
    limits["maxItems"] = 64.into();
    limits["x-kubernetes-list-type"] = "map".into();
    limits["x-kubernetes-list-map-keys"] = json!(["name"]);
}

/// The API server refuses what translation would: a target of another kind, and a part of what has no named parts.
fn target_rules() -> Value {
    let groups = PLUGIN_TARGETS.chunk_by(|(group, ..), (next, ..)| group == next).map(|targets| {
        let kinds: Vec<String> = targets.iter().map(|(_, kind, _)| format!("'{kind}'")).collect();
        (targets[0].0, kinds.join(", "))
    });
    let rules: Vec<String> =
        groups.map(|(group, kinds)| format!("(self.group == '{group}' && self.kind in [{kinds}])")).collect();
    let known: Vec<String> = PLUGIN_TARGETS.iter().map(|(group, kind, _)| format!("{kind} ({group})")).collect();
    json!([
        { "rule": rules.join(" || "), "message": format!("a plugin applies to one of {}", known.join(", ")) },
        {
            "rule": "self.kind != 'Ingress' || !has(self.sectionName)",
            "message": "the rules of an Ingress have no names; without sectionName the plugin applies to all of them",
        },
    ])
}

/// The status is written by the gateway alone, and has no type of its own to be read into.
fn status() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let number = |description: &str| json!({ "type": "integer", "format": "int64", "description": description });
    let object = |description: &str, properties: Value| json!({ "type": "object", "description": description, "properties": properties });
    let time = |description: &str| json!({ "type": "string", "format": "date-time", "description": description });
    let revision = json!({
        "generation": number("Generation of the resource that it came from"),
        "digest": text("Digest of the module"),
        "name": text("Name of the plugin from its manifest"),
        "version": text("Version from its manifest"),
    });
    let mut active = revision.clone();
    active["since"] = time("When this revision was first seen to serve");
    active["artifact"] = text("The artifact in a registry that the module came from, by digest");
    let candidate = json!({
        "generation": number("Generation of the resource that it came from"),
        "digest": text("Digest of the module, once it is known"),
        "artifact": text("The artifact in a registry that the module came from, by digest"),
        "phase": text("Fetching, Validating, Waiting (for others of its activation group) or Rejected"),
        "reason": text("Why it was refused or waits, in one word"),
        "message": text("Why it was refused or waits, for people"),
    });
    let probation = json!({
        "until": time("When it is over"),
        "maxFaults": number("Faults that are accepted until then"),
        "fallback": object("The last good revision, which comes back after too many", revision),
    });
    let ancestor = json!({
        "ancestorRef": { "type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "The Gateway" },
        "controllerName": text("Who says so"),
        "conditions": conditions(),
    });
    let mut active = object("What serves now", active);
    let mut candidate = object("What does not serve, or not yet", candidate);
    let mut probation = object("What serves is new, and is being watched", probation);
    // A gateway of a later version may say more.
    for part in [&mut active, &mut candidate, &mut probation] {
        part["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    json!({
        "type": "object",
        "description": "What is so.",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "conditions": conditions(),
            "active": active,
            "candidate": candidate,
            "probation": probation,
            "ancestors": {
                "type": "array",
                "description": "The Gateways whose traffic the plugin sees.",
                "maxItems": crate::status::MAX_ANCESTORS,
                "x-kubernetes-list-type": "atomic",
                "items": object("One Gateway", ancestor),
            },
        },
    })
}

fn conditions() -> Value {
    json!({
        "type": "array",
        "description": "Accepted, ResolvedRefs, Programmed and Degraded: what holds, since when, and why.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string" },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string" },
                "message": { "type": "string" },
                "observedGeneration": { "type": "integer", "format": "int64" },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
            },
        },
    })
}

/// Says that the API server must keep what the schema does not name.
const ANYTHING: &str = "x-kubernetes-preserve-unknown-fields";

/// A JSON Schema in the narrower form that Kubernetes wants: one type everywhere, no alternatives, no `null`.
fn structural(schema: &Value) -> Value {
    let Value::Object(fields) = schema else {
        return json!({ ANYTHING: true });
    };
    let mut result = Map::new();
    if let Some(some) = fields.get("anyOf").and_then(Value::as_array).and_then(|all| all.iter().find(|it| !is_null(it)))
    {
        // An optional value: what it is when it is there.
        result.extend(structural(some).as_object().cloned().unwrap_or_default());
    }
    for (field, value) in fields {
        let value = match field.as_str() {
            "description" | "required" | "minimum" | "maximum" | "pattern" | "maxItems" => value.clone(),
            "format" if value == "int32" || value == "int64" => value.clone(),
            "type" => single_type(value),
            "enum" => {
                value.as_array().map(|all| all.iter().filter(|it| !it.is_null()).cloned().collect()).unwrap_or_default()
            }
            "properties" => {
                value.as_object().into_iter().flatten().map(|(name, it)| (name.clone(), structural(it))).collect()
            }
            "items" => structural(value),
            "additionalProperties" if value.is_object() => structural(value),
            "additionalProperties" if *value == true => {
                result.insert(ANYTHING.to_owned(), true.into());
                continue;
            }
            _ => continue,
        };
        result.insert(field.clone(), value);
    }
    if !result.contains_key("type") {
        result.insert(ANYTHING.to_owned(), true.into());
    }
    Value::Object(result)
}

fn is_null(schema: &Value) -> bool {
    schema["type"] == "null"
}

fn single_type(type_: &Value) -> Value {
    let one = type_.as_array().and_then(|types| types.iter().find(|it| *it != "null"));
    one.unwrap_or(type_).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the API server demands of a structural schema.
    fn check(schema: &Value, path: &str) {
        let fields = schema.as_object().unwrap_or_else(|| panic!("{path} is no object"));
        let any = fields.contains_key("x-kubernetes-preserve-unknown-fields");
        assert!(any || fields.get("type").is_some_and(Value::is_string), "{path} has no type");
        for forbidden in ["anyOf", "oneOf", "allOf", "$ref", "$schema", "title", "default", "const"] {
            assert!(!fields.contains_key(forbidden), "{path} has {forbidden}");
        }
        let properties = fields.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            check(property, &format!("{path}.{name}"));
        }
        if let Some(items) = fields.get("items") {
            check(items, &format!("{path}[]"));
        }
        assert_eq!(fields.get("type") == Some(&"array".into()), fields.contains_key("items"), "{path}");
    }

    #[test]
    fn schemas_are_structural_and_explain_themselves() {
        for definition in definitions() {
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            check(schema, &definition["metadata"]["name"].to_string());
            let spec = schema["properties"]["spec"]["properties"].as_object().unwrap();
            for (name, property) in spec {
                assert!(property["description"].is_string(), "kubectl explain has nothing to say about {name}");
            }
        }
    }

    #[test]
    fn exactly_one_source_is_demanded_of_all_that_there_are() {
        let definition = wasm_plugin();
        let source = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
            ["source"];
        let rule = source["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
        for name in source["properties"].as_object().unwrap().keys() {
            assert!(rule.contains(&format!("has(self.{name})")), "{rule}");
        }
    }

    #[test]
    fn every_kind_that_can_be_a_target_is_let_through() {
        let rules = target_rules();
        assert_eq!(
            rules[0]["rule"],
            "(self.group == 'gateway.networking.k8s.io' && self.kind in ['Gateway', 'HTTPRoute', 'GRPCRoute']) || \
             (self.group == 'networking.k8s.io' && self.kind in ['Ingress'])"
        );
    }
}
