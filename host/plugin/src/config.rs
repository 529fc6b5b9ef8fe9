//! `spec.config` against the JSON Schema of the plugin's manifest: every error with a JSON pointer and what would be right.
//!
//! Messages never show values of the configuration, because secrets are substituted into it; names of fields they do show.

mod effort;

use std::fmt;

use jsonschema::{
    Draft, PatternOptions, ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use penstock_core::nearest::did_you_mean;
use serde_json::Value;

use crate::{contract::types::Problem, printable::printable};

/// Problems that are told at once; further ones are counted.
const MOST_PROBLEMS: usize = 10;
/// Bytes of one of them, and of all together: what is longer would be cut where they become a status, and nobody would know how many there are.
const LONGEST_PROBLEM: usize = 800;
const LONGEST_TEXT: usize = 1800;

/// Why a manifest's schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidSchema {
    #[error("config-schema is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("config-schema is no JSON Schema: {0}")]
    Schema(String),
    #[error("config-schema is too complex: checking this configuration would take too long")]
    TooComplex,
}

/// What is wrong with a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(Vec<(String, String)>);

impl Problems {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Problem>> for Problems {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect())
    }
}

/// `/a/b: what is wrong; /c: what is wrong; and 3 more`.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut shown, mut left) = (0, LONGEST_TEXT);
        for (pointer, message) in self.0.iter().take(MOST_PROBLEMS) {
            let pointer = if pointer.is_empty() { "/" } else { pointer };
            let problem = printable(&format!("{pointer}: {message}"), LONGEST_PROBLEM);
            if problem.len() > left {
                break;
            }
            left -= problem.len();
            let separator = if shown == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
            shown += 1;
        }
        match self.0.len() - shown {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Do once what later checks need the system for: the seed of hash tables. A program that is linked statically reads it from a device, which
/// the sandbox does not let it open.
pub(crate) fn prepare() {
    let schema = Value::Bool(true);
    let _ = jsonschema::is_valid(&schema, &schema);
}

/// Check `config` against `schema`.
pub(crate) fn check(schema: &str, config: &Value) -> Result<Problems, InvalidSchema> {
    let schema: Value = serde_json::from_str(schema)?;
    effort::check(&schema, config)?;
    let validator = jsonschema::options()
        .with_draft(Draft::Draft202012)
        // The schema comes from a plugin: patterns must not be able to backtrack for ever.
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
        .build(&schema)
        .map_err(|error| InvalidSchema::Schema(error.to_string()))?;
    let mut problems = Vec::new();
    for error in validator.iter_errors(config) {
        explain(&error, &schema, &mut problems);
    }
    Ok(Problems(problems))
}

/// One problem for each thing to correct.
fn explain(error: &ValidationError<'_>, schema: &Value, problems: &mut Vec<(String, String)>) {
    let pointer = error.instance_path().as_str();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = known_fields(error, schema);
            for name in unexpected {
                let hint = hint(name, &known);
                problems.push((format!("{pointer}/{}", escape(name)), format!("unknown field `{name}`{hint}")));
            }
        }
        ValidationErrorKind::AnyOf { context }
        | ValidationErrorKind::OneOfNotValid { context }
        | ValidationErrorKind::OneOfMultipleValid { context } => match closest(pointer, context) {
            Some(errors) => errors.iter().for_each(|error| explain(error, schema, problems)),
            None => problems.push((pointer.into(), alternatives(pointer, error, context))),
        },
        // What the library says of an object that may have no fields at all.
        ValidationErrorKind::FalseSchema if error.schema_path().as_str().ends_with("/additionalProperties") => {
            problems.push((pointer.into(), "no field is known here".into()));
        }
        ValidationErrorKind::Required { property } => {
            problems
                .push((pointer.into(), format!("the field `{}` is missing", property.as_str().unwrap_or_default())));
        }
        _ => problems.push((pointer.into(), error.masked_with("the value").to_string())),
    }
}

/// Of the alternatives that a value may be, the one that was clearly meant: the only one for which the value itself is of the right kind, so
/// that what is wrong lies deeper or is too much.
fn closest<'a>(pointer: &str, context: &'a [Vec<ValidationError<'static>>]) -> Option<&'a [ValidationError<'static>]> {
    let mut fitting = context.iter().filter(|errors| !errors.iter().any(|error| is_of_another_kind(pointer, error)));
    match (fitting.next(), fitting.next()) {
        (Some(errors), None) if !errors.is_empty() => Some(errors),
        _ => None,
    }
}

fn is_of_another_kind(pointer: &str, error: &ValidationError<'static>) -> bool {
    let depth = |pointer: &str| pointer.matches('/').count();
    let below = depth(error.instance_path().as_str()).saturating_sub(depth(pointer));
    match error.kind() {
        ValidationErrorKind::Type { .. } | ValidationErrorKind::Enum { .. } | ValidationErrorKind::Required { .. } => {
            below == 0
        }
        // A constant is what tells alternatives apart: the value itself, or a field of it.
        ValidationErrorKind::Constant { .. } => below <= 1,
        _ => false,
    }
}

fn alternatives(pointer: &str, error: &ValidationError<'_>, context: &[Vec<ValidationError<'static>>]) -> String {
    let decisive = |errors: &Vec<ValidationError<'static>>| {
        errors.iter().find(|error| is_of_another_kind(pointer, error)).or(errors.first()).map(want)
    };
    let mut wanted: Vec<String> = context.iter().filter_map(decisive).collect();
    wanted.dedup();
    match wanted.len() {
        0 => error.masked_with("the value").to_string(),
        _ => format!("the value fits none of the alternatives: {}", wanted.join(", or ")),
    }
}

fn want(error: &ValidationError<'static>) -> String {
    match error.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Single(kind) } => format!("it may be of type {kind}"),
        ValidationErrorKind::Required { property } => {
            format!("it may have the field `{}`", property.as_str().unwrap_or_default())
        }
        ValidationErrorKind::Constant { expected_value } => format!("it may be {expected_value}"),
        ValidationErrorKind::Enum { options } => format!("it may be one of {options}"),
        _ => error.masked_with("the value").to_string(),
    }
}

/// What the object at hand may have, as far as the schema says.
fn known_fields<'s>(error: &ValidationError<'_>, schema: &'s Value) -> Vec<&'s str> {
    let path = error.schema_path().as_str();
    let object = path.rsplit_once('/').and_then(|(object, _)| schema.pointer(object));
    let properties = object.and_then(|object| object.get("properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str)).collect()
}

/// The field that was probably meant, or all that there are.
fn hint(name: &str, known: &[&str]) -> String {
    match did_you_mean(name, known.iter().copied()) {
        meant if !meant.is_empty() || known.is_empty() => meant,
        _ => format!("; known fields: {}", known.join(", ")),
    }
}

/// RFC 6901 §3.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
