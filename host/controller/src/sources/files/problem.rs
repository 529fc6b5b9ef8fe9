//! What can be wrong with a document, said so that its author finds the place and the remedy.

use std::{cmp::Ordering, fmt, path::PathBuf, sync::Arc};

use penstock_core::{Kind, ResourceRef};
use serde::{Serialize, Serializer};

/// One thing wrong with a file or with a document in it. The document is not used; its last good version stays in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named on the command line, or found in a directory named there.
    pub file: Arc<PathBuf>,
    /// Where in the file, if the file could be read.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// The resource that the document describes, if that much could be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceRef>,
    /// `spec.rules[0].matches`, or empty for the document itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong.
    #[serde(rename = "message")]
    pub kind: InvalidDocument,
}

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Neither YAML nor JSON.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// A line that begins so far to the right that what it is in would be too deep for the parser.
    #[error("lines begin within {0} columns; make it flatter")]
    Deep(usize),
    /// A list or a scalar where a resource should stand.
    #[error("expected a resource (a mapping with apiVersion, kind and metadata), found {found}")]
    NotAResource {
        /// What stands there.
        found: Found,
    },
    /// A kind that Penstock does not read.
    #[error("unknown kind `{kind}`{}", hint_or_list(.nearest.as_deref(), .known))]
    UnknownKind {
        /// As written.
        kind: String,
        /// The kind that was perhaps meant.
        nearest: Option<String>,
        /// All kinds that are read.
        known: Vec<String>,
    },
    /// A group or version that Penstock does not read for this kind.
    #[error("`{found}` has no kind {kind}; use `{expected}`")]
    UnsupportedApiVersion {
        /// The kind.
        kind: Kind,
        /// As written.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A field that must be there is not.
    #[error("missing field `{name}`")]
    MissingField {
        /// Its name.
        name: String,
    },
    /// A field that does not exist at this place.
    #[error("unknown field `{name}`{}", hint_or_list(.nearest.as_deref(), .valid))]
    UnknownField {
        /// As written.
        name: String,
        /// The field that was perhaps meant.
        nearest: Option<String>,
        /// All fields that may stand here.
        valid: Vec<String>,
    },
    /// A value of the wrong type.
    #[error("expected {expected}, found {found}{}", quoting(.expected, .found))]
    WrongType {
        /// `a string`, `a list`, …
        expected: String,
        /// What stands there.
        found: Found,
    },
    /// A value outside the allowed set.
    #[error("`{found}` is not allowed here{}", hint_or_list(.nearest.as_deref(), .allowed))]
    NotAllowed {
        /// As written.
        found: String,
        /// The value that was perhaps meant.
        nearest: Option<String>,
        /// All allowed values.
        allowed: Vec<String>,
    },
    /// A number outside the allowed range.
    #[error("{found} is out of range: {minimum} to {maximum}")]
    OutOfRange {
        /// As written.
        found: String,
        /// Smallest allowed number.
        minimum: String,
        /// Largest allowed number.
        maximum: String,
    },
    /// Right by the schema, refused by the type.
    #[error("{0}")]
    InvalidValue(String),
    /// The same resource stands elsewhere; that one is used.
    #[error("duplicate of the resource at {}:{line}, which is used", .file.display())]
    Duplicate {
        /// The file of the resource that is used.
        file: Arc<PathBuf>,
        /// Its first line there.
        line: usize,
    },
}

/// What stands in a document at some place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of JSON types")]
pub enum Found {
    Nothing,
    Bool(bool),
    Integer(String),
    Float(String),
    String(String),
    List,
    Mapping,
    /// A tag or an alias that means nothing in a resource.
    Unsupported,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "the boolean {value}"),
            Self::Integer(value) => write!(f, "the integer {value}"),
            Self::Float(value) => write!(f, "the number {value}"),
            Self::String(value) => write!(f, "the string {value:?}"),
            Self::List => f.write_str("a list"),
            Self::Mapping => f.write_str("a mapping"),
            Self::Unsupported => f.write_str("a YAML tag that has no meaning here"),
        }
    }
}

/// `file:line:column: field: message`, as compilers print it, so that editors can jump there.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message())
    }
}

impl Problem {
    /// `file:line:column`.
    pub fn place(&self) -> String {
        match self.position {
            Some(position) => format!("{}:{position}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }

    /// The field and what is wrong with it, without the place.
    pub fn message(&self) -> String {
        match &*self.field {
            "" => self.kind.to_string(),
            field => format!("{field}: {}", self.kind),
        }
    }

    /// By file, then by place.
    pub fn by_place(&self, other: &Self) -> Ordering {
        (&self.file, self.position).cmp(&(&other.file, other.position))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Serialize for InvalidDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

fn hint_or_list(nearest: Option<&str>, valid: &[String]) -> String {
    match nearest {
        Some(_) => hint(nearest),
        None if valid.is_empty() => String::new(),
        None => format!("; possible here: {}", valid.join(", ")),
    }
}

/// The most common slip: YAML reads `8080` and `true` as something else than a string.
fn quoting(expected: &str, found: &Found) -> String {
    match found {
        Found::Integer(value) | Found::Float(value) if expected == "a string" => {
            format!("; write it in quotes: \"{value}\"")
        }
        Found::Bool(value) if expected == "a string" => format!("; write it in quotes: \"{value}\""),
        _ => String::new(),
    }
}
