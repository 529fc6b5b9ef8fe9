//! Consistent hashing and percentages.

mod support;

use std::collections::BTreeMap;

use serde_json::json;
use support::{Outcome, Routed, routed};

const KEYS: u32 = 20_000;

/// Where each key goes.
fn spread(harness: &Routed, rule: u64) -> Vec<String> {
    (0..KEYS).map(|key| harness.get("/").header("x-user", format!("user-{key}")).rule(rule).backend()).collect()
}

fn counts(spread: &[String]) -> BTreeMap<&str, u32> {
    let mut counts = BTreeMap::new();
    for backend in spread {
        *counts.entry(backend.as_str()).or_default() += 1;
    }
    counts
}

fn hashed(candidates: &[(&str, u32, u32)]) -> Routed {
    Routed::new(json!({"rules": [{"to": {"hash": {"key": [{"header": "x-user"}]}}}]}), candidates)
}

const FOUR: [(&str, u32, u32); 4] = [("s/a:80", 1, 1), ("s/b:80", 1, 1), ("s/c:80", 2, 1), ("s/d:80", 0, 1)];

#[test]
fn keys_are_spread_by_weight() {
    let spread = spread(&hashed(&FOUR), 1);
    let counts = counts(&spread);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["s/a:80", "s/b:80", "s/c:80"], "weight 0 gets none");
    for (backend, share) in [("s/a:80", 0.25), ("s/b:80", 0.25), ("s/c:80", 0.5)] {
        let found = f64::from(counts[backend]) / f64::from(KEYS);
        assert!((found - share).abs() < 0.015, "{backend} has {found} of all keys");
    }
}

#[test]
fn a_key_is_worth_the_same_everywhere() {
    let shuffled = [FOUR[2], FOUR[0], FOUR[3], FOUR[1]];
    assert_eq!(spread(&hashed(&FOUR), 1), spread(&hashed(&shuffled), 9), "order and number of the rule do not matter");
}

#[test]
fn only_keys_of_a_backend_that_leaves_move() {
    let harness = hashed(&FOUR);
    let before = spread(&harness, 1);
    harness.set_candidates(&FOUR[1..]);
    let after = spread(&harness, 2);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == "s/a:80", "{before} became {after}");
    }
    let to: BTreeMap<_, _> =
        counts(&after.iter().zip(&before).filter(|(_, b)| *b == "s/a:80").map(|(a, _)| a.clone()).collect::<Vec<_>>())
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
    assert_eq!(to.len(), 2, "those who stay share what it had: {to:?}");
    // The other way round: one that joins takes keys, and no key moves between the others.
    harness.set_candidates(&FOUR);
    assert_eq!(spread(&harness, 3), before);
}

#[test]
fn only_keys_of_a_backend_that_is_not_ready_move() {
    let harness = hashed(&FOUR);
    let before = spread(&harness, 1);
    let mut candidates = FOUR;
    candidates[2].2 = 0;
    harness.set_candidates(&candidates);
    let after = spread(&harness, 1);
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || before == "s/c:80"));
    assert!(!after.contains(&"s/c:80".to_owned()));
    harness.set_candidates(&FOUR.map(|(name, weight, _)| (name, weight, 0)));
    assert_eq!(harness.get("/").header("x-user", "a").backend(), "", "nobody is ready: the gateway answers");
}

#[test]
fn a_weight_that_grows_only_takes() {
    let harness = hashed(&FOUR);
    let before = spread(&harness, 1);
    let mut candidates = FOUR;
    candidates[0].1 = 3;
    harness.set_candidates(&candidates);
    let after = spread(&harness, 2);
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == "s/a:80"));
}

#[test]
fn keys_have_an_order() {
    let rules = json!([{"to": {"hash": {"key": [{"header": "x-user"}, {"cookie": "uid"}, {"clientAddress": {"ipv4PrefixLength": 24}}]}}}]);
    let harness = routed(rules);
    let of_cookie =
        |user: u32, uid: u32| harness.get("/").header("x-user", user).header("cookie", format!("uid={uid}")).backend();
    assert!((0..50).all(|uid| of_cookie(1, uid) == of_cookie(1, 0)), "the header comes first");
    let of_address = |address: String| harness.get("/").header(":client-address", address).backend();
    assert!((0..50).all(|host| of_address(format!("192.0.2.{host}")) == of_address("192.0.2.200".into())));
    let networks: std::collections::BTreeSet<_> = (0..50).map(|net| of_address(format!("192.0.{net}.1"))).collect();
    assert_eq!(networks.len(), 2, "networks are spread");
    let nothing = routed(json!([{"to": {"hash": {"key": [{"header": "x-user"}]}}}]));
    assert_eq!(nothing.get("/").backend(), "", "without a key the weights decide");
}

fn canary(percent: f64) -> Routed {
    let shares = json!([{"backend": "canary", "percent": percent}]);
    routed(json!([{"to": {"percentages": {"key": [{"header": "x-user"}], "shares": shares}}}]))
}

#[test]
fn a_percentage_is_exact_and_only_grows() {
    let five = spread(&canary(5.0), 1);
    let ten = spread(&canary(10.0), 1);
    for (spread, share) in [(&five, 0.05), (&ten, 0.10)] {
        let found = f64::from(counts(spread)["web/canary:8080"]) / f64::from(KEYS);
        assert!((found - share).abs() < 0.006, "{found} for {share}");
    }
    let left = five.iter().zip(&ten).any(|(five, ten)| !five.is_empty() && ten.is_empty());
    assert!(!left, "who was among the five is among the ten");
    assert!(spread(&canary(0.0), 1).iter().all(String::is_empty));
    assert!(spread(&canary(100.0), 1).iter().all(|backend| backend == "web/canary:8080"));
}

#[test]
fn shares_follow_one_another() {
    let shares = json!([{"backend": "canary", "percent": 12.5}, {"backend": "green", "percent": 0.25}]);
    let harness = routed(json!([
        {"to": {"percentages": {"key": [{"header": "x-user"}], "shares": shares}}},
        {"to": {"backend": "blue"}},
    ]));
    let spread = spread(&harness, 1);
    let counts = counts(&spread);
    let share = |name| f64::from(counts[name]) / f64::from(KEYS);
    assert!((share("web/canary:8080") - 0.125).abs() < 0.008, "{counts:?}");
    assert!((share("web/green:80") - 0.0025).abs() < 0.0015, "{counts:?}");
    assert!((share("web/blue:80") - 0.8725).abs() < 0.008, "{counts:?}");
}

#[test]
fn two_experiments_are_independent_unless_they_share_a_salt() {
    let rules = |salt: Option<&str>| {
        let percentages = |backend| {
            let mut target = json!({"key": [{"header": "x-user"}], "shares": [{"backend": backend, "percent": 50}]});
            if let Some(salt) = salt {
                target["salt"] = salt.into();
            }
            json!({"to": {"percentages": target}})
        };
        routed(json!([percentages("blue"), percentages("green")]))
    };
    let share = |spread: &[String]| f64::from(*counts(spread).get("web/green:80").unwrap_or(&0)) / f64::from(KEYS);
    let independent = share(&spread(&rules(None), 1));
    assert!((independent - 0.25).abs() < 0.015, "half of the other half: {independent}");
    assert!(share(&spread(&rules(Some("spring")), 1)).abs() < f64::EPSILON, "the same half");
}
