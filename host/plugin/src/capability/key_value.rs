//! `key-value`: bytes by key, with a bound on all of them together.
//!
//! One lock for a plugin's whole store: it is for what is read and written now and then, and a compare-and-set must see one state. Values
//! are shared and not copied under the lock; entries that expire are found by time, so that a full store costs no search, and dropped a few at a time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Nanos;
use crate::budget::Share;

/// Bytes of a key, as the contract states.
const LONGEST_KEY: usize = 512;
/// Bytes of a value, as the contract states.
const LARGEST_VALUE: usize = 64 << 10;
/// What an entry takes beside key and value, about: so that many small entries are no way around the quota.
const OVERHEAD: u64 = 128;

/// Entries that one call drops because they have expired: more than it adds, so that they go at last.
const EXPIRED_AT_ONCE: usize = 8;
/// The same where there is no room for what the call adds: as many as make room for the largest value, however small they are.
const EXPIRED_FOR_ROOM: usize = 520;

/// The values of one plugin.
#[derive(Default)]
pub(crate) struct KeyValue(Mutex<State>);

#[derive(Default)]
struct State {
    /// Where its memory comes from.
    share: Share,
    entries: HashMap<Arc<str>, Entry>,
    /// Entries that expire, soonest first.
    expiries: BTreeSet<(Nanos, Arc<str>)>,
    bytes: u64,
}

struct Entry {
    value: Arc<[u8]>,
    expires: Nanos,
}

/// Why a value is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyValueError {
    /// With it, the store would hold more than its quota, or the plugin have more memory than it may.
    #[error("the store is full")]
    Full,
    /// The key or the value.
    #[error("the key or the value is too large")]
    TooLarge,
}

impl KeyValue {
    /// With nothing in it.
    pub(crate) fn new(share: &Share) -> Self {
        Self(Mutex::new(State { share: share.clone(), ..State::default() }))
    }

    pub(crate) fn get(&self, key: &str, now: Nanos) -> Option<Arc<[u8]>> {
        // None that is longer was ever set, and hashing it would take its time.
        if key.len() > LONGEST_KEY { None } else { self.lock().get(key, now).cloned() }
    }

    /// `quota`: bytes that the store may hold with this value.
    pub(crate) fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<u64>,
        quota: u64,
        now: Nanos,
    ) -> Result<(), KeyValueError> {
        let (key, value) = owned(key, value)?;
        self.lock().set(key, Entry { value, expires: now.expiry(ttl) }, quota, now)
    }

    pub(crate) fn delete(&self, key: &str) {
        if key.len() <= LONGEST_KEY {
            self.lock().remove(key);
        }
    }

    /// Set only if the value is still `expected`, and answer whether it was.
    pub(crate) fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<u64>,
        quota: u64,
        now: Nanos,
    ) -> Result<bool, KeyValueError> {
        let (key, value) = owned(key, value)?;
        let mut state = self.lock();
        if state.get(&key, now).map(|value| &**value) != expected {
            return Ok(false);
        }
        state.set(key, Entry { value, expires: now.expiry(ttl) }, quota, now)?;
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only running out of memory could interrupt a change, and that ends the process.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owned(key: &str, value: &[u8]) -> Result<(Arc<str>, Arc<[u8]>), KeyValueError> {
    if key.len() > LONGEST_KEY || value.len() > LARGEST_VALUE {
        return Err(KeyValueError::TooLarge);
    }
    Ok((key.into(), value.into()))
}

fn size(key: &str, value: &[u8]) -> u64 {
    key.len() as u64 + value.len() as u64 + OVERHEAD
}

impl Drop for KeyValue {
    fn drop(&mut self) {
        let state = self.lock();
        state.share.give_back(state.bytes, 0);
    }
}

impl State {
    fn get(&self, key: &str, now: Nanos) -> Option<&Arc<[u8]>> {
        self.entries.get(key).filter(|entry| now < entry.expires).map(|entry| &entry.value)
    }

    fn set(&mut self, key: Arc<str>, entry: Entry, quota: u64, now: Nanos) -> Result<(), KeyValueError> {
        self.expire(now, quota.saturating_sub(size(&key, &entry.value)));
        let before = self.entries.get(&key).map_or(0, |entry| size(&key, &entry.value));
        let after = self.bytes - before + size(&key, &entry.value);
        // A store that holds more than a quota that was lowered may still shrink.
        if after > quota && after > self.bytes {
            return Err(KeyValueError::Full);
        }
        self.share.take(size(&key, &entry.value), 0).map_err(|_| KeyValueError::Full)?;
        self.remove(&key);
        if entry.expires != Nanos::NEVER {
            self.expiries.insert((entry.expires, Arc::clone(&key)));
        }
        self.entries.insert(key, entry);
        self.bytes = after;
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.bytes -= size(&key, &entry.value);
            self.share.give_back(size(&key, &entry.value), 0);
            self.expiries.remove(&(entry.expires, key));
        }
    }

    /// Each entry is dropped once, so this costs nothing over time. A few at once, because the worker stands still and others wait for the lock;
    /// more only while there is more than `room` bytes.
    fn expire(&mut self, now: Nanos, room: u64) {
        for dropped in 0..EXPIRED_FOR_ROOM {
            if dropped >= EXPIRED_AT_ONCE && self.bytes <= room {
                return;
            }
            let Some((expires, key)) = self.expiries.first() else { return };
            if *expires > now {
                return;
            }
            let key = Arc::clone(key);
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
