//! What is written when, with an API server that takes everything and a clock that is set by hand.

use penstock_translate::{
    Condition, ConditionStatus,
    status::{GatewayStatus, ListenerStatus},
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use super::*;
use crate::sources::cluster::Signature;

/// A writer whose client nobody asks.
fn writer() -> Writer {
    let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    Writer {
        client: Client::try_from(nobody).unwrap(),
        live: Arc::default(),
        namespaces: Namespaces::new(None),
        manager: "penstock-test".into(),
        controller: "example.com/gateway".into(),
        clock: || jiff::Timestamp::UNIX_EPOCH,
        metrics: ClusterMetrics::new(&mut Registry::default()),
        per_second: None,
        contested: mpsc::unbounded_channel().0,
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

/// What we have signed of a status.
fn signature_of(fields: &Value) -> Signature {
    let entry = json!({ "manager": "penstock-test", "subresource": "status", "fieldsV1": fields });
    let metadata = serde_json::from_value(json!({ "managedFields": [entry] })).unwrap();
    Signature::of(&metadata, "penstock-test").unwrap()
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
        let statuses = Arc::new(Statuses::from([(self.id.clone(), status)]));
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
async fn what_is_created_anew_has_no_status_and_nobody_took_it_away() {
    let (mut rig, now) = (Rig::new(), Instant::now());
    rig.want(gateway(1, ConditionStatus::True));
    assert!(rig.writes(now));
    for uid in ["second", "third", "fourth", "fifth"] {
        rig.writer.live.insert(rig.id.clone(), LiveObject::new(uid, "1", None));
        rig.desk.dirty.insert(rig.id.clone());
        let (_, patch, reason) = rig.writer.next(&mut rig.desk, now).unwrap();
        assert_eq!((reason, &patch["metadata"]["uid"]), (WriteReason::changed, &uid.into()));
    }
    // What is the same object still, somebody has changed.
    rig.desk.dirty.insert(rig.id.clone());
    assert_eq!(rig.writer.next(&mut rig.desk, now).unwrap().2, WriteReason::restored);
}

#[tokio::test]
async fn an_ingress_that_is_not_ours_loses_the_addresses_that_we_wrote() {
    let (writer, mut desk) = (writer(), Desk::default());
    let id = |name: &str| ResourceRef::new(Kind::Ingress, "default", name);
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } });
    let live = |signed: bool, status: &Value| {
        let fields = json!({ "f:status": { "f:loadBalancer": { "f:ingress": {} } } });
        LiveObject::new("uid", "1", Some(status)).signed(signed.then(|| signature_of(&fields)))
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

#[tokio::test]
async fn what_stood_for_a_listener_goes_after_the_listener() {
    let (mut rig, now) = (Rig::new(), Instant::now());
    rig.want(gateway(1, ConditionStatus::True));
    assert!(rig.writes(now));
    let fields = json!({ "f:status": {
        "f:addresses": {},
        "f:conditions": { "k:{\"type\":\"Programmed\"}": { "f:status": {} } },
        "f:listeners": { "k:{\"name\":\"http\"}": {
            "f:attachedRoutes": {}, "f:conditions": { "k:{\"type\":\"Programmed\"}": { "f:status": {} } },
        } },
    } });
    let live = LiveObject::new("uid", "1", Some(&rig.there)).signed(Some(signature_of(&fields)));
    rig.writer.live.insert(rig.id.clone(), live);
    let nothing =
        |closing: bool| Desired { statuses: Arc::default(), reserve: Reserve { closing, ..Reserve::default() } };
    rig.desk.receive(nothing(true));
    assert!(!rig.writes(now), "its socket is still open");
    assert_eq!(rig.desk.due_at(true), None);
    rig.desk.receive(nothing(false));
    assert!(rig.writes(now));
    assert_eq!(rig.there, json!({ "addresses": null, "conditions": null, "listeners": null }));
}

#[tokio::test]
async fn what_flaps_is_written_now_and_then_and_ends_as_it_is() {
    use ConditionStatus::{False, True};
    let (mut rig, start) = (Rig::new(), Instant::now());
    let mut writes = 0;
    for tenth in 0..300_u32 {
        rig.want(gateway(1, if tenth % 2 == 0 { True } else { False }));
        writes += u32::from(rig.writes(start + Duration::from_millis(100) * tenth));
    }
    assert!((8..16).contains(&writes), "{writes} in half a minute");
    rig.want(gateway(1, False));
    rig.writes(start + Duration::from_secs(30));
    while let Some(due) = rig.desk.due_at(true) {
        rig.writes(due);
    }
    assert_eq!(rig.there["conditions"][0]["status"], "False");
}
