//! The hostile corpus: modules that are broken, malicious or careless, each with what must become of it.
//!
//! | file | what |
//! |---|---|
//! | `bytes.rs` | bytes that are no component, or one that no compiler should get |
//! | `contract.rs` | components that do not fit the contract, or want what they were not granted |
//! | `code.rs` | code that loops, traps or takes all there is, before there is traffic |
//! | `answers.rs` | manifests, plans and answers to sample exchanges that break the contract |
//! | `checks.rs` | candidates that fail `spec.checks`, and checks that cost too much |
//! | `traffic.rs` | plugins that pass validation, and fault on traffic |
//! | `streams.rs` | policies on bodies that misbehave in chunks, trailers and at the end |
//! | `outbound.rs` | plugins that call backends where, how and as often as they may not; backends that misbehave: `host/tests/end_to_end/outbound.rs` |
//!
//! After each of them the same is asserted: the gateway's host is alive, the last good revision of the plugin serves, a neighbour answers properly, and
//! the status, which `check` says as well, is the expected one.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::result_large_err, reason = "a test compares whole responses")]

mod answers;
mod bytes;
mod checks;
mod code;
mod contract;
mod outbound;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use penstock_core::plugin::{ActiveRevision, PluginSpec};
use penstock_plugin_host::PluginSettings;
use support::{
    exchange::works,
    facts::{Host, settings, spec},
    guest::Guest,
};

/// A candidate that must be refused.
pub(crate) struct Case {
    name: String,
    spec: PluginSpec,
    reason: &'static str,
    /// What the message must have.
    part: &'static str,
}

/// `module` is refused for `reason` with a message that has `part`.
pub(crate) fn bytes(name: &str, module: impl Into<Vec<u8>>, reason: &'static str, part: &'static str) -> Case {
    Case { name: name.into(), spec: spec("victim", module.into()), reason, part }
}

/// The same of a component in text form.
pub(crate) fn component(name: &str, text: &str, reason: &'static str, part: &'static str) -> Case {
    let module = wat::parse_str(format!("(component {text})")).unwrap_or_else(|error| panic!("{name}: {error}"));
    bytes(name, module, reason, part)
}

/// The same of a guest.
pub(crate) fn guest(name: &str, guest: &Guest, reason: &'static str, part: &'static str) -> Case {
    bytes(name, guest.build(), reason, part)
}

/// The exports of a plugin with nothing behind them: enough for the outline.
pub(crate) const EMPTY_EXPORTS: &str = "(instance $e) (export \"penstock:plugin/lifecycle@0.1.0\" (instance $e))
    (export \"penstock:plugin/header-policy@0.1.0\" (instance $e))";

/// All of `cases` are refused as they must be, one after the other by the same host.
pub(crate) fn refuses(cases: Vec<Case>) {
    refuses_with(settings(), cases);
}

/// With other settings.
pub(crate) fn refuses_with(settings: PluginSettings, cases: Vec<Case>) {
    let mut world = World::new(settings);
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|case| {
            let name = case.name.clone();
            world.refuses(case).err().map(|error| format!("{name}: {error}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// A host that serves a neighbour and the last good revision of the plugin that is about to be broken.
struct World {
    host: Host,
    neighbour: PluginSpec,
    neighbour_active: ActiveRevision,
    generation: i64,
}

impl World {
    fn new(settings: PluginSettings) -> Self {
        let host = Host::with(settings);
        let neighbour = spec("neighbour", Guest::default().build());
        let neighbour_active = host.activate(&neighbour);
        Self { host, neighbour, neighbour_active, generation: 0 }
    }

    /// The candidate replaces a good revision, is refused, and harms nobody.
    fn refuses(&mut self, case: Case) -> Result<(), String> {
        let good = PluginSpec { generation: self.generation + 1, ..spec("victim", Guest::default().build()) };
        let bad = PluginSpec { generation: self.generation + 2, ..case.spec };
        self.generation += 2;
        self.host.apply(&[&self.neighbour, &good]);
        let active = self.host.active(&good);
        self.host.apply(&[&self.neighbour, &bad]);
        let (rejection, serving) = self.host.rejected(&bad);
        let worker = self.host.host.runtime().worker();
        works(&*worker, &active);
        works(&*worker, &self.neighbour_active);
        let said = self.host.host.validate(&bad);
        if rejection.reason != case.reason || !rejection.message.contains(case.part) {
            return Err(format!("not {} with {:?}, but {rejection:?}", case.reason, case.part));
        }
        if serving != Some(active) {
            return Err(format!("the last good revision does not serve, but {serving:?}"));
        }
        if said.as_ref() != Err(&rejection) {
            return Err(format!("`check` does not say the same, but {said:?}"));
        }
        Ok(())
    }
}
