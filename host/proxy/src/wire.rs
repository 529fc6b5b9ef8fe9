//! What the bytes of a connection and its requests have to tell each other.
//!
//! The guard (below hyper) and the request function (above it) belong to one task of one worker, but hyper wants the I/O of connections
//! that may be upgraded to be `Send`. So this is an `Arc` of atomics that nobody contends for: each access is a plain load or store.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    task::Waker,
};

use crate::{
    clock::{Clock, Deadline},
    guard::Violation,
    settings::{Limits, Timeouts},
};

/// Shared by the guard of a connection and its requests.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) clock: Arc<Clock>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    /// The next bytes must have come by then. Who waits sets it, who gets clears it.
    pub(crate) read: Deadline,
    /// Bytes that wait must have gone by then.
    pub(crate) write: Deadline,
    expired: AtomicBool,
    /// A request is under way, so nothing is expected of the client.
    busy: AtomicBool,
    violation: AtomicU8,
    upgraded: AtomicU8,
    /// Only for upgrades, so that a lock does.
    reader: Mutex<Option<Waker>>,
}

/// What became of a request that asked for an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpgradeState {
    /// No answer yet: what follows the request may be HTTP or not.
    Pending,
    /// What follows is not HTTP.
    Agreed,
    /// What follows is the next request.
    Declined,
}

impl Wire {
    pub(crate) fn new(clock: Arc<Clock>, limits: Limits, timeouts: Timeouts) -> Self {
        Self {
            clock,
            limits,
            timeouts,
            read: Deadline::default(),
            write: Deadline::default(),
            expired: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            violation: AtomicU8::new(0),
            upgraded: AtomicU8::new(0),
            reader: Mutex::default(),
        }
    }

    /// Called by the sweep. Whether a deadline passed just now, so that the connection must be woken.
    pub(crate) fn expire(&self, now: u64) -> bool {
        let expired = self.read.has_passed(now) || self.write.has_passed(now);
        expired && !self.expired.swap(true, Relaxed)
    }

    pub(crate) fn read_expired(&self) -> bool {
        self.expired.load(Relaxed) && self.read.has_passed(self.clock.now())
    }

    pub(crate) fn write_expired(&self) -> bool {
        self.expired.load(Relaxed) && self.write.has_passed(self.clock.now())
    }

    /// A new wait begins: what expired before is over.
    pub(crate) fn await_read(&self, patience: std::time::Duration) {
        self.read.set(self.clock.after(patience));
        self.expired.store(false, Relaxed);
    }

    /// Bytes wait to be taken from now on.
    pub(crate) fn await_write(&self) {
        self.write.set(self.clock.after(self.timeouts.write));
        self.expired.store(false, Relaxed);
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Relaxed);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    pub(crate) fn set_violation(&self, violation: Violation) {
        self.violation.store(violation as u8, Relaxed);
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        Violation::from_code(self.violation.load(Relaxed))
    }

    pub(crate) fn set_upgrade(&self, state: UpgradeState) {
        self.upgraded.store(state as u8, Relaxed);
        // hyper reads no more until it is woken: the last time it asked, there was nothing for it.
        if let Some(reader) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reader.wake();
        }
    }

    /// Whom to wake when it is known what follows a request that asked for an upgrade.
    pub(crate) fn await_upgrade(&self, reader: &Waker) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader.clone());
    }

    pub(crate) fn upgrade(&self) -> UpgradeState {
        match self.upgraded.load(Relaxed) {
            1 => UpgradeState::Agreed,
            2 => UpgradeState::Declined,
            _ => UpgradeState::Pending,
        }
    }
}
