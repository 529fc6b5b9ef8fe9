//! Faults of one revision while it is on probation. Counting costs two atomic additions, and only calls that faulted come here.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use penstock_core::plugin::FaultKind;

use crate::metrics::FAULTS;

/// Counts faults over all workers, and notices when there are too many.
#[derive(Debug)]
pub(crate) struct FaultTally {
    kinds: [AtomicU32; FAULTS.len()],
    total: AtomicU32,
    /// Faults that are accepted. The largest number: not on probation.
    limit: AtomicU32,
    /// Whoever finds too many first tells; the others need not.
    told: AtomicBool,
}

impl Default for FaultTally {
    fn default() -> Self {
        Self {
            kinds: Default::default(),
            total: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            told: AtomicBool::new(false),
        }
    }
}

impl FaultTally {
    /// Begin to count. Before the revision serves: a fault of an earlier life that comes in between is counted or not, and neither matters.
    pub(crate) fn arm(&self, limit: u32) {
        for count in self.kinds.iter().chain([&self.total]) {
            count.store(0, Ordering::Relaxed);
        }
        self.told.store(false, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Release);
    }

    /// The probation is over.
    pub(crate) fn disarm(&self) {
        self.limit.store(u32::MAX, Ordering::Release);
    }

    /// Whether there are more than are accepted.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.total.load(Ordering::Relaxed) > self.limit.load(Ordering::Acquire)
    }

    /// Count a fault; whether the owner should hear of it.
    pub(crate) fn count(&self, kind: FaultKind) -> bool {
        if let Some(index) = FAULTS.iter().position(|of| *of == kind) {
            self.kinds[index].fetch_add(1, Ordering::Relaxed);
        }
        // Not beyond the end: a revision may live for years.
        let _ = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_add(1));
        self.is_exceeded() && !self.told.swap(true, Ordering::Relaxed)
    }

    /// Which kinds there were, always in the same order: `trap, deadline`.
    pub(crate) fn kinds(&self) -> String {
        let kinds: Vec<String> = self.counts().map(|(kind, _)| kind.to_string()).collect();
        kinds.join(", ")
    }

    fn counts(&self) -> impl Iterator<Item = (FaultKind, u32)> {
        let counts = FAULTS.iter().zip(&self.kinds).map(|(kind, count)| (*kind, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }
}

/// `6 faults (4 trap, 2 deadline)`.
impl fmt::Display for FaultTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<String> = self.counts().map(|(kind, count)| format!("{count} {kind}")).collect();
        let total = self.total.load(Ordering::Relaxed);
        let noun = if total == 1 { "fault" } else { "faults" };
        write!(f, "{total} {noun} ({})", kinds.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_once_when_there_are_too_many() {
        let tally = FaultTally::default();
        assert!(!tally.count(FaultKind::Trap), "not on probation");
        tally.arm(2);
        let told: Vec<bool> = [FaultKind::Trap, FaultKind::Deadline, FaultKind::Trap, FaultKind::Trap]
            .map(|kind| tally.count(kind))
            .into();
        assert_eq!(told, [false, false, true, false]);
        assert!(tally.is_exceeded());
        assert_eq!(tally.to_string(), "4 faults (3 trap, 1 deadline)");
        assert_eq!(tally.kinds(), "trap, deadline");
        tally.disarm();
        assert!(!tally.is_exceeded() && !tally.count(FaultKind::Trap));
        tally.arm(0);
        assert!(tally.count(FaultKind::Memory));
        assert_eq!(tally.to_string(), "1 fault (1 memory)");
    }
}
