//! Files as a source of resources.
//!
//! ```text
//! paths ──list──► files ──split──► documents ──schema──► objects ──compare with the last good ones──► changes
//!   ▲                                   └─ problems, each with file, line, column, field and the nearest valid name
//!   └─ watch: directories and links on the way; a burst of changes is read once
//! ```
//!
//! Invariants:
//! * A document that is broken affects no other one. Its last good version stays in effect until it is good again or really gone; a file of
//!   which a part cannot even be told apart deletes nothing.
//! * What one reading finds is one change: resources that are edited together take effect together.
//! * What does not differ is not reported, so rewriting a file with the same contents causes no work.

mod document;
mod module;
mod parsed;
mod problem;
mod schema;
mod store;
mod strict;
mod watch;
mod yaml;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use penstock_core::ResourceRef;
use penstock_translate::Change;
pub use problem::{Found, InvalidDocument, Position, Problem};
pub use strict::read_document;

use self::watch::Watcher;
use crate::{
    event::{Event, SourceId},
    inbox::Inbox,
    metrics::ControllerMetrics,
};

/// A burst of changes has ended when this long nothing happened: editors write, rename and touch within a few milliseconds.
const QUIET: Duration = Duration::from_millis(25);

/// A burst that does not end is read after this long all the same.
const LONGEST_BURST: Duration = Duration::from_millis(250);

/// How long a file that somebody is writing is waited for. Half a file may look like one with fewer resources.
const LONGEST_WRITE: Duration = Duration::from_secs(2);

/// Files that change faster than they are read are left to the next event, which has come by then.
const MOST_PASSES: usize = 5;

/// Resources in files.
#[derive(Debug)]
pub struct FileSource {
    store: store::Store,
}

/// What a reading of all files found, compared with the one before.
#[derive(Debug, Default)]
pub struct Reading {
    /// What differs from the last good state.
    pub changes: Vec<Change>,
    /// Everything that is wrong now, by file and place.
    pub problems: Vec<Problem>,
}

/// What wakes the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// Something of interest may have changed on disk.
    Changed,
    /// Somebody asked for a reading (SIGHUP).
    Reload,
    /// The end.
    Stop,
}

/// The source cannot follow its files.
#[derive(Debug, thiserror::Error)]
pub enum WatchFailed {
    /// The operating system gives no watch.
    #[error("cannot watch files; on Linux, fs.inotify.max_user_instances may be too low")]
    NoWatcher(#[source] notify::Error),
    /// No thread.
    #[error("cannot start the thread that watches files")]
    NoThread(#[source] io::Error),
}

/// A source that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct RunningFiles {
    signals: Sender<Signal>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FileSource {
    /// Files, and directories whose `.yaml`, `.yml` and `.json` files are meant (not those in their subdirectories).
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { store: store::Store::new(paths.into_iter().collect()) }
    }

    /// The name of this source in logs and in `/readyz`.
    pub fn id() -> SourceId {
        SourceId::new("files")
    }

    /// Read everything and compare it with what was good before.
    pub fn read(&mut self) -> Reading {
        self.store.read()
    }

    /// Where the resource that is in effect stands: the file, and the line from 1.
    pub fn place(&self, resource: &ResourceRef) -> Option<(&Path, usize)> {
        self.store.place(resource)
    }

    /// Read now, and again whenever something changes. What is found goes to `inbox`.
    ///
    /// # Errors
    /// When files cannot be watched.
    pub fn run(self, inbox: Inbox, metrics: ControllerMetrics) -> Result<RunningFiles, WatchFailed> {
        let (signals, wakeups) = mpsc::channel();
        let watcher = Watcher::new(signals.clone()).map_err(WatchFailed::NoWatcher)?;
        let follower = Follower { source: self, watcher, wakeups, inbox, metrics };
        let thread = thread::Builder::new().name("files".into()).spawn(move || follower.run());
        Ok(RunningFiles { signals, thread: Some(thread.map_err(WatchFailed::NoThread)?) })
    }
}

impl RunningFiles {
    /// Read everything again, whether or not a change was noticed.
    pub fn reload(&self) {
        // It has ended only if it panicked, and then the log says so.
        let _ = self.signals.send(Signal::Reload);
    }
}

impl Drop for RunningFiles {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Follower {
    source: FileSource,
    watcher: Watcher,
    wakeups: Receiver<Signal>,
    inbox: Inbox,
    metrics: ControllerMetrics,
}

impl Follower {
    fn run(mut self) {
        let reading = self.read();
        let mut known = self.report(reading, &BTreeSet::new(), [Event::Complete(FileSource::id())]);
        while self.wait() {
            let reading = self.read();
            known = self.report(reading, &known, []);
        }
    }

    /// Read with the watch in place. The interest is computed before and after: a link that was swapped in between, or a module that was not
    /// known before, leads to directories that were not watched while they were read.
    fn read(&mut self) -> Reading {
        let mut reading = Reading::default();
        for _ in 0..MOST_PASSES {
            let interest = self.source.store.interest();
            for (path, error) in self.watcher.watch(&interest) {
                tracing::error!(path = %path.display(), %error, "cannot watch a directory: its changes need SIGHUP");
            }
            let again = self.source.read();
            reading.changes.extend(again.changes);
            reading.problems = again.problems;
            if self.source.store.interest() == interest {
                break;
            }
        }
        reading
    }

    /// Send what was found. A problem is logged once, when it appears; the answer is what is known by now.
    fn report<const N: usize>(&self, reading: Reading, known: &BTreeSet<String>, more: [Event; N]) -> BTreeSet<String> {
        let problems: BTreeSet<_> = reading.problems.iter().map(ToString::to_string).collect();
        for problem in problems.difference(known) {
            tracing::error!(problem, "a document is not used");
        }
        self.metrics.reloaded(problems.len());
        if !reading.changes.is_empty() {
            tracing::info!(changes = reading.changes.len(), "resources changed");
        }
        let events = [Event::Changed(reading.changes), Event::Problems(FileSource::id(), reading.problems)];
        self.inbox.send(events.into_iter().chain(more));
        problems
    }

    /// Wait for the end of the next burst of changes; false at the end of the source.
    fn wait(&self) -> bool {
        match self.wakeups.recv() {
            Ok(Signal::Changed) => self.outwait_burst(),
            Ok(Signal::Reload) => true,
            Ok(Signal::Stop) | Err(_) => false,
        }
    }

    fn outwait_burst(&self) -> bool {
        let began = Instant::now();
        loop {
            let longest = if self.watcher.sees_unfinished_files() { LONGEST_WRITE } else { LONGEST_BURST };
            let left = longest.saturating_sub(began.elapsed());
            match self.wakeups.recv_timeout(QUIET.min(left)) {
                Ok(Signal::Changed) => {}
                Err(RecvTimeoutError::Timeout) if !left.is_zero() && self.watcher.sees_unfinished_files() => {}
                Ok(Signal::Reload) | Err(RecvTimeoutError::Timeout) => {
                    self.watcher.forget_unfinished_files();
                    return true;
                }
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests;
