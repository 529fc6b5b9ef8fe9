//! `penstock plugin check`: the gateway's own validator, asked without a gateway.

use std::{
    collections::BTreeSet,
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

use serde::Serialize;

use super::{
    Output, capability, counted,
    module::{self, Component, Module},
    registry::Access,
    size,
    subject::{self, Configuration},
};
use crate::commands::PluginLimits;

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
  penstock plugin check guest.wasm --grant wasi --limit memory=64Mi,moduleSize=32Mi --plugin-limits moduleSize=64Mi
  penstock plugin check oci://ghcr.io/acme/my-plugin:1.2.0 -o json   # as it is in a registry
  penstock plugin check -f world.yaml                              # the WasmPlugins of these resource files
  penstock plugin check new.wasm -f world.yaml --name headers      # a new module in the place of theirs")]
pub(super) struct Args {
    /// The component: a file, or `oci://` and its reference in a registry
    #[arg(value_name = "FILE|oci://REFERENCE", required_unless_present = "filename")]
    module: Option<Component>,

    #[command(flatten)]
    configuration: Configuration,

    /// Resource files with WasmPlugins: what they say of source, configuration, capabilities and limits holds
    #[arg(short = 'f', long = "filename", value_name = "PATH", conflicts_with_all = ["config", "grant", "limits"])]
    filename: Vec<PathBuf>,

    /// Only this WasmPlugin of the resource files
    #[arg(long, requires = "filename")]
    name: Option<String>,

    #[command(flatten)]
    access: Access,

    #[command(flatten)]
    ceilings: PluginLimits,

    /// For people (table) or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What became of one plugin.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    /// `namespace/name` of a resource, or where the component is.
    plugin: String,
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// With this configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    hooks: Option<Vec<&'static str>>,
    /// As the status of the resource would say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Validate, print.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = Settings { plugin_limits: args.ceilings.plugin_limits.clone(), ..Settings::standalone() };
    let module = args.module.as_ref().map(|module| module.module(&args.access)).transpose()?;
    let specs = match &module {
        Some(module) if args.filename.is_empty() => vec![args.configuration.spec(module, &settings)?],
        module => world(args, module.as_ref(), &settings)?,
    };
    let host = super::host()?;
    let verdict = |spec: &Arc<PluginSpec>| {
        let label = label(spec, module.as_ref());
        host.validate(spec).map_or_else(
            |rejection| Verdict::refused(label.clone(), spec, rejection),
            |valid| Verdict::accepted(label.clone(), spec, &valid),
        )
    };
    let verdicts: Vec<_> = specs.iter().map(verdict).collect();
    args.output.print(&verdicts, |verdicts| verdicts.iter().map(Verdict::lines).collect())?;
    let all = verdicts.iter().all(|verdict| verdict.accepted);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The plugins of resource files, maybe with another module.
fn world(args: &Args, module: Option<&Module>, settings: &Settings) -> anyhow::Result<Vec<Arc<PluginSpec>>> {
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
    let translation = Translator::default().translate(&resources, settings);
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
    if let Some(module) = module {
        let [spec] = specs.as_mut_slice() else {
            let names: Vec<_> = specs.iter().map(|spec| &*spec.plugin.name).collect();
            bail!("there are several WasmPlugins ({}): say with --name whose module this is", names.join(", "));
        };
        Arc::make_mut(spec).source = match module {
            Module::File(path) => ModuleSource::File { path: path.as_path().into(), stamp: "".into() },
            Module::Pulled { bytes, .. } => ModuleSource::Inline(bytes.clone()),
        };
    }
    Ok(specs)
}

/// `namespace/name` of a resource; nothing for what was said on the command line.
fn label(spec: &PluginSpec, module: Option<&Module>) -> String {
    let PluginSpec { plugin, source, .. } = spec;
    let source = module.map_or_else(|| source.to_string(), Module::to_string);
    if subject::is_argument(spec) { source } else { format!("{}/{} ({source})", plugin.namespace, plugin.name) }
}

impl Verdict {
    fn accepted(plugin: String, spec: &PluginSpec, valid: &Validated) -> Self {
        Self {
            plugin,
            accepted: true,
            name: Some(valid.name.to_string()),
            version: Some(valid.version.to_string()),
            digest: Some(valid.digest.to_string()),
            bytes: read(spec).map(|bytes| bytes.len()),
            hooks: Some(valid.plan.hooks.clone()),
            reason: None,
            message: None,
            hint: None,
        }
    }

    fn refused(plugin: String, spec: &PluginSpec, Rejection { reason, message }: Rejection) -> Self {
        let (name, version, digest, bytes, hooks) = (None, None, None, None, None);
        let hint = hint(spec, &plugin, reason);
        let (reason, message) = (Some(reason), Some(message));
        Self { plugin, accepted: false, name, version, digest, bytes, hooks, reason, message, hint }
    }

    /// For people.
    fn lines(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let plugin = &self.plugin;
        if !self.accepted {
            let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("\n  {hint}"));
            return format!("{plugin}: {}: {}{hint}\n", self.reason.unwrap_or_default(), text(&self.message));
        }
        let hooks = self.hooks.as_deref().unwrap_or_default();
        let hooks = if hooks.is_empty() { "none: it is never called".to_owned() } else { hooks.join(", ") };
        let bytes = self.bytes.map_or_else(String::new, |bytes| format!(", {}", size(bytes)));
        let (name, version, digest) = (text(&self.name), text(&self.version), text(&self.digest));
        format!("{plugin}: accepted: {name} {version} ({digest}{bytes})\n  hooks with this configuration: {hooks}\n")
    }
}

fn hint(spec: &PluginSpec, plugin: &str, reason: &str) -> Option<String> {
    let file = match &spec.source {
        ModuleSource::File { path, .. } => path.display().to_string(),
        ModuleSource::Inline(_) if subject::is_argument(spec) => plugin.to_owned(),
        _ => return None,
    };
    match reason {
        reason::FETCH_FAILED => module::read(Path::new(&file)).err().map(|error| error.to_string()),
        reason::IMPORT_NOT_GRANTED => {
            let outline = PluginHost::outline(&read(spec)?).ok()?;
            let names: BTreeSet<_> = outline.imports.iter().filter_map(|import| capability::argument(import)).collect();
            let names: Vec<_> = names.into_iter().collect();
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
