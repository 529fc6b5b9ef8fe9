use std::{
    num::NonZeroU32,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use penstock_core::plugin::RateWindow;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn limit(algorithm: RateAlgorithm, limit: u32, window: Duration, max_keys: u32) -> RateLimit {
    RateLimit {
        name: "test".into(),
        algorithm,
        limit: NonZeroU32::new(limit).unwrap(),
        window: RateWindow::new(window).unwrap(),
        max_keys: NonZeroU32::new(max_keys).unwrap(),
        redis: None,
    }
}

fn burst(burst: u32) -> RateAlgorithm {
    RateAlgorithm::TokenBucket { burst: NonZeroU32::new(burst).unwrap() }
}

/// So many units a second.
fn bucket(algorithm: RateAlgorithm, units: u32) -> Bucket {
    Bucket::new(&limit(algorithm, units, Duration::from_secs(1), 1000), &Share::default())
}

/// The decision for one unit at a millisecond: allowed, remaining, milliseconds until there is more.
fn take(bucket: &Bucket, ms: u64) -> (bool, u64, u64) {
    let decision = bucket.take(b"key", 1, Nanos(ms * 1_000_000));
    (decision.allowed, decision.remaining, u64::try_from(decision.reset.as_millis()).unwrap())
}

#[test]
fn a_token_bucket_gives_its_burst_and_then_one_after_the_other() {
    let bucket = bucket(burst(3), 10);
    assert_eq!(
        [0, 0, 0, 0].map(|ms| take(&bucket, ms)),
        [(true, 2, 100), (true, 1, 100), (true, 0, 100), (false, 0, 100)]
    );
    assert_eq!(
        [50, 99, 100, 100].map(|ms| take(&bucket, ms)),
        [(false, 0, 50), (false, 0, 1), (true, 0, 100), (false, 0, 100)]
    );
    assert_eq!(take(&bucket, 250), (true, 0, 50));
    assert_eq!(take(&bucket, 10_000), (true, 2, 100), "not more than the burst is ever there");
}

#[test]
fn a_sliding_window_forgets_what_it_has_left_behind() {
    let bucket = bucket(RateAlgorithm::SlidingWindow, 4);
    assert_eq!([0, 0, 0, 0, 999].map(|ms| take(&bucket, ms).0), [true, true, true, true, false]);
    // One after the other, the four leave it in the quarters of the next window.
    assert_eq!(
        [1000, 1001, 1001, 1250, 1251, 1251].map(|ms| take(&bucket, ms).0),
        [false, true, false, false, true, false]
    );
    // After two windows without requests nothing is left.
    assert_eq!(take(&bucket, 4000), (true, 3, 1000));
}

#[test]
fn a_sliding_window_begins_with_the_first_request_of_a_key() {
    let bucket = bucket(RateAlgorithm::SlidingWindow, 1);
    let take = |key: &[u8], ms: u64| bucket.take(key, 1, Nanos(ms * 1_000_000)).allowed;
    assert!(take(b"a", 0) && take(b"b", 900));
    assert_eq!([take(b"a", 1001), take(b"b", 1001), take(b"b", 1901)], [true, false, true]);
}

const ALGORITHMS: [RateAlgorithm; 2] =
    [RateAlgorithm::TokenBucket { burst: NonZeroU32::new(7).unwrap() }, RateAlgorithm::SlidingWindow];

#[test]
fn keys_have_counts_of_their_own() {
    for algorithm in ALGORITHMS {
        let bucket = bucket(algorithm, 7);
        for key in [&b"a"[..], b"b", b""] {
            assert_eq!(
                [5, 2, 1].map(|cost| bucket.take(key, cost, Nanos(1)).allowed),
                [true, true, false],
                "{algorithm:?}"
            );
        }
        assert_eq!(bucket.keys(), 3);
    }
}

#[test]
fn peeking_and_being_denied_take_nothing() {
    for algorithm in ALGORITHMS {
        let bucket = bucket(algorithm, 7);
        for _ in 0..10 {
            assert!(bucket.peek(b"a", 7, Nanos(1)).allowed);
            assert!(!bucket.take(b"a", 8, Nanos(1)).allowed);
        }
        assert_eq!(bucket.keys(), 0, "{algorithm:?}");
        assert_eq!(bucket.peek(b"a", 1, Nanos(1)).remaining, 7);
        assert!(bucket.take(b"a", 6, Nanos(1)).allowed);
        assert_eq!([1, 2].map(|cost| bucket.peek(b"a", cost, Nanos(1)).allowed), [true, false]);
        assert!(bucket.take(b"a", 1, Nanos(1)).allowed);
    }
}

#[test]
fn nothing_costs_nothing() {
    for algorithm in ALGORITHMS {
        let bucket = bucket(algorithm, 7);
        assert!(bucket.take(b"a", 7, Nanos(1)).allowed && bucket.take(b"a", 0, Nanos(1)).allowed);
        assert!(!bucket.take(b"a", 1, Nanos(1)).allowed);
    }
}

#[test]
fn what_can_never_be_allowed_waits_for_a_window() {
    for algorithm in ALGORITHMS {
        let decision = bucket(algorithm, 7).take(b"a", u32::MAX, Nanos(1));
        assert_eq!(
            (decision.allowed, decision.reset, decision.limit),
            (false, Duration::from_secs(1), 7),
            "{algorithm:?}"
        );
        assert_eq!(decision.window, Duration::from_secs(1));
    }
}

#[test]
fn an_untouched_key_waits_for_nothing() {
    for algorithm in ALGORITHMS {
        let decision = bucket(algorithm, 7).peek(b"a", 1, Nanos(1));
        assert_eq!((decision.allowed, decision.remaining, decision.reset), (true, 7, Duration::ZERO), "{algorithm:?}");
    }
}

/// Reproducible numbers: any generator will do.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Whoever waits as long as he is told gets what he wants, and not a nanosecond earlier; what is left can be taken, and not one more.
#[test]
fn decisions_tell_the_truth() {
    let mut numbers = Numbers(1);
    for algorithm in ALGORITHMS {
        for (units, window) in [(1, 1_000_000), (7, SECOND), (1000, 3 * SECOND + 1), (3, 60 * SECOND + 7)] {
            let bucket = Bucket::new(&limit(algorithm, units, Duration::from_nanos(window), 1000), &Share::default());
            let mut now = 12_345;
            for _ in 0..2000 {
                now += numbers.below(window / 3);
                let cost = u32::try_from(1 + numbers.below(4)).unwrap();
                let decision = bucket.take(b"a", cost, Nanos(now));
                let allowed = |cost: u64, at: u64| bucket.peek(b"a", u32::try_from(cost).unwrap(), Nanos(at)).allowed;
                let context = format!("{algorithm:?} {units} {window} {decision:?}");
                assert!(allowed(decision.remaining, now), "{context}");
                assert!(!allowed(decision.remaining + 1, now), "{context}");
                let then = now + u64::try_from(decision.reset.as_nanos()).unwrap();
                let most = match algorithm {
                    RateAlgorithm::TokenBucket { burst } => burst.get(),
                    RateAlgorithm::SlidingWindow => units,
                };
                let wanted = if decision.allowed { decision.remaining + 1 } else { cost.into() };
                if wanted <= most.into() {
                    assert!(allowed(wanted, then), "{context}");
                    assert!(then == now || !allowed(wanted, then - 1), "{context}");
                }
            }
        }
    }
}

/// In no time is more taken than the rule allows, whatever comes when.
#[test]
fn limits_hold_in_every_stretch_of_time() {
    let mut numbers = Numbers(2);
    for algorithm in ALGORITHMS {
        let (units, window) = (7, 700);
        let bucket = Bucket::new(&limit(algorithm, units, Duration::from_millis(window), 1000), &Share::default());
        let mut taken = Vec::new();
        let mut now = 0;
        for _ in 0..3000 {
            now += [0, 1, 30, 400][usize::try_from(numbers.below(4)).unwrap()];
            let cost = 1 + numbers.below(3);
            if bucket.take(b"a", u32::try_from(cost).unwrap(), Nanos(now * 1_000_000)).allowed {
                taken.push((now, cost));
            }
        }
        for first in 0..taken.len() {
            let mut sum = 0;
            for (at, cost) in &taken[first..(first + 40).min(taken.len())] {
                sum += cost;
                let time = at - taken[first].0;
                let most = match algorithm {
                    RateAlgorithm::TokenBucket { burst } => u64::from(burst.get()) + u64::from(units) * time / window,
                    // Exact if requests come evenly; at worst, all at the end of one window and the start of the next.
                    RateAlgorithm::SlidingWindow => u64::from(units) * (time.div_ceil(window) + 1),
                };
                assert!(sum <= most, "{algorithm:?}: {sum} in {time} ms");
            }
        }
    }
}

/// Threads take the requests of an even stream at twice the limit in turn; returns how many were allowed in `windows` windows. Not at once:
/// a thread that is interrupted would come with an old time, and what is right then is another question.
fn accepted(bucket: &Bucket, units: u64, windows: u64, keys: u64) -> u64 {
    let (next, allowed) = (Mutex::new(0), AtomicU64::new(0));
    let requests = 2 * units * windows;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let mut next = next.lock().unwrap();
                    let index = *next;
                    if index >= requests * keys {
                        return;
                    }
                    *next += 1;
                    let now = Nanos(index / keys * SECOND / (2 * units));
                    let key = (index % keys).to_le_bytes();
                    allowed.fetch_add(bucket.take(&key, 1, now).allowed.into(), Ordering::Relaxed);
                }
            });
        }
    });
    allowed.into_inner()
}

#[test]
fn workers_that_ask_at_once_get_the_limit_and_no_more() {
    for units in [1, 10, 1000] {
        for algorithm in [burst(units), RateAlgorithm::SlidingWindow] {
            let (bucket, start, allowed) = (bucket(algorithm, units), Barrier::new(4), AtomicU64::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..units {
                            allowed.fetch_add(bucket.take(b"a", 1, Nanos(SECOND)).allowed.into(), Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(allowed.into_inner(), u64::from(units), "{algorithm:?}");
        }
    }
}

#[track_caller]
fn check_exact(found: u64, expected: u64) {
    assert!(found.abs_diff(expected) * 100 <= expected, "{found}, but {expected} ± 1 % should pass");
}

#[test]
fn limits_are_exact_over_all_workers() {
    for units in [1, 3, 10] {
        check_exact(accepted(&bucket(RateAlgorithm::SlidingWindow, units), units.into(), 30, 1), 30 * u64::from(units));
    }
    for units in [100, 1000] {
        check_exact(accepted(&bucket(RateAlgorithm::SlidingWindow, units), units.into(), 30, 1), 30 * u64::from(units));
        let small = units / 100;
        check_exact(accepted(&bucket(burst(small), units), units.into(), 30, 1), 30 * u64::from(units));
        // A burst as large as the limit comes on top of it, once.
        check_exact(accepted(&bucket(burst(units), units), units.into(), 30, 1), 31 * u64::from(units));
    }
}

#[test]
fn limits_are_exact_for_many_keys() {
    check_exact(accepted(&bucket(RateAlgorithm::SlidingWindow, 100), 100, 3, 100), 100 * 300);
    check_exact(accepted(&bucket(burst(1), 100), 100, 3, 100), 100 * 300);
}

#[test]
fn odd_rates_are_exact_for_ever() {
    // Three a second do not divide a second; a billion a millisecond is less than a nanosecond each.
    for (units, window) in [(3, SECOND), (7, 10_007), (1_000_000_000, 1_000_000), (u32::MAX, 31 * 24 * 3600 * SECOND)] {
        let window = window.max(1_000_000);
        let bucket = Bucket::new(&limit(burst(units), units, Duration::from_nanos(window), 10), &Share::default());
        assert!(bucket.take(b"a", units, Nanos(0)).allowed);
        for number in 1..100_u64 {
            let now = number * window;
            assert!(!bucket.take(b"a", units, Nanos(now - 1)).allowed, "{units} in {window}");
            assert!(bucket.take(b"a", units, Nanos(now)).allowed, "{units} in {window}");
        }
    }
}

#[test]
fn a_worker_that_is_late_gives_nothing_back_twice() {
    for algorithm in ALGORITHMS {
        let bucket = bucket(algorithm, 7);
        assert!(bucket.take(b"a", 7, Nanos(10 * SECOND)).allowed);
        assert!(!bucket.take(b"a", 1, Nanos(9 * SECOND)).allowed);
        assert!(!bucket.take(b"a", 1, Nanos(10 * SECOND)).allowed, "{algorithm:?}");
    }
    let bucket = bucket(burst(10), 10);
    assert!(bucket.take(b"a", 1, Nanos(10 * SECOND)).allowed);
    assert!(bucket.take(b"a", 9, Nanos(9 * SECOND)).allowed);
    assert!(!bucket.take(b"a", 1, Nanos(10 * SECOND)).allowed);
}

#[test]
fn keys_are_bounded_and_those_at_their_limit_stay() {
    for algorithm in ALGORITHMS {
        let bucket = Bucket::new(&limit(algorithm, 7, Duration::from_secs(1), 2000), &Share::default());
        assert!(bucket.take(b"greedy", 7, Nanos(1)).allowed);
        for key in 0..50_000_u32 {
            bucket.take(&key.to_le_bytes(), 1, Nanos(1));
            assert!(!bucket.peek(b"greedy", 1, Nanos(1)).allowed, "{algorithm:?}: forgotten after {key} others");
        }
        assert!(bucket.keys() <= 2000);
    }
}

#[test]
fn a_bucket_is_blank_when_all_is_given_back() {
    for algorithm in ALGORITHMS {
        let bucket = bucket(algorithm, 7);
        assert!(bucket.is_blank(Nanos(0)));
        bucket.take(b"a", 7, Nanos(0));
        assert!(!bucket.is_blank(Nanos(SECOND - 1)));
        assert!(bucket.is_blank(Nanos(2 * SECOND)));
    }
}
