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

use crate::{connection::Connection, settings::AccessLog};

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
}

/// The access log of one worker.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    format: AccessLog,
    buffer: RefCell<String>,
    writer: Option<SyncSender<String>>,
}

/// Lines are handed to the writer in pieces of about this size, or with the next sweep.
const PIECE: usize = 16 << 10;

/// Pieces that may wait for the writer; then lines are dropped and counted: traffic goes on before its log does.
const WAITING: usize = 256;

impl WorkerLog {
    /// The logs of all workers, which share one writer thread. It ends when the last of them is gone.
    pub(crate) fn start(format: AccessLog, workers: usize) -> std::io::Result<Vec<Self>> {
        let log = |writer: Option<SyncSender<String>>| Self { format, buffer: RefCell::default(), writer };
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

    pub(crate) fn write(&self, connection: &Connection, fields: &LogFields, outcome: &Outcome) {
        let mut buffer = self.buffer.borrow_mut();
        let line = Line { connection, fields, outcome };
        let written = match self.format {
            AccessLog::Off => return,
            AccessLog::Json => line.json(&mut buffer),
            AccessLog::Text => line.text(&mut buffer),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
        buffer.push('\n');
        if buffer.len() >= PIECE {
            let piece = std::mem::take(&mut *buffer);
            self.hand_over(piece, connection);
        }
    }

    /// Hand over what has gathered. Called by the sweep.
    pub(crate) fn flush(&self) -> Flushed {
        let piece = std::mem::take(&mut *self.buffer.borrow_mut());
        match &self.writer {
            Some(writer) if !piece.is_empty() => match writer.try_send(piece) {
                Ok(()) => Flushed::Written,
                Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) => Flushed::Dropped(lines(&piece)),
            },
            _ => Flushed::Written,
        }
    }

    fn hand_over(&self, piece: String, connection: &Connection) {
        if let Some(writer) = &self.writer
            && let Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) = writer.try_send(piece)
        {
            connection.worker.metrics().log_dropped.add(lines(&piece));
        }
    }
}

/// What became of the buffered lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    Written,
    Dropped(u64),
}

fn lines(piece: &str) -> u64 {
    piece.bytes().filter(|byte| *byte == b'\n').count() as u64
}

struct Line<'a> {
    connection: &'a Connection,
    fields: &'a LogFields,
    outcome: &'a Outcome,
}

impl Line<'_> {
    fn json(&self, out: &mut String) -> std::fmt::Result {
        let (fields, outcome) = (self.fields, self.outcome);
        write!(out, "{{\"time\":{}", unix_millis())?;
        text(out, "client", &fields.client.unwrap_or(self.connection.peer).to_string())?;
        text(out, "protocol", if self.connection.is_h2() { "HTTP/2" } else { "HTTP/1.1" })?;
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
        optional(out, "grpc_status", fields.grpc_status.as_ref().and_then(|status| status.to_str().ok()))?;
        out.write_char('}')
    }

    fn text(&self, out: &mut String) -> std::fmt::Result {
        let (fields, outcome) = (self.fields, self.outcome);
        write!(
            out,
            "{} {} {}{} {} {}B {:?}",
            fields.client.unwrap_or(self.connection.peer).ip(),
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
        if let Some(reason) = outcome.reason {
            write!(out, " {reason}")?;
        }
        if fields.detail.is_empty() { Ok(()) } else { write!(out, " ({})", fields.detail) }
    }
}

fn endpoint(endpoint: &Endpoint) -> String {
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
}
