//! What all instances of a host may take together. Limits of one plugin bound one plugin; nobody bounds how many there are.

use std::sync::atomic::{AtomicU64, Ordering};

/// Linear memories. Each reserves 4 GiB of addresses, so that code need not check bounds, and a process has 128 TiB of them; and each is
/// three mappings, of which Linux gives a process 65,530. Beyond either nothing in the process gets memory any more, plugin or not.
const MEMORIES: u64 = 8192;

/// Shared by all instances of a host.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) memories: Pot,
    /// Of linear memory.
    pub(crate) bytes: Pot,
}

impl Budget {
    /// With so many bytes; none for as many as there are.
    pub(crate) fn new(bytes: Option<u64>) -> Self {
        Self { memories: Pot::new(MEMORIES), bytes: Pot::new(bytes.unwrap_or(u64::MAX)) }
    }
}

/// So much of something.
#[derive(Debug)]
pub(crate) struct Pot {
    most: u64,
    taken: AtomicU64,
}

impl Pot {
    pub(crate) const fn new(most: u64) -> Self {
        Self { most, taken: AtomicU64::new(0) }
    }

    /// All there is to take.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Take, if there is so much left.
    pub(crate) fn take(&self, amount: u64) -> bool {
        let within = |taken: u64| taken.checked_add(amount).filter(|taken| *taken <= self.most);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    /// Give back what was taken.
    pub(crate) fn give_back(&self, amount: u64) {
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let pot = Pot::new(3);
        assert!(pot.take(2) && !pot.take(2) && pot.take(1) && !pot.take(1));
        assert!(!pot.take(u64::MAX));
        pot.give_back(2);
        assert!(pot.take(2) && !pot.take(1));
    }
}
