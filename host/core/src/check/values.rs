//! Values in sample exchanges: headers and bodies that are given, and patterns for those that are wanted.

use std::{borrow::Cow, fmt, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

/// Bytes of a compiled pattern. `\w`, with all of Unicode, takes a fifth of it.
const LARGEST_PATTERN: usize = 256 << 10;

/// Headers of a message that is given.
#[derive(Debug, Clone, Default)]
pub struct HeadersGiven(pub HeaderMap);

/// Headers of a message that is wanted, in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct HeadersWanted(pub Vec<(HeaderName, ValuesWanted)>);

/// What the values of a header must be.
#[derive(Debug, Clone)]
pub enum ValuesWanted {
    /// These, in this order.
    All(Vec<String>),
    /// One of them at least.
    Some(Pattern),
    /// Any.
    Present,
}

/// A body that is given.
#[derive(Debug, Clone, Default)]
pub enum BodyGiven {
    /// None.
    #[default]
    Empty,
    /// In these pieces.
    Pieces(Vec<Bytes>),
    /// So many bytes.
    Size(usize),
    /// The contents of a file, relative to where the exchange stands. Only where there are files: see [`super::Check::problem`].
    File(PathBuf),
}

/// A body that is wanted.
#[derive(Debug, Clone)]
pub enum BodyWanted {
    /// These bytes.
    Exactly(Bytes),
    /// So many of them.
    Size(u64),
    /// A text like this.
    Like(Pattern),
}

/// A part of a text, or a regular expression.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// This part.
    Contains(String),
    /// Something that this matches.
    Matches(Regex),
}

impl BodyGiven {
    /// Its pieces; none where it would have to be read from a file.
    #[must_use]
    pub fn pieces(&self) -> Option<Vec<Bytes>> {
        match self {
            Self::Empty => Some(Vec::new()),
            Self::Pieces(pieces) => Some(pieces.clone()),
            Self::Size(size) => Some(vec![vec![b'x'; *size].into()]),
            Self::File(_) => None,
        }
    }

    /// How large it is, as far as that is known without a file.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Empty | Self::File(_) => 0,
            Self::Pieces(pieces) => pieces.iter().map(Bytes::len).sum(),
            Self::Size(size) => *size,
        }
    }
}

impl Pattern {
    /// Whether a value is so. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn fits(&self, value: &[u8]) -> bool {
        let text = String::from_utf8_lossy(value);
        match self {
            Self::Contains(part) => text.contains(part),
            Self::Matches(pattern) => pattern.is_match(&text),
        }
    }

    /// `{contains: …}` or `{matches: …}`.
    fn read(name: &str, value: &Value) -> Option<Result<Self, String>> {
        let text = || value.as_str().map(str::to_owned).ok_or_else(|| format!("`{name}` takes a text"));
        match name {
            "contains" => Some(text().map(Self::Contains)),
            "matches" => Some(text().and_then(|text| compile(&text).map(Self::Matches).map_err(|it| it.to_string()))),
            _ => None,
        }
    }
}

/// Whoever may write a resource may write patterns: none may take much.
fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build()
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contains(part) => write!(f, "something that contains {part:?}"),
            Self::Matches(pattern) => write!(f, "something that matches {pattern}"),
        }
    }
}

impl fmt::Display for ValuesWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(values) => f.write_str(&shown(values.iter().map(String::as_bytes))),
            Self::Some(pattern) => pattern.fmt(f),
            Self::Present => f.write_str("any value"),
        }
    }
}

impl fmt::Display for BodyWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(bytes) => f.write_str(&excerpt(bytes)),
            Self::Size(size) => write!(f, "{size} bytes"),
            Self::Like(pattern) => pattern.fmt(f),
        }
    }
}

impl ValuesWanted {
    /// Whether these are the values.
    #[must_use]
    pub fn fit(&self, values: &[&[u8]]) -> bool {
        match self {
            Self::All(wanted) => wanted.iter().map(String::as_bytes).eq(values.iter().copied()),
            Self::Some(pattern) => values.iter().any(|value| pattern.fits(value)),
            Self::Present => !values.is_empty(),
        }
    }
}

impl BodyWanted {
    /// Whether this is the body.
    #[must_use]
    pub fn fits(&self, body: &[u8]) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == body,
            Self::Size(size) => body.len() as u64 == *size,
            Self::Like(pattern) => pattern.fits(body),
        }
    }
}

/// Values as people read them: none, one, or a list.
pub(super) fn shown<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> String {
    let values: Vec<String> = values.into_iter().map(excerpt).collect();
    match values.as_slice() {
        [] => "nothing".into(),
        [one] => one.clone(),
        _ => format!("[{}]", values.join(", ")),
    }
}

/// The beginning of a value, quoted.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).into_owned();
    if bytes.len() > MOST { format!("{text:?}… ({} bytes)", bytes.len()) } else { format!("{text:?}") }
}

/// Texts, numbers and truth values as they would stand in a header.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn name(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| format!("`{text}` is no name of a header"))
}

fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Map::<String, Value>::deserialize(deserializer)
}

impl<'de> Deserialize<'de> for HeadersGiven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut headers = HeaderMap::new();
        for (text, value) in fields(deserializer)? {
            let name = name(&text).map_err(D::Error::custom)?;
            let values = match &value {
                Value::Array(values) => values.iter().collect(),
                one => vec![one],
            };
            for value in values {
                let value = plain(value).and_then(|text| HeaderValue::from_str(&text).ok());
                let value =
                    value.ok_or_else(|| D::Error::custom(format!("header {name}: a text, or a list of texts")))?;
                headers.append(&name, value);
            }
        }
        Ok(Self(headers))
    }
}

impl<'de> Deserialize<'de> for HeadersWanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut wanted = Vec::new();
        for (text, value) in fields(deserializer)? {
            let name = name(&text).map_err(D::Error::custom)?;
            let values = values_wanted(&value).map_err(|why| D::Error::custom(format!("header {name}: {why}")))?;
            wanted.push((name, values));
        }
        Ok(Self(wanted))
    }
}

fn values_wanted(value: &Value) -> Result<ValuesWanted, String> {
    const HELP: &str = "a text, a list of texts, {contains: …}, {matches: …} or {present: true}; a header that must not be there \
                        stands under `absent`";
    match value {
        Value::Array(values) => {
            values.iter().map(plain).collect::<Option<_>>().map(ValuesWanted::All).ok_or_else(|| HELP.to_owned())
        }
        Value::Object(fields) => match fields.iter().next() {
            Some((name, Value::Bool(true))) if name == "present" => Ok(ValuesWanted::Present),
            Some((name, value)) if fields.len() == 1 => match Pattern::read(name, value) {
                Some(pattern) => pattern.map(ValuesWanted::Some),
                None => Err(HELP.to_owned()),
            },
            _ => Err(HELP.to_owned()),
        },
        one => plain(one).map(|text| ValuesWanted::All(vec![text])).ok_or_else(|| HELP.to_owned()),
    }
}

impl<'de> Deserialize<'de> for BodyGiven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const HELP: &str = "a body is a text, a list of pieces, {base64: …}, {file: …} or {size: …}";
        let one = |bytes: Vec<u8>| Self::Pieces(vec![bytes.into()]);
        let help = || D::Error::custom(HELP);
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::Empty),
            Value::String(text) => Ok(one(text.into_bytes())),
            Value::Array(pieces) => {
                let piece = |piece: &Value| piece.as_str().map(|text| Bytes::copy_from_slice(text.as_bytes()));
                pieces.iter().map(piece).collect::<Option<_>>().map(Self::Pieces).ok_or_else(help)
            }
            Value::Object(fields) => match fields.iter().next() {
                Some((name, Value::String(text))) if name == "base64" => {
                    Ok(one(decode(text).map_err(D::Error::custom)?))
                }
                Some((name, Value::String(path))) if name == "file" => Ok(Self::File(path.into())),
                Some((name, size)) if name == "size" => {
                    let size =
                        size.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= MOST_BYTES);
                    size.map(Self::Size).ok_or_else(help)
                }
                _ => Err(help()),
            },
            _ => Err(help()),
        }
    }
}

/// More than any limit of a plugin.
const MOST_BYTES: usize = 1 << 30;

fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("base64: {error}"))
}

impl<'de> Deserialize<'de> for BodyWanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let help = || D::Error::custom("a body is a text, {contains: …}, {matches: …}, {base64: …} or {size: …}");
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Exactly(text.into())),
            Value::Object(fields) => match fields.iter().next() {
                Some((name, Value::String(text))) if name == "base64" => {
                    Ok(Self::Exactly(decode(text).map_err(D::Error::custom)?.into()))
                }
                Some((name, size)) if name == "size" => size.as_u64().map(Self::Size).ok_or_else(help),
                Some((name, value)) => match Pattern::read(name, value) {
                    Some(pattern) => pattern.map(Self::Like).map_err(D::Error::custom),
                    None => Err(help()),
                },
                None => Err(help()),
            },
            _ => Err(help()),
        }
    }
}

/// Read by hand above, which says better what is wrong than a schema could.
macro_rules! anything {
    ($($name:ident: $schema:tt),+ $(,)?) => { $(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+ };
}

anything! {
    HeadersGiven: { "type": "object", "additionalProperties": true },
    HeadersWanted: { "type": "object", "additionalProperties": true },
    BodyGiven: true,
    BodyWanted: true,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(value: &Value) -> ValuesWanted {
        values_wanted(value).unwrap()
    }

    #[test]
    fn values_fit_what_is_wanted() {
        let table = [
            (json!("a"), vec!["a"], true),
            (json!("a"), vec!["a", "a"], false),
            (json!("a"), vec![], false),
            (json!(3), vec!["3"], true),
            (json!(["a", "b"]), vec!["a", "b"], true),
            (json!(["a", "b"]), vec!["b", "a"], false),
            (json!({ "contains": "b" }), vec!["a", "abc"], true),
            (json!({ "contains": "x" }), vec!["a", "abc"], false),
            (json!({ "matches": "^[0-9]+$" }), vec!["12"], true),
            (json!({ "present": true }), vec!["x"], true),
            (json!({ "present": true }), vec![], false),
        ];
        for (pattern, values, fits) in table {
            let values: Vec<&[u8]> = values.into_iter().map(str::as_bytes).collect();
            assert_eq!(wanted(&pattern).fit(&values), fits, "{pattern} {values:?}");
        }
        for wrong in [json!(null), json!({ "contians": "x" }), json!({ "present": false }), json!([null]), json!({})] {
            assert!(values_wanted(&wrong).unwrap_err().contains("`absent`"), "{wrong}");
        }
        assert!(values_wanted(&json!({ "matches": "(" })).is_err());
    }

    #[test]
    fn bodies_are_read_in_every_form() {
        let given = serde_json::from_value::<BodyGiven>;
        let pieces = |value: Value| given(value).unwrap().pieces().unwrap().iter().map(Bytes::len).collect::<Vec<_>>();
        assert_eq!(pieces(json!("abc")), [3]);
        assert_eq!(pieces(json!(["a", "", "bc"])), [1, 0, 2]);
        assert_eq!(pieces(json!({ "base64": "AAE=" })), [2]);
        assert_eq!(pieces(json!({ "size": 70000 })), [70000]);
        assert!(matches!(given(json!({ "file": "a.bin" })).unwrap(), BodyGiven::File(_)));
        assert_eq!(given(json!({ "file": "a.bin" })).unwrap().pieces(), None, "whoever has files reads them");
        for wrong in [json!(1), json!({ "fiel": "a" }), json!({ "base64": "?" }), json!([1]), json!({})] {
            assert!(given(wrong.clone()).is_err(), "{wrong}");
        }
        let wanted = |value: Value| serde_json::from_value::<BodyWanted>(value).unwrap();
        assert!(wanted(json!("ab")).fits(b"ab") && !wanted(json!("ab")).fits(b"abc"));
        assert!(wanted(json!({ "size": 2 })).fits(b"ab") && wanted(json!({ "contains": "b" })).fits(b"abc"));
    }

    #[test]
    fn headers_that_cannot_be_sent_are_refused() {
        let given = |value: Value| serde_json::from_value::<HeadersGiven>(value);
        let headers = given(json!({ "X-A": ["1", 2], "x-b": true })).unwrap().0;
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers["x-b"], "true");
        for wrong in [json!({ "a b": "1" }), json!({ "x": "a\nb" }), json!({ "x": null }), json!({ "x": {} })] {
            assert!(given(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
