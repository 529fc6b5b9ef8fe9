//! What all instances of a host may take together, and how much of that one plugin may. Limits of a plugin bound each of its instances; nobody
//! bounds how many there are.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Linear memories. Each reserves 4 GiB of addresses, so that code need not check bounds, and a process has 128 TiB of them; and each is
/// three mappings, of which Linux gives a process 65,530. Beyond either nothing in the process gets memory any more, plugin or not.
const MEMORIES: u64 = 8192;

/// One plugin may have one part in so many: however it grows, there is something left for the others.
const PARTS: u64 = 2;

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
        Self {
            memories: Pot::new(MEMORIES, "linear memories"),
            bytes: Pot::new(bytes.unwrap_or(u64::MAX), "bytes of memory"),
        }
    }
}

/// The budget as the instances of one plugin see it.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    plugin: Arc<Taken>,
}

/// What one plugin has, over all its revisions.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    memories: Counter,
    bytes: Counter,
}

/// There is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{who} may have {most} {what}")]
pub(crate) struct Spent {
    who: &'static str,
    most: u64,
    what: &'static str,
}

impl Share {
    pub(crate) fn new(budget: &Arc<Budget>, plugin: &Arc<Taken>) -> Self {
        Self { budget: Arc::clone(budget), plugin: Arc::clone(plugin) }
    }

    /// Take all of it or nothing.
    pub(crate) fn take(&self, bytes: u64, memories: u64) -> Result<(), Spent> {
        self.budget.bytes.take(&self.plugin.bytes, bytes)?;
        self.budget.memories.take(&self.plugin.memories, memories).inspect_err(|_| self.give_back(bytes, 0))
    }

    /// Give back what was taken.
    pub(crate) fn give_back(&self, bytes: u64, memories: u64) {
        self.budget.bytes.give_back(&self.plugin.bytes, bytes);
        self.budget.memories.give_back(&self.plugin.memories, memories);
    }
}

/// So much of something.
#[derive(Debug)]
pub(crate) struct Pot {
    most: u64,
    what: &'static str,
    taken: Counter,
}

impl Pot {
    pub(crate) const fn new(most: u64, what: &'static str) -> Self {
        Self { most, what, taken: Counter(AtomicU64::new(0)) }
    }

    /// Take for a plugin that has `mine` already.
    fn take(&self, mine: &Counter, amount: u64) -> Result<(), Spent> {
        let Self { most, what, .. } = *self;
        if !mine.take(amount, most / PARTS) {
            return Err(Spent { who: "all instances of one plugin together", most: most / PARTS, what });
        }
        if !self.taken.take(amount, most) {
            mine.give_back(amount);
            return Err(Spent { who: "all instances of all plugins together", most, what });
        }
        Ok(())
    }

    fn give_back(&self, mine: &Counter, amount: u64) {
        mine.give_back(amount);
        self.taken.give_back(amount);
    }
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Take, if it does not become more than `most`.
    fn take(&self, amount: u64, most: u64) -> bool {
        let within = |taken: u64| taken.checked_add(amount).filter(|taken| *taken <= most);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    fn give_back(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn spent(result: Result<(), Spent>, expected: &str) {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let budget = Arc::new(Budget { memories: Pot::new(4, "linear memories"), ..Budget::new(Some(100)) });
        let plugins = [(); 3].map(|()| Share::new(&budget, &Arc::default()));
        let [a, b, c] = &plugins;
        a.take(50, 1).unwrap();
        spent(a.take(1, 0), "all instances of one plugin together may have 50 bytes of memory");
        spent(b.take(u64::MAX, 0), "all instances of one plugin together may have 50 bytes of memory");
        b.take(40, 2).unwrap();
        spent(b.take(1, 1), "all instances of one plugin together may have 2 linear memories");
        c.take(10, 0).unwrap();
        spent(c.take(1, 0), "all instances of all plugins together may have 100 bytes of memory");
        a.give_back(1, 0);
        c.take(1, 1).unwrap();
        spent(c.take(0, 1), "all instances of all plugins together may have 4 linear memories");
        b.give_back(40, 2);
        a.take(1, 0).unwrap();
        assert!(b.take(39, 2).is_ok(), "what was refused took nothing");
    }
}
