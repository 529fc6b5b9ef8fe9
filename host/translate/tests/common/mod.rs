//! Worlds from YAML, and translations as text.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use penstock_core::{
    Kind, ResourceRef,
    fact::{Fact, SocketState},
    plugin::{
        ActiveRevision, Awaited, BodyMode, Candidate, Hold, Hooks, HttpSource, LastGoodState, ModuleSource,
        OnProbation, OutboundGrant, Phase, PluginSpec, PluginState, RateLimit, RecordedRevision, Rejection,
        RestoredFrom, Revision, RevisionName, Rollout, StreamingHooks,
    },
};
use penstock_translate::{
    Action, Change, GatewayAddresses, GatewayServices, IngressPorts, Resources, Settings, Translation,
    resources::Object,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// A world as its file says.
pub(crate) struct Loaded {
    pub(crate) resources: Resources,
    pub(crate) settings: Settings,
    /// Sockets that are not simply bound.
    pub(crate) sockets: BTreeMap<SocketAddr, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct World {
    kind: String,
    settings: WorldSettings,
    sockets: BTreeMap<SocketAddr, String>,
    plugins: BTreeMap<String, WorldPlugin>,
    files: BTreeMap<PathBuf, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WorldSettings {
    controller_name: String,
    implied_class: Option<String>,
    addresses: Vec<IpAddr>,
    pool: Vec<String>,
    /// `Shared NAMESPACE/NAME`, or `TYPE NAMESPACE/NAME` for one each.
    services: Option<String>,
    class_selector: Option<String>,
    /// HTTP and HTTPS.
    ingress_ports: (u16, u16),
    /// As for `--plugin-limits`.
    plugin_limits: String,
}

impl Default for WorldSettings {
    fn default() -> Self {
        let settings = Settings::standalone();
        Self {
            controller_name: settings.controller_name.to_string(),
            implied_class: settings.implied_class.as_deref().map(str::to_owned),
            addresses: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
            pool: Vec::new(),
            services: None,
            class_selector: None,
            ingress_ports: (settings.ingress.http, settings.ingress.https),
            plugin_limits: String::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WorldPlugin {
    active: Option<WorldActive>,
    candidate: Option<WorldCandidate>,
    probation: Option<WorldProbation>,
    /// `disk` or `cluster`.
    restored: Option<String>,
    not_restored: Option<String>,
    not_recalled: Option<String>,
    not_kept: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorldProbation {
    /// Seconds after 1970.
    until: u64,
    max_faults: u32,
    fallback: WorldActive,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorldActive {
    generation: i64,
    digest: String,
    #[serde(default)]
    hooks: Vec<String>,
    #[serde(default)]
    artifact: Option<String>,
    #[serde(default)]
    outbound: Vec<OutboundGrant>,
    #[serde(default)]
    redis: Vec<RateLimit>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorldCandidate {
    generation: i64,
    digest: Option<String>,
    phase: String,
    #[serde(default)]
    artifact: Option<String>,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    /// Members of the group that are waited for, and why.
    #[serde(default)]
    awaited: BTreeMap<String, String>,
}

/// What is in a directory, in order of the names.
pub(crate) fn sorted(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

/// All worlds of a directory in order of their names.
pub(crate) fn worlds(directory: &Path) -> Vec<PathBuf> {
    let mut worlds = sorted(directory);
    worlds.retain(|path| path.to_str().unwrap().ends_with(".in.yaml"));
    worlds
}

/// Report every plugin as serving, with both hooks.
pub(crate) fn run_all_plugins(resources: &mut Resources) {
    let plugins: Vec<ResourceRef> = resources.wasm_plugins.keys().cloned().collect();
    for plugin in plugins {
        let hooks = vec!["request".to_owned(), "response".to_owned()];
        let active = WorldActive {
            generation: 0,
            digest: "sha256:example".to_owned(),
            hooks,
            artifact: None,
            outbound: Vec::new(),
            redis: Vec::new(),
        };
        let state = state(&WorldPlugin { active: Some(active), ..WorldPlugin::default() });
        resources.apply(Change::Observe(Fact::Plugin(plugin, Arc::new(state))));
    }
}

/// The resources of a world, each as its file has it.
pub(crate) fn resource_documents(path: &Path) -> Vec<Value> {
    let mut documents = documents(path);
    documents.retain(|document| document["kind"] != "World");
    documents.iter_mut().for_each(|document| insert_pki(document, path.parent().unwrap()));
    documents
}

/// The documents of a YAML file as JSON; empty ones left out.
pub(crate) fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    let documents = documents
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    documents.filter(|document| !document.is_null()).collect()
}

pub(crate) fn load(path: &Path) -> Loaded {
    load_all(&[path.to_owned()])
}

/// One world from several files.
pub(crate) fn load_all(paths: &[PathBuf]) -> Loaded {
    let mut resources = Resources::default();
    let mut world = World::default();
    for (path, mut document) in paths.iter().flat_map(|path| documents(path).into_iter().map(move |it| (path, it))) {
        let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if kind == "World" {
            world = serde_json::from_value(document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            continue;
        }
        insert_pki(&mut document, path.parent().unwrap());
        let object = Object::parse(&api_version, &kind, document);
        let object = object.unwrap_or_else(|error| panic!("{}: {kind}: {error}", path.display()));
        resources.apply(Change::Upsert(object));
    }
    for (name, plugin) in &world.plugins {
        let (namespace, name) = name.split_once('/').expect("namespace/name");
        let plugin_ref = ResourceRef::new(Kind::WasmPlugin, namespace, name);
        resources.apply(Change::Observe(Fact::Plugin(plugin_ref, Arc::new(state(plugin)))));
    }
    for (file, stamp) in world.files {
        resources.apply(Change::File(file, Some(stamp.into())));
    }
    let settings = Settings {
        controller_name: world.settings.controller_name.into(),
        implied_class: world.settings.implied_class.map(Into::into),
        class_selector: world.settings.class_selector.map(|text| text.parse().unwrap()),
        services: world.settings.services.map_or(GatewayServices::Absent, |text| {
            let (type_, instances) = text.split_once(' ').expect("TYPE NAMESPACE/NAME");
            let instances = GatewayServices::named(instances).unwrap();
            match type_ {
                "Shared" => GatewayServices::Shared(instances),
                type_ => GatewayServices::Each { type_: type_.parse().unwrap(), instances },
            }
        }),
        addresses: match world.settings.pool.as_slice() {
            [] => GatewayAddresses::Shared(world.settings.addresses),
            pool => GatewayAddresses::Pool(pool.iter().map(|text| text.parse().unwrap()).collect()),
        },
        ingress: IngressPorts { http: world.settings.ingress_ports.0, https: world.settings.ingress_ports.1 },
        plugin_limits: world.settings.plugin_limits.parse().unwrap(),
    };
    Loaded { resources, settings, sockets: world.sockets }
}

fn insert_pki(document: &mut Value, directory: &Path) {
    for part in ["stringData", "data"] {
        let Some(fields) = document.get_mut(part).and_then(Value::as_object_mut) else { continue };
        for value in fields.values_mut() {
            if let Some(file) = value.as_str().and_then(|text| text.strip_prefix('@')) {
                *value = std::fs::read_to_string(directory.join("pki").join(file)).unwrap().into();
            }
        }
    }
}

fn state(plugin: &WorldPlugin) -> PluginState {
    let active = plugin.active.as_ref().map(|active| ActiveRevision {
        revision: Revision::new(active.generation.unsigned_abs(), Arc::new(())),
        generation: active.generation,
        digest: active.digest.as_str().into(),
        name: "test-plugin".into(),
        version: "1.0.0".into(),
        artifact: active.artifact.as_deref().map(Into::into),
        outbound: active.outbound.as_slice().into(),
        redis: active.redis.as_slice().into(),
        hooks: Hooks {
            request: active.hooks.iter().any(|hook| hook == "request"),
            response: active.hooks.iter().any(|hook| hook == "response"),
            choose: active.hooks.iter().any(|hook| hook == "choose"),
            streaming: active.hooks.iter().any(|hook| hook == "body").then(|| StreamingHooks {
                request_body: BodyMode::Buffer(1024),
                response_body: BodyMode::Stream,
                ..StreamingHooks::default()
            }),
            ..Hooks::default()
        },
    });
    let candidate = plugin.candidate.as_ref().map(|candidate| Candidate {
        generation: candidate.generation,
        digest: candidate.digest.as_deref().map(Into::into),
        artifact: candidate.artifact.as_deref().map(Into::into),
        phase: phase(candidate),
    });
    let probation = plugin.probation.as_ref().map(|probation| OnProbation {
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(probation.until),
        max_faults: probation.max_faults,
        fallback: RevisionName {
            generation: probation.fallback.generation,
            digest: probation.fallback.digest.as_str().into(),
            name: "test-plugin".into(),
            version: "0.9.0".into(),
        },
    });
    let last_good = LastGoodState {
        restored: plugin.restored.as_deref().map(|from| match from {
            "disk" => RestoredFrom::Disk,
            "cluster" => RestoredFrom::Cluster,
            other => panic!("restored from {other}"),
        }),
        not_restored: plugin.not_restored.as_deref().map(Into::into),
        recalling: false,
        not_recalled: plugin.not_recalled.as_deref().map(Into::into),
        not_kept: plugin.not_kept.as_deref().map(Into::into),
    };
    PluginState { active, candidate, probation, last_good }
}

fn awaited((name, because): (&String, &String)) -> Awaited {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let because = match because.as_str() {
        "Unspecified" => Hold::Unspecified,
        "Rejected" => Hold::Rejected,
        _ => Hold::Pending,
    };
    Awaited { plugin: ResourceRef::new(Kind::WasmPlugin, namespace, name), because }
}

fn phase(candidate: &WorldCandidate) -> Phase {
    let rejection = || Rejection {
        reason: Box::leak(candidate.reason.clone().into_boxed_str()),
        message: candidate.message.clone(),
    };
    match (candidate.phase.as_str(), candidate.attempts) {
        ("Fetching", 0) => Phase::Fetching,
        ("Fetching", attempts) => {
            Phase::Retrying { rejection: rejection(), attempts, pause: Duration::from_millis(250) * attempts }
        }
        ("Validating", _) => Phase::Validating,
        ("Waiting", _) => Phase::Waiting(candidate.awaited.iter().map(awaited).collect()),
        _ => Phase::Rejected(rejection()),
    }
}

/// Report all sockets of a translation as bound, but for the given ones.
pub(crate) fn bind(resources: &mut Resources, translation: &Translation, special: &BTreeMap<SocketAddr, String>) {
    for address in &translation.needs.sockets {
        let state = match special.get(address).map(String::as_str) {
            None => SocketState::Bound,
            Some("pending") => continue,
            Some(text) => SocketState::Failed(text.into()),
        };
        resources.apply(Change::Observe(Fact::Socket(*address, state)));
    }
}

/// Store the endpoints as a publisher does.
pub(crate) fn publish(translation: &Translation) {
    for (cell, set) in &translation.endpoints {
        if !Arc::ptr_eq(&cell.load(), set) {
            cell.store(set.clone());
        }
    }
}

/// A translation as YAML. Endpoints are shown as they are once they are published.
pub(crate) fn render(translation: &Translation) -> String {
    publish(translation);
    let statuses: BTreeMap<String, Value> = translation
        .statuses
        .iter()
        .map(|(reference, status)| (reference.to_string(), serde_json::to_value(&**status).unwrap()))
        .collect();
    let needs = json!({
        "plugins": translation.needs.plugins.iter().map(|spec| plugin(spec)).collect::<Vec<_>>(),
        "keptPlugins": translation.needs.kept_plugins,
        "files": translation.needs.files,
        "objects": *translation.needs.objects,
        "sockets": translation.needs.sockets,
    });
    let mut whole = json!({ "snapshot": *translation.snapshot, "statuses": statuses, "needs": needs });
    if !translation.needs.recorded_plugins.is_empty() {
        let recorded = translation.needs.recorded_plugins.iter().map(|recorded| {
            let RecordedRevision { spec, digest, is_wanted } = &**recorded;
            json!({ "spec": plugin(spec), "digest": digest.to_string(), "isWanted": is_wanted })
        });
        whole["needs"]["recordedPlugins"] = recorded.collect();
    }
    if !translation.upkeep.is_empty() {
        let upkeep = translation.upkeep.iter().map(|(id, action)| match action {
            Action::Apply(manifest) => (id.to_string(), json!({ "apply": manifest })),
            Action::Create(manifest) => (id.to_string(), json!({ "create": manifest })),
            Action::Delete(uid) => (id.to_string(), json!({ "delete": uid })),
        });
        whole["upkeep"] = upkeep.collect::<BTreeMap<_, _>>().into_iter().collect();
    }
    if !translation.others.is_empty() {
        whole["others"] = json!(*translation.others);
    }
    shorten(&mut whole);
    serde_yaml_ng::to_string(&whole).unwrap()
}

/// Conditions and kinds as one line each: a review of a golden file is a review of its sentences.
fn shorten(value: &mut Value) {
    let line = |condition: &serde_json::Map<String, Value>| {
        let text = |field: &str| Some(condition.get(field)?.as_str()?.to_owned());
        let generation = condition.get("observedGeneration")?;
        Some(format!("{}={} {} @{generation}: {}", text("type")?, text("status")?, text("reason")?, text("message")?))
    };
    match value {
        Value::Object(fields) => {
            if let Some(line) = line(fields) {
                *value = line.into();
                return;
            }
            if let Some(Value::Array(kinds)) = fields.get_mut("supportedKinds") {
                kinds.iter_mut().for_each(|kind| *kind = kind["kind"].clone());
            }
            fields.values_mut().for_each(shorten);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        _ => {}
    }
}

fn plugin(spec: &PluginSpec) -> Value {
    let source = match &spec.source {
        ModuleSource::File { path, stamp } => format!("file {} ({stamp})", path.display()),
        ModuleSource::Inline(bytes) => format!("inline, {} bytes", bytes.len()),
        ModuleSource::Http(HttpSource { url, sha256 }) => format!("{url} ({sha256})"),
        ModuleSource::Oci(source) => format!("{source:?}"),
    };
    let mut shown = json!({
        "plugin": spec.plugin,
        "generation": spec.generation,
        "source": source,
        "config": *spec.config,
        "capabilities": spec.capabilities,
        "limits": format!(
            "{:?} {:?} {} {} {}",
            spec.limits.hook_time, spec.limits.configure_time, spec.limits.memory, spec.limits.module_size, spec.limits.log_lines
        ),
    });
    if spec.rollout != Rollout::default() {
        let Rollout { group, probation, checks } = &spec.rollout;
        let group = group.as_ref().map(|group| json!({ "name": group.name, "unspecified": group.unspecified }));
        shown["group"] = group.into();
        shown["probation"] = format!("{:?} {}", probation.period, probation.max_faults).into();
        if !checks.is_empty() {
            let names: Vec<_> = checks.parse().unwrap().into_iter().map(|check| check.name).collect();
            shown["checks"] = names.into();
        }
    }
    shown
}
