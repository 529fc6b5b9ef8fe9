//! A table of small values, shared by all workers, with a bound on its keys.
//!
//! Keys are kept as 128 bits of a keyed hash: entries have one size whatever plugins use as keys, and nobody outside can find two keys
//! that collide. Entries are spread over shards by the same hash, each with a lock of its own, so that workers rarely meet.
//!
//! A value that says the same as no value ([`Value::loss`] of zero) is not worth keeping: it is never inserted, every insertion looks at
//! two older entries and drops those that became such, and when a shard is full the entry with the least to lose among some goes. Who floods
//! the table with new keys therefore loses those new keys, not the counts of somebody who is at a limit.

use std::{
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use indexmap::IndexMap;

use super::Nanos;
use crate::budget::Share;

/// Shards of a large table: more than workers that could meet.
const SHARDS: usize = 64;
/// Small tables have fewer shards, so that each holds a fair number of keys.
const LEAST_IN_SHARD: usize = 64;
/// Entries that an insertion looks at to find some that say nothing any more.
const SWEPT: usize = 2;
/// Entries of which the one with the least to lose goes when a shard is full.
const COMPARED: usize = 8;

/// Entries for which memory is taken at a time, at least.
const AHEAD: usize = 16;

/// What a table holds.
pub(crate) trait Value: Copy + Default {
    /// What all values of a table have in common.
    type Rule;

    /// What is lost if the value is forgotten now. Zero: nothing, it says the same as no value.
    fn loss(&self, rule: &Self::Rule, now: Nanos) -> u128;
}

/// Values by key.
pub(crate) struct Table<V: Value> {
    rule: V::Rule,
    /// Where its memory comes from.
    share: Share,
    shards: Box<[Shard<V>]>,
    most_in_shard: usize,
    /// Two, each with a key of its own: the halves of the 128 bits.
    hashers: [RandomState; 2],
}

/// On cache lines of its own: the lock of one shard must not slow down its neighbours.
#[repr(align(128))]
struct Shard<V>(Mutex<Entries<V>>);

type Map<V> = IndexMap<Hashed, V, BuildHasherDefault<Truncate>>;

struct Entries<V> {
    map: Map<V>,
    /// Where the next insertion looks for entries to drop.
    hand: usize,
    /// Entries for which memory was taken.
    paid: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hashed(u128);

impl std::hash::Hash for Hashed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(low(self.0));
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct Truncate(u64);

impl Hasher for Truncate {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is the purpose")]
fn low(hash: u128) -> u64 {
    hash as u64
}

impl<V: Value> Table<V> {
    /// Bytes of an entry, with its part of the index.
    const ENTRY: usize = size_of::<(Hashed, V)>() + 3 * size_of::<usize>();

    /// A table of at most `most` keys. It takes memory only for those that are there.
    pub(crate) fn new(rule: V::Rule, most: usize, share: &Share) -> Self {
        let shards = (most / LEAST_IN_SHARD).clamp(1, SHARDS).next_power_of_two();
        let shards = if shards > SHARDS || shards * LEAST_IN_SHARD > most { shards / 2 } else { shards }.max(1);
        let empty = || Shard(Mutex::new(Entries { map: Map::default(), hand: 0, paid: 0 }));
        Self {
            rule,
            share: share.clone(),
            shards: std::iter::repeat_with(empty).take(shards).collect(),
            most_in_shard: (most / shards).max(1),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// What all values have in common.
    pub(crate) fn rule(&self) -> &V::Rule {
        &self.rule
    }

    /// Change the value of a key, or the default value if it has none.
    pub(crate) fn update<R>(&self, key: &[u8], now: Nanos, change: impl FnOnce(&V::Rule, &mut V) -> R) -> R {
        let hashed = self.hash(key);
        let mut entries = self.shard(hashed);
        if let Some(value) = entries.map.get_mut(&hashed) {
            return change(&self.rule, value);
        }
        let mut value = V::default();
        let result = change(&self.rule, &mut value);
        if value.loss(&self.rule, now) > 0 {
            let most = entries.pay(&self.share, self.most_in_shard, Self::ENTRY);
            if most > 0 {
                entries.make_room(&self.rule, now, most);
                entries.map.insert(hashed, value);
            }
        }
        result
    }

    /// The value of a key, or the default value.
    pub(crate) fn get(&self, key: &[u8]) -> V {
        let hashed = self.hash(key);
        self.shard(hashed).map.get(&hashed).copied().unwrap_or_default()
    }

    /// Whether forgetting everything would lose nothing.
    pub(crate) fn is_blank(&self, now: Nanos) -> bool {
        self.shards.iter().all(|shard| shard.lock().map.values().all(|value| value.loss(&self.rule, now) == 0))
    }

    /// How many keys there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().map.len()).sum()
    }

    fn hash(&self, key: &[u8]) -> Hashed {
        let [high, low] = self.hashers.each_ref().map(|hasher| {
            let mut hasher = hasher.build_hasher();
            hasher.write(key);
            hasher.finish()
        });
        Hashed(u128::from(high) << 64 | u128::from(low))
    }

    /// The map of a shard takes its bits from the low half; the shard itself is found by the high one.
    fn shard(&self, Hashed(hash): Hashed) -> MutexGuard<'_, Entries<V>> {
        let high = usize::try_from(hash >> 96).unwrap_or_default();
        self.shards[high & (self.shards.len() - 1)].lock()
    }
}

impl<V> Shard<V> {
    fn lock(&self) -> MutexGuard<'_, Entries<V>> {
        // Entries are whole between any two steps, so a panic elsewhere does not spoil them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Value> Drop for Table<V> {
    fn drop(&mut self) {
        let paid: usize = self.shards.iter().map(|shard| shard.lock().paid).sum();
        self.share.give_back((paid * Self::ENTRY) as u64, 0);
    }
}

impl<V: Value> Entries<V> {
    /// Take memory for one more entry, and some ahead, as the map does. Answers how many there may be.
    fn pay(&mut self, share: &Share, most: usize, entry: usize) -> usize {
        if self.map.len() >= self.paid && self.paid < most {
            let more = self.paid.max(AHEAD).min(most - self.paid);
            if share.take((more * entry) as u64, 0).is_ok() {
                self.paid += more;
            }
        }
        self.paid.min(most)
    }

    fn make_room(&mut self, rule: &V::Rule, now: Nanos, most: usize) {
        for _ in 0..SWEPT.min(self.map.len()) {
            let index = self.next();
            if self.map[index].loss(rule, now) == 0 {
                self.map.swap_remove_index(index);
            }
        }
        if self.map.len() >= most {
            let indices = std::iter::repeat_with(|| self.next())
                .take(COMPARED.min(most))
                .collect::<smallvec::SmallVec<[_; COMPARED]>>();
            let least = indices.into_iter().min_by_key(|index| self.map[*index].loss(rule, now));
            least.map(|index| self.map.swap_remove_index(index));
        }
    }

    /// The hand goes around. Only called while there are entries.
    fn next(&mut self) -> usize {
        self.hand = (self.hand + 1) % self.map.len().max(1);
        self.hand
    }
}

#[cfg(test)]
mod tests;
