//! `counters`: integers by key.

use super::{
    Nanos,
    table::{Table, Value},
};
use crate::budget::Share;

/// Keys of one plugin. Beyond it the counter goes that would expire first among some; one that is zero or expired goes before any other.
const MOST: usize = 1 << 16;

/// The counters of one plugin.
pub(crate) struct Counters(Table<Counter>);

/// Zero says the same as no counter.
#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    value: i64,
    expires: Nanos,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new(&Share::default())
    }
}

impl Counters {
    /// All zero.
    pub(crate) fn new(share: &Share) -> Self {
        Self(Table::new((), MOST, share))
    }

    /// Add and answer the new value, which stops at the ends of its range. `ttl` counts from the first write.
    pub(crate) fn add(&self, key: &str, delta: i64, ttl: Option<u64>, now: Nanos) -> i64 {
        self.0.update(key.as_bytes(), now, |(), counter| {
            if counter.at(now) == 0 {
                *counter = Counter { value: 0, expires: now.expiry(ttl) };
            }
            counter.value = counter.value.saturating_add(delta);
            counter.value
        })
    }

    /// Zero when absent.
    pub(crate) fn get(&self, key: &str, now: Nanos) -> i64 {
        self.0.get(key.as_bytes()).at(now)
    }
}

impl Counter {
    fn at(self, now: Nanos) -> i64 {
        if now < self.expires { self.value } else { 0 }
    }
}

impl Value for Counter {
    type Rule = ();

    fn loss(&self, (): &(), now: Nanos) -> u128 {
        if self.at(now) == 0 { 0 } else { u128::from(self.expires.since(now)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn counts_add_up_for_each_key() {
        let counters = Counters::default();
        let add = |key, delta| counters.add(key, delta, None, Nanos(1));
        assert_eq!([add("a", 2), add("b", 5), add("a", -3)], [2, 5, -1]);
        assert_eq!(["a", "b", "c"].map(|key| counters.get(key, Nanos(u64::MAX - 1))), [-1, 5, 0]);
    }

    #[test]
    fn time_counts_from_the_first_write() {
        let counters = Counters::default();
        let add = |at: u64, ttl| counters.add("a", 1, Some(ttl), Nanos(at * MS));
        assert_eq!([add(0, 10), add(9, 1000)], [1, 2]);
        assert_eq!([9, 10].map(|at| counters.get("a", Nanos(at * MS))), [2, 0]);
        assert_eq!(add(10, 10), 1);
        assert_eq!([19, 20].map(|at| counters.get("a", Nanos(at * MS))), [1, 0]);
    }

    #[test]
    fn a_counter_that_returned_to_zero_begins_anew() {
        let counters = Counters::default();
        counters.add("a", 1, Some(10), Nanos(0));
        counters.add("a", -1, None, Nanos(0));
        counters.add("a", 1, None, Nanos(0));
        assert_eq!(counters.get("a", Nanos(u64::MAX - 1)), 1);
    }

    #[test]
    fn values_stop_at_the_ends_of_their_range() {
        let counters = Counters::default();
        assert_eq!(counters.add("a", i64::MAX, None, Nanos(0)), i64::MAX);
        assert_eq!(counters.add("a", 1, None, Nanos(0)), i64::MAX);
    }

    #[test]
    fn a_lifetime_of_nothing_keeps_nothing() {
        let counters = Counters::default();
        assert_eq!(counters.add("a", 1, Some(0), Nanos(5)), 1);
        assert_eq!(counters.get("a", Nanos(5)), 0);
        assert_eq!(counters.0.len(), 0);
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_those_that_expire_first_go() {
        let counters = Counters::default();
        counters.add("forever", 1, None, Nanos(0));
        for key in 0..2 * MOST {
            counters.add(&key.to_string(), 1, Some(1000), Nanos(1));
        }
        assert!(counters.0.len() <= MOST);
        assert_eq!(counters.get("forever", Nanos(2)), 1);
    }

    #[test]
    fn no_addition_of_any_worker_is_lost() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for index in 0..10_000 {
                        counters.add(["a", "b"][index % 2], 1, None, Nanos(1));
                    }
                });
            }
        });
        assert_eq!(["a", "b"].map(|key| counters.get(key, Nanos(1))), [20_000, 20_000]);
    }
}
