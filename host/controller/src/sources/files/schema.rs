//! Hold a document against the JSON Schema of its kind: unknown fields, wrong types, values outside their set, missing fields.
//!
//! This is no general validator. It knows the schemas that `schemars` makes of the resource types, reads alternatives generously (their
//! union), and in exchange says for every fault where it stands and what was probably meant.

use penstock_translate::nearest::nearest;
use saphyr::{MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value};

use super::{
    problem::{InvalidDocument, Position},
    yaml,
};

/// A fault within one document.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) position: Position,
    pub(super) field: String,
    pub(super) kind: InvalidDocument,
}

/// The document as JSON, without the fields that are set to null, and everything that is wrong with it.
pub(super) fn check(document: &MarkedYaml<'_>, first_line: usize, schema: &Value) -> (Value, Vec<Fault>) {
    let mut walk = Walk { first_line, field: String::new(), faults: Vec::new() };
    let value = walk.value(document, schema);
    (value, walk.faults)
}

struct Walk {
    first_line: usize,
    field: String,
    faults: Vec<Fault>,
}

impl Walk {
    fn value(&mut self, node: &MarkedYaml<'_>, schema: &Value) -> Value {
        let shape = Shape::of(schema);
        if shape.anything {
            return yaml::to_json(node);
        }
        match &node.data {
            YamlData::Mapping(_) if shape.object => self.mapping(node, &shape),
            YamlData::Sequence(items) if shape.array => self.sequence(items, &shape),
            YamlData::Value(scalar) if shape.takes(scalar) => self.scalar(node, scalar, &shape),
            _ => {
                let (expected, found) = (shape.expected(), yaml::found(node));
                self.fault(node, InvalidDocument::WrongType { expected, found });
                Value::Null
            }
        }
    }

    fn mapping(&mut self, node: &MarkedYaml<'_>, shape: &Shape<'_>) -> Value {
        let mut fields = Map::new();
        for (name_node, value) in node.data.as_mapping().into_iter().flatten() {
            let Some(name) = yaml::key(name_node) else {
                let (expected, found) = ("a field name".to_owned(), yaml::found(name_node));
                self.fault(name_node, InvalidDocument::WrongType { expected, found });
                continue;
            };
            match shape.property(&name) {
                // As the API server does it: a null is a field that is not there.
                Some(_) if matches!(value.data, YamlData::Value(Scalar::Null)) => {}
                Some(schema) => {
                    let value = self.within(&field_of(&name), |walk| walk.value(value, schema));
                    fields.insert(name, value);
                }
                None if shape.open => {
                    fields.insert(name, yaml::to_json(value));
                }
                None => self.fault(name_node, shape.unknown_field(name)),
            }
        }
        for name in shape.required.iter().filter(|name| !fields.contains_key(**name)) {
            self.fault(node, InvalidDocument::MissingField { name: (*name).to_owned() });
        }
        Value::Object(fields)
    }

    fn sequence(&mut self, items: &[MarkedYaml<'_>], shape: &Shape<'_>) -> Value {
        let items = items.iter().enumerate().map(|(index, item)| match shape.items {
            Some(schema) => self.within(&format!("[{index}]"), |walk| walk.value(item, schema)),
            None => yaml::to_json(item),
        });
        Value::Array(items.collect())
    }

    fn scalar(&mut self, node: &MarkedYaml<'_>, scalar: &Scalar<'_>, shape: &Shape<'_>) -> Value {
        let value = yaml::scalar_to_json(scalar);
        if let Some(kind) = shape.not_allowed(&value).or_else(|| shape.out_of_range(&value)) {
            self.fault(node, kind);
        }
        value
    }

    fn within<T>(&mut self, step: &str, walk: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.field.len();
        self.field.push_str(if length == 0 { step.trim_start_matches('.') } else { step });
        let result = walk(self);
        self.field.truncate(length);
        result
    }

    fn fault(&mut self, node: &MarkedYaml<'_>, kind: InvalidDocument) {
        let position = yaml::position(node, self.first_line);
        self.faults.push(Fault { position, field: self.field.clone(), kind });
    }
}

/// `.name`, or `["a.b/c"]` for names that would be misread in a path.
fn field_of(name: &str) -> String {
    if name.contains(['.', '/', '[', ' ']) { format!("[{name:?}]") } else { format!(".{name}") }
}

/// What may stand at one place: the union of all alternatives of a schema.
#[derive(Debug, Default)]
struct Shape<'s> {
    anything: bool,
    object: bool,
    array: bool,
    string: bool,
    integer: bool,
    number: bool,
    boolean: bool,
    properties: Vec<(&'s str, &'s Value)>,
    /// The schema of fields that are not among the properties.
    additional: Option<&'s Value>,
    /// Fields that are not among the properties may hold anything.
    open: bool,
    required: Vec<&'s str>,
    items: Option<&'s Value>,
    /// Empty: any value of the type.
    allowed: Vec<&'s Value>,
    /// Some alternative takes every string, whatever `allowed` says.
    any_string: bool,
    minimum: Option<f64>,
    maximum: Option<f64>,
}

impl<'s> Shape<'s> {
    fn of(schema: &'s Value) -> Self {
        let mut shape = Self::default();
        shape.add(schema);
        shape
    }

    fn add(&mut self, schema: &'s Value) {
        let Value::Object(schema) = schema else {
            self.anything |= *schema == Value::Bool(true);
            return;
        };
        let Some(alternatives) = alternatives(schema) else { return self.add_plain(schema) };
        for alternative in alternatives {
            self.add(alternative);
        }
        if alternatives.iter().filter(|alternative| alternative["type"] != "null").count() > 1 {
            // Which one was meant is not known, so neither is what it demands.
            self.required.clear();
        }
        // Properties beside the alternatives: what `#[serde(flatten)]` and tagged enums yield.
        self.add_fields(schema);
    }

    fn add_plain(&mut self, schema: &'s Map<String, Value>) {
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            (self.integer, self.string, self.any_string) = (true, true, true);
            return;
        }
        let values = schema.get("enum").and_then(Value::as_array).into_iter().flatten().chain(schema.get("const"));
        let known = self.allowed.len();
        self.allowed.extend(values.filter(|value| !value.is_null()));
        let types = match schema.get("type") {
            Some(Value::String(one)) => vec![&**one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ if self.allowed.len() > known => vec!["string"],
            _ if schema.contains_key("properties") => vec!["object"],
            _ => {
                self.anything = true;
                return;
            }
        };
        for name in types {
            self.add_type(name, self.allowed.len() > known);
        }
        self.items = schema.get("items").or(self.items);
        self.minimum = schema.get("minimum").and_then(Value::as_f64).or(self.minimum);
        self.maximum = schema.get("maximum").and_then(Value::as_f64).or(self.maximum);
        if self.object {
            self.add_fields(schema);
        }
    }

    fn add_type(&mut self, name: &str, restricted: bool) {
        match name {
            "object" => self.object = true,
            "array" => self.array = true,
            "string" => {
                self.string = true;
                self.any_string |= !restricted;
            }
            "integer" => self.integer = true,
            "number" => self.number = true,
            "boolean" => self.boolean = true,
            _ => {}
        }
    }

    fn add_fields(&mut self, schema: &'s Map<String, Value>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        if let Some(properties) = properties {
            self.object = true;
            self.properties.extend(properties.iter().map(|(name, schema)| (&**name, schema)));
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(open)) => self.open |= open,
            Some(schema) => self.additional = Some(schema),
            None if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) => self.open = true,
            // An object of which nothing is said.
            None if properties.is_none() && schema.get("type") == Some(&Value::String("object".into())) => {
                self.open = true;
            }
            None => {}
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        self.required.extend(required.filter_map(Value::as_str));
    }

    fn property(&self, name: &str) -> Option<&'s Value> {
        let property = self.properties.iter().find(|(known, _)| *known == name).map(|(_, schema)| *schema);
        property.or(self.additional)
    }

    fn takes(&self, scalar: &Scalar<'_>) -> bool {
        match scalar {
            Scalar::Null => false,
            Scalar::Boolean(_) => self.boolean,
            Scalar::Integer(_) => self.integer || self.number,
            Scalar::FloatingPoint(_) => self.number,
            Scalar::String(_) => self.string,
        }
    }

    fn expected(&self) -> String {
        let kinds = [
            (self.object, "a mapping"),
            (self.array, "a list"),
            (self.string, "a string"),
            (self.integer, "an integer"),
            (self.number, "a number"),
            (self.boolean, "true or false"),
        ];
        let kinds: Vec<_> = kinds.iter().filter(|(takes, _)| *takes).map(|(_, name)| *name).collect();
        kinds.join(" or ")
    }

    fn unknown_field(&self, name: String) -> InvalidDocument {
        let mut valid: Vec<String> = self.properties.iter().map(|(name, _)| (*name).to_owned()).collect();
        valid.sort();
        valid.dedup();
        let nearest = nearest(&name, valid.iter().map(String::as_str)).map(str::to_owned);
        InvalidDocument::UnknownField { name, nearest, valid }
    }

    fn not_allowed(&self, value: &Value) -> Option<InvalidDocument> {
        let free = self.allowed.is_empty() || self.allowed.contains(&value) || (self.any_string && value.is_string());
        if free {
            return None;
        }
        let allowed: Vec<String> = self.allowed.iter().map(|value| plain(value)).collect();
        let found = plain(value);
        let nearest = nearest(&found, allowed.iter().map(String::as_str)).map(str::to_owned);
        Some(InvalidDocument::NotAllowed { found, nearest, allowed })
    }

    fn out_of_range(&self, value: &Value) -> Option<InvalidDocument> {
        let number = value.as_f64()?;
        let outside =
            self.minimum.is_some_and(|least| number < least) || self.maximum.is_some_and(|most| number > most);
        let bound = |bound: Option<f64>| bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string());
        outside.then(|| InvalidDocument::OutOfRange {
            found: plain(value),
            minimum: bound(self.minimum),
            maximum: bound(self.maximum),
        })
    }
}

fn alternatives(schema: &Map<String, Value>) -> Option<&Vec<Value>> {
    ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(*key)).and_then(Value::as_array)
}

/// A value as people write it: strings without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
