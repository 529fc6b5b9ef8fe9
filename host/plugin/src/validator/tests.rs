//! The process is whatever a shell makes of it; what a real one does is tested in `tests/`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use penstock_core::{
    Kind, ResourceRef,
    plugin::{Capabilities, ModuleSource, PluginLimits},
};

use super::*;
use crate::module::Digest;

fn spec() -> PluginSpec {
    PluginSpec {
        plugin: ResourceRef::new(Kind::WasmPlugin, "default", "a"),
        generation: 1,
        source: ModuleSource::Inline(Bytes::new()),
        config: Arc::new(serde_json::Value::Null),
        capabilities: Capabilities::default(),
        limits: PluginLimits::default(),
        secrets: Vec::new(),
        rollout: Default::default(),
    }
}

fn module() -> Module {
    Module { bytes: Bytes::from_static(b"module"), digest: Digest::of(b"module"), artifact: None }
}

fn validator(script: &str, time: Duration) -> Validator {
    Validator::new(ValidatorSettings {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        limits: ValidationLimits { time, ..ValidationLimits::default() },
        ..ValidatorSettings::default()
    })
}

/// A process that does as `script` says is refused for `reason` with a message that has `part`.
#[track_caller]
fn refuses(script: &str, reason: &str, part: &str) {
    let time = if reason == reason::VALIDATION_TIME_LIMIT { 50 } else { 60_000 };
    let validator = validator(script, Duration::from_millis(time));
    let rejection = validator.compile(&module(), &spec(), Errand::CANDIDATE).unwrap_err();
    assert_eq!(rejection.reason, reason, "{script}: {}", rejection.message);
    assert!(rejection.message.contains(part), "{script}: {part:?} is not in {:?}", rejection.message);
}

#[test]
fn every_end_has_its_reason() {
    refuses("sleep 1000", reason::VALIDATION_TIME_LIMIT, "takes longer than 50ms");
    refuses("ulimit -c 0; kill -XCPU $$", "ValidationTimeLimitExceeded", "");
    refuses("kill -KILL $$", reason::VALIDATOR_KILLED, "short of memory");
    refuses("kill -SEGV $$", reason::VALIDATOR_CRASHED, "by signal 11: it said nothing");
    refuses("echo 'thread panicked' >&2; echo here >&2; exit 101", reason::VALIDATOR_CRASHED, "with code 101: here");
    refuses("echo here >&2; echo 'note: run with RUST_BACKTRACE' >&2; exit 101", reason::VALIDATOR_CRASHED, ": here");
    refuses("kill -SYS $$", reason::SANDBOX_VIOLATION, "do not trust");
    refuses(
        "echo 'memory allocation of 4096 bytes failed' >&2; kill -ABRT $$",
        reason::VALIDATION_MEMORY_LIMIT,
        "more than 1073741824 bytes",
    );
    refuses(
        "echo 'cannot give up capabilities' >&2; exit 3",
        reason::VALIDATOR_UNAVAILABLE,
        "cannot give up capabilities",
    );
}

#[test]
fn an_answer_that_is_none_is_refused() {
    let text = |text: &str| format!(r"printf '\{:03o}\0\0\0\0\0\0\0%s' '{text}'", text.len());
    let no_answer = "gave no proper answer";
    refuses("", reason::VALIDATOR_ANSWER_INVALID, no_answer);
    refuses("cat", reason::VALIDATOR_ANSWER_INVALID, no_answer);
    refuses("echo garbage that is long enough", reason::VALIDATOR_ANSWER_INVALID, no_answer);
    refuses(&text(r#"{"confinement": "Full"}"#), reason::VALIDATOR_ANSWER_INVALID, "missing field `outcome`");
    let rejected = r#"{"confinement": "Full", "outcome": {"Rejected": {"reason": "Because", "message": ""}}}"#;
    refuses(&text(rejected), reason::VALIDATOR_ANSWER_INVALID, "\"Because\", which does not exist");
    let manifest = r#"{"name": "a", "version": "1", "description": "", "config_schema": ""}"#;
    let other = format!(r#"{{"confinement": "Full", "outcome": {{"Described": {manifest}}}}}"#);
    refuses(&text(&other), reason::VALIDATOR_ANSWER_INVALID, "it answers another question");
}

#[test]
fn a_program_that_cannot_be_run_is_told() {
    let settings = ValidatorSettings { program: "/does/not/exist".into(), ..ValidatorSettings::default() };
    let rejection = Validator::new(settings).compile(&module(), &spec(), Errand::CANDIDATE).unwrap_err();
    assert_eq!(rejection.reason, reason::VALIDATOR_UNAVAILABLE);
    assert!(rejection.message.contains("/does/not/exist"), "{}", rejection.message);
    assert!(reason::is_passing(rejection.reason), "tried again");
}

#[test]
fn no_more_processes_run_than_may() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    // Each process is the only one that has the directory, or says so.
    let script = format!("mkdir {path}/alone || exit 9; sleep 0.05; rmdir {path}/alone; exit 3");
    let settings =
        ValidatorSettings { processes: NonZeroUsize::MIN, ..validator(&script, Duration::from_secs(60)).settings };
    let validator = Validator::new(settings);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| validator.compile(&module(), &spec(), Errand::CANDIDATE).unwrap_err().reason))
            .collect();
        for one in all {
            assert_eq!(one.join().unwrap(), reason::VALIDATOR_UNAVAILABLE);
        }
    });
}
