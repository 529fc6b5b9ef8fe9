//! Modules that come from elsewhere: what the status says until they are there, and what it takes to get them.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::sync::Arc;

use penstock_core::plugin::{HttpSource, ModuleSource, Phase, PluginSpec, Sha256};
use penstock_plugin_host::PluginSettings;
use penstock_testing::{
    gate::Gate,
    origin::{Answer, Origin},
};
use sha2::Digest as _;
use support::{
    exchange::works,
    facts::{Host, plugin, settings, spec},
    guest::Guest,
};

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256::new(sha2::Sha256::digest(bytes).into())
}

fn from(origin: &Origin, sha256: Sha256) -> PluginSpec {
    let url = format!("http://{}/plugin.wasm", origin.address()).parse().unwrap();
    PluginSpec { source: ModuleSource::Http(HttpSource { url, sha256 }), ..spec("a", vec![]) }
}

#[test]
fn a_module_from_a_web_server_serves() {
    let module = Guest::default().build();
    let origin = Origin::answering(Answer::new(200).body(module.clone()));
    let host = Host::start();
    let wanted = from(&origin, digest(&module));
    let active = host.activate(&wanted);
    assert_eq!(*active.digest, *digest(&module).to_string());
    works(&*host.host.runtime().worker(), &active);
    assert_eq!(host.host.validate(&wanted).unwrap().digest, active.digest);
    assert_eq!(host.metric(r#"penstock_plugin_fetches_total{source="http",outcome="Fetched"}"#), 2.0);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn the_status_tells_of_attempts_until_one_succeeds() {
    let module = Guest::default().build();
    let origin = Origin::answering(Answer::new(503).body("not yet"));
    let host = Host::start();
    let wanted = from(&origin, digest(&module));
    host.apply(&[&wanted]);
    let message = host.facts.until(&plugin("a"), |state| match &state.candidate.as_ref()?.phase {
        Phase::Retrying { rejection, attempts: 2, .. } => Some(rejection.message.clone()),
        _ => None,
    });
    assert!(message.ends_with("answered 503 Service Unavailable (not yet)"), "{message}");
    origin.answer(move |_| Answer::new(200).body(module.clone()));
    works(&*host.host.runtime().worker(), &host.active(&wanted));
    assert_eq!(host.metric(r#"penstock_plugin_revisions_total{plugin="default/a",result="rejected"}"#), 1.0);
}

#[test]
fn a_changed_spec_ends_the_fetch_of_the_old_one() {
    let module = Guest::default().build();
    let gate = Gate::new();
    let silent = Origin::answering(Answer::new(200).after(&gate));
    let good = Origin::answering(Answer::new(200).body(module.clone()));
    let host = Host::start();
    host.apply(&[&from(&silent, digest(&module))]);
    let wanted = PluginSpec { generation: 2, ..from(&good, digest(&module)) };
    let active = host.activate(&wanted);
    // What the silent one says at last changes nothing, and it is not asked again.
    gate.open();
    host.apply(&[&PluginSpec { generation: 3, ..wanted.clone() }]);
    assert_eq!(host.active(&PluginSpec { generation: 3, ..wanted }).revision, active.revision);
    assert!(silent.requests().len() <= 1);
}

#[test]
fn a_restart_needs_no_server() {
    let module = Guest::default().build();
    let directory = tempfile::tempdir().unwrap();
    let settings = || PluginSettings {
        cache: Some(directory.path().join("compiled")),
        downloads: Some(directory.path().join("downloads")),
        ..settings()
    };
    let origin = Origin::answering(Answer::new(200).body(module.clone()));
    let wanted = from(&origin, digest(&module));
    Host::with(settings()).activate(&wanted);
    drop(origin);
    let host = Host::with(settings());
    works(&*host.host.runtime().worker(), &host.activate(&wanted));
    // Another configuration of the same module needs it neither.
    let config = Arc::new(serde_json::json!({ "n": 1 }));
    host.activate(&PluginSpec { generation: 2, config, ..wanted });
}
