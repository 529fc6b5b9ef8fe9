//! What all plugins of a host may take together, and how much of that is for one of them. Limits of a plugin bound each of its instances and
//! stores; nobody bounds how many there are, or how many plugins.
//!
//! A namespace may have no more than it leaves for others, and so may a plugin within what its namespace may have: however many come, and
//! whatever they take, there is something left for the next. The first plugin of the first namespace gets a quarter of everything.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use penstock_core::{Kind, ResourceRef};

/// Linear memories. Each reserves 4 GiB of addresses, so that code need not check bounds, and a process has 128 TiB of them; and each is
/// three mappings, of which Linux gives a process 65,530. Beyond either nothing in the process gets memory any more, plugin or not.
const MEMORIES: u64 = 8192;

/// Shared by all plugins of a host.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: Pot,
    memories: Pot,
}

impl Budget {
    /// With so many bytes; none for as many as there are.
    pub(crate) fn new(bytes: Option<u64>) -> Self {
        Self::with(bytes.unwrap_or(u64::MAX), MEMORIES)
    }

    pub(crate) fn with(bytes: u64, memories: u64) -> Self {
        Self { bytes: Pot::new(bytes, "bytes of memory"), memories: Pot::new(memories, "linear memories") }
    }
}

/// Without end.
impl Default for Budget {
    fn default() -> Self {
        Self::new(None)
    }
}

/// The budget as one plugin sees it.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    plugin: ResourceRef,
}

/// There is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{most} {what} are all that this plugin may have now: half of what others in its namespace leave, which may have half of what \
     other namespaces leave"
)]
pub(crate) struct Spent {
    most: u64,
    what: &'static str,
}

impl Share {
    pub(crate) fn new(budget: &Arc<Budget>, plugin: &ResourceRef) -> Self {
        Self { budget: Arc::clone(budget), plugin: plugin.clone() }
    }

    /// Take all of it or nothing.
    pub(crate) fn take(&self, bytes: u64, memories: u64) -> Result<(), Spent> {
        self.budget.bytes.take(&self.plugin, bytes)?;
        self.budget.memories.take(&self.plugin, memories).inspect_err(|_| self.give_back(bytes, 0))
    }

    /// Give back what was taken.
    pub(crate) fn give_back(&self, bytes: u64, memories: u64) {
        self.budget.bytes.give_back(&self.plugin, bytes);
        self.budget.memories.give_back(&self.plugin, memories);
    }
}

/// Of a budget of its own that has no end.
impl Default for Share {
    fn default() -> Self {
        Self::new(&Arc::default(), &ResourceRef::new(Kind::WasmPlugin, "", ""))
    }
}

/// So much of something.
#[derive(Debug)]
struct Pot {
    most: u64,
    what: &'static str,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    namespaces: HashMap<Arc<str>, u64>,
    plugins: HashMap<ResourceRef, u64>,
}

impl Pot {
    fn new(most: u64, what: &'static str) -> Self {
        Self { most, what, taken: Mutex::default() }
    }

    fn take(&self, plugin: &ResourceRef, amount: u64) -> Result<(), Spent> {
        if amount == 0 {
            return Ok(());
        }
        let mut taken = self.lock();
        let namespace = taken.namespaces.get(&plugin.namespace).copied().unwrap_or_default();
        let mine = taken.plugins.get(plugin).copied().unwrap_or_default();
        let for_namespace = self.most.saturating_sub(taken.all - namespace) / 2;
        let most = for_namespace.saturating_sub(namespace - mine) / 2;
        if mine.saturating_add(amount) > most {
            return Err(Spent { most, what: self.what });
        }
        taken.all += amount;
        *taken.namespaces.entry(Arc::clone(&plugin.namespace)).or_default() += amount;
        *taken.plugins.entry(plugin.clone()).or_default() += amount;
        Ok(())
    }

    fn give_back(&self, plugin: &ResourceRef, amount: u64) {
        let mut taken = self.lock();
        taken.all = taken.all.saturating_sub(amount);
        less(&mut taken.namespaces, &plugin.namespace, amount);
        less(&mut taken.plugins, plugin, amount);
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Only running out of memory could interrupt a change, and that ends the process.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn less<K: Eq + Hash>(taken: &mut HashMap<K, u64>, whose: &K, amount: u64) {
    if let Some(left) = taken.get_mut(whose) {
        *left = left.saturating_sub(amount);
        if *left == 0 {
            taken.remove(whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(budget: &Arc<Budget>, namespace: &str, name: &str) -> Share {
        Share::new(budget, &ResourceRef::new(Kind::WasmPlugin, namespace, name))
    }

    #[track_caller]
    fn spent(result: Result<(), Spent>, most: u64, what: &'static str) {
        assert_eq!(result, Err(Spent { most, what }));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let budget = Arc::new(Budget::with(400, 16));
        let a = share(&budget, "x", "a");
        a.take(100, 2).unwrap();
        spent(a.take(1, 0), 100, "bytes of memory");
        spent(a.take(u64::MAX, 0), 100, "bytes of memory");
        a.give_back(1, 0);
        spent(a.take(1, 3), 4, "linear memories");
        a.take(1, 2).unwrap();
        a.give_back(100, 4);
        assert!(budget.bytes.lock().plugins.is_empty() && budget.memories.lock().namespaces.is_empty());
        share(&budget, "x", "b").take(100, 4).unwrap();
    }

    #[test]
    fn there_is_something_left_whoever_comes() {
        let budget = Arc::new(Budget::with(1 << 40, 1 << 20));
        for namespace in ["x", "y", "z"] {
            let mut before = u64::MAX;
            for name in ["a", "b", "c"] {
                let share = share(&budget, namespace, name);
                let most = share.take(u64::MAX, 0).unwrap_err().most;
                assert!(most > 1 << 32 && most < before, "{namespace}/{name} may have {most}");
                share.take(most, 0).unwrap();
                before = most;
            }
        }
        assert!(budget.bytes.lock().all < 1 << 40);
    }
}
