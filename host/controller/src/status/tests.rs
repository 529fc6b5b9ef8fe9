//! When times move, and what the board shows.

use std::cell::Cell;

use penstock_core::Kind;
use penstock_translate::status::{ActiveStatus, GatewayStatus, ListenerStatus, WasmPluginStatus};

use super::*;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

fn clock() -> Timestamp {
    Timestamp::from_second(NOW.get()).unwrap()
}

fn condition(type_: &'static str, status: ConditionStatus, reason: &'static str) -> Condition {
    Condition { type_, status, reason, message: String::new(), observed_generation: 1 }
}

/// A Gateway with these conditions and one listener with the same ones.
fn gateway(conditions: &[Condition]) -> Arc<Statuses> {
    let listener = ListenerStatus {
        name: "http".into(),
        supported_kinds: vec![],
        attached_routes: 0,
        conditions: conditions.to_vec(),
    };
    let status = GatewayStatus {
        addresses: vec![],
        conditions: conditions.to_vec(),
        listeners: vec![listener],
        attached_listener_sets: 0,
    };
    let gateway = ResourceRef::new(Kind::Gateway, "default", "gw");
    Arc::new(Statuses::from([(gateway, Arc::new(Status::Gateway(status)))]))
}

/// Post at second `now`, and answer the times of all conditions in seconds, the listener's last.
fn post(board: &StatusBoard, now: i64, conditions: &[Condition]) -> Vec<i64> {
    NOW.set(now);
    board.publish(&gateway(conditions), &BTreeMap::new(), vec![], None);
    let status = &board.report().resources[0].status;
    let of = |status: &Value| -> Vec<i64> {
        let conditions = status["conditions"].as_array().unwrap().iter();
        let time = |condition: &Value| condition["lastTransitionTime"].as_str().unwrap().parse::<Timestamp>().unwrap();
        conditions.map(|condition| time(condition).as_second()).collect()
    };
    of(status).into_iter().chain(of(&status["listeners"][0])).collect()
}

#[test]
fn the_time_moves_only_for_the_condition_whose_status_flipped() {
    use ConditionStatus::{False, True};
    let board = StatusBoard::new(clock);
    let both = |accepted, programmed| [condition("Accepted", accepted, "A"), condition("Programmed", programmed, "P")];
    assert_eq!(post(&board, 1, &both(True, False)), [1, 1, 1, 1]);
    assert_eq!(post(&board, 2, &both(True, False)), [1, 1, 1, 1], "nothing flipped");
    assert_eq!(post(&board, 3, &both(True, True)), [1, 3, 1, 3], "one flipped");
    let other_reason = [condition("Accepted", True, "Other"), condition("Programmed", True, "P")];
    assert_eq!(post(&board, 4, &other_reason), [1, 3, 1, 3], "a reason is no transition");
    assert_eq!(post(&board, 5, &other_reason[..1]), [1, 1], "one is gone");
    assert_eq!(post(&board, 6, &both(True, True)), [1, 6, 1, 6], "and back");
}

#[test]
fn a_revision_serves_since_it_was_first_seen() {
    let board = StatusBoard::new(clock);
    let id = ResourceRef::new(Kind::WasmPlugin, "default", "headers");
    let post = |now: i64, serves: Option<(i64, &str)>, conditions: &[Condition]| {
        NOW.set(now);
        let active = serves.map(|(generation, digest)| ActiveStatus {
            generation,
            digest: digest.into(),
            name: "headers".into(),
            version: "1.0.0".into(),
            artifact: None,
            restored: false,
        });
        let (conditions, ancestors) = (conditions.to_vec(), Vec::new());
        let status = WasmPluginStatus { conditions, active, candidate: None, probation: None, ancestors };
        let statuses = Arc::new(Statuses::from([(id.clone(), Arc::new(Status::WasmPlugin(status)))]));
        board.publish(&statuses, &BTreeMap::new(), vec![], None);
        let since = board.report().resources[0].status["active"]["since"].clone();
        since.as_str().map(|since| since.parse::<Timestamp>().unwrap().as_second())
    };
    assert_eq!(post(1, None, &[]), None);
    assert_eq!(post(2, Some((1, "sha256:aa")), &[]), Some(2));
    let degraded = [condition("Degraded", ConditionStatus::True, "D")];
    assert_eq!(post(3, Some((1, "sha256:aa")), &degraded), Some(2));
    assert_eq!(post(4, Some((2, "sha256:aa")), &degraded), Some(4));
    assert_eq!(post(5, Some((2, "sha256:bb")), &degraded), Some(5));
}

#[test]
fn a_resource_that_was_gone_begins_anew() {
    let board = StatusBoard::new(clock);
    let accepted = [condition("Accepted", ConditionStatus::True, "A")];
    post(&board, 1, &accepted);
    NOW.set(2);
    board.publish(&Arc::default(), &BTreeMap::new(), vec![], None);
    assert_eq!(board.report().resources, []);
    assert_eq!(post(&board, 3, &accepted), [3, 3]);
}

#[test]
fn once_ready_it_stays_ready() {
    let board = StatusBoard::new(clock);
    assert_eq!(board.readiness(), Err(Unready::Starting));
    let waiting = Unready::Plugins(vec![ResourceRef::new(Kind::WasmPlugin, "default", "p")]);
    board.publish(&Arc::default(), &BTreeMap::new(), vec![], Some(waiting.clone()));
    assert_eq!(board.report().waiting_for.as_deref(), Some("validating WasmPlugin/default/p"));
    board.publish(&Arc::default(), &BTreeMap::new(), vec![], None);
    assert_eq!(board.readiness(), Ok(()));
    board.publish(&Arc::default(), &BTreeMap::new(), vec![], Some(waiting));
    assert_eq!(board.readiness(), Ok(()));
}

#[test]
fn sockets_say_whether_they_accept() {
    let board = StatusBoard::new(clock);
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let sockets = BTreeMap::from([
        (address(1), SocketState::Bound),
        (address(2), SocketState::Failed("permission denied".into())),
    ]);
    board.publish(&Arc::default(), &sockets, vec![], None);
    let sockets = board.report().sockets;
    assert_eq!(sockets[0], SocketReport { address: address(1), bound: true, message: None });
    assert_eq!(sockets[1].message.as_deref(), Some("permission denied"));
}

#[test]
fn plugins_are_waited_for_for_a_while_when_everything_else_is_ready() {
    NOW.set(100);
    let board = StatusBoard::new(clock).waiting_for_plugins(Duration::from_secs(10));
    let publish = |unready: Option<Unready>| board.publish(&Arc::default(), &BTreeMap::new(), vec![], unready);
    let plugins = || Unready::Plugins(vec![ResourceRef::new(Kind::WasmPlugin, "default", "a")]);
    let sockets = || Unready::Sockets(vec![([127, 0, 0, 1], 80).into()]);
    publish(Some(sockets()));
    NOW.set(200);
    assert_eq!(board.readiness(), Err(sockets()), "nothing works without them");
    publish(Some(plugins()));
    NOW.set(209);
    assert_eq!(board.readiness(), Err(plugins()));
    NOW.set(210);
    assert_eq!(board.readiness(), Ok(()));
    // Once ready, always ready.
    publish(Some(sockets()));
    assert_eq!(board.readiness(), Ok(()));
    board.drain();
    assert_eq!(board.readiness(), Err(Unready::Draining));
}

#[test]
fn a_plugin_that_comes_in_time_is_waited_for_no_longer() {
    NOW.set(0);
    let board = StatusBoard::new(clock);
    let plugins = Unready::Plugins(vec![ResourceRef::new(Kind::WasmPlugin, "default", "a")]);
    board.publish(&Arc::default(), &BTreeMap::new(), vec![], Some(plugins.clone()));
    assert_eq!(board.readiness(), Err(plugins));
    board.publish(&Arc::default(), &BTreeMap::new(), vec![], None);
    assert_eq!(board.readiness(), Ok(()));
}
