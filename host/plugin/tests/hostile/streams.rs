//! Policies on bodies that pass validation, and misbehave in the middle of an exchange: in chunks, trailers and at the end.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use penstock_core::plugin::{
    ActiveRevision, BodyVerdict, Capabilities, Chunk, Direction, FaultKind, HeldHead, Message, PluginFault,
    PluginLimits, PluginSpec, PolicyExchange, PolicyWorker, Summary, TrailersVerdict,
};
use penstock_testing::guests::{self, BODIES};
use serde_json::json;

use crate::support::{
    exchange::{facts, once_called, request, rule, works},
    facts::{Host, call, plugin, spec},
    guest::Guest,
};

const BOTH: [Direction; 2] = [Direction::Request, Direction::Response];

struct World {
    host: Host,
    worker: Box<dyn PolicyWorker>,
    bodies: ActiveRevision,
    neighbour: ActiveRevision,
}

impl World {
    fn new() -> Self {
        Self::with_memory(16 << 20)
    }

    fn with_memory(memory: u64) -> Self {
        Self::with(memory, 0)
    }

    /// `begins`: after how many exchanges the constructor of the next one traps.
    fn with(memory: u64, begins: u32) -> Self {
        let host = Host::start();
        let side = json!({ "mode": "stream" });
        let bodies = PluginSpec {
            config: Arc::new(json!({
                "request": side, "response": side, "trailers": true, "request_trailers": true, "count": true,
                "begins": begins
            })),
            capabilities: Capabilities { metrics: true, ..Capabilities::default() },
            ..spec("bodies", guests::bytes(BODIES))
        };
        let bodies = PluginSpec { limits: PluginLimits { memory, ..bodies.limits.clone() }, ..bodies };
        let neighbour = spec("neighbour", Guest::default().build());
        host.apply(&[&bodies, &neighbour]);
        let (bodies, neighbour) = (host.active(&bodies), host.active(&neighbour));
        let worker = host.host.runtime().worker();
        Self { host, worker, bodies, neighbour }
    }

    fn begin(&self) -> Rc<dyn PolicyExchange> {
        once_called(|| self.worker.begin(&call(&self.bodies), &facts(&rule()))).unwrap()
    }

    /// Whoever comes after the fault is served, in the same plugin and in another.
    #[track_caller]
    fn goes_on(&self) {
        works(&*self.worker, &self.neighbour);
        let exchange = self.begin();
        assert!(matches!(body(&exchange, Direction::Request, "x", None), Ok(BodyVerdict::Pass)));
        exchange.end(&facts(&rule()), &Summary { status: 200, ..Summary::default() });
    }

    /// A fault of this hook and kind, counted once, after which all goes on.
    #[track_caller]
    fn faulted(&self, hook: &str, kind: FaultKind, times: u32) {
        let series = format!(r#"penstock_plugin_faults_total{{plugin="default/bodies",hook="{hook}",kind="{kind}"}}"#);
        assert_eq!(self.host.metric(&series), f64::from(times), "{series}");
        let state = self.host.facts.state(&plugin("bodies"));
        assert_eq!((state.active.as_ref(), state.candidate), (Some(&self.bodies), None), "it serves as before");
        self.goes_on();
    }
}

fn body(
    exchange: &Rc<dyn PolicyExchange>,
    direction: Direction,
    bytes: &str,
    held: Option<&HeldHead>,
) -> Result<BodyVerdict, PluginFault> {
    let chunk = Chunk { bytes: Bytes::from(bytes.to_owned()), end: bytes.ends_with('$') };
    exchange.clone().on_body(&facts(&rule()), direction, chunk, held.cloned()).at_once()
}

fn hook(direction: Direction, of: &str) -> String {
    let direction = match direction {
        Direction::Request => "request",
        Direction::Response => "response",
    };
    format!("{direction}_{of}")
}

/// Each fate, in both directions, is a fault of this hook and kind, and is counted; after it all goes on.
#[track_caller]
fn meets(
    of: &str,
    fates: &[(&'static str, FaultKind, &str)],
    call: impl Fn(&World, Direction, &'static str) -> Option<PluginFault>,
) {
    let world = World::new();
    let mut invalid = 0;
    for &(fate, kind, part) in fates {
        invalid += u32::from(kind == FaultKind::InvalidAnswer);
        for direction in BOTH {
            let fault = call(&world, direction, fate).unwrap_or_else(|| panic!("{fate} is no fault"));
            assert_eq!(fault.kind, kind, "{fate}: {fault}");
            assert!(fault.message.contains(part), "{fate}: {fault}");
            let times = if kind == FaultKind::InvalidAnswer { invalid } else { 1 };
            world.faulted(&hook(direction, of), kind, times);
        }
    }
}

#[test]
fn in_a_body() {
    let fates = [
        ("!trap", FaultKind::Trap, "unreachable"),
        ("!spin", FaultKind::Deadline, "it used more than 200ms of CPU time"),
        ("!grow", FaultKind::Memory, "limits.memory allows"),
        ("!hold$", FaultKind::InvalidAnswer, "the last chunk of a body cannot be held"),
        ("!release", FaultKind::InvalidAnswer, "`release` answers for headers that are not held"),
        ("!huge", FaultKind::InvalidAnswer, "hostcall"),
    ];
    meets("body", &fates, |world, direction, fate| body(&world.begin(), direction, fate, None).err());
}

#[test]
fn recursion_in_a_body() {
    let world = World::new();
    for direction in BOTH {
        let fault = body(&world.begin(), direction, "!deep", None).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
        world.faulted(&hook(direction, "body"), FaultKind::Trap, 1);
    }
}

#[test]
fn a_held_head_stays_as_it_is() {
    let world = World::new();
    let head: HeldHead = Rc::new(RefCell::new(Message::Request(request())));
    let names = |head: &HeldHead| match &*head.borrow() {
        Message::Request(head) => head.headers.keys().map(ToString::to_string).collect::<Vec<_>>(),
        Message::Response(_) => panic!("it is a request"),
    };
    let before = names(&head);
    let fault = body(&world.begin(), Direction::Request, "!edit", Some(&head)).unwrap_err();
    assert!(fault.message.contains("undeclared-write: `undeclared`"), "{fault}");
    assert_eq!(names(&head), before);
    world.faulted("request_body", FaultKind::InvalidAnswer, 1);
}

#[test]
fn in_trailers() {
    let fates = [
        ("!trap", FaultKind::Trap, "unreachable"),
        ("!spin", FaultKind::Deadline, "it used more than 200ms of CPU time"),
        ("!grow", FaultKind::Memory, "limits.memory allows"),
        ("!edit", FaultKind::InvalidAnswer, "undeclared-write: `undeclared`"),
        ("!line", FaultKind::InvalidAnswer, "x-a"),
    ];
    meets("trailers", &fates, |world, direction, fate| trailers(world, direction, fate).err());
}

/// Trailers that ask for a fate.
fn trailers(world: &World, direction: Direction, fate: &'static str) -> Result<TrailersVerdict, PluginFault> {
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-fate"), HeaderValue::from_static(fate))]);
    world.begin().on_trailers(&facts(&rule()), direction, trailers).at_once()
}

#[test]
fn trailers_with_a_huge_body() {
    // Room for the copies that the guest itself makes: it is the host that has enough.
    let world = World::with_memory(64 << 20);
    for direction in BOTH {
        let fault = trailers(&world, direction, "!huge").unwrap_err();
        assert_eq!(fault.kind, FaultKind::InvalidAnswer, "{fault}");
        assert!(fault.message.contains("hostcall"), "{fault}");
        world.faulted(&hook(direction, "trailers"), FaultKind::InvalidAnswer, 1);
    }
}

#[test]
fn at_the_end() {
    let world = World::new();
    for (status, kind, times) in [
        (595, FaultKind::Trap, 1),
        (596, FaultKind::Memory, 1),
        (597, FaultKind::Deadline, 1),
        (598, FaultKind::Trap, 2),
    ] {
        let exchange = world.begin();
        exchange.end(&facts(&rule()), &Summary { status, ..Summary::default() });
        // Twice is once.
        exchange.end(&facts(&rule()), &Summary { status, ..Summary::default() });
        drop(exchange);
        world.faulted("end", kind, times);
    }
}

#[test]
fn in_the_constructor() {
    // More than the samples begin.
    let world = World::with(16 << 20, 20);
    let begin = || world.worker.begin(&call(&world.bodies), &facts(&rule()));
    let fault = (0..100).find_map(|_| begin().err()).expect("one of them traps");
    assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
    world.faulted("begin", FaultKind::Trap, 1);
}

/// Nobody is left to be told, but it is counted.
#[test]
fn in_the_destructor() {
    let world = World::new();
    world.host.until_instances("bodies", 2);
    let (exchange, other) = (world.begin(), world.begin());
    assert!(body(&exchange, Direction::Request, "!last", None).is_ok());
    drop(exchange);
    assert!(body(&other, Direction::Request, "x", None).is_ok());
    world.faulted("end", FaultKind::Trap, 1);
}
