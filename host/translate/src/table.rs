//! Maps of resources that know cheaply whether they changed.

use std::{
    collections::{BTreeMap, btree_map},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use penstock_core::{Kind, ResourceRef};

/// Names one state of one table. Equal stamps mean equal contents: every change takes a stamp that no other table ever had, and a clone shares
/// the stamp only until one of the two changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

impl Stamp {
    fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Resources of one kind by identity.
#[derive(Debug, Clone)]
pub struct Table<T> {
    entries: BTreeMap<ResourceRef, Arc<T>>,
    stamp: Stamp,
}

impl<T> Default for Table<T> {
    /// All empty tables share a stamp.
    fn default() -> Self {
        Self { entries: BTreeMap::new(), stamp: Stamp(0) }
    }
}

impl<T: PartialEq> Table<T> {
    /// Insert or replace; false if an equal value is there already, which then stays the same allocation.
    pub fn insert(&mut self, key: ResourceRef, value: Arc<T>) -> bool {
        match self.entries.entry(key) {
            btree_map::Entry::Occupied(there) if Arc::ptr_eq(there.get(), &value) || **there.get() == *value => {
                return false;
            }
            btree_map::Entry::Occupied(mut there) => drop(there.insert(value)),
            btree_map::Entry::Vacant(free) => drop(free.insert(value)),
        }
        self.stamp = Stamp::fresh();
        true
    }

    /// Replace the whole contents, keeping allocation and stamp of what is equal.
    pub fn replace(&mut self, entries: impl IntoIterator<Item = (ResourceRef, T)>) {
        let mut previous = std::mem::take(&mut self.entries);
        let before = previous.len();
        let mut same = true;
        for (key, value) in entries {
            let kept = previous.remove(&key).filter(|kept| **kept == value);
            same &= kept.is_some();
            self.entries.insert(key, kept.unwrap_or_else(|| Arc::new(value)));
        }
        if !same || self.entries.len() != before {
            self.stamp = Stamp::fresh();
        }
    }
}

impl<T> Table<T> {
    /// Remove; false if it is not there.
    pub fn remove(&mut self, key: &ResourceRef) -> bool {
        let removed = self.entries.remove(key).is_some();
        if removed {
            self.stamp = Stamp::fresh();
        }
        removed
    }

    /// Look up.
    pub fn get(&self, key: &ResourceRef) -> Option<&Arc<T>> {
        self.entries.get(key)
    }

    /// All, ordered by namespace and name.
    pub fn iter(&self) -> btree_map::Iter<'_, ResourceRef, Arc<T>> {
        self.entries.iter()
    }

    /// All keys in order.
    pub fn keys(&self) -> btree_map::Keys<'_, ResourceRef, Arc<T>> {
        self.entries.keys()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those of one namespace in order; `kind` is that of the table's keys.
    pub fn in_namespace<'a>(
        &'a self,
        kind: Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a ResourceRef, &'a Arc<T>)> {
        self.entries
            .range(ResourceRef::new(kind, namespace, "")..)
            .take_while(move |(key, _)| key.kind == kind && &*key.namespace == namespace)
    }

    /// The names within one namespace, in order.
    pub fn names_in<'a>(&'a self, kind: Kind, namespace: &'a str) -> impl Iterator<Item = &'a str> {
        self.in_namespace(kind, namespace).map(|(key, _)| &*key.name)
    }

    /// Names the present state.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ResourceRef {
        ResourceRef::new(Kind::Service, "default", name)
    }

    #[test]
    fn an_equal_value_keeps_allocation_and_stamp() {
        let mut table = Table::default();
        assert!(table.insert(key("a"), Arc::new(1)));
        let (first, stamp) = (table.get(&key("a")).unwrap().clone(), table.stamp());
        assert!(!table.insert(key("a"), Arc::new(1)));
        assert!(Arc::ptr_eq(&first, table.get(&key("a")).unwrap()));
        assert_eq!(stamp, table.stamp());
        assert!(table.insert(key("a"), Arc::new(2)));
        assert_ne!(stamp, table.stamp());
    }

    #[test]
    fn clones_that_part_have_different_stamps() {
        let mut left = Table::default();
        left.insert(key("a"), Arc::new(1));
        let mut right = left.clone();
        assert_eq!(left.stamp(), right.stamp());
        left.insert(key("b"), Arc::new(2));
        right.insert(key("b"), Arc::new(3));
        assert_ne!(left.stamp(), right.stamp());
    }

    #[test]
    fn replacing_by_the_same_changes_nothing() {
        let mut table = Table::default();
        table.replace([(key("a"), 1), (key("b"), 2)]);
        let (kept, stamp) = (table.get(&key("b")).unwrap().clone(), table.stamp());
        table.replace([(key("a"), 1), (key("b"), 2)]);
        assert_eq!(stamp, table.stamp());
        table.replace([(key("b"), 2)]);
        assert_ne!(stamp, table.stamp());
        assert!(Arc::ptr_eq(&kept, table.get(&key("b")).unwrap()));
    }
}
