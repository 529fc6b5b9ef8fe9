//! Lines in the gateway's log, tagged with the plugin and the exchange.

use crate::imports::log;

pub use crate::bindings::imports::log::Level;

/// From now on a panic says where it was, and why, before it ends the instance: in the log, and in the fault that the gateway reports. Without it,
/// all that is known of a panic is that there was one. `plugin!(policy: T, panics: log)` calls it before anything else, and so does the first line;
/// a plugin that calls neither does not import the log for it.
#[cfg(target_arch = "wasm32")]
pub fn report_panics() {
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
            let message = panic.payload_as_str().unwrap_or("of a value that is no text");
            log::write(Level::Error, &format!("{PANICKED}{place}: {message}"), &[]);
        }));
    });
}

/// What the gateway takes for the last words of an instance.
#[cfg(target_arch = "wasm32")]
const PANICKED: &str = "panicked";

/// A line with fields.
///
/// ```
/// # use penstock_plugin::capability::log;
/// log::line(log::Level::Warn, "key rejected", &[("reason", "expired")]);
/// ```
pub fn line(level: Level, message: &str, fields: &[(&str, &str)]) {
    #[cfg(target_arch = "wasm32")]
    report_panics();
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
