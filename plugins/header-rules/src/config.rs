//! The configuration as users write it. The descriptions of the JSON Schema are the comments here.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Rules for the headers of requests and responses.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Applied in order; each rule sees what the rules before it left.
    #[schemars(length(min = 1, max = 64))]
    pub rules: Vec<Rule>,
}

/// What happens to which exchanges.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// The requests that the rule is for; all parts must hold. Absent: every request.
    pub when: Option<RequestCondition>,
    /// Changes to the request.
    pub request: Option<Operations>,
    /// Changes to the response.
    pub response: Option<ResponseOperations>,
}

/// Conditions on the request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestCondition {
    /// One of these methods, in upper case.
    pub methods: Vec<String>,
    /// The path, without the query.
    pub path: Option<PathCondition>,
    /// Each of these conditions on headers.
    pub headers: Vec<HeaderCondition>,
}

/// Exactly one of `exact`, `prefix` and `regex`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PathCondition {
    /// The whole path.
    pub exact: Option<String>,
    /// Whole segments at the start: `/api` holds for `/api` and `/api/users`, not for `/apix`.
    pub prefix: Option<String>,
    /// A regular expression that is found in the path; anchor it with `^` and `$`.
    pub regex: Option<String>,
}

/// Exactly one of `present`, `exact` and `regex`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderCondition {
    /// Name of the header, in any case. Conditions on requests may also name `:scheme`, `:authority` and `:client-address`. Of `host` neither spelling nor port counts.
    pub name: String,
    /// `true`: there is such a header. `false`: there is none.
    pub present: Option<bool>,
    /// One of the header's values is this one.
    pub exact: Option<String>,
    /// A regular expression that is found in one of the header's values.
    pub regex: Option<String>,
}

/// Changes to headers, in this order: `rename`, `rewrite`, `set`, `append`, `remove`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Operations {
    /// From old name to new name, with all values. Replaces what the new name had; does nothing if there is no such header.
    pub rename: BTreeMap<String, String>,
    /// Replaces what a pattern finds in each value of a header.
    pub rewrite: Vec<Rewrite>,
    /// Replaces all values by this one.
    pub set: BTreeMap<String, String>,
    /// Adds a value, or several, behind those that exist.
    pub append: BTreeMap<String, OneOrMany>,
    /// Removes all values.
    pub remove: Vec<String>,
}

/// Changes to headers of the response, in this order: `rename`, `rewrite`, `set`, `append`, `remove`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResponseOperations {
    /// The responses that the changes are for; all parts must hold. Absent: every response.
    pub when: Option<ResponseCondition>,
    /// From old name to new name, with all values. Replaces what the new name had; does nothing if there is no such header.
    pub rename: BTreeMap<String, String>,
    /// Replaces what a pattern finds in each value of a header.
    pub rewrite: Vec<Rewrite>,
    /// Replaces all values by this one.
    pub set: BTreeMap<String, String>,
    /// Adds a value, or several, behind those that exist.
    pub append: BTreeMap<String, OneOrMany>,
    /// Removes all values.
    pub remove: Vec<String>,
}

/// Conditions on the response.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResponseCondition {
    /// One of these: a code (`404`), a class (`5xx`) or a range (`500-503`).
    pub status: Vec<StatusPattern>,
    /// Each of these conditions on headers of the response.
    pub headers: Vec<HeaderCondition>,
}

/// Replaces what a pattern finds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rewrite {
    /// In any case.
    pub name: String,
    /// A regular expression on bytes; every match is replaced.
    pub pattern: String,
    /// With variables, and with `${1}` or `${name}` for groups of the pattern.
    pub replacement: String,
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMany(values))
            }
        }

        deserializer.deserialize_any(Values)
    }
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One value, or a list of them.",
            "type": ["string", "array"],
            "items": {"type": "string"},
            "minItems": 1,
        })
    }
}

/// `404`, `"404"`, `"5xx"` or `"500-503"`, still to be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusPattern(pub String);

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Status;

        impl Visitor<'_> for Status {
            type Value = StatusPattern;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a status such as 404, \"5xx\" or \"500-503\"")
            }

            fn visit_u64<E: Error>(self, code: u64) -> Result<StatusPattern, E> {
                Ok(StatusPattern(code.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StatusPattern, E> {
                Ok(StatusPattern(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Status)
    }
}

impl JsonSchema for StatusPattern {
    fn schema_name() -> Cow<'static, str> {
        "StatusPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A code (`404`), a class (`5xx`) or a range (`500-503`).",
            "type": ["integer", "string"],
            "minimum": 100,
            "maximum": 599,
            "pattern": "^([1-5][0-9][0-9](-[1-5][0-9][0-9])?|[1-5]xx)$",
        })
    }
}
