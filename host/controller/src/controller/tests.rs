//! The loop with fake outputs. No threads, no time: batches go in by hand.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use penstock_core::{
    Kind,
    fact::Fact,
    plugin::{Candidate, Phase, PluginState, Rejection},
};
use penstock_translate::{Change, resources::Object};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{event::Event, readiness::Unready};

/// What was called, in order; whether what was asked for is told by events; and for each time that something was said, what was to stay.
#[derive(Clone, Default)]
struct Calls(Rc<RefCell<Vec<Call>>>, Rc<Cell<bool>>, Rc<RefCell<Vec<Reserve>>>);

enum Call {
    Publish(Arc<Snapshot>),
    Require(Vec<ResourceRef>),
}

impl Outputs for Calls {
    fn ask(&mut self, _: &Arc<BTreeSet<ResourceRef>>) -> bool {
        self.1.get()
    }

    fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        self.0.borrow_mut().push(Call::Publish(Arc::clone(snapshot)));
    }

    fn require(&mut self, needs: &Needs) {
        self.0.borrow_mut().push(Call::Require(needs.plugins.iter().map(|spec| spec.plugin.clone()).collect()));
    }

    fn say(&mut self, _: &Arc<Statuses>, reserve: &Reserve) {
        self.2.borrow_mut().push(reserve.clone());
    }
}

impl Calls {
    /// The calls since the last time, as words: `publish 8080` for a snapshot with that socket, `require`.
    fn take(&self) -> Vec<String> {
        let describe = |call| match call {
            Call::Publish(snapshot) => {
                let ports = snapshot.sockets.iter().map(|socket| socket.address.port().to_string());
                format!("publish {}", ports.collect::<Vec<_>>().join(" "))
            }
            Call::Require(plugins) => format!("require {}", plugins.len()),
        };
        self.0.take().into_iter().map(describe).collect()
    }
}

struct Loop {
    controller: Controller<Calls>,
    calls: Calls,
    board: Arc<StatusBoard>,
    registry: Registry,
}

impl Loop {
    fn new(sources: &[&str]) -> Self {
        Self::with(Settings::standalone(), sources)
    }

    fn with(settings: Settings, sources: &[&str]) -> Self {
        let mut registry = Registry::default();
        let calls = Calls::default();
        let board = Arc::new(StatusBoard::new(jiff::Timestamp::now));
        let controller = Controller::new(
            settings,
            sources.iter().map(|&source| SourceId::new(source)),
            calls.clone(),
            Arc::clone(&board),
            ControllerMetrics::new(&mut registry),
        );
        Self { controller, calls, board, registry }
    }

    /// How often the world was looked at.
    fn translations(&self) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("penstock_translation_seconds_count "));
        line.unwrap().parse().unwrap()
    }

    fn handle(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<String> {
        self.controller.handle(events.into_iter().collect());
        self.calls.take()
    }
}

fn gateway(port: u16) -> Event {
    let document = json!({
        "metadata": { "name": "gw" },
        "spec": {
            "gatewayClassName": "penstock",
            "listeners": [{ "name": "http", "port": port, "protocol": "HTTP" }],
        },
    });
    let object = Object::parse("gateway.networking.k8s.io/v1", "Gateway", document).unwrap();
    Event::Changed(vec![Change::Upsert(object)])
}

fn complete(source: &str) -> Event {
    Event::Complete(SourceId::new(source))
}

fn socket(port: u16, state: SocketState) -> Event {
    Event::Changed(vec![Change::Observe(Fact::Socket(([0, 0, 0, 0], port).into(), state))])
}

#[test]
fn nothing_is_published_before_every_source_is_complete() {
    let mut it = Loop::new(&["files", "cluster"]);
    assert_eq!(it.handle([gateway(8080)]), Vec::<String>::new());
    assert_eq!(it.handle([complete("files")]), Vec::<String>::new());
    assert_eq!(it.board.readiness(), Err(Unready::Sources(vec![SourceId::new("cluster")])));
    assert_eq!(it.handle([complete("cluster")]), ["publish 8080", "require 0"]);
}

/// A listener with a certificate of this name.
fn gateway_with(secret: &str) -> Event {
    let document = json!({
        "metadata": { "name": "gw" },
        "spec": {
            "gatewayClassName": "penstock",
            "listeners": [{
                "name": "https", "port": 8443, "protocol": "HTTPS", "tls": { "certificateRefs": [{ "name": secret }] },
            }],
        },
    });
    let object = Object::parse("gateway.networking.k8s.io/v1", "Gateway", document).unwrap();
    Event::Changed(vec![Change::Upsert(object)])
}

fn answered(secrets: &[&str]) -> Event {
    let secrets = secrets.iter().map(|name| ResourceRef::new(Kind::Secret, "default", *name));
    Event::Answered(Arc::new(secrets.collect()))
}

#[test]
fn what_is_on_its_way_does_not_look_as_if_it_were_missing() {
    let mut it = Loop::new(&["cluster"]);
    it.calls.1.set(true);
    assert_eq!(it.handle([gateway_with("first"), complete("cluster")]), Vec::<String>::new());
    assert!(matches!(it.board.readiness(), Err(Unready::Objects(_))));
    assert_eq!(it.handle([answered(&[])]), Vec::<String>::new());
    assert_eq!(it.handle([answered(&["first"])]), ["publish ", "require 0"]);
    // Later, what serves goes on serving. That something is at hand counts from when it was told, and not from when it was so: what was read came
    // before that.
    assert_eq!(it.handle([gateway_with("second")]), Vec::<String>::new());
    assert_eq!(it.handle([gateway(8080)]), ["publish 8080", "require 0"]);
    assert_eq!(it.handle([gateway_with("second")]), Vec::<String>::new());
    assert_eq!(it.handle([answered(&["second"])]), ["publish ", "require 0"]);
}

#[test]
fn what_is_said_tells_whether_a_socket_is_still_to_be_closed() {
    let mut it = Loop::new(&["cluster"]);
    it.handle([gateway(8080), complete("cluster")]);
    it.handle([socket(8080, SocketState::Bound)]);
    it.handle([gateway(8081)]);
    it.handle([socket(8080, SocketState::Closed)]);
    it.handle([socket(8081, SocketState::Failed("taken".into()))]);
    // One that was never open needs no closing.
    it.handle([gateway(8082)]);
    it.handle([socket(8082, SocketState::Bound)]);
    let closing: Vec<bool> = it.calls.2.take().iter().map(|reserve| reserve.closing).collect();
    assert_eq!(closing, [false, true, false, false, false, false]);
}

/// A plugin of the Gateway, which is on its way.
fn plugin(name: &str) -> Event {
    let document = json!({
        "metadata": { "name": name, "generation": 1 },
        "spec": {
            "source": { "oci": { "ref": "registry.example.com/plugins/rules:1" } },
            "targetRefs": [{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw" }],
        },
    });
    Event::Changed(vec![Change::Upsert(Object::parse("penstock.dev/v1alpha1", "WasmPlugin", document).unwrap())])
}

#[test]
fn what_has_a_plugin_on_its_way_keeps_what_was_said_before_the_start() {
    let mut it = Loop::new(&["cluster"]);
    it.handle([gateway(8080), plugin("first"), complete("cluster")]);
    it.handle([socket(8080, SocketState::Bound)]);
    let phase = Phase::Rejected(Rejection { reason: "InvalidModule", message: String::new() });
    let candidate = Some(Candidate { generation: 1, digest: None, artifact: None, phase });
    let state = Arc::new(PluginState { candidate, ..PluginState::default() });
    let first = ResourceRef::new(Kind::WasmPlugin, "default", "first");
    it.handle([Event::Changed(vec![Change::Observe(Fact::Plugin(first, state))])]);
    it.handle([plugin("later")]);
    let names = |reserve: &Reserve| reserve.undecided.iter().map(|id| id.name.to_string()).collect::<Vec<_>>();
    let held: Vec<_> = it.calls.2.take().iter().map(names).collect();
    assert_eq!(held, [vec!["gw", "first"], vec![], vec![]], "what comes later is told as it comes");
}

#[test]
fn a_loop_that_is_gone_is_noticed() {
    let it = Loop::new(&["files"]);
    assert!(it.board.is_alive());
    let board = it.board;
    drop(it.controller);
    assert!(!board.is_alive());
}

#[test]
fn an_empty_world_is_published_too() {
    let mut it = Loop::new(&["files"]);
    assert_eq!(it.handle([complete("files")]), ["publish ", "require 0"]);
    assert_eq!(it.board.readiness(), Ok(()));
}

#[test]
fn what_changes_nothing_causes_no_work() {
    let mut it = Loop::new(&["files"]);
    it.handle([gateway(8080), complete("files")]);
    it.handle([socket(8080, SocketState::Bound)]);
    assert_eq!(it.handle([gateway(8080)]), Vec::<String>::new(), "an equal resource");
    assert_eq!(it.handle([socket(8080, SocketState::Bound)]), Vec::<String>::new(), "a fact that is known");
    assert_eq!(it.handle([Event::Problems(SourceId::new("files"), vec![])]), Vec::<String>::new(), "still no problem");
}

fn object(api_version: &str, kind: &str, document: Value) -> Event {
    Event::Changed(vec![Change::Upsert(Object::parse(api_version, kind, document).unwrap())])
}

/// A class of this controller, with a Gateway, a route to it, and a ListenerSet.
fn installation(name: &str, controller: &str, port: u16) -> Vec<Event> {
    const VERSION: &str = "gateway.networking.k8s.io/v1";
    let listeners = json!([{ "name": "http", "port": port, "protocol": "HTTP" }]);
    let metadata = json!({ "name": name });
    let class = json!({ "metadata": metadata, "spec": { "controllerName": controller } });
    let gateway = json!({ "metadata": metadata, "spec": { "gatewayClassName": name, "listeners": listeners } });
    let route = json!({ "metadata": metadata, "spec": { "parentRefs": [{ "name": name }], "hostnames": [format!("p{port}.example.com")] } });
    let set = json!({ "metadata": metadata, "spec": { "parentRef": { "name": name }, "listeners": listeners } });
    vec![
        object(VERSION, "GatewayClass", class),
        object(VERSION, "Gateway", gateway),
        object(VERSION, "HTTPRoute", route),
        object(VERSION, "ListenerSet", set),
    ]
}

#[test]
fn what_belongs_to_another_controller_is_not_even_looked_at() {
    let settings = Settings { implied_class: None, ..Settings::standalone() };
    let controller = settings.controller_name.to_string();
    let mut it = Loop::with(settings, &["cluster"]);
    it.handle(installation("ours", &controller, 8080).into_iter().chain([complete("cluster")]));
    it.handle([socket(8080, SocketState::Bound)]);
    it.handle(installation("theirs", "example.org/other", 9090).into_iter().take(1));
    let (before, said) = (it.translations(), it.calls.2.take().len());
    assert!(said > 0);
    for port in 9091..9111 {
        for event in installation("theirs", "example.org/other", port).into_iter().skip(1) {
            assert_eq!(it.handle([event]), Vec::<String>::new());
        }
    }
    for kind in [Kind::HTTPRoute, Kind::ListenerSet, Kind::Gateway] {
        it.handle([Event::Changed(vec![Change::Delete(ResourceRef::new(kind, "default", "theirs"))])]);
    }
    assert_eq!(it.translations(), before);
    assert_eq!(it.calls.2.take().len(), 0, "nobody says anything");
    // What they left in the world is there as soon as it becomes ours.
    it.handle(installation("theirs", "example.org/other", 9200).into_iter().skip(1));
    assert_eq!(it.translations(), before);
    let published = it.handle(installation("theirs", &controller, 9200).into_iter().take(1));
    assert_eq!(published, ["publish 8080 9200", "require 0"]);
}

#[test]
fn a_change_is_published_and_a_fact_that_changes_no_configuration_is_not() {
    let mut it = Loop::new(&["files"]);
    it.handle([gateway(8080), complete("files")]);
    assert_eq!(it.handle([gateway(8081)]), ["publish 8081", "require 0"]);
    assert_eq!(it.handle([socket(8081, SocketState::Bound)]), ["require 0"], "status only");
}

#[test]
fn it_is_ready_when_the_sockets_are_settled() {
    let mut it = Loop::new(&["files"]);
    it.handle([gateway(8080), complete("files")]);
    assert_eq!(it.board.readiness(), Err(Unready::Sockets(vec![([0, 0, 0, 0], 8080).into()])));
    it.handle([socket(8080, SocketState::Failed("in use".into()))]);
    assert_eq!(it.board.readiness(), Ok(()), "waiting longer would not help");
}

#[test]
fn of_several_events_about_one_thing_only_the_last_is_applied() {
    let mut it = Loop::new(&["files"]);
    assert_eq!(it.handle([gateway(1), gateway(2), complete("files"), gateway(3)]), ["publish 3", "require 0"]);
}

#[test]
fn a_socket_that_failed_is_tried_again_and_one_that_accepts_is_left_alone() {
    let mut it = Loop::new(&["files"]);
    it.handle([gateway(8080), complete("files"), socket(8080, SocketState::Failed("in use".into()))]);
    assert_eq!(it.handle([Event::Retry]), ["publish 8080"]);
    it.handle([socket(8080, SocketState::Bound)]);
    assert_eq!(it.handle([Event::Retry]), Vec::<String>::new());
}

/// A small deterministic generator (xorshift), so that a failure names a seed that repeats it.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Whatever happened, in one order; each seed tells another story.
fn story(dice: &mut Dice) -> Vec<Event> {
    let mut events = vec![complete("files")];
    for _ in 0..30 {
        let port = 8080 + u16::try_from(dice.roll(3)).unwrap();
        events.push(match dice.roll(5) {
            0 => Event::Changed(vec![Change::Delete(ResourceRef::new(Kind::Gateway, "default", "gw"))]),
            1 => socket(port, SocketState::Bound),
            2 => socket(port, SocketState::Failed("in use".into())),
            _ => gateway(port),
        });
    }
    events
}

#[test]
fn the_end_does_not_depend_on_how_events_fall_into_batches() {
    for seed in 1..200 {
        let mut at_once = Loop::new(&["files"]);
        at_once.handle(story(&mut Dice(seed)));

        let (mut one_by_one, mut dice) = (Loop::new(&["files"]), Dice(seed.wrapping_mul(7919)));
        let mut batch = Vec::new();
        for event in story(&mut Dice(seed)) {
            batch.push(event);
            if dice.roll(3) == 0 {
                one_by_one.handle(std::mem::take(&mut batch));
            }
        }
        one_by_one.handle(batch);

        let end = |it: &Loop| {
            let snapshot = serde_json::to_value(it.controller.published.as_ref().unwrap()).unwrap();
            let statuses: Vec<_> =
                it.board.report().resources.into_iter().map(|it| (it.name, without_times(it.status))).collect();
            (snapshot, statuses)
        };
        assert_eq!(end(&at_once), end(&one_by_one), "seed {seed}");
    }
}

/// When something became so may differ; what is so may not.
fn without_times(mut status: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("lastTransitionTime");
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut status);
    status
}
