//! Against a real Redis. Limits have windows of an hour, so nothing depends on how fast the machine is.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroU32,
    thread,
};

use arc_swap::ArcSwap;
use penstock_core::{
    backend::{Backend, BackendKey, BackendProtocol, Endpoint, EndpointSet},
    plugin::{OutboundReference, RateWindow, RedisGrant, RedisLogin},
    reason::Reason,
    route::Failure,
};
use penstock_testing::{
    eventually::eventually,
    port::free_address,
    redis::{PASSWORD, Redis},
};

use super::{
    super::{super::Nanos, Bucket},
    *,
};
use crate::budget::Share;

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for a machine that does other things.
const LONG: Duration = Duration::from_secs(20);

fn limit(algorithm: RateAlgorithm, limit: u32, window: Duration) -> RateLimit {
    let backend = OutboundReference::service("default", "redis", 6379);
    let redis = RedisGrant {
        backend,
        database: 0,
        username: None,
        password: None,
        timeout: LONG,
        when_unavailable: WhenUnavailable::Refuse,
    };
    RateLimit {
        name: "test".into(),
        algorithm,
        limit: NonZeroU32::new(limit).unwrap(),
        window: RateWindow::new(window).unwrap(),
        max_keys: RateLimit::USUAL_KEYS,
        redis: Some(redis),
    }
}

fn burst(burst: u32) -> RateAlgorithm {
    RateAlgorithm::TokenBucket { burst: NonZeroU32::new(burst).unwrap() }
}

fn endpoints(addresses: &[SocketAddr]) -> EndpointSet {
    EndpointSet { endpoints: addresses.iter().map(|address| Endpoint::Address(*address)).collect() }
}

/// Where a bucket is, if it is at these addresses.
fn place(addresses: &[SocketAddr]) -> RedisBucket {
    let key = BackendKey { name: "default/redis".into(), port: 6379, protocol: BackendProtocol::Http1, tls: None };
    let backend = Backend { key, endpoints: Arc::new(ArcSwap::from_pointee(endpoints(addresses))) };
    RedisBucket { bucket: "test".into(), target: Target::Backend(Arc::new(backend)), login: RedisLogin::default() }
}

fn moved(place: &RedisBucket, to: &[SocketAddr]) {
    let Target::Backend(backend) = &place.target else { panic!("{place:?}") };
    backend.endpoints.store(Arc::new(endpoints(to)));
}

/// A bucket of one gateway, with connections of its own.
struct Gateway {
    bucket: SharedBucket,
    place: RedisBucket,
}

impl Gateway {
    fn new(limit: &RateLimit, place: &RedisBucket) -> Self {
        Self { bucket: SharedBucket::new("default/limits", limit, &Arc::default()).unwrap(), place: place.clone() }
    }

    async fn take(&self, key: &[u8]) -> Result<Decision, RedisError> {
        self.bucket.decide(&self.place, key, 1, Taking::Take, Instant::now() + LONG).await
    }

    async fn take_within(&self, timeout: Duration) -> Result<Decision, RedisError> {
        self.bucket.decide(&self.place, b"key", 1, Taking::Take, Instant::now() + timeout).await
    }

    async fn allows(&self) -> bool {
        self.take(b"key").await.unwrap().allowed
    }
}

/// The scripts, at times that the test says.
mod timed {
    use super::*;

    /// Without expiries: those go by the clock of Redis.
    fn text(script: Script) -> String {
        let (exact, rule) = (
            include_str!("../../redis/exact.lua"),
            match script {
                Script::TokenBucket => include_str!("../../redis/token_bucket.lua"),
                Script::SlidingWindow => include_str!("../../redis/sliding_window.lua"),
            },
        );
        let lasting = exact.replace(", 'PX', expiry)", ")");
        assert_ne!(lasting, exact);
        format!("local now = tonumber(ARGV[6])\n{lasting}{rule}")
    }

    /// A connection without anything around it.
    pub(super) struct Plain(TcpStream);

    impl Plain {
        pub(super) fn to(redis: &Redis) -> Self {
            Self(TcpStream::connect(redis.address()).unwrap())
        }

        fn ask(&mut self, command: &[&[u8]]) -> Vec<i64> {
            let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
            for part in command {
                bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
                bytes.extend_from_slice(&[part, &b"\r\n"[..]].concat());
            }
            self.0.write_all(&bytes).unwrap();
            let mut answer = [0; 4096];
            let mut length = 0;
            loop {
                length += self.0.read(&mut answer[length..]).unwrap();
                let text = str::from_utf8(&answer[..length]).unwrap();
                let lines: Vec<&str> = text.split_terminator("\r\n").collect();
                assert!(text.starts_with("*4"), "{text}");
                if lines.len() == 5 && text.ends_with("\r\n") {
                    return lines[1..].iter().map(|line| line[1..].parse().unwrap()).collect();
                }
            }
        }

        pub(super) fn run(&mut self, bucket: &SharedBucket, run: &Run, now: u64) -> Decision {
            let script = text(run.script);
            let numbers: Vec<String> = run.arguments.iter().chain([&now]).map(u64::to_string).collect();
            let mut command = vec![&b"EVAL"[..], script.as_bytes(), b"1", &run.key];
            command.extend(numbers.iter().map(String::as_bytes));
            let numbers: Numbers = self.ask(&command).try_into().unwrap();
            bucket.outcome(numbers, run.arguments[2]).unwrap().decision(bucket.limit, bucket.window * 1000)
        }
    }
}

/// Rules of all sizes: what fits nowhere else is at the ends.
fn rule(rng: &mut fastrand::Rng) -> RateLimit {
    let mut units = || match rng.u8(..4) {
        0 => 1,
        1 => rng.u32(2..20),
        2 => rng.u32(1000..1_000_000),
        _ => u32::MAX - rng.u32(..3),
    };
    let (limit_, most) = (units(), units());
    let window = match rng.u8(..3) {
        0 => Duration::from_micros(rng.u64(1000..1_000_000)),
        1 => Duration::from_micros(rng.u64(3_600_000_000..2_000_000_000_000)),
        _ => RateWindow::LONGEST,
    };
    let algorithm = if rng.bool() { burst(most) } else { RateAlgorithm::SlidingWindow };
    limit(algorithm, limit_, window)
}

#[test]
fn redis_decides_as_the_gateway_does() {
    let redis = Redis::start();
    let mut plain = timed::Plain::to(&redis);
    for seed in 0..120 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rule = rule(&mut rng);
        let most = match rule.algorithm {
            RateAlgorithm::TokenBucket { burst } => u64::from(burst.get()),
            RateAlgorithm::SlidingWindow => u64::from(rule.limit.get()),
        };
        let shared = SharedBucket::new(&format!("default/{seed}"), &rule, &Arc::default()).unwrap();
        let local = Bucket::new(&rule, &Share::default());
        let window = u64::try_from(rule.window.get().as_micros()).unwrap();
        let mut now = 1_770_000_000_000_000 + rng.u64(..1_000_000);
        let (mut allowed, mut denied) = (0, 0);
        for step in 0..60 {
            now += match rng.u8(..6) {
                0 => 0,
                1 => rng.u64(..1000),
                2 => window / u64::from(rule.limit.get()) + rng.u64(..2),
                3 => rng.u64(..window / 4),
                4 => rng.u64(..window),
                _ => rng.u64(..window * 3),
            };
            let cost = match rng.u8(..4) {
                0 => rng.u64(..3),
                1 => most / 3,
                2 => rng.u64(..=most),
                _ => most,
            };
            let cost = u32::try_from(cost).unwrap_or(u32::MAX);
            let taking = if rng.u8(..5) == 0 { Taking::Peek } else { Taking::Take };
            let there = plain.run(&shared, &shared.run(b"key", cost, taking), now);
            let here = match taking {
                Taking::Take => local.take(b"key", cost, Nanos(now * 1000)),
                Taking::Peek => local.peek(b"key", cost, Nanos(now * 1000)),
            };
            assert_eq!(there, here, "seed {seed}, step {step}: {cost} of {rule:?} at {now}");
            *if there.allowed { &mut allowed } else { &mut denied } += 1;
        }
        assert!(allowed > 0, "seed {seed}: {rule:?}: {allowed} and {denied}");
    }
}

#[test]
fn a_clock_that_was_set_back_gives_nothing_back_and_stops_nobody() {
    let redis = Redis::start();
    let mut plain = timed::Plain::to(&redis);
    for algorithm in [burst(2), RateAlgorithm::SlidingWindow] {
        let bucket = SharedBucket::new(&format!("{algorithm:?}"), &limit(algorithm, 2, HOUR), &Arc::default()).unwrap();
        let mut take = |now| plain.run(&bucket, &bucket.run(b"key", 1, Taking::Take), now).allowed;
        let now = 1_770_000_000_000_000;
        let (hour, before) = (3_600_000_000, now - 100 * 3_600_000_000);
        assert_eq!([take(now), take(now), take(now)], [true, true, false]);
        assert_eq!([take(before), take(before + 1)], [false, false], "{algorithm:?}");
        assert!(take(before + 2 * hour + 1), "{algorithm:?}: by the clock as it is now");
    }
}

#[tokio::test]
async fn gateways_share_one_limit() {
    let redis = Redis::start();
    for algorithm in [burst(3), RateAlgorithm::SlidingWindow] {
        let limit = limit(algorithm, 3, HOUR);
        let [one, two] = [(); 2].map(|()| Gateway::new(&limit, &place(&[redis.address()])));
        assert_eq!(
            [one.allows().await, two.allows().await, one.allows().await, two.allows().await],
            [true, true, true, false]
        );
        let denied = one.take(b"key").await.unwrap();
        assert_eq!((denied.limit, denied.remaining, denied.window), (3, 0, HOUR));
        assert!(one.take(b"another").await.unwrap().allowed);
        let asked = two.bucket.decide(&two.place, b"another", 2, Taking::Peek, Instant::now() + LONG).await.unwrap();
        assert_eq!((asked.allowed, asked.remaining), (true, 2), "asking takes nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_the_same_time_exactly_as_many_pass_as_may() {
    let redis = Redis::start();
    let place = place(&[redis.address()]);
    for algorithm in [burst(100), RateAlgorithm::SlidingWindow] {
        let limit = limit(algorithm, 100, HOUR);
        let gateways = [(); 2].map(|()| Arc::new(Gateway::new(&limit, &place)));
        let takes: Vec<_> = (0..400)
            .map(|index| {
                let gateway = Arc::clone(&gateways[index % 2]);
                tokio::spawn(async move { gateway.allows().await })
            })
            .collect();
        let mut passed = 0;
        for take in takes {
            passed += usize::from(take.await.unwrap());
        }
        assert_eq!(passed, 100, "{algorithm:?}");
    }
}

#[tokio::test]
async fn keys_say_whose_they_are_and_expire() {
    let redis = Redis::start();
    let gateway = Gateway::new(&limit(RateAlgorithm::SlidingWindow, 3, HOUR), &place(&[redis.address()]));
    for key in [&b"203.0.113.7"[..], &[b'a'; 64], &[b'a'; 65], b"\r\n$1"] {
        assert!(gateway.take(key).await.unwrap().allowed);
    }
    let keys = redis.command(&["--raw", "KEYS", "penstock:rate-limit:default/limits:test:*:=203.0.113.7"]);
    assert_eq!(keys.lines().count(), 1, "{keys}");
    let expiry: u64 = redis.command(&["--raw", "PTTL", &keys]).parse().unwrap();
    assert!((3_600_001..=7_200_001).contains(&expiry), "two windows, not {expiry} ms");
    let hashed =
        redis.command(&["--raw", "KEYS", "*:#635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"]);
    assert_eq!(hashed.lines().count(), 1, "65 times `a` by its SHA-256: {}", redis.command(&["KEYS", "*"]));
    assert_eq!(redis.command(&["--raw", "DBSIZE"]), "4");

    let gateway = Gateway::new(&limit(burst(3), 3, HOUR), &gateway.place);
    assert_eq!(redis.command(&["FLUSHALL"]), "OK");
    assert!(gateway.allows().await);
    let key = redis.command(&["--raw", "KEYS", "*"]);
    let expiry: u64 = redis.command(&["--raw", "PTTL", &key]).parse().unwrap();
    assert!((600_000..=2_400_001).contains(&expiry), "until the unit is back, not {expiry} ms");
}

#[tokio::test]
async fn another_rule_counts_for_itself() {
    let redis = Redis::start();
    let place = place(&[redis.address()]);
    let two = Gateway::new(&limit(RateAlgorithm::SlidingWindow, 2, HOUR), &place);
    assert!(two.allows().await && two.allows().await && !two.allows().await);
    for other in [limit(RateAlgorithm::SlidingWindow, 3, HOUR), limit(burst(2), 2, HOUR), limit(burst(1), 2, HOUR)] {
        assert!(Gateway::new(&other, &place).allows().await, "{other:?}");
    }
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_sent_again() {
    let redis = Redis::start();
    let gateway = Gateway::new(&limit(RateAlgorithm::SlidingWindow, 2, HOUR), &place(&[redis.address()]));
    assert!(gateway.allows().await);
    assert_eq!(redis.command(&["SCRIPT", "FLUSH"]), "OK");
    assert!(gateway.allows().await && !gateway.allows().await);
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_and_one_that_is_back_is_used() {
    let redis = Redis::start();
    let gateway = Gateway::new(&limit(RateAlgorithm::SlidingWindow, 2, HOUR), &place(&[redis.address()]));
    assert!(gateway.allows().await);
    let stopped = redis.stop();
    let error = gateway.take(b"key").await.unwrap_err();
    assert!(matches!(error, RedisError::Lost | RedisError::Connect(_)), "{error}");
    let _redis = stopped.start();
    let decision = eventually("an answer of the new server", async || gateway.take(b"key").await.ok()).await;
    assert_eq!((decision.allowed, decision.remaining), (true, 1), "it remembers nothing");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_its_time_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway =
        Gateway::new(&limit(RateAlgorithm::SlidingWindow, 2, HOUR), &place(&[listener.local_addr().unwrap()]));
    assert_eq!(gateway.take_within(Duration::from_millis(20)).await, Err(RedisError::Timeout));
    // From now on nobody waits: 1,000 waits of a minute would be noticed.
    for _ in 0..1000 {
        let error = gateway.take_within(Duration::from_mins(1)).await.unwrap_err();
        assert!(matches!(error, RedisError::Timeout | RedisError::Connect(_)), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_stops_answering_is_asked_again_when_it_answers() {
    let redis = Redis::start();
    let gateway = Gateway::new(&limit(RateAlgorithm::SlidingWindow, 9, HOUR), &place(&[redis.address()]));
    assert!(gateway.allows().await);
    redis.freeze();
    assert_eq!(gateway.take_within(Duration::from_millis(20)).await, Err(RedisError::Timeout));
    assert!(gateway.take_within(Duration::from_mins(1)).await.is_err(), "at once");
    redis.thaw();
    eventually("an answer", async || gateway.take(b"key").await.ok()).await;
}

#[tokio::test]
async fn a_login_is_needed_where_the_server_wants_one() {
    let redis = Redis::builder().with_password().start();
    let limit = limit(RateAlgorithm::SlidingWindow, 9, HOUR);
    let with = |login: RedisLogin| Gateway::new(&limit, &RedisBucket { login, ..place(&[redis.address()]) });
    let refused = async |login| match with(login).take(b"key").await {
        Err(RedisError::Refused(text)) => text.to_string(),
        other => panic!("{other:?}"),
    };
    let password = |text: &str| Some(text.into());
    assert!(refused(RedisLogin::default()).await.starts_with("NOAUTH"));
    let wrong = refused(RedisLogin { password: password("wrong"), ..RedisLogin::default() }).await;
    assert_eq!(wrong, "WRONGPASS (to AUTH)");
    let right = RedisLogin { password: password(PASSWORD), ..RedisLogin::default() };
    assert!(with(right.clone()).allows().await);
    assert!(with(RedisLogin { username: Some("default".into()), ..right.clone() }).allows().await);
    let far = refused(RedisLogin { database: 999, ..right.clone() }).await;
    assert!(far.ends_with("(to SELECT)"), "{far}");
    assert!(with(RedisLogin { database: 3, ..right }).allows().await);
    assert_eq!(redis.command(&["--raw", "-n", "3", "DBSIZE"]), "1");
}

#[tokio::test]
async fn an_error_of_the_server_is_no_decision() {
    let redis = Redis::start();
    let gateway = Gateway::new(&limit(RateAlgorithm::SlidingWindow, 9, HOUR), &place(&[redis.address()]));
    assert!(gateway.allows().await);
    let key = redis.command(&["--raw", "KEYS", "*"]);
    assert_eq!(redis.command(&["DEL", &key]), "1");
    assert_eq!(redis.command(&["LPUSH", &key, "a"]), "1");
    let error = gateway.take(b"key").await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    assert!(gateway.take(b"another").await.unwrap().allowed, "one key's trouble is not another's");
    assert_eq!(redis.command(&["DEL", &key]), "1");
    assert!(gateway.allows().await);
}

#[tokio::test]
async fn a_server_that_cannot_be_written_to_is_left_for_the_next() {
    let (replica, primary) = (Redis::start(), Redis::start());
    assert_eq!(replica.command(&["REPLICAOF", "127.0.0.1", &free_address().port().to_string()]), "OK");
    assert_eq!(replica.command(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]), "OK");
    let limit = limit(RateAlgorithm::SlidingWindow, 9, HOUR);
    let gateway = Gateway::new(&limit, &place(&[replica.address(), primary.address()]));
    let error = gateway.take(b"key").await.unwrap_err();
    assert!(error.to_string().contains("READONLY"), "{error}");
    eventually("the other server", async || gateway.take(b"key").await.ok()).await;
    assert_eq!(primary.command(&["--raw", "DBSIZE"]), "1");
}

#[tokio::test]
async fn connections_follow_the_endpoints() {
    let (old, new) = (Redis::start(), Redis::start());
    let place = place(&[old.address()]);
    let gateway = Gateway::new(&limit(RateAlgorithm::SlidingWindow, 1, HOUR), &place);
    assert!(gateway.allows().await && !gateway.allows().await);
    moved(&place, &[new.address()]);
    let decision = eventually("the new server", async || gateway.take(b"key").await.ok().filter(|it| it.allowed)).await;
    assert_eq!(decision.remaining, 0);
    moved(&place, &[]);
    let error = eventually("that nobody is there", async || gateway.take(b"key").await.err()).await;
    assert_eq!(error, RedisError::NoEndpoint);
    drop(old);
}

/// What a server may say that is none.
fn says(bytes: &'static [u8], endless: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut written = stream.write_all(bytes);
            while endless && written.is_ok() {
                written = stream.write_all(&[b'a'; 4096]);
            }
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    address
}

#[tokio::test]
async fn who_says_anything_else_is_no_redis() {
    let limit = limit(RateAlgorithm::SlidingWindow, 9, HOUR);
    let ask = async |address: SocketAddr| Gateway::new(&limit, &place(&[address])).take(b"key").await.unwrap_err();
    assert_eq!(ask(says(b"HTTP/1.1 400 Bad Request\r\n\r\n", false)).await, RedisError::Malformed);
    assert_eq!(ask(says(b"$1000000000\r\n", true)).await, RedisError::Malformed);
    assert_eq!(ask(says(b"+", true)).await, RedisError::Malformed);
    assert_eq!(ask(says(b"$1\r\na\r\n$1\r\nb\r\n:1\r\n", false)).await, RedisError::Malformed);
    // A name for each script, and then what no script answers.
    let gateway = Gateway::new(&limit, &place(&[says(b"$1\r\na\r\n$1\r\nb\r\n", false)]));
    assert_eq!(gateway.take_within(Duration::from_millis(20)).await, Err(RedisError::Timeout));
}

#[tokio::test]
async fn a_reference_that_leads_nowhere_is_told() {
    let failure = Failure { reason: Reason::InvalidBackend, message: "name: there is no Service".into() };
    let nowhere = RedisBucket { target: Target::Fail(failure), ..place(&[]) };
    let gateway = Gateway::new(&limit(RateAlgorithm::SlidingWindow, 9, HOUR), &nowhere);
    assert_eq!(gateway.take(b"key").await, Err(RedisError::Unresolved("name: there is no Service".into())));
}

#[test]
fn numbers_that_no_script_answers_are_refused() {
    #[track_caller]
    fn check(algorithm: RateAlgorithm, numbers: Numbers, is_taken: bool) {
        let bucket = SharedBucket::new("default/limits", &limit(algorithm, 9, HOUR), &Arc::default()).unwrap();
        assert_eq!(bucket.outcome(numbers, 1).is_some(), is_taken, "{numbers:?}");
    }
    let hour = 3_600_000_000;
    check(burst(9), [1, 9, hour - 1, 0], true);
    check(burst(9), [1, -1, 0, 0], false);
    check(burst(9), [1, 1 << 32, 0, 0], false);
    check(burst(9), [1, 9, hour, 0], false);
    check(RateAlgorithm::SlidingWindow, [0, 0, i64::from(u32::MAX), i64::from(u32::MAX)], true);
    check(RateAlgorithm::SlidingWindow, [0, hour, 0, 0], false);
    check(RateAlgorithm::SlidingWindow, [0, 0, -1, 0], false);
    check(RateAlgorithm::SlidingWindow, [0, 0, 0, 1 << 32], false);
}
