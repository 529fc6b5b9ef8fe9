use super::*;

const MS: u64 = 1_000_000;
const QUOTA: u64 = 1 << 20;

fn set(store: &KeyValue, key: &str, value: &str) -> Result<(), KeyValueError> {
    store.set(key, value.as_bytes(), None, QUOTA, Nanos(0))
}

fn get(store: &KeyValue, key: &str, now: Nanos) -> Option<String> {
    store.get(key, now).map(|value| String::from_utf8_lossy(&value).into_owned())
}

#[test]
fn values_are_kept_by_key() {
    let store = KeyValue::default();
    set(&store, "a", "1").unwrap();
    set(&store, "b", "2").unwrap();
    set(&store, "a", "3").unwrap();
    store.delete("b");
    store.delete("never there");
    let found = ["a", "b", "c"].map(|key| get(&store, key, Nanos(u64::MAX - 1)));
    assert_eq!(found, [Some("3".to_owned()), None, None]);
}

#[test]
fn values_expire() {
    let store = KeyValue::default();
    store.set("a", b"1", Some(10), QUOTA, Nanos(0)).unwrap();
    assert_eq!(get(&store, "a", Nanos(10 * MS - 1)).as_deref(), Some("1"));
    assert_eq!(get(&store, "a", Nanos(10 * MS)), None);
}

#[test]
fn a_new_value_has_a_new_lifetime() {
    let store = KeyValue::default();
    store.set("a", b"1", Some(10), QUOTA, Nanos(0)).unwrap();
    store.set("a", b"2", None, QUOTA, Nanos(0)).unwrap();
    set(&store, "b", "makes the store look for what has expired").unwrap();
    assert_eq!(get(&store, "a", Nanos(u64::MAX - 1)).as_deref(), Some("2"));
}

#[test]
fn what_is_too_large_is_refused() {
    let store = KeyValue::default();
    let long = "k".repeat(LONGEST_KEY);
    assert_eq!(set(&store, &long, ""), Ok(()));
    assert_eq!(set(&store, &format!("{long}k"), ""), Err(KeyValueError::TooLarge));
    let large = "v".repeat(LARGEST_VALUE);
    assert_eq!(set(&store, "a", &large), Ok(()));
    assert_eq!(set(&store, "a", &format!("{large}v")), Err(KeyValueError::TooLarge));
    assert_eq!(get(&store, "a", Nanos(0)), Some(large));
}

#[test]
fn a_full_store_keeps_what_it_has() {
    let store = KeyValue::default();
    let quota = 2 * size("a", b"12");
    let set = |key: &str, value: &[u8], now| store.set(key, value, Some(10), quota, now);
    assert_eq!(set("a", b"12", Nanos(0)), Ok(()));
    assert_eq!(set("b", b"12", Nanos(0)), Ok(()));
    assert_eq!(set("b", b"123", Nanos(0)), Err(KeyValueError::Full));
    assert_eq!(set("c", b"", Nanos(0)), Err(KeyValueError::Full));
    assert_eq!(get(&store, "b", Nanos(0)).as_deref(), Some("12"));
    store.delete("a");
    assert_eq!(set("b", b"123", Nanos(0)), Ok(()));
    assert_eq!(set("c", b"1", Nanos(0)), Ok(()));
}

#[test]
fn what_has_expired_makes_room() {
    let store = KeyValue::default();
    let quota = size("a", b"1");
    assert_eq!(store.set("a", b"1", Some(10), quota, Nanos(0)), Ok(()));
    assert_eq!(store.set("b", b"1", None, quota, Nanos(9 * MS)), Err(KeyValueError::Full));
    assert_eq!(store.set("b", b"1", None, quota, Nanos(10 * MS)), Ok(()));
}

#[test]
fn many_small_entries_are_no_way_around_the_quota() {
    let store = KeyValue::default();
    let kept = (0..10_000).filter(|key| store.set(&key.to_string(), b"", None, 10_000, Nanos(0)).is_ok()).count();
    assert!(kept <= 78, "{kept}");
}

#[test]
fn a_store_over_a_lowered_quota_may_shrink() {
    let store = KeyValue::default();
    assert_eq!(store.set("a", b"1234", None, QUOTA, Nanos(0)), Ok(()));
    assert_eq!(store.set("a", b"123", None, 1, Nanos(0)), Ok(()));
    assert_eq!(store.set("a", b"1234", None, 1, Nanos(0)), Err(KeyValueError::Full));
}

#[test]
fn a_value_is_set_only_if_it_is_as_expected() {
    let store = KeyValue::default();
    let cas =
        |expected: Option<&[u8]>, value: &[u8]| store.compare_and_set("a", expected, value, None, QUOTA, Nanos(5));
    assert_eq!(cas(Some(b"1"), b"2"), Ok(false));
    assert_eq!(cas(None, b"1"), Ok(true));
    assert_eq!(cas(None, b"2"), Ok(false));
    assert_eq!(cas(Some(b"1"), b"2"), Ok(true));
    assert_eq!(get(&store, "a", Nanos(5)).as_deref(), Some("2"));
}

#[test]
fn a_value_that_has_expired_is_absent_to_a_comparison() {
    let store = KeyValue::default();
    store.set("a", b"1", Some(10), QUOTA, Nanos(0)).unwrap();
    assert_eq!(store.compare_and_set("a", Some(b"1"), b"2", None, QUOTA, Nanos(10 * MS)), Ok(false));
    assert_eq!(store.compare_and_set("a", None, b"2", None, QUOTA, Nanos(10 * MS)), Ok(true));
}

#[test]
fn of_two_workers_that_compare_one_wins() {
    let store = KeyValue::default();
    let increment = || {
        loop {
            let before = store.get("n", Nanos(0));
            let number = before.as_deref().map_or(0, |value| String::from_utf8_lossy(value).parse::<u32>().unwrap());
            let after = (number + 1).to_string();
            if store.compare_and_set("n", before.as_deref(), after.as_bytes(), None, QUOTA, Nanos(0)) == Ok(true) {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| increment()));
        }
    });
    assert_eq!(get(&store, "n", Nanos(0)).as_deref(), Some("2000"));
}

#[test]
fn what_has_expired_goes_a_few_at_a_time() {
    let store = KeyValue::default();
    let len = |store: &KeyValue| store.lock().entries.len();
    for key in 0..1000 {
        store.set(&key.to_string(), b"", Some(10), QUOTA, Nanos(0)).unwrap();
    }
    let late = Nanos(10 * MS);
    store.set("a", b"", None, QUOTA, late).unwrap();
    assert_eq!(len(&store), 1000 - EXPIRED_AT_ONCE + 1);
    // The largest value has room at once all the same.
    let quota = store.lock().bytes;
    store.set("b", &[0; LARGEST_VALUE], None, quota, late).unwrap();
    for key in 0..1000 {
        store.set("a", &[u8::try_from(key % 7).unwrap()], None, QUOTA, late).unwrap();
    }
    assert_eq!(len(&store), 2, "in the end they are gone");
}
