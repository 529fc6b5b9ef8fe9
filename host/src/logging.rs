//! Log lines: for people on a terminal, as JSON elsewhere.

mod queue;

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tracing::Metadata;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt::MakeWriter};

use self::queue::Queue;

/// How long the end of the process waits for a reader of its last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

/// Write log lines to standard error from now on; standard output belongs to what a command answers.
pub(crate) fn start(format: Option<LogFormat>) -> io::Result<Log> {
    let terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Human } else { LogFormat::Json });
    let queue = Queue::start(io::stderr(), format.dropped())?;
    let writer = Lines { own: queue.clone(), of_plugins: queue.for_guests() };
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Human => subscriber.with_ansi(terminal).with_target(false).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    // Whoever asks comes later, and there is one log.
    let _ = QUEUE.set(queue.clone());
    Ok(Log(queue))
}

/// Lines that were dropped because nobody read them.
pub(crate) fn dropped() -> Counter {
    QUEUE.get().map(Queue::dropped).unwrap_or_default()
}

/// Where lines go: those that plugins say do not crowd out the gateway's own.
struct Lines {
    own: Queue,
    of_plugins: Queue,
}

/// By which the host tags what plugins say.
const PLUGIN: &str = "plugin";

impl MakeWriter<'_> for Lines {
    type Writer = Queue;

    fn make_writer(&self) -> Queue {
        self.own.clone()
    }

    fn make_writer_for(&self, line: &Metadata<'_>) -> Queue {
        if line.target() == PLUGIN { self.of_plugins.clone() } else { self.own.clone() }
    }
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The log of the process. What was said is written before this is gone.
pub(crate) struct Log(Queue);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(LAST_WORDS);
    }
}

impl LogFormat {
    /// How a line says that others were dropped.
    fn dropped(self) -> fn(u64) -> String {
        match self {
            Self::Human => |dropped| format!("WARN {dropped} log lines were dropped, because nobody read them\n"),
            Self::Json => |dropped| {
                let message = "log lines were dropped, because nobody read them";
                format!("{}\n", serde_json::json!({ "level": "WARN", "message": message, "dropped": dropped }))
            },
        }
    }
}
