//! `penstock plugin check`: the gateway's own validator, asked without a gateway.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::bail;
use penstock_controller::sources::files::FileSource;
use penstock_core::{
    Kind,
    plugin::{ModuleSource, PluginSpec, Rejection},
};
use penstock_plugin_host::{PluginHost, Validated, reason};
use penstock_translate::{Resources, Settings, Translator, nearest::did_you_mean};

use super::{
    capability, counted, module, size,
    subject::{self, Configuration},
};

/// Say whether a gateway would take a plugin, by the gateway's own validator
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It does what the gateway does before a plugin may touch traffic: static check, compile, instantiate, describe, check the
configuration against the plugin's schema, configure, self-test, sample exchanges and the checks of the resource
(spec.checks), all within limits. What it says is what the status of a WasmPlugin would say. Exits with 0 if every
plugin is accepted, with 1 if one is not.

Examples:
  penstock plugin check my-plugin.wasm                             # with an empty configuration, nothing granted
  penstock plugin check my-plugin.wasm --config config.yaml --grant log,clock
  penstock plugin check my-plugin.wasm --grant rate-limit=api:100/1m
  penstock plugin check -f world.yaml                              # the WasmPlugins of these resource files
  penstock plugin check new.wasm -f world.yaml --name headers      # a new module in the place of theirs")]
pub(super) struct Args {
    /// The component
    #[arg(value_name = "FILE", required_unless_present = "filename")]
    module: Option<PathBuf>,

    #[command(flatten)]
    configuration: Configuration,

    /// Resource files with WasmPlugins: what they say of source, configuration, capabilities and limits holds
    #[arg(short = 'f', long = "filename", value_name = "PATH", conflicts_with_all = ["config", "grant"])]
    filename: Vec<PathBuf>,

    /// Only this WasmPlugin of the resource files
    #[arg(long, requires = "filename")]
    name: Option<String>,
}

/// Validate, print.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let specs = match &args.module {
        Some(module) if args.filename.is_empty() => vec![args.configuration.spec(module)?],
        module => world(args, module.as_deref())?,
    };
    let host = super::host()?;
    let mut refused = 0;
    for spec in &specs {
        match host.validate(spec) {
            Ok(valid) => println!("{}", accepted(spec, &valid)),
            Err(rejection) => {
                refused += 1;
                println!("{}", explain(spec, &rejection));
            }
        }
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The plugins of resource files, maybe with another module.
fn world(args: &Args, module: Option<&Path>) -> anyhow::Result<Vec<Arc<PluginSpec>>> {
    let reading = FileSource::new(args.filename.iter().cloned()).read();
    if !reading.problems.is_empty() {
        let lines: Vec<_> =
            reading.problems.iter().map(|it| format!("{}: {}", it.file.display(), it.message())).collect();
        bail!("{}\nThe rest of what `run` would refuse, with places: penstock check -f …", lines.join("\n"));
    }
    let mut resources = Resources::default();
    for change in reading.changes {
        resources.apply(change);
    }
    let translation = Translator::default().translate(&resources, &Settings::standalone());
    let wanted = |name: &str| args.name.as_deref().is_none_or(|wanted| wanted == name);
    let mut specs: Vec<_> = translation.needs.plugins.into_iter().filter(|spec| wanted(&spec.plugin.name)).collect();
    let unspecified: Vec<_> = translation.statuses.iter().filter(|(id, _)| id.kind == Kind::WasmPlugin).collect();
    for (id, status) in unspecified.iter().filter(|(id, _)| wanted(&id.name)) {
        if !specs.iter().any(|spec| spec.plugin == **id) {
            bail!("{id}: {}", subject::why_not(std::iter::once(status.as_ref())));
        }
    }
    if specs.is_empty() {
        let names: Vec<_> = unspecified.iter().map(|(id, _)| &*id.name).collect();
        let wanted = args.name.as_deref().unwrap_or_default();
        bail!("there is no WasmPlugin {wanted} in these files{}", did_you_mean(wanted, names.iter().copied()));
    }
    if let Some(path) = module {
        let [spec] = specs.as_mut_slice() else {
            let names: Vec<_> = specs.iter().map(|spec| &*spec.plugin.name).collect();
            bail!("there are several WasmPlugins ({}): say with --name whose module this is", names.join(", "));
        };
        Arc::make_mut(spec).source = ModuleSource::File { path: path.into(), stamp: "".into() };
    }
    Ok(specs)
}

/// `namespace/name` of a resource; nothing for what was said on the command line.
fn label(spec: &PluginSpec) -> String {
    let PluginSpec { plugin, source, .. } = spec;
    if subject::is_argument(spec) {
        source.to_string()
    } else {
        format!("{}/{} ({source})", plugin.namespace, plugin.name)
    }
}

fn accepted(spec: &PluginSpec, valid: &Validated) -> String {
    let hooks =
        if valid.plan.hooks.is_empty() { "none: it is never called".into() } else { valid.plan.hooks.join(", ") };
    let bytes = read(spec).map_or_else(String::new, |bytes| format!(", {}", size(bytes.len())));
    format!(
        "{}: accepted: {} {} ({}{bytes})\n  hooks with this configuration: {hooks}",
        label(spec),
        valid.name,
        valid.version,
        valid.digest
    )
}

/// The status that a WasmPlugin would have, and what to do about it.
fn explain(spec: &PluginSpec, Rejection { reason, message }: &Rejection) -> String {
    let hint = hint(spec, reason).map_or_else(String::new, |hint| format!("\n  {hint}"));
    format!("{}: {reason}: {message}{hint}", label(spec))
}

fn hint(spec: &PluginSpec, reason: &str) -> Option<String> {
    let ModuleSource::File { path, .. } = &spec.source else { return None };
    let file = path.display().to_string();
    match reason {
        reason::FETCH_FAILED => module::read(Path::new(&file)).err().map(|error| error.to_string()),
        reason::IMPORT_NOT_GRANTED => {
            let outline = PluginHost::outline(&read(spec)?).ok()?;
            let names: Vec<_> = outline.imports.iter().filter_map(|import| capability::argument(import)).collect();
            let n = counted(names.len(), "capability").replace("capabilitys", "capabilities");
            subject::is_argument(spec)
                .then(|| format!("It uses {n}; to check with all it uses: --grant {}", names.join(",")))
        }
        reason::INVALID_CONFIG => Some(format!("What the configuration may hold: penstock plugin inspect {file}")),
        reason::NOT_A_COMPONENT => Some("`penstock plugin build` makes components of Rust crates".into()),
        reason::NOT_A_PLUGIN => Some(format!("What it is: penstock plugin inspect {file}")),
        _ => None,
    }
}

fn read(spec: &PluginSpec) -> Option<Vec<u8>> {
    match &spec.source {
        ModuleSource::File { path, .. } => std::fs::read(path).ok(),
        ModuleSource::Inline(bytes) => Some(bytes.to_vec()),
        ModuleSource::Http(_) | ModuleSource::Oci(_) => None,
    }
}
