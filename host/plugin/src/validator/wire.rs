//! What the gateway and the process that validates say to each other: one request, one answer, each a text in JSON with its length in
//! front and bytes behind it.
//!
//! The request comes from the gateway and is believed. The answer comes from a process that has handled what strangers wrote, and is
//! believed nothing: it is bounded, parsed, and checked again.

use std::io::{self, Read, Write};

use penstock_core::{
    Kind, ResourceRef,
    check::Checks,
    plugin::{Capabilities, ModuleSource, PluginLimits, PluginSpec, Rejection, Rollout},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    contract::types::{Manifest, Plan},
    reason,
    revision::config_text,
    sandbox::{Confinement, ValidationLimits},
    static_check::Imports,
};

/// Bytes of an answer's text. What a guest says in one call is 2 MiB, and each byte of it six in JSON at worst.
pub(super) const LONGEST_TEXT: u64 = 16 << 20;

/// What the process is to do. A process does one of these and ends: the one that compiles never runs what it compiled, so that a guest
/// that gets out of its sandbox of memory finds itself in a process whose answer holds no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    /// Check the bytes and compile them.
    Compile,
    /// Instantiate what was compiled, and ask what it is.
    Describe,
    /// All of that, and everything that comes with the configuration.
    Examine,
    /// The same of what has served before, without trying whether it is any good.
    Recognise,
}

/// The text of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) task: Task,
    /// The process that asks.
    pub(super) parent: u32,
    pub(super) validation: ValidationLimits,
    namespace: String,
    name: String,
    /// As `configure` gets it. Text, because numbers may change when they are read and written.
    pub(super) config: String,
    capabilities: Capabilities,
    limits: PluginLimits,
    checks: Checks,
    /// How many of the bytes behind the text are the module; the rest is what was compiled from it.
    pub(super) module: usize,
}

impl Task {
    /// Bytes of an answer. Code is some ten times the size of its module; other answers have none.
    pub(super) fn longest_answer(self) -> usize {
        match self {
            Self::Compile => 512 << 20,
            Self::Describe | Self::Examine | Self::Recognise => 17 << 20,
        }
    }
}

impl Request {
    pub(super) fn new(task: Task, spec: &PluginSpec, module: usize, validation: &ValidationLimits) -> Self {
        Self {
            task,
            parent: std::process::id(),
            validation: validation.clone(),
            namespace: spec.plugin.namespace.to_string(),
            name: spec.plugin.name.to_string(),
            config: config_text(&spec.config),
            capabilities: spec.capabilities.clone(),
            limits: spec.limits.clone(),
            checks: spec.rollout.checks.clone(),
            module,
        }
    }

    /// The specification, but for the source: the bytes are here.
    pub(super) fn spec(&self) -> Result<PluginSpec, serde_json::Error> {
        Ok(PluginSpec {
            plugin: ResourceRef::new(Kind::WasmPlugin, &*self.namespace, &*self.name),
            generation: 0,
            source: ModuleSource::Inline(bytes::Bytes::new()),
            config: std::sync::Arc::new(serde_json::from_str(&self.config)?),
            capabilities: self.capabilities.clone(),
            limits: self.limits.clone(),
            secrets: Vec::new(),
            rollout: Rollout { checks: self.checks.clone(), ..Rollout::default() },
        })
    }
}

/// The text of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) confinement: Confinement,
    pub(super) outcome: Outcome,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The bytes behind the text are the code.
    Compiled,
    Described(Manifest),
    Examined(Box<Findings>),
    Rejected {
        reason: String,
        message: String,
    },
}

/// What a candidate is that passed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) manifest: Manifest,
    pub(crate) plan: Plan,
    pub(crate) imports: Imports,
}

impl From<Rejection> for Outcome {
    fn from(Rejection { reason, message }: Rejection) -> Self {
        Self::Rejected { reason: reason.into(), message }
    }
}

/// Why a text and its bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidFrame {
    #[error("{0} bytes are too few")]
    Short(usize),
    #[error("a text of {0} bytes is too long")]
    Long(u64),
    #[error("it is not what was asked for: {0}")]
    Text(#[from] serde_json::Error),
    #[error("it gives the reason {0:?}, which does not exist")]
    Reason(String),
    #[error("it answers another question")]
    Question,
}

/// The text with its length in front.
pub(super) fn head(text: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let text = serde_json::to_vec(text)?;
    let mut head = Vec::with_capacity(8 + text.len());
    head.extend_from_slice(&(text.len() as u64).to_le_bytes());
    head.extend_from_slice(&text);
    Ok(head)
}

/// The text of an answer, which is no longer than any, and the bytes behind it.
pub(super) fn parse_answer(frame: &[u8]) -> Result<(Answer, &[u8]), InvalidFrame> {
    let len = frame.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
    if len > LONGEST_TEXT { Err(InvalidFrame::Long(len)) } else { parse(frame) }
}

/// The text, and the bytes behind it.
pub(super) fn parse<T: DeserializeOwned>(frame: &[u8]) -> Result<(T, &[u8]), InvalidFrame> {
    let short = || InvalidFrame::Short(frame.len());
    let (len, rest) = frame.split_first_chunk().ok_or_else(short)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| short())?;
    let (text, bytes) = rest.split_at_checked(len).ok_or_else(short)?;
    Ok((serde_json::from_slice(text)?, bytes))
}

/// The refusal that an answer gives, if its reason is one of ours.
pub(super) fn refusal(reason: &str, message: &str) -> Result<Rejection, InvalidFrame> {
    match reason::known(reason) {
        Some(reason) => Ok(reason::rejection(reason, message)),
        None => Err(InvalidFrame::Reason(reason.chars().take(64).collect())),
    }
}

/// Read a whole frame.
pub(super) fn read(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut frame = Vec::new();
    from.read_to_end(&mut frame)?;
    Ok(frame)
}

/// Write a whole frame.
pub(super) fn write(mut to: impl Write, text: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&head(text)?)?;
    to.write_all(bytes)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut frame = Vec::new();
        let outcome = Outcome::Rejected { reason: "InvalidModule".into(), message: "no".into() };
        write(&mut frame, &Answer { confinement: Confinement::Full, outcome }, b"behind").unwrap();
        let (answer, bytes) = parse_answer(&frame).unwrap();
        assert_eq!(bytes, b"behind");
        let Outcome::Rejected { reason, message } = answer.outcome else { panic!("{answer:?}") };
        let refusal = refusal(&reason, &message).unwrap();
        assert_eq!((refusal.reason, &*refusal.message), (reason::INVALID_MODULE, "no"));
    }

    #[test]
    fn garbage_is_no_answer() {
        let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        for garbage in [
            &b""[..],
            b"1234567",
            b"123456789",
            &u64::MAX.to_le_bytes(),
            &text(""),
            &text("{"),
            &text(r#"{"confinement": "Full"}"#),
            &text(r#"{"confinement": "Full", "outcome": "Passed"}"#),
            &text(&"[".repeat(1 << 20)),
        ] {
            assert!(parse_answer(garbage).is_err(), "{garbage:?}");
        }
        let long = text(&" ".repeat(17 << 20));
        assert!(matches!(parse_answer(&long), Err(InvalidFrame::Long(_))));
        assert!(matches!(refusal("Whatever", ""), Err(InvalidFrame::Reason(_))));
    }
}
