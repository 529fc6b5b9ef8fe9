//! How much work a schema makes, found out before the work is done.
//!
//! A schema comes from a plugin, and some are bombs: a chain of definitions, each of which refers twice to the next, is short to write and
//! takes for ever to check; a long chain of references exhausts the stack. The same walk as the validator's, but each pair of schema and
//! value is visited once, counts the steps.

use std::{collections::HashMap, ptr};

use serde_json::Value;

use super::InvalidSchema;

/// Steps that checking one configuration may take. A large configuration of a real plugin takes some thousands.
const MOST_STEPS: u64 = 1_000_000;
/// Pairs of schema and value that are looked at to find that out.
const MOST_PAIRS: usize = 200_000;
/// How deep a schema may be, through references as well. Every level is a few frames of the validator's stack.
const DEEPEST: usize = 200;

/// Refuse a schema that would take too long on `config`, or whose references cannot be followed here.
pub(super) fn check(schema: &Value, config: &Value) -> Result<(), InvalidSchema> {
    Height { root: schema, known: HashMap::new(), depth: 0 }.of(schema)?;
    let mut effort = Effort { root: schema, known: HashMap::new(), depth: 0 };
    match effort.of(schema, config)? {
        steps if steps > MOST_STEPS => Err(InvalidSchema::TooComplex),
        _ => Ok(()),
    }
}

/// How deep a schema is whatever the configuration: the validator follows every reference before it sees a value.
struct Height<'a> {
    root: &'a Value,
    /// By the address of the value. 0 while it is being found: a cycle ends there.
    known: HashMap<usize, usize>,
    depth: usize,
}

impl<'a> Height<'a> {
    fn of(&mut self, value: &'a Value) -> Result<usize, InvalidSchema> {
        let key = ptr::from_ref(value).addr();
        if let Some(height) = self.known.get(&key) {
            return Ok(*height);
        }
        if self.depth >= DEEPEST {
            return Err(InvalidSchema::TooComplex);
        }
        self.known.insert(key, 0);
        self.depth += 1;
        let references = ["$ref", "$dynamicRef"].iter().filter_map(|keyword| value.get(keyword));
        let targets = references.filter_map(|reference| self.root.pointer(reference.as_str()?.strip_prefix('#')?));
        let below: Vec<&Value> = children(value).chain(targets).collect();
        let mut height = 1;
        for value in below {
            height = height.max(self.of(value)? + 1);
        }
        self.depth -= 1;
        self.known.insert(key, height);
        if height > DEEPEST { Err(InvalidSchema::TooComplex) } else { Ok(height) }
    }
}

/// How many steps a schema takes on a configuration.
struct Effort<'a> {
    root: &'a Value,
    /// Steps by the addresses of schema and value, which both live as long as this. 0 while they are being counted: a cycle ends there.
    known: HashMap<(usize, usize), u64>,
    depth: usize,
}

impl<'a> Effort<'a> {
    fn of(&mut self, schema: &'a Value, config: &Value) -> Result<u64, InvalidSchema> {
        let Value::Object(keywords) = schema else { return Ok(1) };
        let key = (ptr::from_ref(schema).addr(), ptr::from_ref(config).addr());
        if let Some(steps) = self.known.get(&key) {
            return Ok(*steps);
        }
        if self.known.len() >= MOST_PAIRS || self.depth >= DEEPEST {
            return Err(InvalidSchema::TooComplex);
        }
        self.known.insert(key, 0);
        self.depth += 1;
        let mut steps = 1_u64;
        for (keyword, value) in keywords {
            steps = steps.saturating_add(self.keyword(keyword, value, config)?);
        }
        self.depth -= 1;
        self.known.insert(key, steps);
        Ok(steps)
    }

    fn keyword(&mut self, keyword: &str, value: &'a Value, config: &Value) -> Result<u64, InvalidSchema> {
        match keyword {
            "$ref" | "$dynamicRef" => self.target(value).and_then(|target| self.of(target, config)),
            "$id" if !self.root.get("$id").is_some_and(|top| ptr::eq(top, value)) => {
                Err(InvalidSchema::Schema("`$id` is only possible at the top".into()))
            }
            "not" | "if" | "then" | "else" => self.of(value, config),
            "allOf" | "anyOf" | "oneOf" | "dependentSchemas" => self.all(children(value), || [config]),
            // Names are strings: one step of the same depth for each.
            "propertyNames" => Ok(self.of(value, config)?.saturating_mul(children(config).count() as u64)),
            "properties" => {
                let mut steps = 0_u64;
                for (name, schema) in value.as_object().into_iter().flatten() {
                    if let Some(child) = config.get(name) {
                        steps = steps.saturating_add(self.of(schema, child)?);
                    }
                }
                Ok(steps)
            }
            "patternProperties" | "prefixItems" => self.all(children(value), || children(config)),
            "additionalProperties" | "unevaluatedProperties" | "items" | "unevaluatedItems" | "contains" => {
                self.all([value], || children(config))
            }
            _ => Ok(0),
        }
    }

    /// Each schema on each value.
    fn all<'c, V: IntoIterator<Item = &'c Value>>(
        &mut self,
        schemas: impl IntoIterator<Item = &'a Value>,
        values: impl Fn() -> V,
    ) -> Result<u64, InvalidSchema> {
        let mut steps = 0_u64;
        for schema in schemas {
            for value in values() {
                steps = steps.saturating_add(self.of(schema, value)?);
            }
        }
        Ok(steps)
    }

    fn target(&self, reference: &Value) -> Result<&'a Value, InvalidSchema> {
        let text = reference.as_str().unwrap_or_default();
        let target = text.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        target.ok_or_else(|| {
            InvalidSchema::Schema(format!("`{text}` is no reference within the schema, such as `#/$defs/name`"))
        })
    }
}

/// The values in an object or a list.
fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let fields = value.as_object().into_iter().flat_map(serde_json::Map::values);
    fields.chain(value.as_array().into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(schema: &Value, config: &Value) -> Result<(), String> {
        check(schema, config).map_err(|error| error.to_string())
    }

    const TOO_COMPLEX: &str = "config-schema is too complex: checking this configuration would take too long";

    #[test]
    fn doubling_definitions_are_refused() {
        let bomb = |levels: u32, apply: fn(&str) -> Value| {
            let mut definitions = serde_json::Map::new();
            for level in 0..levels {
                let next = json!({ "$ref": format!("#/$defs/a{}", level + 1) });
                definitions.insert(format!("a{level}"), json!({ "allOf": [next.clone(), next] }));
            }
            definitions.insert(format!("a{levels}"), json!({ "type": "object" }));
            let mut schema = apply("#/$defs/a0");
            schema["$defs"] = definitions.into();
            schema
        };
        let here = |reference: &str| json!({ "$ref": reference });
        let below = |reference: &str| json!({ "properties": { "x": { "items": { "$ref": reference } } } });
        assert_eq!(verdict(&bomb(10, here), &json!({})), Ok(()));
        assert_eq!(verdict(&bomb(40, here), &json!({})), Err(TOO_COMPLEX.into()));
        assert_eq!(verdict(&bomb(40, below), &json!({})), Ok(()), "it is not applied");
        assert_eq!(verdict(&bomb(40, below), &json!({ "x": [1] })), Err(TOO_COMPLEX.into()));
    }

    #[test]
    fn long_chains_of_references_are_refused() {
        let definitions: serde_json::Map<_, _> = (0..100_000)
            .map(|level| (format!("a{level}"), json!({ "$ref": format!("#/$defs/a{}", level + 1) })))
            .collect();
        for start in ["a0", "a99999"] {
            // The second is short, but the others are there, and the validator may look at them.
            let schema = json!({ "$ref": format!("#/$defs/{start}"), "$defs": definitions });
            assert_eq!(verdict(&schema, &json!({})), Err(TOO_COMPLEX.into()));
        }
    }

    #[test]
    fn recursive_schemas_are_fine() {
        let tree = json!({
            "$id": "https://example.com/tree",
            "properties": { "left": { "$ref": "#" }, "right": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] } }
        });
        let mut config = json!({});
        for _ in 0..15 {
            config = json!({ "left": config, "right": config });
        }
        assert_eq!(verdict(&tree, &config), Ok(()));
        assert_eq!(verdict(&json!({ "$ref": "#" }), &config), Ok(()), "the validator finds cycles itself");
    }

    #[test]
    fn references_that_cannot_be_followed_are_refused() {
        for reference in ["#anchor", "other.json", "https://example.com/", "#/$defs/missing"] {
            assert!(verdict(&json!({ "$ref": reference }), &json!({})).is_err(), "{reference}");
        }
        let nested = json!({ "allOf": [{ "$id": "https://example.com/" }] });
        assert!(verdict(&nested, &json!({})).is_err());
    }
}
