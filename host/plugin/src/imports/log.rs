//! `log`: lines of plugins in the gateway's log, under the target `plugin`, tagged and bounded.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{StoreContextMut, component::Linker};

use crate::{
    contract::{LOG, types::Level},
    instance::InstanceState,
    printable::printable,
};

/// Longer lines are cut: a line is for people.
const LONGEST_LINE: usize = 4096;

/// Decides which lines of one instance are kept.
pub(crate) struct LogGate {
    plugin: Arc<str>,
    /// `x-request-id` of the exchange at hand; empty outside hooks. Reused, so that it costs no allocation.
    request_id: String,
    lines: u32,
    window: Option<Instant>,
    left: u32,
    dropped: u64,
}

impl LogGate {
    pub(crate) fn new(plugin: Arc<str>, lines: u32) -> Self {
        Self { plugin, request_id: String::new(), lines, window: None, left: 0, dropped: 0 }
    }

    /// Lines that follow belong to this exchange.
    pub(crate) fn begin(&mut self, request_id: &str) {
        self.request_id.clear();
        self.request_id.push_str(request_id);
    }

    /// Whether one more line is within the limit; if so, how many were dropped before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1)) {
            self.window = Some(now);
            self.left = self.lines;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.dropped))
            }
            None => {
                self.dropped += 1;
                None
            }
        }
    }

    pub(crate) fn write(&mut self, level: Level, message: &str, fields: &[(String, String)]) {
        let Some(dropped) = self.admit(Instant::now()) else { return };
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
        if enabled(level) {
            store.data_mut().log.write(level, &message, &fields);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let mut gate = LogGate::new("default/a".into(), 2);
        let start = Instant::now();
        assert_eq!(gate.admit(start), Some(0));
        assert_eq!(gate.admit(start), Some(0));
        assert_eq!(gate.admit(start), None);
        assert_eq!(gate.admit(start + Duration::from_millis(999)), None);
        assert_eq!(gate.admit(start + Duration::from_secs(1)), Some(2));
        assert_eq!(gate.admit(start + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn a_limit_of_zero_keeps_nothing() {
        assert_eq!(LogGate::new("default/a".into(), 0).admit(Instant::now()), None);
    }

    #[test]
    fn fields_follow_the_message() {
        assert_eq!(join(&[("a".into(), "1 \"2\"".into()), ("b".into(), "\n".into())]), r#"a="1 \"2\"" b="\n""#);
    }
}
