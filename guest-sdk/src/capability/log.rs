//! Lines in the gateway's log, tagged with the plugin and the exchange.

use crate::imports::log;

pub use crate::bindings::imports::log::Level;

/// A line with fields.
///
/// ```
/// # use penstock_plugin::capability::log;
/// log::line(log::Level::Warn, "key rejected", &[("reason", "expired")]);
/// ```
pub fn line(level: Level, message: &str, fields: &[(&str, &str)]) {
    if enabled(level) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        log::write(level, message, &fields);
    }
}

/// Whether a line of this level would be kept, to save the work of building it.
#[must_use]
pub fn enabled(level: Level) -> bool {
    log::enabled(level)
}

/// A line for those who write plugins.
pub fn debug(message: &str) {
    line(Level::Debug, message, &[]);
}

/// A line about the life of the plugin.
pub fn info(message: &str) {
    line(Level::Info, message, &[]);
}

/// A line about something degraded.
pub fn warn(message: &str) {
    line(Level::Warn, message, &[]);
}

/// A line on which an operator must act.
pub fn error(message: &str) {
    line(Level::Error, message, &[]);
}
