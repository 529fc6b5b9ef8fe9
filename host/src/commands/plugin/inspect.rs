//! `penstock plugin inspect`: what a component is, before anything of it runs on traffic.

use std::{fmt::Write as _, process::ExitCode};

use penstock_core::plugin::Rejection;
use penstock_plugin_host::{Outline, PlanReport, PluginHost};
use serde::Serialize;
use serde_json::Value;

use super::{
    Output,
    capability::Import,
    module::{Component, Module},
    registry::Access,
    schema, size,
    subject::Configuration,
};
use crate::commands::table::Table;

/// Say what a plugin is: its name, hooks, headers, capabilities and configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every capability is granted for the question, and nothing is stored; buckets and backends that the configuration names
are granted with --grant. Hooks and headers depend on the configuration: they are shown for the one that is given, or else
for an empty one if the plugin takes that.

Examples:
  penstock plugin inspect my-plugin.wasm
  penstock plugin inspect my-plugin.wasm --config config.yaml       # the hooks and headers of this configuration
  penstock plugin inspect rate-limit.wasm --config config.yaml --grant rate-limit=api:100/1m
  penstock plugin inspect oci://ghcr.io/acme/my-plugin:1.2.0        # as it is in a registry, with the login of `docker login`
  penstock plugin inspect my-plugin.wasm -o json | jq .configSchema")]
pub(super) struct Args {
    /// The component: a file, or `oci://` and its reference in a registry
    #[arg(value_name = "FILE|oci://REFERENCE")]
    module: Component,

    #[command(flatten)]
    configuration: Configuration,

    #[command(flatten)]
    access: Access,

    /// For people (table) or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What is known of a component.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspection {
    file: String,
    bytes: usize,
    digest: String,
    kind: Kind,
    contract: Option<String>,
    imports: Vec<Import>,
    /// None if the plugin could not be asked.
    manifest: Option<Manifest>,
    config_schema: Value,
    plan: Option<Plan>,
    /// Why something above is missing.
    problem: Option<Problem>,
}

/// Which world it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Policy,
    StreamingPolicy,
    Route,
    /// No plugin.
    Unknown,
}

#[derive(Debug, Serialize)]
struct Manifest {
    name: String,
    version: String,
    description: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    hooks: Vec<&'static str>,
    request_reads: Vec<String>,
    request_writes: Vec<String>,
    response_reads: Vec<String>,
    carried_reads: Vec<String>,
    response_writes: Vec<String>,
    request_body: String,
    response_body: String,
}

#[derive(Debug, Serialize)]
struct Problem {
    reason: &'static str,
    message: String,
}

/// Ask and print. Exits with 1 if it is no plugin that this gateway runs.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let inspection = inspect(args)?;
    args.output.print(&inspection, table)?;
    Ok(if inspection.manifest.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn inspect(args: &Args) -> anyhow::Result<Inspection> {
    let bytes = args.module.read(&args.access)?;
    let outline = match PluginHost::outline(&bytes) {
        Ok(outline) => outline,
        Err(Rejection { reason, message }) => anyhow::bail!("{}: {reason}: {message}", args.module),
    };
    let mut inspection = Inspection {
        file: args.module.to_string(),
        bytes: bytes.len(),
        digest: outline.digest.to_string(),
        kind: Kind::of(&outline),
        contract: contract(&outline),
        imports: Import::all(&outline.imports),
        manifest: None,
        config_schema: Value::Null,
        plan: None,
        problem: None,
    };
    // What was read is what is asked: a tag may mean something else in a moment.
    let module = Module::Pulled { name: args.module.to_string(), bytes };
    let spec = args.configuration.spec_with_everything(&module)?;
    let host = super::host()?;
    match host.describe(&spec) {
        Ok(described) => {
            inspection.config_schema = serde_json::from_str(&described.config_schema).unwrap_or_default();
            inspection.manifest = Some(Manifest {
                name: described.name.to_string(),
                version: described.version.to_string(),
                description: described.description.to_string(),
            });
        }
        Err(rejection) => {
            inspection.problem = Some(rejection.into());
            return Ok(inspection);
        }
    }
    match host.validate(&spec) {
        Ok(valid) => inspection.plan = Some(valid.plan.into()),
        Err(rejection) => inspection.problem = Some(rejection.into()),
    }
    if args.configuration.is_default() && inspection.plan.is_none() {
        // That it wants a configuration is no fault of the plugin.
        inspection.problem = inspection.problem.filter(|problem| problem.reason != "InvalidConfig");
    }
    Ok(inspection)
}

impl Kind {
    fn of(outline: &Outline) -> Self {
        let exports = |interface: &str| {
            let prefix = format!("penstock:plugin/{interface}@");
            outline.exports.iter().any(|name| name.starts_with(&prefix))
        };
        match (exports("header-policy"), exports("exchange-policy"), exports("route-policy")) {
            (true, ..) => Self::Policy,
            (_, true, _) => Self::StreamingPolicy,
            (_, _, true) => Self::Route,
            _ => Self::Unknown,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy on headers",
            Self::StreamingPolicy => "policy on bodies, trailers or the end of exchanges",
            Self::Route => "route plugin: chooses among the backends of a rule",
            Self::Unknown => "no plugin",
        }
    }
}

/// The version of the contract it was built with.
fn contract(outline: &Outline) -> Option<String> {
    let lifecycle = outline.exports.iter().find_map(|name| name.strip_prefix("penstock:plugin/lifecycle@"))?;
    Some(format!("penstock:plugin@{lifecycle}"))
}

impl From<PlanReport> for Plan {
    fn from(plan: PlanReport) -> Self {
        Self {
            hooks: plan.hooks,
            request_reads: plan.request_reads,
            request_writes: plan.request_writes,
            response_reads: plan.response_reads,
            carried_reads: plan.carried_reads,
            response_writes: plan.response_writes,
            request_body: plan.request_body,
            response_body: plan.response_body,
        }
    }
}

impl From<Rejection> for Problem {
    fn from(Rejection { reason, message }: Rejection) -> Self {
        Self { reason, message }
    }
}

fn table(it: &Inspection) -> String {
    let mut out = String::new();
    if let Some(manifest) = &it.manifest {
        let _ = writeln!(out, "{} {}: {}\n", manifest.name, manifest.version, manifest.description);
    }
    let contract = it.contract.as_deref().unwrap_or("none");
    for (name, value) in [
        ("file", it.file.clone()),
        ("size", size(it.bytes)),
        ("digest", it.digest.clone()),
        ("kind", it.kind.as_str().to_owned()),
        ("contract", contract.to_owned()),
    ] {
        let _ = writeln!(out, "{name:<9} {value}");
    }
    capabilities(it, &mut out);
    plan(it, &mut out);
    configuration(it, &mut out);
    if let Some(problem) = &it.problem {
        let _ = writeln!(out, "\n{}: {}", problem.reason, problem.message);
    }
    out
}

fn capabilities(it: &Inspection, out: &mut String) {
    let mut table = Table::new(&["IMPORT", "UNDER spec.capabilities", "WHAT IT MEANS"]);
    for (name, import) in Import::rows(&it.imports) {
        table.row([&*name, import.grant.unwrap_or("nothing"), import.cost]);
    }
    if it.imports.is_empty() {
        let _ = writeln!(out, "imports   nothing: it needs no capability");
    }
    table.write(out, "CAPABILITIES");
}

fn plan(it: &Inspection, out: &mut String) {
    let Some(plan) = &it.plan else { return };
    let mut table = Table::new(&["PLAN", "WITH THIS CONFIGURATION"]);
    let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let hooks = if plan.hooks.is_empty() { "none: it is never called".to_owned() } else { plan.hooks.join(", ") };
    table.row(["hooks", &hooks]);
    for (name, value) in [
        ("reads of the request", &plan.request_reads),
        ("writes of the request", &plan.request_writes),
        ("reads of the response", &plan.response_reads),
        ("request headers kept for the response", &plan.carried_reads),
        ("writes of the response", &plan.response_writes),
    ] {
        table.row([name, &list(value)]);
    }
    for (name, mode) in [("request body", &plan.request_body), ("response body", &plan.response_body)] {
        if mode != "none" {
            table.row([name, mode]);
        }
    }
    table.write(out, "HOOKS AND HEADERS");
}

fn configuration(it: &Inspection, out: &mut String) {
    let fields = schema::fields(&it.config_schema);
    let mut table = Table::new(&["FIELD", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"]);
    for field in &fields {
        let required = if field.required { "yes" } else { "" };
        let default = field.default.as_deref().unwrap_or_default();
        table.row([&*field.path, &field.kind, required, default, &field.description]);
    }
    table.write(out, "CONFIGURATION");
    if it.manifest.is_some() && it.plan.is_none() && it.problem.is_none() {
        let example = schema::example(&it.config_schema);
        let _ = writeln!(
            out,
            "\nHooks and headers depend on the configuration, which must not be empty. Give one:\n  \
             penstock plugin inspect {} --config '{example}'",
            it.file
        );
    }
}
