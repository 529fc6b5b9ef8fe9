//! Maps from path prefixes and from host suffixes, asked for the longest key first.
//!
//! The lengths of the keys are known, and they are few. So a lookup does not walk the elements of the request's path or host, of which
//! a client may send thousands; it tries the known lengths, and only where an element ends there.

use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};

/// Keys are prefixes that end at the end of a path element, without the slash.
#[derive(Debug, Clone)]
pub(super) struct Prefixes<V>(Affixes<V>);

/// Keys are suffixes that begin with a dot.
#[derive(Debug, Clone)]
pub(super) struct Suffixes<V>(Affixes<V>);

#[derive(Debug, Clone)]
struct Affixes<V> {
    map: FxHashMap<Arc<str>, V>,
    /// The lengths of the keys, each once, longest first.
    lengths: Vec<usize>,
}

impl<V> Prefixes<V> {
    /// The values of all keys that cover the path, longest first, but for the empty key, which covers every path.
    pub(super) fn covering(&self, path: &str) -> impl Iterator<Item = &V> {
        let map = &self.0.map;
        self.0.lengths.iter().take_while(|length| **length > 0).filter_map(move |&length| {
            match path.as_bytes().get(length) {
                None | Some(b'/') => map.get(path.get(..length)?),
                _ => None,
            }
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.0.map.get(key)
    }

    pub(super) fn insert(&mut self, key: Arc<str>, value: V) {
        self.0.map.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.map.remove(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.map.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.0.map.iter()
    }

    /// To be called after changes, before the next lookup.
    pub(super) fn index(&mut self) {
        self.0.index();
    }
}

impl<V> Suffixes<V> {
    /// The values of all keys that the host ends with, longest first. The host has to have something before the suffix.
    pub(super) fn ending(&self, host: &str) -> impl Iterator<Item = &V> {
        let map = &self.0.map;
        self.0.lengths.iter().filter_map(move |&length| {
            let start = host.len().checked_sub(length).filter(|start| *start > 0)?;
            // A key begins with a dot, so that no other place needs a look.
            if host.as_bytes()[start] == b'.' { map.get(host.get(start..)?) } else { None }
        })
    }

    pub(super) fn entry(&mut self, key: &Arc<str>) -> &mut V
    where
        V: Default,
    {
        self.0.map.entry(key.clone()).or_default()
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.map.remove(key);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.0.map.iter()
    }

    /// To be called after changes, before the next lookup.
    pub(super) fn index(&mut self) {
        self.0.index();
    }
}

impl<V> Affixes<V> {
    fn index(&mut self) {
        let mut lengths: Vec<_> = self.map.keys().map(|key| key.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        self.lengths = lengths;
    }
}

impl<V> Default for Affixes<V> {
    fn default() -> Self {
        Self { map: FxHashMap::with_hasher(FxBuildHasher), lengths: Vec::new() }
    }
}

impl<V> Default for Prefixes<V> {
    fn default() -> Self {
        Self(Affixes::default())
    }
}

impl<V> Default for Suffixes<V> {
    fn default() -> Self {
        Self(Affixes::default())
    }
}
