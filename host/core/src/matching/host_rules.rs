//! The rules of one hostname.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Serialize, Serializer};
use smallvec::SmallVec;

use super::{RequestView, RuleMatched, affix::Prefixes, change::Change, entry::Entry};
use crate::route::{PathMatch, Route};

/// Entries that are tried one after the other, in order of precedence.
type Entries = Arc<[Entry]>;

#[derive(Debug, Clone, Default)]
pub(super) struct HostRules {
    exact: FxHashMap<Arc<str>, Entries>,
    /// Nothing is known about what expressions match, so all are tried.
    regex: Entries,
    prefix: Prefixes<Entries>,
    /// gRPC calls of which one half is open. Few, and all are tried.
    calls: Entries,
}

/// Which list an entry belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum ListKey<'a> {
    Exact(&'a Arc<str>),
    Regex,
    Prefix(&'a Arc<str>),
    Calls,
}

impl<'a> ListKey<'a> {
    fn of(path: &'a PathMatch) -> Self {
        match path {
            PathMatch::Exact(path) => Self::Exact(path),
            PathMatch::Regex(_) => Self::Regex,
            PathMatch::Prefix(path) => Self::Prefix(path),
            PathMatch::Call(_) => Self::Calls,
        }
    }
}

impl HostRules {
    pub(super) fn find(&self, request: &RequestView<'_>) -> Option<RuleMatched<'_>> {
        let first = |entries: &'_ [Entry]| entries.iter().position(|entry| entry.takes(request));
        let exact = self.exact.get(request.path);
        let lists = exact.into_iter().chain((!self.regex.is_empty()).then_some(&self.regex));
        // The prefix that covers everything says nothing, so calls go before it.
        let rest = (!self.calls.is_empty()).then_some(&self.calls).into_iter().chain(self.prefix.get(""));
        for entries in lists.chain(self.prefix.covering(request.path)).chain(rest) {
            if let Some(at) = first(entries) {
                return Some(entries[at].matched());
            }
        }
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.regex.is_empty() && self.prefix.is_empty() && self.calls.is_empty()
    }

    /// Remake the lists that the change touches; all others stay as they are.
    pub(super) fn apply(&mut self, change: &Change<'_>) {
        let removed: FxHashSet<*const Route> = change.removed.iter().map(|route| Arc::as_ptr(route)).collect();
        let mut touched = FxHashMap::<ListKey<'_>, SmallVec<[Entry; 1]>>::default();
        for condition in change.removed.iter().flat_map(|route| &route.rules).flat_map(|rule| &rule.matches) {
            touched.entry(ListKey::of(&condition.path)).or_default();
        }
        for route in &change.added {
            for (condition, entry) in Entry::of_route(route) {
                touched.entry(ListKey::of(&condition.path)).or_default().push(entry);
            }
        }
        for (key, added) in touched {
            let staying = self.list(key).iter().filter(|entry| !removed.contains(&entry.route())).cloned();
            let mut entries: Vec<_> = staying.chain(added).collect();
            entries.sort_by(Entry::by_precedence);
            self.set_list(key, entries);
        }
        self.prefix.index();
    }

    fn list(&self, key: ListKey<'_>) -> &[Entry] {
        let list = match key {
            ListKey::Exact(path) => self.exact.get(path),
            ListKey::Regex => Some(&self.regex),
            ListKey::Prefix(path) => self.prefix.get(path),
            ListKey::Calls => Some(&self.calls),
        };
        list.map_or(&[], |entries| entries)
    }

    fn set_list(&mut self, key: ListKey<'_>, entries: Vec<Entry>) {
        match key {
            ListKey::Regex => self.regex = entries.into(),
            ListKey::Calls => self.calls = entries.into(),
            ListKey::Exact(path) if entries.is_empty() => drop(self.exact.remove(path)),
            ListKey::Exact(path) => drop(self.exact.insert(path.clone(), entries.into())),
            ListKey::Prefix(path) if entries.is_empty() => self.prefix.remove(path),
            ListKey::Prefix(path) => self.prefix.insert(path.clone(), entries.into()),
        }
    }

    /// All entries in the order in which they are tried: exact paths do not compete and stand in alphabetical order, as do prefixes
    /// of one length.
    fn in_order(&self) -> impl Iterator<Item = &Entry> {
        let mut exact: Vec<_> = self.exact.iter().collect();
        exact.sort_by_key(|(path, _)| *path);
        let mut prefix: Vec<_> = self.prefix.iter().filter(|(path, _)| !path.is_empty()).collect();
        prefix.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let exact = exact.into_iter().flat_map(|(_, entries)| entries.iter());
        let prefix = prefix.into_iter().flat_map(|(_, entries)| entries.iter());
        let everything = self.prefix.get("").into_iter().flat_map(|entries| entries.iter());
        exact.chain(self.regex.iter()).chain(prefix).chain(self.calls.iter()).chain(everything)
    }
}

impl Serialize for HostRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.in_order())
    }
}
