//! Something is wrong with a part of a resource: the reason of a condition and a sentence for people.

use std::fmt;

use crate::{Condition, ConditionStatus};

/// What is wrong, in the terms of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The condition's reason.
    pub(crate) reason: &'static str,
    /// Which field, what is wrong with it, what to do.
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST {
            message.truncate(message.floor_char_boundary(LONGEST));
            message.push('…');
        }
        Self { reason, message }
    }

    /// A value that cannot be meant.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("Invalid", message)
    }

    /// A value that this version does not support.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("UnsupportedValue", message)
    }

    /// The same, seen from further out: `rules[0]` + `filters[1]: …`.
    pub(crate) fn within(self, path: impl fmt::Display) -> Self {
        Self { reason: self.reason, message: format!("{path}.{}", self.message) }
    }
}

/// Bytes of a message. It may quote names that somebody chose, and a status that is too large is not stored.
const LONGEST: usize = 2048;

/// More problems than these say nothing new, and a status has its limits.
const SHOWN: usize = 5;

/// All sentences as one, in the order given.
pub(crate) fn sentences<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> String {
    let messages: Vec<&str> = problems.into_iter().map(|problem| problem.message.as_str()).collect();
    let shown = messages.iter().take(SHOWN).copied().collect::<Vec<_>>().join("; ");
    match messages.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// Collects the conditions of one object or part, all of one generation.
pub(crate) struct Conditions {
    generation: i64,
    list: Vec<Condition>,
}

impl Conditions {
    pub(crate) fn new(generation: i64) -> Self {
        Self { generation, list: Vec::new() }
    }

    pub(crate) fn set(
        &mut self,
        type_: &'static str,
        status: ConditionStatus,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let message = message.into();
        self.list.push(Condition { type_, status, reason, message, observed_generation: self.generation });
    }

    pub(crate) fn yes(&mut self, type_: &'static str, reason: &'static str, message: impl Into<String>) {
        self.set(type_, ConditionStatus::True, reason, message);
    }

    pub(crate) fn no(&mut self, type_: &'static str, problem: &Problem) {
        self.set(type_, ConditionStatus::False, problem.reason, problem.message.clone());
    }

    /// True under its own name as reason, or false for the problem.
    pub(crate) fn holds_unless(&mut self, type_: &'static str, problem: Option<&Problem>, message: impl Into<String>) {
        match problem {
            Some(problem) => self.no(type_, problem),
            None => self.yes(type_, type_, message),
        }
    }

    pub(crate) fn finish(self) -> Vec<Condition> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_an_end() {
        let problem = Problem::invalid(format!("no Secret `{}`", "ü".repeat(1 << 20)));
        assert!(problem.message.len() <= LONGEST + 3 && problem.message.ends_with("ü…"), "{}", problem.message.len());
    }
}
