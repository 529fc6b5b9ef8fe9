use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use penstock_core::{
    Kind,
    plugin::{ModuleSource, PluginLimits, RateAlgorithm, RateWindow},
};

use super::*;

fn spec(plugin: &str, limits: &[(&str, u32)]) -> PluginSpec {
    let limit = |(name, limit): &(&str, u32)| RateLimit {
        name: (*name).into(),
        algorithm: RateAlgorithm::SlidingWindow,
        limit: NonZeroU32::new(*limit).unwrap(),
        window: RateWindow::new(Duration::from_secs(1)).unwrap(),
        max_keys: RateLimit::USUAL_KEYS,
        redis: None,
    };
    PluginSpec {
        plugin: ResourceRef::new(Kind::WasmPlugin, "default", plugin),
        generation: 1,
        source: ModuleSource::Inline(Bytes::new()),
        config: Arc::default(),
        secrets: vec![],
        capabilities: Capabilities { rate_limits: limits.iter().map(limit).collect(), ..Capabilities::default() },
        limits: PluginLimits::default(),
        rollout: Default::default(),
    }
}

const NOW: Nanos = Nanos(5);

fn take(stores: &Stores, bucket: &str) -> bool {
    stores.bucket(bucket).unwrap().local.take(b"key", 1, NOW).allowed
}

#[test]
fn who_opens_again_finds_the_same_stores() {
    let registry = Registry::default();
    let first = registry.open(&spec("a", &[("one", 1)]), "test", NOW);
    let second = registry.open(&spec("a", &[("one", 1)]), "test", NOW);
    assert!(take(&first, "one") && !take(&second, "one"));
    first.counters().add("n", 2, None, NOW);
    assert_eq!(second.counters().get("n", NOW), 2);
    assert_eq!(
        (first.log().admit(1, NOW), second.log().admit(1, NOW)),
        (Some(0), None),
        "one allowance for all instances"
    );
    let (store, quota) = first.key_value();
    store.set("k", b"v", None, quota, NOW).unwrap();
    assert_eq!(second.key_value().0.get("k", NOW).as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_plugin_that_is_deleted_and_made_again_finds_its_stores() {
    let registry = Registry::default();
    let first = registry.open(&spec("a", &[("one", 1)]), "test", NOW);
    assert!(take(&first, "one"));
    first.counters().add("n", 2, None, NOW);
    drop(first);
    drop(registry.open(&spec("b", &[]), "test", NOW));
    let second = registry.open(&spec("a", &[("one", 1)]), "test", NOW);
    assert!(!take(&second, "one"));
    assert_eq!(second.counters().get("n", NOW), 2);
}

#[test]
fn plugins_have_nothing_in_common() {
    let registry = Registry::default();
    let (a, b) =
        (registry.open(&spec("a", &[("one", 1)]), "test", NOW), registry.open(&spec("b", &[("one", 1)]), "test", NOW));
    assert!(take(&a, "one") && take(&b, "one"));
    a.counters().add("n", 2, None, NOW);
    assert_eq!(b.counters().get("n", NOW), 0);
    a.key_value().0.set("k", b"v", None, 1000, NOW).unwrap();
    assert_eq!(b.key_value().0.get("k", NOW), None);
}

#[test]
fn a_changed_bucket_begins_anew_and_others_do_not() {
    let registry = Registry::default();
    let first = registry.open(&spec("a", &[("one", 1), ("other", 1)]), "test", NOW);
    assert!(take(&first, "one") && take(&first, "other"));
    let second = registry.open(&spec("a", &[("other", 1), ("one", 2)]), "test", NOW);
    assert_eq!([take(&second, "one"), take(&second, "other"), take(&first, "one")], [true, false, false]);
}

#[test]
fn a_bucket_that_is_not_there_names_those_that_are() {
    let stores = Registry::default().open(&spec("a", &[("one", 1), ("two", 2)]), "test", NOW);
    assert_eq!(stores.bucket("three").err(), Some(vec!["one".to_owned(), "two".to_owned()]));
}

#[test]
fn what_a_candidate_does_is_not_real() {
    let registry = Registry::default();
    let spec = spec("a", &[("one", 1)]);
    let (real, scratch) = (registry.open(&spec, "test", NOW), Stores::scratch(&spec));
    assert!(take(&scratch, "one") && take(&real, "one"));
    scratch.counters().add("n", 2, None, NOW);
    assert_eq!(real.counters().get("n", NOW), 0);
}

#[test]
fn what_nobody_uses_is_bounded_and_blank_buckets_go_at_once() {
    let registry = Registry::default();
    let used = registry.open(&spec("used", &[("one", 1)]), "test", NOW);
    assert!(take(&used, "one"));
    for plugin in 0..3 * KEPT {
        let stores = registry.open(&spec(&plugin.to_string(), &[("one", 1), ("blank", 1)]), "test", NOW);
        assert!(take(&stores, "one"));
    }
    drop(registry.open(&spec("last", &[]), "test", NOW));
    let state = registry.lock();
    let own = |stores: usize| stores.saturating_sub(1);
    assert_eq!(own(state.buckets.stores.len()), KEPT, "without the blank ones");
    // The one that was open while all were tidied was used then.
    assert_eq!([state.counters.stores.len(), state.key_values.stores.len()], [KEPT + 2, KEPT + 2]);
    let newest = (ResourceRef::new(Kind::WasmPlugin, "default", (3 * KEPT - 1).to_string()), spec("", &[("one", 1)]));
    assert!(state.buckets.stores.contains_key(&(newest.0, newest.1.capabilities.rate_limits[0].clone())));
}

#[test]
fn what_nobody_uses_goes_after_an_hour() {
    let registry = Registry::new(Budget::new(Some(4000)));
    let at = |seconds: u64| Nanos(seconds * 1_000_000_000);
    let set = |stores: &Stores| stores.key_value().0.set("k", &[0; 800], None, 10_000, at(0)).is_ok();
    assert!(set(&registry.open(&spec("a", &[]), "test", at(0))));
    let other = registry.open(&spec("other", &[]), "test", at(10));
    assert!(!set(&other), "there is no memory for it beside what is kept");
    drop(registry.open(&spec("other", &[]), "test", at(3609)));
    assert!(!set(&other));
    drop(registry.open(&spec("other", &[]), "test", at(3610)));
    assert!(set(&other));
}
