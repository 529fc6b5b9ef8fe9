//! From arguments to what the plugin host takes.
//!
//! What is said on the command line becomes a WasmPlugin, and that goes through the same translation as any other: there is one place
//! that knows what its fields mean.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use penstock_core::plugin::{ModuleSource, PluginSpec};
use penstock_translate::{Change, ConditionStatus, Resources, Settings, Status, Translator, resources::Object};
use serde_json::{Map, Value, json};

use super::{
    capability::{self, Grant},
    module::Module,
};

/// The resource that stands for the arguments.
const NAME: &str = "plugin-from-the-command-line";

/// How the plugin is configured, and what it may do.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Configuration {
    /// Configuration of the plugin, what `spec.config` of its WasmPlugin would hold: a YAML or JSON file, or the text
    /// itself if it begins with `{`
    #[arg(long, value_name = "FILE")]
    config: Option<String>,

    /// Grant a capability: log, clock, random, metrics, counters, key-value, wasi, rate-limit=NAME:LIMIT/WINDOW, outbound=NAME, or
    /// all; repeat it or separate several with commas
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    grant: Vec<Grant>,

    /// A limit, as spec.limits of its WasmPlugin would say it: memory=64Mi, hookTime=5ms; repeat it or separate several with commas
    #[arg(long = "limit", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = limit)]
    limits: Vec<(String, Value)>,
}

impl Configuration {
    /// Whether nothing was said of the configuration.
    pub(super) fn is_default(&self) -> bool {
        self.config.is_none()
    }

    /// What the host would be asked to run.
    pub(super) fn spec(&self, module: &Module, settings: &Settings) -> anyhow::Result<Arc<PluginSpec>> {
        spec(module, &self.fields(&capability::granted(&self.grant))?, settings)
    }

    /// Likewise with every capability beside those that are granted.
    pub(super) fn spec_with_everything(&self, module: &Module) -> anyhow::Result<Arc<PluginSpec>> {
        let grants: Vec<_> = self.grant.iter().cloned().chain([Grant::All]).collect();
        spec(module, &self.fields(&capability::granted(&grants))?, &Settings::standalone())
    }

    fn fields(&self, capabilities: &Value) -> anyhow::Result<Value> {
        let config = self.config.as_deref().map(read).transpose()?;
        let limits: Map<_, _> = self.limits.iter().cloned().collect();
        Ok(json!({ "config": config.unwrap_or(json!({})), "capabilities": capabilities, "limits": limits }))
    }
}

/// What is a number in a resource is one here.
fn limit(text: &str) -> Result<(String, Value), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("`{text}` is no limit; write NAME=VALUE, such as memory=64Mi"));
    };
    let value = value.parse::<u64>().map_or_else(|_| value.into(), Value::from);
    Ok((name.to_owned(), value))
}

/// A file, or the configuration itself.
fn read(argument: &str) -> anyhow::Result<Value> {
    if argument.trim_start().starts_with('{') {
        return serde_yaml_ng::from_str(argument).context("--config is neither JSON nor YAML");
    }
    let text = std::fs::read_to_string(argument)
        .with_context(|| format!("--config: cannot read {argument} (text itself begins with `{{`)"))?;
    serde_yaml_ng::from_str(&text).with_context(|| format!("--config: {argument} is neither YAML nor JSON"))
}

/// A WasmPlugin with this module and these fields of `spec`, as the plugin host would be asked to run it.
pub(super) fn spec(module: &Module, fields: &Value, settings: &Settings) -> anyhow::Result<Arc<PluginSpec>> {
    let mut spec = spec_of_file(module.path(), fields, settings)?;
    if let Module::Pulled { bytes, .. } = module {
        Arc::make_mut(&mut spec).source = ModuleSource::Inline(bytes.clone());
    }
    Ok(spec)
}

fn spec_of_file(path: &Path, fields: &Value, settings: &Settings) -> anyhow::Result<Arc<PluginSpec>> {
    let mut document = json!({ "metadata": { "name": NAME }, "spec": fields });
    let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    document["spec"]["source"] = json!({ "file": { "path": path } });
    let object = Object::parse("penstock.dev/v1alpha1", "WasmPlugin", document)?;
    let (mut resources, mut translator) = (Resources::default(), Translator::default());
    resources.apply(Change::Upsert(object));
    let translation = translator.translate(&resources, settings);
    match translation.needs.plugins.first() {
        Some(spec) => Ok(Arc::clone(spec)),
        None => bail!("{}", why_not(translation.statuses.values().map(AsRef::as_ref))),
    }
}

/// Whether a spec was made of arguments and not of a resource.
pub(super) fn is_argument(spec: &PluginSpec) -> bool {
    &*spec.plugin.name == NAME && spec.generation == 0
}

/// The conditions that say why there is nothing to run.
pub(super) fn why_not<'s>(statuses: impl Iterator<Item = &'s Status>) -> String {
    let conditions: Vec<_> = statuses.flat_map(Status::conditions).map(|(_, condition)| condition).collect();
    let failed = conditions.iter().filter(|condition| {
        condition.status == ConditionStatus::False && matches!(condition.type_, "Accepted" | "ResolvedRefs")
    });
    failed.map(|condition| condition.message.as_str()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn arguments_become_what_a_resource_would() {
        let configuration = Configuration {
            config: Some("{a: [1]}".into()),
            grant: vec!["log".parse().unwrap(), "rate-limit=api:5/1s".parse().unwrap()],
            limits: vec![limit("memory=64Mi").unwrap(), limit("logLines=7").unwrap()],
        };
        let module = Module::File("x.wasm".into());
        let spec = configuration.spec(&module, &Settings::standalone()).unwrap();
        assert_eq!(*spec.config, json!({ "a": [1] }));
        assert!(spec.capabilities.log && !spec.capabilities.clock);
        assert_eq!((spec.limits.memory, spec.limits.log_lines), (64 << 20, 7));
        let everything = configuration.spec_with_everything(&module).unwrap();
        assert!(everything.capabilities.clock);
        assert_eq!(&*everything.capabilities.rate_limits[0].name, "api", "what was granted is");
        assert!(limit("memory").unwrap_err().contains("memory=64Mi"));
        let pulled = Module::Pulled { name: "oci://a.io/b:1".into(), bytes: "module".into() };
        let spec = configuration.spec(&pulled, &Settings::standalone()).unwrap();
        assert_eq!(spec.source, ModuleSource::Inline("module".into()));
    }

    #[test]
    fn fields_mean_what_they_mean_in_a_resource() {
        let with = |fields: Value| spec(&Module::File("x.wasm".into()), &fields, &Settings::standalone());
        assert_eq!(
            with(json!({ "limits": { "hookTime": "5ms" } })).unwrap().limits.hook_time,
            Duration::from_millis(5)
        );
        let error = with(json!({ "limits": { "hookTime": "5" } })).unwrap_err().to_string();
        assert!(error.contains("spec.limits.hookTime: `5` is no duration"), "{error}");
        let error = with(json!({ "limits": { "hookTime": 5 } })).unwrap_err().to_string();
        assert!(error.contains("spec.limits.hookTime"), "{error}");
    }
}
