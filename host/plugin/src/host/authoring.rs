//! What the tools of plugin authors ask of the host: what a module is, what its plan says, what an instance costs. Nothing here runs for
//! traffic.

use std::{sync::Arc, time::Duration};

use penstock_core::plugin::{FaultKind, PluginFault, PluginSpec, Rejection, Revision};

use super::{PluginHost, jobs::Refused};
use crate::{
    contract::types::{self as wit, BodyMode},
    module::Digest,
    revision::Loaded,
    static_check,
};

/// What the bytes of a component say without running any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// `sha256:…` of the bytes.
    pub digest: Arc<str>,
    /// Interfaces that it imports, such as `penstock:plugin/log@0.1.0`, in its order.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
}

/// What a module says of itself, whatever its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// From the manifest.
    pub name: Arc<str>,
    /// From the manifest.
    pub version: Arc<str>,
    /// From the manifest.
    pub description: Arc<str>,
    /// JSON Schema of the configuration, as text.
    pub config_schema: Arc<str>,
}

/// What a configuration asks of every exchange, in the words of the contract.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanReport {
    /// Names of the hooks, such as `request-headers`, in the order in which they are called.
    pub hooks: Vec<&'static str>,
    /// Names whose values the request hook gets.
    pub request_reads: Vec<String>,
    /// Names that request edits may touch.
    pub request_writes: Vec<String>,
    /// Names whose values the response hook gets.
    pub response_reads: Vec<String>,
    /// Names of the request that the response hook gets.
    pub carried_reads: Vec<String>,
    /// Names that response edits may touch.
    pub response_writes: Vec<String>,
    /// `none`, `stream`, or `buffer` with its bytes.
    pub request_body: String,
    /// Likewise.
    pub response_body: String,
}

/// What one instance costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceCost {
    /// From nothing to configured: what a worker pays after a fault when no spare instance is left.
    pub time: Duration,
    /// Linear memory in bytes once it is configured.
    pub memory: u64,
}

impl PlanReport {
    pub(super) fn of(plan: &wit::Plan) -> Self {
        let body = |mode: BodyMode| match mode {
            BodyMode::None => "none".to_owned(),
            BodyMode::Stream => "stream".to_owned(),
            BodyMode::Buffer(most) => format!("buffer({most})"),
        };
        Self {
            hooks: wit::Hooks::NAMES
                .iter()
                .filter(|(hook, _)| plan.hooks & *hook == *hook)
                .map(|(_, name)| *name)
                .collect(),
            request_reads: plan.request_reads.clone(),
            request_writes: plan.request_writes.clone(),
            response_reads: plan.response_reads.clone(),
            carried_reads: plan.carried_reads.clone(),
            response_writes: plan.response_writes.clone(),
            request_body: body(plan.request_body),
            response_body: body(plan.response_body),
        }
    }
}

impl PluginHost {
    /// What the bytes of a component say without running any of it.
    ///
    /// # Errors
    /// When they are no component. Whether it is a plugin that this host runs is not asked.
    pub fn outline(bytes: &[u8]) -> Result<Outline, Rejection> {
        let outline = static_check::Outline::parse(bytes)?;
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let digest = Digest::of(bytes).label();
        Ok(Outline { digest, imports: names(&outline.imports), exports: names(&outline.exports) })
    }

    /// What a module says of itself. The configuration of `spec` is not looked at; its capabilities must cover the imports.
    ///
    /// # Errors
    /// The rejection that [`PluginHost::validate`] would end with before it came to the configuration.
    pub fn describe(&self, spec: &PluginSpec) -> Result<Described, Rejection> {
        let module = self.shared.fetcher.fetch(spec).map_err(|error| Refused::from(error).rejection)?;
        let manifest = self.shared.examiner.describe(&module, spec)?;
        Ok(Described {
            name: manifest.name.into(),
            version: manifest.version.into(),
            description: manifest.description.into(),
            config_schema: manifest.config_schema.into(),
        })
    }

    /// Make one more instance of a revision, and drop it.
    ///
    /// # Errors
    /// When it cannot be made, or the revision belongs to another host.
    pub fn try_instance(&self, revision: &Revision) -> Result<InstanceCost, PluginFault> {
        let Some(loaded) = (**revision.loaded()).downcast_ref::<Loaded>() else {
            let message = "the revision belongs to another plugin host".into();
            return Err(PluginFault { kind: FaultKind::Unavailable, message });
        };
        loaded.try_instance().map(|(time, memory)| InstanceCost { time, memory })
    }
}
