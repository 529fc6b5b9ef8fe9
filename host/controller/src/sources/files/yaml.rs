//! Text to YAML documents with positions. JSON is YAML, so it needs no path of its own.

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Number, Value};

use super::problem::{Found, InvalidDocument, Position};

/// The text of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// The line of the file, from 1, on which `text` begins.
    pub(super) first_line: usize,
    pub(super) text: &'a str,
}

/// Cut a file into its documents. `---` at the beginning of a line cannot be anything else in YAML (scalars of several lines are indented), so
/// that a document that does not parse leaves the others readable.
pub(super) fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_document_start(line) && at > start {
            pieces.push(Piece { first_line, text: &text[start..at] });
            (start, first_line) = (at, index + 1);
        }
        at += line.len();
    }
    pieces.push(Piece { first_line, text: &text[start..] });
    pieces.retain(|piece| !is_blank(piece.text));
    pieces
}

fn is_document_start(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

/// Nothing but comments, markers and directives.
fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with(['#', '%']) || line == "---" || line == "..."
    })
}

/// Columns within which a line begins. Each list and mapping of a block begins further to the right than what it is in, or in the same column as the
/// mapping whose value it is, so this bounds how deep they go. The parser goes down into them by recursion.
const MOST_COLUMNS: usize = 512;

/// The line, from 0, that begins too far to the right.
fn beyond(text: &str) -> Option<usize> {
    let begins = |line: &str| line.bytes().take_while(|byte| b" \t-?:".contains(byte)).count();
    text.lines().position(|line| begins(line) > MOST_COLUMNS)
}

/// Parse one document. Positions in the result count from the piece: add them with [`position`].
pub(super) fn parse<'a>(piece: &Piece<'a>) -> Result<Option<MarkedYaml<'a>>, (Position, InvalidDocument)> {
    if let Some(line) = beyond(piece.text) {
        let position = Position { line: line + piece.first_line, column: MOST_COLUMNS + 1 };
        return Err((position, InvalidDocument::Deep(MOST_COLUMNS)));
    }
    let documents = MarkedYaml::load_from_str(piece.text).map_err(|error| {
        let marker = error.marker();
        let position = Position { line: marker.line() + piece.first_line - 1, column: marker.col() + 1 };
        (position, InvalidDocument::Syntax(error.info().to_owned()))
    })?;
    Ok(documents.into_iter().next())
}

/// Where a node stands in the file.
pub(super) fn position(node: &MarkedYaml<'_>, first_line: usize) -> Position {
    let start = node.span.start;
    Position { line: start.line() + first_line - 1, column: start.col() + 1 }
}

/// What a node is, for messages.
pub(super) fn found(node: &MarkedYaml<'_>) -> Found {
    match &node.data {
        YamlData::Value(Scalar::Null) => Found::Nothing,
        YamlData::Value(Scalar::Boolean(value)) => Found::Bool(*value),
        YamlData::Value(Scalar::Integer(value)) => Found::Integer(value.to_string()),
        YamlData::Value(Scalar::FloatingPoint(value)) => Found::Float(value.to_string()),
        YamlData::Value(Scalar::String(value)) => Found::String(value.to_string()),
        YamlData::Sequence(_) => Found::List,
        YamlData::Mapping(_) => Found::Mapping,
        YamlData::Representation(..) | YamlData::Tagged(..) | YamlData::Alias(_) | YamlData::BadValue => {
            Found::Unsupported
        }
    }
}

/// The text of a key. Keys that YAML reads as numbers or booleans (`data: {8080: …}`) are the strings that JSON would make of them.
pub(super) fn key(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(Scalar::String(value)) => Some(value.to_string()),
        YamlData::Value(Scalar::Boolean(value)) => Some(value.to_string()),
        YamlData::Value(Scalar::Integer(value)) => Some(value.to_string()),
        YamlData::Value(Scalar::FloatingPoint(value)) => Some(value.to_string()),
        _ => None,
    }
}

/// The value of `name` in a mapping.
pub(super) fn get<'n, 'a>(node: &'n MarkedYaml<'a>, name: &str) -> Option<&'n MarkedYaml<'a>> {
    node.data.as_mapping_get(name)
}

/// The node that a path such as `spec.listeners[0].port` leads to, or the last one on the way that is there.
pub(super) fn find<'n, 'a>(root: &'n MarkedYaml<'a>, path: &str) -> &'n MarkedYaml<'a> {
    let mut node = root;
    for step in path.split(['.', '[']) {
        let next = match step.strip_suffix(']') {
            Some(index) => index.parse().ok().and_then(|index: usize| node.data.as_vec()?.get(index)),
            None => get(node, step),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// A value without a schema, as JSON.
pub(super) fn to_json(node: &MarkedYaml<'_>) -> Value {
    match &node.data {
        YamlData::Value(scalar) => scalar_to_json(scalar),
        YamlData::Sequence(items) => Value::Array(items.iter().map(to_json).collect()),
        YamlData::Mapping(entries) => {
            let entries = entries.iter().filter_map(|(name, value)| Some((key(name)?, to_json(value))));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        YamlData::Tagged(_, inner) => to_json(inner),
        YamlData::Representation(text, ..) => Value::String(text.to_string()),
        YamlData::Alias(_) | YamlData::BadValue => Value::Null,
    }
}

pub(super) fn scalar_to_json(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(*value),
        Scalar::Integer(value) => Value::Number((*value).into()),
        // JSON has no infinities; a text says at least what was written.
        Scalar::FloatingPoint(value) => {
            Number::from_f64(value.0).map_or_else(|| Value::String(value.to_string()), Value::Number)
        }
        Scalar::String(value) => Value::String(value.to_string()),
    }
}
