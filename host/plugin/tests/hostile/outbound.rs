//! Plugins that misuse HTTP to backends: before there is traffic, in what they ask for, and in what they make of an answer. What backends do to
//! plugins stands in the end-to-end test of the same name, where there are sockets.

use std::{
    sync::{Arc, LazyLock},
    task::Poll,
};

use bytes::Bytes;
use http::{Response, request};
use penstock_core::{
    plugin::{
        ActiveRevision, Capabilities, ExchangeFacts, FaultKind, PluginFault, PluginSpec, PolicyCall, PolicyWorker,
        Verdict,
    },
    route::RuleId,
};

use crate::{
    Case, guest, refuses,
    support::{
        exchange::{facts, once_called, request, rule, with, works},
        facts::{Host, call, spec},
        guest::{Answer, Guest, TRIGGER},
        outbound::{Client, Waiting, backend, granted, poll, status, waiting},
    },
};

/// What guests name in their calls, and where it stands in their memory.
const DATA: &str = r#"(data (i32.const 512) "authGET/elsewherehttp://x/CONNECTx-aa\0d\0abcontent-length")
    (data (i32.const 640) "\21\02\00\00\03\00\00\00\24\02\00\00\04\00\00\00")
    (data (i32.const 656) "\28\02\00\00\0e\00\00\00\21\02\00\00\01\00\00\00")"#;
const AUTH: Slice = (512, 4);
const GET: Slice = (516, 3);
const ROOT: Slice = (519, 1);
const ELSEWHERE: Slice = (520, 9);
const URL: Slice = (529, 9);
const CONNECT: Slice = (538, 7);
/// `x-a: a\r\nb`, a list of one header.
const TWO_LINES: Slice = (640, 1);
/// `content-length: x`.
const LENGTH: Slice = (656, 1);
const NOTHING: Slice = (0, 0);
/// Where the host writes the answer.
const ANSWER: u32 = 128;

type Slice = (u32, u32);

/// One call.
#[derive(Clone, Copy)]
struct Call {
    backend: Slice,
    method: Slice,
    path: Slice,
    headers: Slice,
    body: Slice,
}

const GOOD: Call = Call { backend: AUTH, method: GET, path: ROOT, headers: NOTHING, body: NOTHING };

impl Call {
    fn code(self) -> String {
        let Self { backend, method, path, headers, body } = self;
        let slices =
            [backend, method, path, headers, body].map(|(at, len)| format!("(i32.const {at}) (i32.const {len})"));
        format!("(call $send {} (i32.const 0) (i32.const 0) (i32.const {ANSWER}))", slices.concat())
    }
}

/// Replies with the status of the answer; for an error with 580 and its case.
fn tell() -> String {
    format!(
        "(i32.store (i32.const 256) (i32.const 1))
         (i32.store (i32.const 264) (if (result i32) (i32.load8_u (i32.const {ANSWER}))
            (then (i32.add (i32.const 580) (i32.load8_u (i32.const {}))))
            (else (i32.load16_u (i32.const {})))))
         (i64.store (i32.const 268) (i64.const 0)) (i64.store (i32.const 276) (i64.const 0)) (i32.const 256)",
        ANSWER + 8,
        ANSWER + 8,
    )
}

const UNKNOWN_BACKEND: u16 = 580;
const INVALID_REQUEST: u16 = 581;
const CONNECT_FAILED: u32 = 3;
const QUOTA: u16 = 585;

/// One call after the other; what was answered is forgotten, so that there is room for the next answer.
fn for_ever() -> String {
    format!("(loop $again {} (global.set $heap (i32.const 262144)) (br $again))", GOOD.code())
}

/// With the import.
fn calling(guest: Guest) -> Guest {
    let import = r#"(import "penstock:plugin/outbound-http@0.1.0" "send"
        (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    Guest { imports: import.into(), fields: DATA.into(), pages: 128, ..guest }
}

/// A plugin that does this when it meets the trigger.
fn on_trigger(code: &str) -> Guest {
    calling(Guest::faulty(Answer::Code(format!("{code} {}", tell()))))
}

fn granting(spec: PluginSpec) -> PluginSpec {
    PluginSpec { capabilities: Capabilities { outbound: vec![granted("auth")], ..Capabilities::default() }, ..spec }
}

/// Where there is no exchange that could wait, there is no network, and insisting on it is no way to be accepted.
#[test]
fn before_there_is_traffic() {
    let insists = format!(
        "{} (if (i32.and (i32.load8_u (i32.const {ANSWER})) (i32.eq (i32.load8_u (i32.const {})) (i32.const {CONNECT_FAILED}))) (then unreachable))",
        GOOD.code(),
        ANSWER + 8,
    );
    let for_ever = for_ever();
    let refused = |name: &str, with: Guest, reason, part| {
        let case = guest(name, &calling(with), reason, part);
        Case { spec: granting(case.spec), ..case }
    };
    let limit = "it used more than 200ms of CPU time";
    let usual = Guest::default;
    refuses(vec![
        refused("describe", Guest { describe: insists.clone(), ..usual() }, "DescribeTrapped", "unreachable"),
        refused("configure", Guest { configure: insists.clone(), ..usual() }, "ConfigureTrapped", "unreachable"),
        refused("self-test", Guest { self_test_code: insists.clone(), ..usual() }, "SelfTestTrapped", "unreachable"),
        refused(
            "a sample",
            Guest { on_request: Answer::Code(format!("{insists} {}", tell())), ..usual() },
            "SampleTrapped",
            "unreachable",
        ),
        refused("describe for ever", Guest { describe: for_ever.clone(), ..usual() }, "TimeLimitExceeded", limit),
        refused("configure for ever", Guest { configure: for_ever.clone(), ..usual() }, "TimeLimitExceeded", limit),
        refused("self-test for ever", Guest { self_test_code: for_ever, ..usual() }, "TimeLimitExceeded", limit),
        guest("without a grant", &on_trigger(&GOOD.code()), "ImportNotGranted", "spec.capabilities.outbound"),
    ]);
}

/// A worker with a neighbour of the plugins that misbehave.
struct World {
    host: Host,
    client: Client,
    worker: Box<dyn PolicyWorker>,
    neighbour: (PluginSpec, ActiveRevision),
}

/// The same for every exchange here.
static FACTS: LazyLock<ExchangeFacts<'static>> = LazyLock::new(|| facts(&RULE));
static RULE: LazyLock<RuleId> = LazyLock::new(rule);

/// What becomes of an exchange.
#[derive(Debug)]
enum Fate {
    Reply(u16),
    Fault(FaultKind, &'static str),
}

impl World {
    fn new() -> Self {
        let host = Host::start();
        let neighbour = spec("neighbour", Guest::default().build());
        let active = host.activate(&neighbour);
        let (client, worker) = (Client::default(), host.host.runtime().worker());
        worker.connect(Arc::new(client.clone()));
        Self { host, client, worker, neighbour: (neighbour, active) }
    }

    fn serve(&self, spec: &PluginSpec) -> PolicyCall {
        self.host.apply(&[&self.neighbour.0, spec]);
        PolicyCall { outbound: Arc::new([backend("auth")]), ..call(&self.host.active(spec)) }
    }

    fn begin<'a>(&'a self, call: &'a PolicyCall, head: &'a mut request::Parts) -> Waiting<'a> {
        waiting(self.worker.on_request(call, &FACTS, head))
    }

    fn verdict(&self, call: &PolicyCall, trigger: bool) -> Result<Verdict, PluginFault> {
        let mut head = request();
        if trigger {
            with(&mut head.headers, TRIGGER);
        }
        let mut exchange = self.begin(call, &mut head);
        let Poll::Ready(verdict) = poll(&mut exchange) else { panic!("it waits") };
        verdict
    }

    /// The plugin meets its trigger three times, and each time this comes of it, and nobody else notices.
    fn meets(&self, name: &str, guest: &Guest, answers: &[Response<Bytes>], fate: &Fate, asked: usize) {
        let spec = granting(spec(name, guest.build()));
        let call = self.serve(&spec);
        for round in 1..=3 {
            let before = self.client.asked();
            answers.iter().for_each(|answer| self.client.answer(Ok(answer.clone())));
            match (self.verdict(&call, true), fate) {
                (Ok(Verdict::Reply(reply)), Fate::Reply(status)) => {
                    assert_eq!(reply.status().as_u16(), *status, "{name}");
                }
                (Err(fault), Fate::Fault(kind, part)) => {
                    assert_eq!(fault.kind, *kind, "{name}: {fault}");
                    assert!(fault.message.contains(part), "{name}: {fault}");
                    let faults = format!(
                        r#"penstock_plugin_faults_total{{plugin="default/{name}",hook="request",kind="{kind}"}}"#
                    );
                    assert_eq!(self.host.metric(&faults), f64::from(round), "{name}");
                }
                (other, fate) => panic!("{name}: {other:?} is not {fate:?}"),
            }
            assert_eq!(self.client.asked() - before, asked, "{name}");
            works(&*self.worker, &self.neighbour.1);
            assert!(
                matches!(once_called(|| self.verdict(&call, false)), Ok(Verdict::Proceed(_))),
                "{name}: its next exchange"
            );
        }
        let state = self.host.facts.state(&spec.plugin);
        assert!(state.candidate.is_none() && state.active.is_some_and(|active| active.generation == 1), "{name}");
    }
}

#[test]
fn calls_that_are_not_made() {
    let world = World::new();
    for (name, call, status) in [
        ("elsewhere", Call { backend: ELSEWHERE, ..GOOD }, UNKNOWN_BACKEND),
        ("no-backend", Call { backend: NOTHING, ..GOOD }, UNKNOWN_BACKEND),
        ("a-tunnel", Call { method: CONNECT, ..GOOD }, INVALID_REQUEST),
        ("no-method", Call { method: NOTHING, ..GOOD }, INVALID_REQUEST),
        ("a-url", Call { path: URL, ..GOOD }, INVALID_REQUEST),
        ("no-path", Call { path: NOTHING, ..GOOD }, INVALID_REQUEST),
        ("two-lines", Call { headers: TWO_LINES, ..GOOD }, INVALID_REQUEST),
        ("a-length", Call { headers: LENGTH, ..GOOD }, INVALID_REQUEST),
        // Of zeros: names without a letter, and too many of them.
        ("many-headers", Call { headers: (1 << 20, 257), ..GOOD }, INVALID_REQUEST),
    ] {
        world.meets(name, &on_trigger(&call.code()), &[], &Fate::Reply(status), 0);
    }
}

#[test]
fn calls_that_cost_too_much() {
    let world = World::new();
    let answers = vec![Response::new(Bytes::new()); 8];
    let nine = GOOD.code().repeat(9);
    world.meets("nine-calls", &on_trigger(&nine), &answers, &Fate::Reply(QUOTA), 8);
    let limit = Fate::Fault(FaultKind::Deadline, "it used more than 200ms of CPU time");
    world.meets("calls-for-ever", &on_trigger(&for_ever()), &answers, &limit, 8);
    let huge = Call { body: (1 << 20, 5 << 20), ..GOOD };
    let fuel = Fate::Fault(FaultKind::InvalidAnswer, "fuel allocated for hostcalls has been exhausted");
    world.meets("a-huge-body", &on_trigger(&huge.code()), &[], &fuel, 0);
    let outside = Call { body: (u32::MAX - 8, 64), ..GOOD };
    let bounds = Fate::Fault(FaultKind::InvalidAnswer, "out of bounds");
    world.meets("a-body-from-nowhere", &on_trigger(&outside.code()), &[], &bounds, 0);
}

#[test]
fn answers_in_bad_hands() {
    let world = World::new();
    let answer = [Response::new(Bytes::new())];
    let trap = Fate::Fault(FaultKind::Trap, "unreachable");
    world.meets("traps-with-it", &on_trigger(&format!("{} unreachable", GOOD.code())), &answer, &trap, 1);
    let spin = format!("{} (loop $again (br $again))", GOOD.code());
    let limit = Fate::Fault(FaultKind::Deadline, "it used more than 200ms of CPU time");
    world.meets("spins-with-it", &on_trigger(&spin), &answer, &limit, 1);
    // The memory of the guest has 8 MiB, and its allocator promises more.
    let large = [Response::new(Bytes::from(vec![b'x'; 9 << 20]))];
    let bounds = Fate::Fault(FaultKind::InvalidAnswer, "beyond end of memory");
    world.meets("no-room-for-it", &on_trigger(&GOOD.code()), &large, &bounds, 1);
}

/// Whoever waits has an instance for itself; a worker keeps 64 of them, and the 65th exchange is told so.
#[test]
fn sleepers_take_their_own_places_and_no_others() {
    const PLACES: usize = 64;
    let world = World::new();
    let call = world.serve(&granting(spec("sleeper", on_trigger(&GOOD.code()).build())));
    let mut heads: Vec<_> = (0..=PLACES).map(|_| request()).collect();
    for head in &mut heads {
        with(&mut head.headers, TRIGGER);
    }
    let mut exchanges: Vec<_> = heads.iter_mut().map(|head| world.begin(&call, head)).collect();
    let mut last = exchanges.pop().unwrap();
    for exchange in &mut exchanges {
        assert!(poll(exchange).is_pending());
        works(&*world.worker, &world.neighbour.1);
    }
    assert_eq!(world.client.asked(), PLACES);
    let Poll::Ready(Err(fault)) = poll(&mut last) else { panic!("the 65th waits too") };
    assert_eq!(fault.kind, FaultKind::Overloaded, "{fault}");
    assert!(fault.message.contains("limits.waiting"), "{fault}");
    let refused = r#"penstock_plugin_faults_total{plugin="default/sleeper",hook="request",kind="overloaded"}"#;
    assert_eq!(world.host.metric(refused), 1.0);
    assert_eq!(world.client.asked(), PLACES, "it never got so far as to ask");

    // One is answered and one leaves: there is room for two.
    world.client.answer(status(204));
    let Poll::Ready(Ok(Verdict::Reply(reply))) = poll(&mut exchanges[7]) else { panic!("it was answered") };
    assert_eq!(reply.status().as_u16(), 204);
    drop(exchanges.swap_remove(7));
    drop(exchanges.swap_remove(13));
    for _ in 0..2 {
        assert!(matches!(world.verdict(&call, false), Ok(Verdict::Proceed(_))));
    }
    world.client.answer(status(200));
    assert!(matches!(world.verdict(&call, true), Ok(Verdict::Reply(_))), "and this one gets its answer");
    works(&*world.worker, &world.neighbour.1);
}
