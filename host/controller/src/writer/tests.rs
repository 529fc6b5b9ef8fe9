//! What is written when, with an API server that takes everything and a clock that is set by hand.

use penstock_translate::{
    Condition, ConditionStatus,
    status::{GatewayStatus, ListenerStatus},
};
use prometheus_client::registry::Registry;

use super::*;

/// A writer whose client nobody asks.
fn writer() -> Writer {
    let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    Writer {
        client: Client::try_from(nobody).unwrap(),
        live: Arc::default(),
        namespaces: Namespaces::new(None),
        signature: "penstock-test".into(),
        controller: "example.com/gateway".into(),
        clock: || jiff::Timestamp::UNIX_EPOCH,
        metrics: ClusterMetrics::new(&mut Registry::default()),
    }
}

/// A Gateway with so many routes.
fn gateway(routes: i32, programmed: ConditionStatus) -> Arc<Status> {
    let condition = Condition {
        type_: "Programmed",
        status: programmed,
        reason: "Programmed",
        message: String::new(),
        observed_generation: 1,
    };
    let listener = ListenerStatus {
        name: "http".into(),
        supported_kinds: vec![],
        attached_routes: routes,
        conditions: vec![condition.clone()],
    };
    let status = GatewayStatus {
        addresses: vec![],
        conditions: vec![condition],
        listeners: vec![listener],
        attached_listener_sets: 0,
    };
    Arc::new(Status::Gateway(status))
}

/// What the API server makes of a patch (RFC 7396).
fn patched(object: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *object = patch };
    if !object.is_object() {
        *object = json!({});
    }
    for (field, value) in patch {
        patched(&mut object[&field], value);
    }
}

/// The writer, and the status that the API server has.
struct Rig {
    writer: Writer,
    desk: Desk,
    id: ResourceRef,
    there: Value,
}

impl Rig {
    fn new() -> Self {
        let id = ResourceRef::new(Kind::Gateway, "default", "web");
        let (writer, desk) = (writer(), Desk::default());
        writer.live.insert(id.clone(), LiveObject::new("uid", "1", None));
        Self { writer, desk, id, there: Value::Null }
    }

    fn want(&mut self, status: Arc<Status>) {
        let statuses = Statuses::from([(self.id.clone(), status)]);
        self.desk.receive(Desired { statuses, reserve: Reserve::default() });
    }

    /// Whether anything is written now.
    fn writes(&mut self, now: Instant) -> bool {
        let Some((id, patch, _)) = self.writer.next(&mut self.desk, now) else { return false };
        patched(&mut self.there, patch["status"].clone());
        self.writer.live.insert(id, LiveObject::new("uid", "1", Some(&self.there)));
        assert!(self.writer.next(&mut self.desk, now).is_none(), "once is enough");
        true
    }
}

#[tokio::test]
async fn counts_wait_for_more_and_nothing_else_does() {
    let (mut rig, start) = (Rig::new(), Instant::now());
    let at = |tenth: i32| start + Duration::from_millis(100) * tenth.unsigned_abs();
    let mut writes = Vec::new();
    for tenth in 0..100 {
        rig.want(gateway(tenth, ConditionStatus::True));
        if rig.writes(at(tenth)) {
            writes.push(tenth);
        }
    }
    assert_eq!(writes, [0, 1, 11, 31, 71], "something new, then counts");
    // Something else goes with the count that was waiting.
    rig.want(gateway(100, ConditionStatus::False));
    assert!(rig.writes(at(100)));
    assert_eq!(rig.there["listeners"][0]["attachedRoutes"], 100);
    assert_eq!(rig.desk.due_at(true), None);
}

#[tokio::test]
async fn the_last_count_is_written_when_nothing_follows() {
    let (mut rig, start) = (Rig::new(), Instant::now());
    for routes in 0..3 {
        rig.want(gateway(routes, ConditionStatus::True));
        rig.writes(start);
    }
    assert_eq!(rig.there["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(rig.desk.due_at(false), None, "nobody is woken for what he may not do");
    let due = rig.desk.due_at(true).unwrap();
    assert!(due > start && rig.writes(due));
    assert_eq!(rig.there["listeners"][0]["attachedRoutes"], 2);
    assert_eq!(rig.desk.due_at(true), None);
}

#[tokio::test]
async fn an_ingress_that_is_not_ours_loses_the_addresses_that_we_wrote() {
    let (writer, mut desk) = (writer(), Desk::default());
    let id = |name: &str| ResourceRef::new(Kind::Ingress, "default", name);
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } });
    let live = |signed: bool, status: &Value| {
        let mut live = LiveObject::new("uid", "1", Some(status));
        live.signed = signed;
        live
    };
    writer.live.insert(id("ours-before-the-restart"), live(true, &status));
    writer.live.insert(id("theirs"), live(false, &status));
    writer.live.insert(id("emptied"), live(true, &json!({ "loadBalancer": {} })));
    desk.dirty.extend(writer.live.ids());
    let (found, patch, reason) = writer.next(&mut desk, Instant::now()).unwrap();
    assert_eq!((found, reason), (id("ours-before-the-restart"), WriteReason::withdrawn));
    assert_eq!(patch["status"], json!({ "loadBalancer": { "ingress": null } }));
    assert!(writer.next(&mut desk, Instant::now()).is_none());
}
