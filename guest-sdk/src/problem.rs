//! What is wrong with a configuration, and where.

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

/// An RFC 6901 pointer into the configuration. Empty: the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pointer(String);

impl Pointer {
    /// The whole configuration.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// One step further: a key or an index.
    #[must_use]
    pub fn at(&self, step: impl fmt::Display) -> Self {
        let step = step.to_string().replace('~', "~0").replace('/', "~1");
        Self(format!("{}/{step}", self.0))
    }

    /// As text, such as `/rules/0/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub pointer: Pointer,
    /// What is wrong and what would be right, in one sentence.
    pub message: String,
}

/// All mistakes found in a configuration: report every one, so that the operator fixes them in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// No mistake so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a mistake.
    pub fn push(&mut self, pointer: &Pointer, message: impl Into<String>) {
        self.0.push(Problem { pointer: pointer.clone(), message: message.into() });
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those found so far.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// The value, if there was no mistake.
    ///
    /// # Errors
    /// The mistakes.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

/// A single mistake that concerns the whole configuration.
impl From<String> for Problems {
    fn from(message: String) -> Self {
        Self(vec![Problem { pointer: Pointer::root(), message }])
    }
}

impl From<&str> for Problems {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Pointer, colon, message.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.as_str().is_empty() { "/" } else { self.pointer.as_str() };
        write!(f, "{pointer}: {}", self.message)
    }
}

/// One line a mistake.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The candidate that `name` was most likely meant to be, if any is near enough.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tolerance = (name.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The configuration as the type that the plugin declares.
pub(crate) fn parse<C: DeserializeOwned>(text: &str) -> Result<C, Problems> {
    let mut input = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let mut pointer = Pointer::root();
        for segment in error.path() {
            match segment {
                Segment::Seq { index } => pointer = pointer.at(index),
                Segment::Map { key } => pointer = pointer.at(key),
                // A variant's name is no step of the document, or one that serde does not know.
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        let mut problems = Problems::new();
        problems.push(&pointer, readable(&error.inner().to_string()));
        problems
    })
}

/// The JSON Schema (2020-12) of a configuration.
#[must_use]
pub fn schema<C: JsonSchema>() -> serde_json::Value {
    schemars::schema_for!(C).to_value()
}

/// What serde says, without what means nothing to the operator (line and column: the gateway has written the text itself), and with the name
/// that was probably meant in front of all that there are.
fn readable(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    let mut quoted = message.split('`').skip(1).step_by(2);
    let near = quoted.next().filter(|_| message.starts_with("unknown ")).and_then(|unknown| nearest(unknown, quoted));
    match (near, message.split_once(", expected ")) {
        (Some(near), Some((what, names))) => format!("{what}: did you mean `{near}`? Expected {names}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Config {
        rules: Vec<Rule>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Rule {
        name: String,
    }

    fn check(text: &str, pointer: &str, message: &str) {
        let problems = parse::<Config>(text).unwrap_err();
        let found = problems.iter().next().unwrap();
        assert_eq!((found.pointer.as_str(), found.message.as_str()), (pointer, message));
    }

    #[test]
    fn a_mistake_has_a_pointer() {
        check(
            r#"{"rules": [{"name": "a"}, {"name": 1}]}"#,
            "/rules/1/name",
            "invalid type: integer `1`, expected a string",
        );
        check(
            r#"{"rules": [{"nam": "a"}]}"#,
            "/rules/0/nam",
            "unknown field `nam`: did you mean `name`? Expected `name`",
        );
        check(r#"{"rules": [{"colour": "a"}]}"#, "/rules/0/colour", "unknown field `colour`, expected `name`");
        check("{}", "", "missing field `rules`");
    }

    #[test]
    fn steps_are_escaped() {
        assert_eq!(Pointer::root().at("a/b").at("~").at(3).as_str(), "/a~1b/~0/3");
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("metods", ["path", "methods"]), Some("methods"));
        assert_eq!(nearest("colour", ["path", "methods"]), None);
    }

    #[test]
    fn all_mistakes_are_shown() {
        let mut problems = Problems::from("a");
        problems.push(&Pointer::root().at("b"), "c");
        assert_eq!(problems.to_string(), "/: a\n/b: c");
    }
}
