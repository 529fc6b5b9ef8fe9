//! How new revisions come into effect: warm, together with others, and on probation.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{fs, path::Path, sync::Arc, time::Duration};

use penstock_core::{
    ResourceRef,
    plugin::{
        ActivationGroup, ActiveRevision, Awaited, Hold, ModuleSource, Phase, PluginSpec, PolicyWorker, Probation,
        Rejection, Rollout,
    },
};
use support::{
    exchange::{on_request, token, triggered_request, works},
    facts::{Host, plugin, spec},
    guest::{Answer, Guest},
};

/// Long enough that no test meets its end.
const LONG: Duration = Duration::from_secs(3600);

/// A plugin that works, unless it meets the trigger: then it traps.
fn trapping() -> Vec<u8> {
    Guest::faulty_code("unreachable").build()
}

fn generation(name: &str, n: i64) -> PluginSpec {
    PluginSpec { generation: n, config: Arc::new(serde_json::json!({ "n": n })), ..spec(name, trapping()) }
}

fn watched(name: &str, n: i64, max_faults: u32) -> PluginSpec {
    let rollout = Rollout { probation: Probation { period: LONG, max_faults }, ..Rollout::default() };
    PluginSpec { rollout, ..generation(name, n) }
}

fn grouped(spec: PluginSpec) -> PluginSpec {
    let group = ActivationGroup { name: "checkout".into(), unspecified: vec![] };
    PluginSpec { rollout: Rollout { group: Some(group), ..spec.rollout }, ..spec }
}

fn from_file(spec: PluginSpec, path: &Path) -> PluginSpec {
    PluginSpec { source: ModuleSource::File { path: path.into(), stamp: "1".into() }, ..spec }
}

/// Wait until the candidate of this generation waits for `members`, and answer what serves.
fn waits(host: &Host, spec: &PluginSpec, members: &[(&str, Hold)]) -> ActiveRevision {
    let expected: Vec<Awaited> =
        members.iter().map(|(name, because)| Awaited { plugin: plugin(name), because: *because }).collect();
    host.facts.until(&spec.plugin, |state| match &state.candidate.as_ref()?.phase {
        Phase::Waiting(awaited) if *awaited == expected => state.active.clone(),
        _ => None,
    })
}

/// Wait until it was rolled back; answers why, and what serves.
fn rolled_back(host: &Host, spec: &PluginSpec) -> (Rejection, ActiveRevision) {
    let (rejection, active) = host.rejected(spec);
    assert_eq!(rejection.reason, "FaultsInProbation", "{rejection:?}");
    (rejection, active.unwrap())
}

fn trip(worker: &dyn PolicyWorker, active: &ActiveRevision, times: u32) {
    for _ in 0..times {
        triggered_request(worker, active).unwrap_err();
    }
}

#[test]
fn every_worker_finds_an_instance_of_its_own_when_a_revision_becomes_active() {
    let host = Host::start();
    let workers: Vec<_> = (0..4).map(|_| host.host.runtime().worker()).collect();
    // Configuring takes far more CPU time than is allowed on a worker: whoever had to make its own instance would fail.
    let guest = Guest {
        configure: "(local $i i64) (loop $again (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $again (i64.lt_u (local.get $i) (i64.const 500000000))))"
            .into(),
        ..Guest::default()
    };
    let mut wanted = spec("slow", guest.build());
    wanted.limits.configure_time = Duration::from_secs(20);
    let active = host.activate(&wanted);
    for worker in &workers {
        works(&**worker, &active);
    }
}

#[test]
fn a_group_switches_at_the_same_moment() {
    let host = Host::start();
    let [a, b] = ["a", "b"].map(|name| grouped(generation(name, 1)));
    host.apply(&[&a, &b]);
    let before = [host.active(&a), host.active(&b)];
    // The module of one is not there yet.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.wasm");
    let (next_a, next_b) = (grouped(generation("a", 2)), grouped(from_file(generation("b", 2), &path)));
    host.apply(&[&next_a, &next_b]);
    let serving = waits(&host, &next_a, &[("b", Hold::Pending)]);
    assert_eq!(serving, before[0], "what served before goes on");
    fs::write(directory.path().join("new"), trapping()).unwrap();
    fs::rename(directory.path().join("new"), &path).unwrap();
    let after = [host.active(&next_a), host.active(&next_b)];
    assert_ne!([&after[0].revision, &after[1].revision], [&before[0].revision, &before[1].revision]);
    let told = host.facts.told();
    assert_eq!(*told.last().unwrap(), [plugin("a"), plugin("b")], "both in one: {told:?}");
}

#[test]
fn a_rejected_member_holds_the_others_back_until_it_is_mended_or_leaves() {
    let host = Host::start();
    let [a, b, c] = ["a", "b", "c"].map(|name| grouped(generation(name, 1)));
    host.apply(&[&a, &b, &c]);
    let old = host.active(&a);
    let (a, b) = (grouped(generation("a", 2)), grouped(generation("b", 2)));
    let bad = grouped(PluginSpec { generation: 2, ..spec("c", b"garbage".to_vec()) });
    host.apply(&[&a, &b, &bad]);
    for member in [&a, &b] {
        waits(&host, member, &[("c", Hold::Rejected)]);
    }
    assert_eq!(host.facts.state(&plugin("a")).active, Some(old));
    // The same resource in no group switches alone; the rest of the group still waits.
    let alone = PluginSpec { generation: 3, rollout: Rollout::default(), ..b.clone() };
    host.apply(&[&a, &alone, &bad]);
    host.active(&alone);
    waits(&host, &a, &[("c", Hold::Rejected)]);
    // Without the broken one nothing holds it back.
    host.apply(&[&a, &alone]);
    host.active(&a);
}

#[test]
fn a_member_whose_resource_does_not_say_what_to_run_holds_the_others_back() {
    let host = Host::start();
    let a = grouped(generation("a", 1));
    host.activate(&a);
    let mut held = grouped(generation("a", 2));
    held.rollout.group.as_mut().unwrap().unspecified = vec![plugin("b")];
    host.apply_keeping(&[&held], &[plugin("b")]);
    waits(&host, &held, &[("b", Hold::Unspecified)]);
    let free = PluginSpec { generation: 3, ..grouped(generation("a", 2)) };
    host.apply(&[&PluginSpec { generation: 3, ..free.clone() }]);
    host.active(&free);
}

#[test]
fn groups_end_at_their_namespace() {
    let host = Host::start();
    let a = grouped(generation("a", 1));
    let elsewhere = ResourceRef { namespace: "elsewhere".into(), ..plugin("b") };
    let bad = PluginSpec { plugin: elsewhere, ..grouped(spec("b", b"garbage".to_vec())) };
    host.apply(&[&a, &bad]);
    host.active(&a);
    host.rejected(&bad);
    let next = grouped(generation("a", 2));
    host.apply(&[&next, &bad]);
    host.active(&next);
}

#[test]
fn a_first_revision_is_good_at_once_and_a_second_one_is_watched() {
    let host = Host::start();
    let first = host.activate(&watched("a", 1, 0));
    assert_eq!(host.facts.state(&plugin("a")).probation, None, "there is nothing to go back to");
    // Not even many faults change that.
    trip(&*host.host.runtime().worker(), &first, 3);
    host.activate(&watched("a", 2, 7));
    let probation = host.facts.state(&plugin("a")).probation.unwrap();
    assert_eq!((probation.max_faults, probation.fallback.generation), (7, 1));
    assert_eq!(probation.fallback.digest, first.digest);
    assert_eq!(host.metric(r#"penstock_plugin_on_probation{plugin="default/a"}"#), 1.0);
    assert_eq!(host.metric(r#"penstock_plugin_rollbacks_total{plugin="default/a"}"#), 0.0);
}

#[test]
fn too_many_faults_bring_the_last_good_revision_back() {
    // Answers how often this instance was called: the old one stayed warm.
    let counting = Guest {
        on_request: Answer::Code(
            "(global.set $calls (i64.add (global.get $calls) (i64.const 1)))
             (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
             (i64.store (i32.const 80) (global.get $calls)) i32.const 64"
                .into(),
        ),
        fields: "(global $calls (mut i64) (i64.const 0))".into(),
        ..Guest::default()
    };
    let host = Host::start();
    let (worker, other) = (host.host.runtime().worker(), host.host.runtime().worker());
    let first = PluginSpec { rollout: watched("a", 1, 0).rollout, ..spec("a", counting.build()) };
    let good = host.activate(&first);
    let count = |active: &ActiveRevision| token(&on_request(&*worker, active).unwrap().0);
    assert_eq!([count(&good), count(&good)], [1, 2]);

    let bad = watched("a", 2, 4);
    let faulty = host.activate(&bad);
    trip(&*worker, &faulty, 2);
    trip(&*other, &faulty, 2);
    works(&*worker, &faulty);
    assert!(host.facts.state(&plugin("a")).probation.is_some(), "four are accepted");
    trip(&*other, &faulty, 1);
    let (rejection, back) = rolled_back(&host, &bad);
    assert!(rejection.message.contains("more faults (trap) than"), "{rejection:?}");
    assert!(rejection.message.contains("accepts, which is 4 in 3600s"), "{rejection:?}");
    assert_eq!(back, good);
    assert_eq!(count(&back), 3, "the instance from before");
    assert_eq!(host.facts.state(&plugin("a")).probation, None);
    assert_eq!(host.metric(r#"penstock_plugin_rollbacks_total{plugin="default/a"}"#), 1.0);
    assert_eq!(host.metric(r#"penstock_plugin_on_probation{plugin="default/a"}"#), 0.0);

    // The same again under a new generation is not tried; the same value from a file neither.
    let again = PluginSpec { generation: 3, ..bad.clone() };
    host.apply(&[&again]);
    assert_eq!(rolled_back(&host, &again).1, good);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugin.wasm");
    fs::write(&path, trapping()).unwrap();
    let touched = from_file(PluginSpec { generation: 4, ..bad.clone() }, &path);
    host.apply(&[&touched]);
    assert_eq!(rolled_back(&host, &touched).1, good);
    // Another configuration is.
    let changed = PluginSpec { generation: 5, ..watched("a", 9, 4) };
    assert_ne!(host.activate(&changed).revision, good.revision);
    assert_eq!(host.metric(r#"penstock_plugin_rollbacks_total{plugin="default/a"}"#), 1.0);
}

#[test]
fn a_revision_that_is_always_refused_by_its_breaker_is_rolled_back_too() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let good = host.activate(&watched("a", 1, 0));
    let bad = watched("a", 2, 50);
    let faulty = host.activate(&bad);
    trip(&*worker, &faulty, 10);
    // The breaker is open now, and what it refuses are exchanges that get no answer either.
    for _ in 0..41 {
        on_request(&*worker, &faulty).unwrap_err();
    }
    let (rejection, back) = rolled_back(&host, &bad);
    assert!(rejection.message.contains("more faults (trap, unavailable) than"), "{rejection:?}");
    assert_eq!(back, good);
}

#[test]
fn what_passes_its_probation_is_what_later_ones_go_back_to() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    host.activate(&watched("a", 1, 0));
    let mut second = watched("a", 2, 1);
    second.rollout.probation.period = Duration::from_millis(50);
    host.apply(&[&second]);
    let passed = host.facts.until(&plugin("a"), |state| {
        let active = state.active.clone().filter(|active| active.generation == 2)?;
        state.probation.is_none().then_some(active)
    });
    // What happens now is for the breaker.
    trip(&*worker, &passed, 5);
    let third = watched("a", 3, 0);
    let faulty = host.activate(&third);
    trip(&*worker, &faulty, 1);
    assert_eq!(rolled_back(&host, &third).1, passed);
}

#[test]
fn what_follows_within_a_probation_goes_back_to_the_same_good_one() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let good = host.activate(&watched("a", 1, 0));
    let second = host.activate(&watched("a", 2, 3));
    let spec = watched("a", 3, 0);
    let third = host.activate(&spec);
    // Requests that are still in the second one are not held against the third.
    trip(&*worker, &second, 5);
    works(&*worker, &third);
    assert_eq!(host.facts.state(&plugin("a")).probation.unwrap().fallback.generation, 1);
    trip(&*worker, &third, 1);
    assert_eq!(rolled_back(&host, &spec).1, good);
    // Going back by hand needs no probation.
    let second = watched("a", 4, 0);
    host.activate(&second);
    let by_hand = PluginSpec { generation: 5, ..watched("a", 1, 0) };
    assert_eq!(host.activate(&by_hand).revision, good.revision);
    assert_eq!(host.facts.state(&plugin("a")).probation, None);
}

#[test]
fn a_group_goes_back_together() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let [a, b] = ["a", "b"].map(|name| grouped(watched(name, 1, 0)));
    host.apply(&[&a, &b]);
    let good = [host.active(&a), host.active(&b)];
    let [a, b] = ["a", "b"].map(|name| grouped(watched(name, 2, 0)));
    host.apply(&[&a, &b]);
    let (faulty, innocent) = (host.active(&a), host.active(&b));
    trip(&*worker, &faulty, 1);
    assert_eq!(rolled_back(&host, &a).1, good[0]);
    assert_eq!(waits(&host, &b, &[("a", Hold::Rejected)]), good[1], "all of the group or none");
    assert_eq!(*host.facts.told().last().unwrap(), [plugin("a"), plugin("b")], "in one");
    // A better one of the faulty member takes the other along again.
    let mended = grouped(watched("a", 3, 0));
    host.apply(&[&mended, &b]);
    host.active(&mended);
    assert_eq!(host.active(&b).revision, innocent.revision);
}
