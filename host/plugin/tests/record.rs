//! What the cluster has on record of a plugin: when a host uses it, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{fs, net::TcpListener, path::Path, sync::Arc, time::Duration};

use penstock_core::plugin::{
    ActiveRevision, HttpSource, ModuleSource, PluginSpec, Probation, RecordedRevision, RestoredFrom, Rollout, Sha256,
};
use penstock_plugin_host::PluginSettings;
use serde_json::json;
use support::{
    exchange::works,
    facts::{Host, plugin, settings, spec},
    guest::Guest,
};

/// Generation `n` of a plugin, which is good.
fn good(n: i64) -> PluginSpec {
    PluginSpec { generation: n, config: Arc::new(json!({ "n": n })), ..spec("a", Guest::default().build()) }
}

/// Generation `n` of it, which is refused.
fn bad(n: i64) -> PluginSpec {
    PluginSpec { generation: n, ..spec("a", b"garbage".to_vec()) }
}

/// The digest of the guest that is good.
fn digest() -> Sha256 {
    let host = Host::start();
    host.activate(&good(1)).digest.parse().unwrap()
}

fn recorded(spec: PluginSpec) -> RecordedRevision {
    RecordedRevision { spec: Arc::new(spec), digest: digest(), is_wanted: false }
}

fn restored(host: &Host, from: RestoredFrom) -> ActiveRevision {
    let restored =
        host.facts.until(&plugin("a"), |state| state.active.clone().filter(|_| state.last_good.restored == Some(from)));
    works(&*host.host.runtime().worker(), &restored);
    restored
}

fn why_not(host: &Host) -> Arc<str> {
    host.facts.until(&plugin("a"), |state| state.last_good.not_recalled.clone())
}

#[test]
fn what_is_on_record_serves_where_what_is_wanted_is_refused() {
    let host = Host::start();
    let wanted = bad(2);
    host.apply_recorded(&[&wanted], &[], &[&recorded(good(1))]);
    assert_eq!(restored(&host, RestoredFrom::Cluster).generation, 1);
    let (rejection, beside) = host.rejected(&wanted);
    assert_eq!((rejection.reason, beside.map(|active| active.generation)), ("InvalidModule", Some(1)));
    assert_eq!(host.metric(r#"penstock_plugin_recalls_total{result="ok"}"#), 1.0);
    // Mended: from then on it is what the resource wants.
    host.activate(&good(3));
    assert_eq!(host.facts.state(&plugin("a")).last_good.restored, None);
}

#[test]
fn what_the_resource_still_says_is_tried_first() {
    let host = Host::start();
    let still = RecordedRevision { is_wanted: true, ..recorded(good(1)) };
    host.apply_recorded(&[&good(1)], &[], &[&still]);
    host.active(&good(1));
    assert_eq!(host.metric(r#"penstock_plugin_recalls_total{result="ok"}"#), 0.0);
    // A tag that was moved: the resource says the same, and means something else.
    let host = Host::start();
    host.apply_recorded(&[&bad(1)], &[], &[&still]);
    assert_eq!(restored(&host, RestoredFrom::Cluster).generation, 1);
}

#[test]
fn a_module_that_is_another_one_by_now_is_not_taken_for_it() {
    let host = Host::start();
    let lost = RecordedRevision { digest: Sha256::new([7; 32]), ..recorded(good(1)) };
    host.apply_recorded(&[&bad(2)], &[], &[&lost]);
    let why = why_not(&host);
    assert!(why.starts_with("generation 1: its module was sha256:0707"), "{why}");
    host.rejected(&bad(2));
    let state = host.facts.state(&plugin("a"));
    assert!(state.active.is_none() && !state.last_good.recalling, "{state:?}");
    assert_eq!(host.metric(r#"penstock_plugin_recalls_total{result="failed"}"#), 1.0);
}

#[test]
fn a_newer_revision_is_on_probation_as_if_the_one_on_record_had_served_all_along() {
    let probation = Probation { period: Duration::from_secs(3600), max_faults: 0 };
    let wanted = PluginSpec { rollout: Rollout { probation, ..Rollout::default() }, ..good(2) };
    let host = Host::start();
    host.apply_recorded(&[&wanted], &[], &[&recorded(good(1))]);
    host.active(&wanted);
    assert_eq!(host.facts.state(&plugin("a")).probation.unwrap().fallback.generation, 1);
}

#[test]
fn a_plugin_whose_resource_does_not_say_what_to_run_is_restored() {
    for is_wanted in [true, false] {
        let host = Host::start();
        let recorded = RecordedRevision { is_wanted, ..recorded(good(1)) };
        host.apply_recorded(&[], &[plugin("a")], &[&recorded]);
        assert_eq!(restored(&host, RestoredFrom::Cluster).generation, 1);
        assert_eq!(host.facts.state(&plugin("a")).candidate, None);
    }
}

#[test]
fn of_disk_and_record_the_newer_one_counts() {
    let directory = tempfile::tempdir().unwrap();
    let on_disk = || {
        let last_good = Some(directory.path().join("last-good"));
        Host::with(PluginSettings { last_good, ..settings() })
    };
    on_disk().activate(&good(2));
    for generation in [1, 2] {
        let host = on_disk();
        host.apply_recorded(&[&bad(9)], &[], &[&recorded(good(generation))]);
        assert_eq!(restored(&host, RestoredFrom::Disk).generation, 2);
        host.rejected(&bad(9));
        assert_eq!(host.metric(r#"penstock_plugin_recalls_total{result="ok"}"#), 0.0);
    }
    let host = on_disk();
    host.apply_recorded(&[&bad(9)], &[], &[&recorded(good(3))]);
    assert_eq!(restored(&host, RestoredFrom::Cluster).generation, 3);
    // And is on disk from now on.
    host.rejected(&bad(9));
    drop(host);
    let host = on_disk();
    host.apply_keeping(&[], &[plugin("a")]);
    assert_eq!(restored(&host, RestoredFrom::Disk).generation, 3);
}

/// A module at a server that takes connections and never answers.
fn silent(server: &TcpListener) -> ModuleSource {
    let url = format!("http://{}/a.wasm", server.local_addr().unwrap()).parse().unwrap();
    ModuleSource::Http(HttpSource { url, sha256: digest() })
}

#[test]
fn a_record_whose_source_hangs_holds_nobody_up() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::start();
    let hangs = PluginSpec { source: silent(&server), ..good(1) };
    host.apply_recorded(&[&good(2)], &[], &[&recorded(hangs)]);
    host.active(&good(2));
}

#[test]
fn while_what_is_wanted_hangs_the_record_serves() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::start();
    let hangs = PluginSpec { source: silent(&server), ..good(2) };
    host.apply_recorded(&[&hangs], &[], &[&recorded(good(1))]);
    assert_eq!(restored(&host, RestoredFrom::Cluster).generation, 1);
}

fn from_file(path: &Path) -> PluginSpec {
    PluginSpec { source: ModuleSource::File { path: path.into(), stamp: "".into() }, ..good(1) }
}

#[test]
fn a_record_whose_source_is_away_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.wasm");
    let host = Host::start();
    host.apply_recorded(&[&bad(2)], &[], &[&recorded(from_file(&path))]);
    why_not(&host);
    fs::write(directory.path().join("new"), Guest::default().build()).unwrap();
    fs::rename(directory.path().join("new"), &path).unwrap();
    assert_eq!(restored(&host, RestoredFrom::Cluster).generation, 1);
    assert_eq!(host.facts.state(&plugin("a")).last_good.not_recalled, None);
}

#[test]
fn a_record_that_comes_later_or_is_another_one_is_used_too() {
    let host = Host::start();
    host.apply(&[&bad(2)]);
    host.rejected(&bad(2));
    host.apply_recorded(&[&bad(2)], &[], &[&recorded(bad(1))]);
    why_not(&host);
    host.apply_recorded(&[&bad(2)], &[], &[&recorded(good(1))]);
    assert_eq!(restored(&host, RestoredFrom::Cluster).generation, 1);
}

#[test]
fn what_is_deleted_does_not_come_back() {
    let host = Host::start();
    host.apply_recorded(&[&bad(2)], &[], &[&recorded(good(1))]);
    restored(&host, RestoredFrom::Cluster);
    host.apply(&[]);
    host.facts.until(&plugin("a"), |state| (state.active.is_none() && state.candidate.is_none()).then_some(()));
    host.apply(&[&bad(1)]);
    assert_eq!(host.rejected(&bad(1)).1, None);
}
