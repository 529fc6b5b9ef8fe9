//! A JSON Schema as a table of fields.

use serde::Serialize;
use serde_json::{Map, Value};

/// Levels that are shown; schemas may refer to themselves.
const DEEPEST: usize = 6;
/// Rows that are shown: a table is for reading. Everything is in `-o json`.
const MOST: usize = 200;

/// A field of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Field {
    /// `rules[].match.path`.
    pub(super) path: String,
    /// `string`, `integer or null`, `one of a, b`, `list of string`.
    pub(super) kind: String,
    pub(super) required: bool,
    pub(super) default: Option<String>,
    /// The first sentence.
    pub(super) description: String,
}

/// The fields that a schema describes, in its order.
pub(super) fn fields(schema: &Value) -> Vec<Field> {
    let mut walk = Walk { root: schema, rows: Vec::new(), within: Vec::new() };
    walk.object(schema, "", 0);
    walk.rows.truncate(MOST);
    walk.rows
}

struct Walk<'s> {
    root: &'s Value,
    rows: Vec<Field>,
    /// Definitions that are being shown: one that is met again inside itself is named and not entered.
    within: Vec<&'s str>,
}

impl<'s> Walk<'s> {
    /// Rows for the fields of an object, or of what a list or map holds.
    fn object(&mut self, schema: &'s Value, path: &str, depth: usize) {
        if depth > DEEPEST || self.rows.len() > MOST {
            return;
        }
        let (schema, entered) = self.enter(schema);
        let Some(schema) = schema else { return };
        for alternative in alternatives(schema) {
            self.object(alternative, path, depth);
        }
        if let Some(items) = schema.get("items") {
            self.object(items, &format!("{path}[]"), depth + 1);
        }
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            self.object(values, &format!("{path}.*"), depth + 1);
        }
        let required: Vec<&str> = strings(schema.get("required"));
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if self.rows.iter().any(|row| row.path == path) {
                continue;
            }
            self.rows.push(self.field(path.clone(), field, required.contains(&name.as_str())));
            self.object(field, &path, depth + 1);
        }
        if entered {
            self.within.pop();
        }
    }

    fn field(&self, path: String, schema: &Value, required: bool) -> Field {
        let target = self.resolve(schema);
        let text = |schema: &Value| schema.get("description").and_then(Value::as_str).map(first_sentence);
        Field {
            path,
            kind: self.kind(schema, 0),
            required,
            default: schema.get("default").filter(|value| !value.is_null()).map(plain),
            description: text(schema).or_else(|| target.and_then(text)).unwrap_or_default(),
        }
    }

    fn kind(&self, schema: &Value, depth: usize) -> String {
        let Some(schema) = self.resolve(schema).filter(|_| depth <= DEEPEST) else { return "any".into() };
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return format!("one of {}", values.iter().map(plain).collect::<Vec<_>>().join(", "));
        }
        if let Some(value) = schema.get("const") {
            return plain(value);
        }
        let alternatives = alternatives(schema);
        if !alternatives.is_empty() {
            let mut kinds: Vec<String> = alternatives.iter().map(|it| self.kind(it, depth + 1)).collect();
            kinds.retain(|kind| kind != "null");
            kinds.dedup();
            return kinds.join(" or ");
        }
        let names = match schema.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            names => strings(names).into_iter().filter(|name| *name != "null").collect(),
        };
        let one = |name: &str| match name {
            "array" => match schema.get("items") {
                Some(items) => format!("list of {}", self.kind(items, depth + 1)),
                None => "list".into(),
            },
            name => name.to_owned(),
        };
        if names.is_empty() { "any".into() } else { names.into_iter().map(one).collect::<Vec<_>>().join(" or ") }
    }

    /// Follow a reference for a walk; none if it is being walked already.
    fn enter(&mut self, schema: &'s Value) -> (Option<&'s Value>, bool) {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) if self.within.contains(&reference) => (None, false),
            Some(reference) => {
                self.within.push(reference);
                (self.target(reference), true)
            }
            None => (Some(schema), false),
        }
    }

    fn resolve<'v>(&'v self, schema: &'v Value) -> Option<&'v Value> {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.target(reference),
            None => Some(schema),
        }
    }

    fn target(&self, reference: &str) -> Option<&'s Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }
}

fn alternatives(schema: &Value) -> Vec<&Value> {
    let lists = ["anyOf", "oneOf", "allOf"].iter().filter_map(|name| schema.get(*name)?.as_array());
    lists.flatten().filter(|it| it.get("type") != Some(&Value::String("null".into()))).collect()
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// As people write it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn first_sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.find(". ") {
        Some(end) => text[..=end].to_owned(),
        None => text,
    }
}

/// An example of what the schema wants: its required fields.
pub(super) fn example(schema: &Value) -> Value {
    let walk = Walk { root: schema, rows: Vec::new(), within: Vec::new() };
    walk.example(schema, 0)
}

impl Walk<'_> {
    fn example(&self, schema: &Value, depth: usize) -> Value {
        let Some(schema) = self.resolve(schema).filter(|_| depth <= DEEPEST) else { return Value::Null };
        if let Some(value) = schema.get("default").or(schema.get("const")) {
            return value.clone();
        }
        if let Some(value) = schema.get("enum").and_then(|values| values.get(0)) {
            return value.clone();
        }
        if let Some(first) = alternatives(schema).first() {
            return self.example(first, depth + 1);
        }
        let required = strings(schema.get("required"));
        let kind = schema.get("type").map(|kind| kind.as_str().unwrap_or_else(|| kind[0].as_str().unwrap_or("")));
        match kind {
            Some("string") => "…".into(),
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(Value::from(0)),
            Some("boolean") => false.into(),
            Some("array") => schema.get("items").map(|items| self.example(items, depth + 1)).into_iter().collect(),
            _ => {
                let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
                let wanted = properties.filter(|(name, _)| required.contains(&name.as_str()));
                Value::Object(
                    wanted.map(|(name, it)| (name.clone(), self.example(it, depth + 1))).collect::<Map<_, _>>(),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["rules"],
            "properties": {
                "rules": { "type": "array", "items": { "$ref": "#/$defs/Rule" }, "description": "In order. More words." },
                "mode": { "enum": ["on", "off"], "default": "on" },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            },
            "$defs": { "Rule": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": { "type": ["string", "null"] },
                    "not": { "anyOf": [{ "$ref": "#/$defs/Rule" }, { "type": "null" }] },
                    "limit": { "type": "integer", "minimum": 1 },
                },
            } },
        })
    }

    #[test]
    fn a_schema_becomes_rows_and_may_refer_to_itself() {
        let rows = fields(&schema());
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.path.as_str(), row.kind.as_str(), row.required, row.default.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("rules", "list of object", true, None),
                ("rules[].name", "string", true, None),
                ("rules[].not", "object", false, None),
                ("rules[].limit", "integer", false, None),
                ("mode", "one of on, off", false, Some("on")),
                ("labels", "object", false, None),
            ]
        );
        assert_eq!(rows[0].description, "In order.");
    }

    #[test]
    fn an_example_has_what_is_required() {
        assert_eq!(example(&schema()), json!({ "rules": [{ "name": "…" }] }));
    }

    #[test]
    fn a_schema_that_refers_to_itself_alone_ends() {
        let endless = json!({ "$ref": "#/$defs/A", "$defs": { "A": { "$ref": "#/$defs/A" } } });
        assert_eq!(fields(&endless), []);
        let deep = json!({ "type": "array", "items": { "$ref": "#" } });
        assert_eq!(fields(&deep), []);
        assert!(example(&deep).is_array());
    }
}
