//! What the gateway counts as a fault of the plugin.

use crate::header::{InvalidName, InvalidValue};

/// A rule of the contract that an answer broke. On the gateway the exchange then gets what the resource's `failurePolicy` says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The plan does not declare the write.
    #[error("undeclared-write: `{name}` is edited, but not among the plan's writes {declared:?}")]
    UndeclaredWrite {
        /// What the edit names.
        name: String,
        /// What the plan declares for this direction.
        declared: Vec<String>,
    },
    /// An edit by index points past the writes of the plan.
    #[error("undeclared-write: index {index} is edited, but the plan declares only {declared} writes")]
    UnknownIndex {
        /// Of the edit.
        index: u32,
        /// How many writes there are.
        declared: usize,
    },
    /// No edit may name a header so.
    #[error("invalid-name: `{name}` {reason}")]
    InvalidName {
        /// What the edit names.
        name: String,
        /// Why not.
        reason: InvalidName,
    },
    /// A pseudo-header can only be set.
    #[error("invalid-name: `{0}` can only be set")]
    OnlySet(String),
    /// The header cannot have the value.
    #[error("invalid-value: the value of `{name}` {reason}")]
    InvalidValue {
        /// What the edit names.
        name: String,
        /// Why not.
        reason: InvalidValue,
    },
    /// One answer has too many edits, or a reply too many headers.
    #[error("too-large: {found} edits or headers, at most {most} are allowed")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// The values of one answer, or the body of a reply, are too large.
    #[error("too-large: {found} bytes, at most {most} are allowed")]
    TooLarge {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A reply needs a status of 200 to 599.
    #[error("invalid-reply: {0} is no status of a reply")]
    InvalidReply(u16),
    /// Headers are held, but the plan does not see the body that could release them.
    #[error("invalid-hold: headers are held, but the plan declares no body of this direction")]
    InvalidHold,
    /// Headers or a chunk are still held at the end of the body.
    #[error("invalid-hold: headers or bytes are still held after the last chunk")]
    StillHeld,
    /// Headers are released that are not held.
    #[error("invalid-hold: headers are released that were not held")]
    NotHeld,
    /// A whole body is larger than the plan's buffer. The resource's `bodyOverflow` decides what follows.
    #[error("the body is larger than the buffer of {0} bytes that the plan asks for")]
    BodyOverflow(u32),
    /// A route plugin chose a candidate that does not exist.
    #[error("invalid-choice: candidate {index} of {candidates}")]
    InvalidChoice {
        /// What was chosen.
        index: u32,
        /// How many there are.
        candidates: usize,
    },
}
