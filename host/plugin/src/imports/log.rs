//! `log`: lines of plugins in the gateway's log, under the target `plugin`, tagged and bounded.

use std::{fmt::Write as _, sync::Arc};

use wasmtime::{StoreContextMut, component::Linker};

use crate::{
    capability::{Nanos, Stores},
    contract::{LOG, types::Level},
    instance::InstanceState,
    printable::{printable, remark},
};

/// Longer lines are cut: a line is for people.
const LONGEST_LINE: usize = 4096;

/// How the SDK begins the line about a panic.
const PANICKED: &str = "panicked at ";

/// The lines of one instance on their way to the log.
pub(crate) struct LogGate {
    plugin: Arc<str>,
    /// `x-request-id` of the exchange at hand; empty outside hooks. Reused, so that it costs no allocation.
    request_id: String,
    /// Where and why the guest has panicked in the call at hand, if it said so: of the trap that follows nothing else is known.
    last_words: Option<String>,
    /// `limits.logLines`.
    lines: u32,
    stores: Arc<Stores>,
}

impl LogGate {
    pub(crate) fn new(plugin: Arc<str>, lines: u32, stores: Arc<Stores>) -> Self {
        Self { plugin, request_id: String::new(), last_words: None, lines, stores }
    }

    /// Lines that follow belong to this exchange.
    pub(crate) fn begin(&mut self, request_id: &str) {
        self.request_id.clear();
        self.request_id.push_str(request_id);
    }

    /// Whether the guest has panicked since this was asked last, and what it said.
    pub(crate) fn take_last_words(&mut self) -> Option<String> {
        self.last_words.take()
    }

    fn listen(&mut self, level: Level, message: &str) {
        if matches!(level, Level::Error) && message.starts_with(PANICKED) {
            self.last_words = Some(remark(message));
        }
    }

    pub(crate) fn write(&mut self, level: Level, message: &str, fields: &[(String, String)]) {
        let Some(dropped) = self.stores.log().admit(self.lines, Nanos::now()) else { return };
        let (plugin, request_id) = (&*self.plugin, &*self.request_id);
        if dropped > 0 {
            tracing::warn!(target: "plugin", plugin, dropped, "lines beyond limits.logLines were dropped");
        }
        let (text, fields) = (printable(message, LONGEST_LINE), join(fields));
        match level {
            Level::Debug => tracing::debug!(target: "plugin", plugin, request_id, fields, "{text}"),
            Level::Info => tracing::info!(target: "plugin", plugin, request_id, fields, "{text}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, request_id, fields, "{text}"),
            Level::Error => tracing::error!(target: "plugin", plugin, request_id, fields, "{text}"),
        }
    }
}

fn enabled(level: Level) -> bool {
    match level {
        Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
        Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
        Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
        Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
    }
}

fn join(fields: &[(String, String)]) -> String {
    let mut text = String::new();
    for (index, (name, value)) in fields.iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        let _ = write!(text, "{space}{name}={value:?}");
        if text.len() > LONGEST_LINE {
            break;
        }
    }
    printable(&text, LONGEST_LINE)
}

pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    type Line = (Level, String, Vec<(String, String)>);
    let mut instance = linker.instance(LOG)?;
    instance.func_wrap("enabled", |_: StoreContextMut<'_, InstanceState>, (level,): (Level,)| Ok((enabled(level),)))?;
    instance.func_wrap("write", |mut store: StoreContextMut<'_, InstanceState>, (level, message, fields): Line| {
        let log = &mut store.data_mut().log;
        log.listen(level, &message);
        if enabled(level) {
            log.write(level, &message, &fields);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_the_message() {
        assert_eq!(join(&[("a".into(), "1 \"2\"".into()), ("b".into(), "\n".into())]), r#"a="1 \"2\"" b="\n""#);
    }
}
