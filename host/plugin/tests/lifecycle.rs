//! Revisions over time: what is applied, what serves, what is told.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use penstock_core::{
    check::Checks,
    plugin::{ActiveRevision, ModuleSource, Phase, PluginSpec, PolicyWorker, Rollout, SecretPlace},
};
use penstock_plugin_host::PluginSettings;
use support::{
    exchange::{on_request, token, works},
    facts::{Host, plugin, settings, spec},
    guest::{Answer, Guest},
};

/// A plugin that answers in the token how often this instance was called.
fn counting() -> Guest {
    Guest {
        on_request: Answer::Code(
            "(global.set $calls (i64.add (global.get $calls) (i64.const 1)))
             (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0))
             (i64.store (i32.const 80) (global.get $calls)) i32.const 64"
                .into(),
        ),
        fields: "(global $calls (mut i64) (i64.const 0))".into(),
        ..Guest::default()
    }
}

fn count(worker: &dyn PolicyWorker, active: &ActiveRevision) -> u64 {
    token(&on_request(worker, active).unwrap().0)
}

fn configured(config: i32) -> PluginSpec {
    PluginSpec { config: Arc::new(serde_json::json!({ "n": config })), ..spec("a", counting().build()) }
}

#[test]
fn the_same_set_again_changes_nothing() {
    let host = Host::start();
    let spec = configured(1);
    let active = host.activate(&spec);
    let told = host.facts.count();
    for _ in 0..10 {
        host.apply(&[&spec]);
    }
    // What comes behind it in the queue is told; nothing is told of the others.
    let last = PluginSpec { plugin: plugin("last"), ..spec.clone() };
    host.apply(&[&spec, &last]);
    host.active(&last);
    assert_eq!(host.active(&spec).revision, active.revision);
    assert!(host.facts.count() <= told + 3, "fetching, validating and active of `last`, nothing of `a`");
}

#[test]
fn a_new_generation_of_the_same_is_the_same_revision() {
    let host = Host::start();
    let active = host.activate(&configured(1));
    let told = host.facts.count();
    let next = PluginSpec { generation: 2, ..configured(1) };
    assert_eq!(host.activate(&next).revision, active.revision);
    assert_eq!(host.facts.count(), told + 1, "nothing was validated again");
}

#[test]
fn a_revision_is_known_by_its_value() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let first = host.activate(&configured(1));
    assert_eq!([count(&*worker, &first), count(&*worker, &first)], [1, 2]);
    // Another configuration is another revision, with instances of its own.
    let second = host.activate(&PluginSpec { generation: 2, ..configured(2) });
    assert_ne!(second.revision, first.revision);
    assert_eq!(count(&*worker, &second), 1);
    // Back again: the first one, warm.
    let again = host.activate(&PluginSpec { generation: 3, ..configured(1) });
    assert_eq!(again.revision, first.revision);
    assert_eq!(count(&*worker, &again), 3);
    // Deleted and created again: still warm, although nobody held it in between.
    drop((first, again));
    host.apply(&[]);
    host.facts.until(&plugin("a"), |state| state.active.is_none().then_some(()));
    let recreated = host.activate(&PluginSpec { generation: 4, ..configured(1) });
    assert_eq!(count(&*worker, &recreated), 4);
    // Limits and capabilities are part of the value.
    let mut limited = PluginSpec { generation: 5, ..configured(1) };
    limited.limits.memory += 1;
    assert_ne!(host.activate(&limited).revision, recreated.revision);
}

#[test]
fn two_plugins_of_the_same_module_share_no_instance() {
    let host = Host::start();
    let (a, b) = (configured(1), PluginSpec { plugin: plugin("b"), ..configured(1) });
    host.apply(&[&a, &b]);
    let (a, b) = (host.active(&a), host.active(&b));
    assert_ne!(a.revision, b.revision);
    let worker = host.host.runtime().worker();
    assert_eq!([count(&*worker, &a), count(&*worker, &b), count(&*worker, &a)], [1, 1, 2]);
    assert_eq!(host.metric("penstock_plugin_compile_seconds_count"), 1.0, "but the compiled code");
}

#[test]
fn the_latest_set_wins() {
    let host = Host::start();
    for config in 0..50 {
        host.apply(&[&PluginSpec { generation: config.into(), ..configured(config) }]);
    }
    let last = PluginSpec { generation: 50, ..configured(50) };
    let active = host.activate(&last);
    assert_eq!(active.generation, 50);
    host.apply(&[]);
    host.facts.until(&plugin("a"), |state| (state.active.is_none() && state.candidate.is_none()).then_some(()));
}

#[test]
fn what_was_replaced_or_deleted_serves_those_who_still_hold_it() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let old = host.activate(&configured(1));
    let new = host.activate(&PluginSpec { generation: 2, ..configured(2) });
    host.apply(&[]);
    host.facts.until(&plugin("a"), |state| state.active.is_none().then_some(()));
    drop(host);
    assert_eq!([count(&*worker, &old), count(&*worker, &new), count(&*worker, &old)], [1, 1, 2]);
}

#[test]
fn what_was_deleted_by_mistake_comes_back_with_its_instances() {
    let host = Host::start();
    drop(host.activate(&configured(1)));
    let made = || host.metric(r#"penstock_plugin_instantiations_total{plugin="default/a"}"#);
    let before = made();
    host.apply(&[]);
    host.facts.until(&plugin("a"), |state| (state.active.is_none() && state.candidate.is_none()).then_some(()));
    drop(host.activate(&configured(1)));
    assert_eq!(made(), before);
}

#[test]
fn a_rejected_candidate_is_forgotten_when_the_good_spec_comes_back() {
    let host = Host::start();
    let good = host.activate(&configured(1));
    let bad = PluginSpec { generation: 2, ..spec("a", b"garbage".to_vec()) };
    host.apply(&[&bad]);
    assert_eq!(host.rejected(&bad).1, Some(good.clone()));
    let back = host.activate(&PluginSpec { generation: 3, ..configured(1) });
    assert_eq!(back.revision, good.revision);
    assert_eq!(host.metric(r#"penstock_plugin_revisions_total{plugin="default/a",result="rejected"}"#), 1.0);
}

/// `spec` with one check: the request hook sets `x-request` to `value`.
fn checked(spec: PluginSpec, value: &str) -> PluginSpec {
    let expect = serde_json::json!({ "request": { "headers": { "x-request": value } } });
    let checks = Checks::read(&[serde_json::json!({ "name": value, "expect": expect })]).unwrap();
    PluginSpec { rollout: Rollout { checks, ..spec.rollout }, ..spec }
}

#[test]
fn other_checks_are_run_without_another_revision() {
    let host = Host::start();
    let validated = || host.metric(r#"penstock_plugin_validation_seconds_count{outcome="passed"}"#);
    let generation = |generation| PluginSpec { generation, ..spec("a", Guest::default().build()) };
    let active = host.activate(&checked(generation(1), "1"));
    assert_eq!(validated(), 1.0);
    // The same checks again.
    assert_eq!(host.activate(&checked(generation(2), "1")).revision, active.revision);
    assert_eq!(validated(), 1.0);
    // None any more: what serves has nothing to prove.
    assert_eq!(host.activate(&generation(3)).revision, active.revision);
    assert_eq!(validated(), 1.0);
    // One that it fails: it goes on as the generation that it was.
    let failing = checked(generation(4), "2");
    host.apply(&[&failing]);
    let (rejection, serving) = host.rejected(&failing);
    assert_eq!(rejection.reason, "CheckFailed");
    assert_eq!(
        rejection.message,
        "the check `2` failed: expect.request.headers.x-request: expected \"2\", found \"1\""
    );
    let serving = serving.unwrap();
    assert_eq!((&serving.revision, serving.generation), (&active.revision, 3));
    works(&*host.host.runtime().worker(), &serving);
    // One that it passes.
    let mut both = checked(generation(5), "1");
    let more = serde_json::json!({ "name": "more", "expect": { "response": { "headers": { "x-response": "1" } } } });
    both.rollout.checks = Checks::read(&[more]).unwrap();
    let passed = host.activate(&both);
    assert_eq!((&passed.revision, passed.generation), (&active.revision, 5));
}

#[test]
fn instances_of_revisions_that_nobody_wants_are_dropped() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    for config in 1..=60 {
        let active = host.activate(&PluginSpec { generation: config.into(), ..configured(config) });
        assert_eq!(count(&*worker, &active), 1);
    }
    // The one that serves, and perhaps the one before it, have the worker's instance and up to three spare ones.
    let live = host.metric(r#"penstock_plugin_instances{plugin="default/a"}"#);
    assert!(live <= f64::from(2 * 4), "{live}");
}

/// What runs already is no reason to condemn what comes.
#[test]
fn a_candidate_waits_for_memory_that_others_have() {
    // One instance each, of 4 MiB.
    let large = |name: &str| spec(name, Guest { pages: 64, ..Guest::default() }.build());
    let (a, b, c) = (large("a"), large("b"), large("c"));
    let host = Host::with(PluginSettings { memory: Some(24 << 20), ..settings() });
    host.apply(&[&a, &b]);
    [&a, &b].iter().for_each(|spec| drop(host.active(spec)));
    host.apply(&[&a, &b, &c]);
    let message = host.facts.until(&c.plugin, |state| match &state.candidate.as_ref()?.phase {
        Phase::Retrying { rejection, .. } => Some((rejection.reason, rejection.message.clone())),
        _ => None,
    });
    assert_eq!(message.0, "NoMemoryLeft", "{message:?}");
    assert!(message.1.contains("2097152 bytes of memory are all that this plugin may have now"), "{message:?}");
    // Kept for the case that it was deleted by mistake, but not its memory.
    host.apply(&[&b, &c]);
    host.active(&c);
}

/// One plugin may have half of what its namespace may have, which is half of it.
#[test]
fn a_plugin_leaves_memory_for_others() {
    let host = Host::with(PluginSettings { memory: Some(15 << 20), ..settings() });
    let large = spec("a", Guest { pages: 64, ..Guest::default() }.build());
    host.apply(&[&large]);
    let message = host.facts.until(&large.plugin, |state| match &state.candidate.as_ref()?.phase {
        Phase::Retrying { rejection, .. } => Some(rejection.message.clone()),
        _ => None,
    });
    assert!(message.contains("3932160 bytes of memory are all that this plugin may have now"), "{message}");
}

fn from_file(path: &Path, stamp: &str) -> PluginSpec {
    PluginSpec { source: ModuleSource::File { path: path.into(), stamp: stamp.into() }, ..spec("file", vec![]) }
}

#[test]
fn a_file_that_is_missing_is_waited_for() {
    let host = Host::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugin.wasm");
    let wanted = from_file(&path, "1");
    host.apply(&[&wanted]);
    let (rejection, active) = host.rejected(&wanted);
    assert_eq!((rejection.reason, active), ("FetchFailed", None));
    assert!(
        rejection.message.contains("plugin.wasm") && rejection.message.contains("No such file"),
        "{}",
        rejection.message
    );
    // Written whole under another name first, as deployments do; nothing is applied again.
    fs::write(directory.path().join("new"), Guest::default().build()).unwrap();
    fs::rename(directory.path().join("new"), &path).unwrap();
    let active = host.facts.until(&plugin("file"), |state| state.active.clone());
    works(&*host.host.runtime().worker(), &active);
}

#[test]
fn a_file_that_changes_is_a_new_revision() {
    let host = Host::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugin.wasm");
    fs::write(&path, Guest::default().build()).unwrap();
    let first = host.activate(&from_file(&path, "1"));
    fs::write(&path, counting().build()).unwrap();
    let second = host.activate(&PluginSpec { generation: 2, ..from_file(&path, "2") });
    assert_ne!((&first.revision, &first.digest), (&second.revision, &second.digest));
    // Touched, but with the same content.
    let third = host.activate(&PluginSpec { generation: 3, ..from_file(&path, "3") });
    assert_eq!(third.revision, second.revision);
}

#[test]
fn a_module_is_compiled_once_for_all_plugins_and_starts() {
    let directory = tempfile::tempdir().unwrap();
    let settings = || PluginSettings { cache: Some(directory.path().join("compiled")), ..settings() };
    let specs: Vec<PluginSpec> =
        (0..8).map(|index| PluginSpec { plugin: plugin(&format!("p{index}")), ..configured(1) }).collect();
    for compilations in [1.0, 0.0] {
        let host = Host::with(settings());
        host.apply(&specs.iter().collect::<Vec<_>>());
        for spec in &specs {
            host.active(spec);
        }
        assert_eq!(host.metric("penstock_plugin_compile_seconds_count"), compilations);
    }
}

#[test]
fn series_of_a_deleted_plugin_go_with_its_last_revision() {
    let host = Host::start();
    let worker = host.host.runtime().worker();
    let active = host.activate(&configured(1));
    count(&*worker, &active);
    drop(active);
    // Sixteen other revisions push it out.
    let mut others: Vec<PluginSpec> = Vec::new();
    for index in 0..17 {
        others = vec![PluginSpec { plugin: plugin(&format!("other{index}")), ..configured(1) }];
        host.activate(&others[0]);
    }
    host.facts.until(&plugin("a"), |state| state.active.is_none().then_some(()));
    // The recorder of facts holds the latest state only, which holds no revision; the worker lets go when it is next called.
    let other = host.active(&others[0]);
    count(&*worker, &other);
    assert!(!host.metrics().contains("default/a\""), "{}", host.metrics());
}

/// A plugin knows its whole configuration, and repeats it where it speaks of a problem.
#[test]
fn what_a_plugin_repeats_of_a_secret_is_not_said() {
    let text = "/auth/token: `hunter2!` is no token of ours, hunter2! is too short; my pin is of no use";
    let module = Guest { problems: vec![("/auth/token".into(), text.into())], ..Guest::default() }.build();
    let place =
        |name: &str| SecretPlace { pointer: format!("/auth/{name}").into(), secret: "creds".into(), key: name.into() };
    let spec = PluginSpec {
        config: serde_json::json!({ "auth": { "token": "hunter2!", "pin": "of" } }).into(),
        secrets: vec![place("token"), place("pin"), place("nowhere")],
        ..spec("tells", module)
    };
    let host = Host::start();
    let said = "`[secret]` is no token of ours, [secret] is too short; my pin is of no use";
    let rejection = host.host.validate(&spec).unwrap_err();
    assert!(rejection.message.ends_with(said), "{}", rejection.message);
    host.apply(&[&spec]);
    let (rejection, _) = host.rejected(&spec);
    assert!(rejection.message.ends_with(said), "{}", rejection.message);
}

/// A component of the first version of the contract, as it was built then: whatever comes to the contract, it goes on loading. Nothing makes it anew.
#[test]
fn a_plugin_of_the_first_contract_loads() {
    let host = Host::start();
    let active = host.activate(&spec("old", include_bytes!("components/policy-0.1.0.wasm").to_vec()));
    assert_eq!((&*active.name, &*active.version), ("test", "1.0.0"));
    works(&*host.host.runtime().worker(), &active);
}

/// The only process that may run is kept by a candidate that nobody wants any more.
#[test]
fn what_was_superseded_keeps_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let begun = directory.path().join("begun");
    let mut settings = settings();
    let real = settings.validator.program.display().to_string();
    settings.validator.processes = NonZeroUsize::MIN;
    settings.validator.program = "/bin/sh".into();
    let script = format!("mkdir {} && exec sleep 1000; exec {real}", begun.display());
    settings.validator.arguments = vec!["-c".into(), script.into()];
    let host = Host::with(settings);
    host.apply(&[&configured(1)]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !begun.exists() {
        assert!(Instant::now() < deadline, "no process was started");
        std::thread::yield_now();
    }
    let next = PluginSpec { generation: 2, ..configured(2) };
    host.activate(&next);
    // Nor does one whose plugin is gone.
    fs::remove_dir(&begun).unwrap();
    let (gone, other) =
        (spec("gone", Guest::default().build()), spec("other", Guest::faulty_code("unreachable").build()));
    host.apply(&[&next, &gone]);
    while !begun.exists() {
        assert!(Instant::now() < deadline, "no process was started");
        std::thread::yield_now();
    }
    host.apply(&[&next, &other]);
    host.active(&other);
}
