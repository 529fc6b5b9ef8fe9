//! The access log: one line for each request, written by a thread of its own so that a slow terminal or pipe never holds a worker up.

use std::{
    cell::RefCell,
    fmt::Write as _,
    io::Write as _,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, StatusCode};
use penstock_core::{ResourceRef, backend::Endpoint, listener::ListenerId, reason::Reason, route::RuleId};

use crate::{edits::HeadEdits, settings::AccessLog};

/// What is gathered for the log while a request runs. Nothing of it exists when the log is off.
#[derive(Debug, Default)]
pub(crate) struct LogFields {
    pub(crate) method: Option<Method>,
    pub(crate) authority: String,
    pub(crate) target: String,
    pub(crate) client: Option<std::net::SocketAddr>,
    pub(crate) request_id: Option<HeaderValue>,
    pub(crate) listener: Option<ListenerId>,
    pub(crate) rule: Option<RuleId>,
    pub(crate) backend: Option<String>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) attempts: u32,
    pub(crate) plugin: Option<ResourceRef>,
    pub(crate) edits: Vec<HeadEdits>,
    pub(crate) grpc_status: Option<HeaderValue>,
    /// Why, in words. Not shown to clients.
    pub(crate) detail: String,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Option<StatusCode>,
    pub(crate) reason: Option<Reason>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) took: Duration,
    pub(crate) is_h2: bool,
}

/// The access log of one worker.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    format: AccessLog,
    edits: bool,
    buffer: RefCell<String>,
    writer: Option<SyncSender<String>>,
}

/// Lines are handed to the writer in pieces of about this size, or with the next sweep.
const PIECE: usize = 16 << 10;

/// Pieces that may wait for the writer; then lines are dropped and counted: traffic goes on before its log does.
const WAITING: usize = 256;

impl WorkerLog {
    /// The logs of all workers, which share one writer thread. It ends when the last of them is gone.
    pub(crate) fn start(format: AccessLog, edits: bool, workers: usize) -> std::io::Result<Vec<Self>> {
        let log = |writer: Option<SyncSender<String>>| Self { format, edits, buffer: RefCell::default(), writer };
        if format == AccessLog::Off {
            return Ok((0..workers).map(|_| log(None)).collect());
        }
        let (sender, pieces) = sync_channel::<String>(WAITING);
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            for piece in pieces {
                let mut out = std::io::stdout().lock();
                // Nobody reads any more: nothing to be done, and nothing to say where nobody reads.
                let _ = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
            }
        })?;
        Ok((0..workers).map(|_| log(Some(sender.clone()))).collect())
    }

    pub(crate) fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// Whether what plugins changed belongs to a line.
    pub(crate) fn has_edits(&self) -> bool {
        self.edits
    }

    /// Write a line. How many lines were dropped because the writer is behind.
    pub(crate) fn write(&self, fields: &LogFields, outcome: &Outcome) -> u64 {
        let mut buffer = self.buffer.borrow_mut();
        let line = Line { fields, outcome };
        let written = match self.format {
            AccessLog::Off => return 0,
            AccessLog::Json => line.json(&mut buffer),
            AccessLog::Text => line.text(&mut buffer),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
        buffer.push('\n');
        if buffer.len() < PIECE {
            return 0;
        }
        drop(buffer);
        self.flush()
    }

    /// Hand over what has gathered; how many lines were dropped. Called by the sweep too.
    pub(crate) fn flush(&self) -> u64 {
        let piece = std::mem::take(&mut *self.buffer.borrow_mut());
        match &self.writer {
            Some(writer) if !piece.is_empty() => match writer.try_send(piece) {
                Ok(()) => 0,
                Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) => lines(&piece),
            },
            _ => 0,
        }
    }
}

fn lines(piece: &str) -> u64 {
    piece.bytes().filter(|byte| *byte == b'\n').count() as u64
}

struct Line<'a> {
    fields: &'a LogFields,
    outcome: &'a Outcome,
}

impl Line<'_> {
    fn json(&self, out: &mut String) -> std::fmt::Result {
        let (fields, outcome) = (self.fields, self.outcome);
        write!(out, "{{\"time\":{}", unix_millis())?;
        optional(out, "client", fields.client.map(|client| client.to_string()).as_deref())?;
        text(out, "protocol", if outcome.is_h2 { "HTTP/2" } else { "HTTP/1.1" })?;
        text(out, "method", fields.method.as_ref().map_or("", Method::as_str))?;
        text(out, "authority", &fields.authority)?;
        text(out, "target", &fields.target)?;
        write!(out, ",\"status\":{}", outcome.status.map_or(0, |status| status.as_u16()))?;
        write!(out, ",\"received\":{},\"sent\":{}", outcome.received, outcome.sent)?;
        write!(out, ",\"duration_us\":{}", outcome.took.as_micros())?;
        optional(out, "reason", outcome.reason.map(Reason::code))?;
        optional(out, "detail", Some(&*fields.detail).filter(|detail| !detail.is_empty()))?;
        optional(out, "request_id", fields.request_id.as_ref().and_then(|id| id.to_str().ok()))?;
        optional(out, "listener", fields.listener.as_ref().map(ToString::to_string).as_deref())?;
        optional(out, "route", fields.rule.as_ref().map(|rule| rule.route.to_string()).as_deref())?;
        optional(out, "rule", fields.rule.as_ref().map(ToString::to_string).as_deref())?;
        optional(out, "backend", fields.backend.as_deref())?;
        optional(out, "endpoint", fields.endpoint.as_ref().map(endpoint).as_deref())?;
        if fields.attempts > 1 {
            write!(out, ",\"attempts\":{}", fields.attempts)?;
        }
        optional(out, "plugin", fields.plugin.as_ref().map(ToString::to_string).as_deref())?;
        for (index, edits) in fields.edits.iter().enumerate() {
            out.push_str(if index == 0 { ",\"edits\":[" } else { "," });
            edits.json(out)?;
        }
        if !fields.edits.is_empty() {
            out.push(']');
        }
        optional(out, "grpc_status", fields.grpc_status.as_ref().and_then(|status| status.to_str().ok()))?;
        out.write_char('}')
    }

    fn text(&self, out: &mut String) -> std::fmt::Result {
        let (fields, outcome) = (self.fields, self.outcome);
        write!(
            out,
            "{} {} {}{} {} {}B {:?}",
            fields.client.map_or("-".into(), |client| client.ip().to_string()),
            fields.method.as_ref().map_or("-", Method::as_str),
            fields.authority,
            fields.target,
            outcome.status.map_or("-".into(), |status| status.as_u16().to_string()),
            outcome.sent,
            outcome.took,
        )?;
        if let Some(rule) = &fields.rule {
            write!(out, " {}[{rule}]", rule.route)?;
        }
        if let Some(at) = &fields.endpoint {
            write!(out, " -> {}", endpoint(at))?;
        }
        fields.edits.iter().try_for_each(|edits| write!(out, " [{edits}]"))?;
        if let Some(reason) = outcome.reason {
            write!(out, " {reason}")?;
        }
        if fields.detail.is_empty() { Ok(()) } else { write!(out, " ({})", fields.detail) }
    }
}

/// As in the log: an address, or a name with its port.
pub(crate) fn endpoint(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Address(address) => address.to_string(),
        Endpoint::Name(name, port) => format!("{name}:{port}"),
    }
}

fn unix_millis() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

fn optional(out: &mut String, name: &str, value: Option<&str>) -> std::fmt::Result {
    value.map_or(Ok(()), |value| text(out, name, value))
}

/// A field with a string, escaped as RFC 8259 §7 wants it.
fn text(out: &mut String, name: &str, value: &str) -> std::fmt::Result {
    write!(out, ",\"{name}\":\"")?;
    for character in value.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control))?,
            other => out.push(other),
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        text(&mut out, "a", "\"\\\n\u{7f}é").unwrap();
        assert_eq!(out, ",\"a\":\"\\\"\\\\\\u000a\u{7f}é\"");
    }

    #[derive(Clone, Copy)]
    enum Style {
        Json,
        Text,
    }

    fn line(style: Style) -> String {
        let fields = LogFields {
            method: Some(Method::GET),
            authority: "a.example".into(),
            target: "/x?\"y".into(),
            client: Some("192.0.2.1:5".parse().unwrap()),
            endpoint: Some(Endpoint::Address("192.0.2.2:80".parse().unwrap())),
            attempts: 2,
            detail: "connection refused".into(),
            ..LogFields::default()
        };
        let (status, reason, took) =
            (Some(StatusCode::BAD_GATEWAY), Some(Reason::ConnectFailed), Duration::from_micros(1500));
        let outcome = Outcome { status, reason, received: 1, sent: 2, took, is_h2: true };
        let mut out = String::new();
        let line = Line { fields: &fields, outcome: &outcome };
        match style {
            Style::Json => line.json(&mut out),
            Style::Text => line.text(&mut out),
        }
        .unwrap();
        out
    }

    #[test]
    fn json_lines_are_json() {
        let parsed: serde_json::Value = serde_json::from_str(&line(Style::Json)).unwrap();
        assert_eq!(parsed["target"], "/x?\"y");
        assert_eq!(
            (&parsed["status"], &parsed["duration_us"], &parsed["attempts"]),
            (&502.into(), &1500.into(), &2.into())
        );
        assert_eq!((&parsed["reason"], &parsed["protocol"]), (&"connect_failed".into(), &"HTTP/2".into()));
        assert_eq!(parsed["endpoint"], "192.0.2.2:80");
    }

    #[test]
    fn text_lines_are_for_people() {
        let expected = "192.0.2.1 GET a.example/x?\"y 502 2B 1.5ms -> 192.0.2.2:80 connect_failed (connection refused)";
        assert_eq!(line(Style::Text), expected);
    }

    #[test]
    fn a_writer_that_is_behind_costs_lines_and_not_time() {
        let (writer, pieces) = sync_channel(1);
        let log = WorkerLog { format: AccessLog::Text, edits: false, buffer: RefCell::default(), writer: Some(writer) };
        let outcome =
            || Outcome { status: None, reason: None, received: 0, sent: 0, took: Duration::ZERO, is_h2: false };
        let mut dropped = 0;
        for _ in 0..3 {
            dropped += log.write(&LogFields::default(), &outcome());
            dropped += log.flush();
        }
        assert_eq!((dropped, pieces.try_iter().count()), (2, 1));
    }
}
