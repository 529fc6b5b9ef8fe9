use super::*;

/// A count that is as good as none at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    count: u64,
    until: u64,
}

impl Value for Count {
    type Rule = ();

    fn loss(&self, (): &(), now: Nanos) -> u128 {
        if now.0 < self.until { self.count.into() } else { 0 }
    }
}

fn add(table: &Table<Count>, key: &str, count: u64, until: u64, now: u64) -> u64 {
    table.update(key.as_bytes(), Nanos(now), |(), value| {
        *value = Count { count: value.count + count, until };
        value.count
    })
}

#[test]
fn values_are_kept_by_key() {
    let table = Table::new((), 1000, &Share::default());
    assert_eq!([add(&table, "a", 1, 10, 0), add(&table, "b", 2, 10, 0), add(&table, "a", 3, 10, 0)], [1, 2, 4]);
    assert_eq!(["a", "b", "c"].map(|key| table.get(key.as_bytes()).count), [4, 2, 0]);
    assert_eq!(table.len(), 2);
}

#[test]
fn what_says_nothing_is_not_kept() {
    let table = Table::new((), 1000, &Share::default());
    add(&table, "a", 0, 10, 0);
    add(&table, "b", 1, 10, 10);
    assert_eq!(table.len(), 0);
    let _ = table.get(b"c");
    assert_eq!(table.len(), 0);
    assert!(table.is_blank(Nanos(0)));
}

#[test]
fn a_table_is_blank_when_nothing_is_lost() {
    let table = Table::new((), 1000, &Share::default());
    add(&table, "a", 1, 10, 0);
    assert!(!table.is_blank(Nanos(9)));
    assert!(table.is_blank(Nanos(10)));
}

#[test]
fn there_are_never_more_keys_than_allowed() {
    for most in [1, 2, 7, 63, 64, 65, 100, 1000, 4095, 4096, 5000] {
        let table = Table::new((), most, &Share::default());
        for key in 0..3 * most {
            add(&table, &key.to_string(), 1, u64::MAX, 0);
        }
        assert!(table.len() <= most, "{} of {most}", table.len());
        assert!(table.len() * 2 > most, "{} of {most} is a waste", table.len());
    }
}

#[test]
fn a_flood_of_new_keys_takes_nothing_from_those_that_have_more_to_lose() {
    let table = Table::new((), 4096, &Share::default());
    let heavy: Vec<_> = (0..64).map(|key| format!("heavy {key}")).collect();
    for key in &heavy {
        add(&table, key, 100, u64::MAX, 0);
    }
    for key in 0..100_000 {
        add(&table, &key.to_string(), 1, u64::MAX, 0);
    }
    let kept = heavy.iter().filter(|key| table.get(key.as_bytes()).count == 100).count();
    assert_eq!(kept, heavy.len());
}

#[test]
fn what_says_nothing_any_more_is_dropped_as_others_come() {
    let table = Table::new((), 100_000, &Share::default());
    for key in 0..10_000 {
        add(&table, &key.to_string(), 1, 10, 0);
    }
    for key in 0..20_000 {
        add(&table, &format!("later {key}"), 1, u64::MAX, 20);
    }
    let old = (0..10_000).filter(|key| table.get(key.to_string().as_bytes()).count > 0).count();
    assert!(old < 1_000, "{old} of 10,000 are still there");
}

#[test]
fn two_tables_place_keys_differently() {
    let place = |table: &Table<Count>| (0..64).map(|key: u8| table.hash(&[key]).0).collect::<Vec<_>>();
    let tables = [Table::new((), 10, &Share::default()), Table::new((), 10, &Share::default())];
    assert_ne!(place(&tables[0]), place(&tables[1]), "nobody can prepare keys that collide");
}

#[test]
fn both_halves_of_a_hash_depend_on_the_key() {
    let table = Table::<Count>::new((), 10, &Share::default());
    let (a, b) = (table.hash(b"a").0, table.hash(b"b").0);
    assert_ne!(a >> 64, b >> 64);
    assert_ne!(low(a), low(b));
    assert_ne!(u128::from(low(a)), a >> 64);
}

#[test]
fn without_memory_those_with_least_to_lose_make_room() {
    let plugin = penstock_core::ResourceRef::new(penstock_core::Kind::WasmPlugin, "default", "a");
    let budget = std::sync::Arc::new(crate::budget::Budget::new(Some(4 * 1000)));
    let share = Share::new(&budget, &plugin);
    let table = Table::new((), 100, &share);
    for key in 0..100 {
        add(&table, &key.to_string(), 1, 10, 0);
    }
    assert_eq!(table.len(), 16, "what was paid for is all there is");
    assert!(table.len() * Table::<Count>::ENTRY <= 1000);
    drop(table);
    share.take(1000, 0).unwrap();
}
