//! The last good revision of a plugin on record in the cluster, where an instance that starts with an empty disk finds it.
//!
//! ```text
//! WasmPlugin `headers`, generation 3, which serves and is good ──► ControllerRevision `headers-<mark>`, owned by the WasmPlugin
//!            generation 4, which is refused                     ──► nothing is done: the record stays
//! an instance with an empty disk ◄── generation 3, with the module of that digest ◄── ControllerRevision
//! ```
//!
//! What a ControllerRevision says cannot be changed, so each good revision gets a new one, and then the one before it goes: there is always one. It
//! holds the part of the spec that makes a revision, and the digest of the module; Secrets stay references. It belongs to its WasmPlugin by namespace, name and `uid`,
//! and goes with it: what was deleted does not come back, also not as another resource of the same name.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use penstock_core::{
    Kind, ResourceRef,
    plugin::{ActiveRevision, InvalidSha256, RecordedRevision, Sha256},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{PluginEvaluation, spec};
use crate::{
    Resources, Settings,
    resources::{
        ControllerRevision, WasmPlugin,
        wasm_plugin::{OciSource, WasmPluginSpec},
    },
    upkeep::{Action, CONTROLLER, MANAGED_BY, Upkeep, fnv, is_made_here, label_value},
    view::View,
};

/// Names the plugin, for people: what counts is the owner.
const PLUGIN: &str = "penstock.dev/plugin";

/// Of the name of a plugin that much is in the name of its record, which may have 253 characters.
const LONGEST_NAME: usize = 200;

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// Of the resource when it became good.
    generation: i64,
    /// Of the module.
    digest: String,
    /// What makes a revision.
    spec: WasmPluginSpec,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
enum InvalidRecord {
    #[error("it has no data")]
    Empty,
    #[error("data.{0}")]
    Malformed(#[from] serde_path_to_error::Error<serde_json::Error>),
    #[error("data.digest: {0}")]
    Digest(#[from] InvalidSha256),
}

/// What the cluster has on record of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// The newest record that can be read.
    record: Option<Record>,
    /// The resource still says what that one does.
    is_wanted: bool,
    /// What to run of it.
    pub(crate) revision: Option<Arc<RecordedRevision>>,
    /// Why there is nothing to run, although something is on record.
    pub(super) problem: Option<String>,
    /// Records beside that one, by their identity.
    stale: Vec<(ResourceRef, String)>,
    /// The number of the latest one.
    latest: i64,
}

/// Records of this installation by their owner, the newest first. Who may write ControllerRevisions in one namespace has no say about the plugins of
/// another, whose identities are no secret.
pub(super) type ByOwner<'a> = BTreeMap<Owner<'a>, Vec<&'a Arc<ControllerRevision>>>;

/// Namespace, name and `uid` of a WasmPlugin.
pub(super) type Owner<'a> = (&'a str, &'a str, &'a str);

/// By which labels a source finds the records of this installation. Others may share the controller name, and own other classes.
pub fn record_selector(settings: &Settings) -> String {
    format!("{}={},{CONTROLLER}={}", MANAGED_BY.0, MANAGED_BY.1, installation(settings))
}

/// What tells the installations on one cluster apart, in the letters of a label.
pub fn installation(settings: &Settings) -> String {
    let selector = settings.class_selector.as_ref().map(|selector| format!(" {selector}"));
    label_value(&format!("{}{}", settings.controller_name, selector.unwrap_or_default()))
}

/// All records that are ours.
pub(super) fn by_owner<'a>(resources: &'a Resources, settings: &Settings) -> ByOwner<'a> {
    let installation = installation(settings);
    let mut records = ByOwner::new();
    if settings.implied_class.is_some() {
        return records; // files are on disk already
    }
    let all = resources.controller_revisions.iter().map(|(_, record)| record);
    for record in all.filter(|record| is_made_here(&record.metadata, &installation)) {
        let owner = record
            .metadata
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.kind == "WasmPlugin" && !owner.uid.is_empty());
        if let Some(owner) = owner {
            let namespace = record.metadata.namespace.as_deref().unwrap_or_default();
            records.entry((namespace, &owner.name, &owner.uid)).or_default().push(record);
        }
    }
    for records in records.values_mut() {
        // As they were made; the name decides only where somebody has tampered with them.
        records.sort_by_key(|it| std::cmp::Reverse((it.revision, it.metadata.name.clone())));
    }
    records
}

/// What the records of a plugin say, the newest first.
pub(super) fn evaluate(
    view: &View<'_>,
    id: &ResourceRef,
    object: &WasmPlugin,
    records: &[Arc<ControllerRevision>],
) -> Recorded {
    let latest = records.iter().map(|record| record.revision).max().unwrap_or_default();
    let mut recorded = Recorded { latest, ..Recorded::default() };
    for revision in records {
        let metadata = &revision.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        if recorded.record.is_none() {
            match Record::read(revision) {
                Ok(record) => {
                    recorded.record = Some(record);
                    continue;
                }
                Err(error) => {
                    recorded.problem.get_or_insert_with(|| format!("ControllerRevision `{name}`: {error}"));
                }
            }
        }
        let id = ResourceRef::new(Kind::ControllerRevision, id.namespace.clone(), name);
        recorded.stale.push((id, metadata.uid.clone().unwrap_or_default()));
    }
    let Some(record) = &recorded.record else {
        recorded.stale.clear(); // until something takes their place
        return recorded;
    };
    recorded.is_wanted = record.is_wanted(&object.spec);
    match record.revision(view, id, object, recorded.is_wanted) {
        Ok(revision) => (recorded.revision, recorded.problem) = (Some(Arc::new(revision)), None),
        Err(problem) => recorded.problem = Some(problem),
    }
    recorded
}

impl Record {
    fn read(object: &ControllerRevision) -> Result<Self, InvalidRecord> {
        let data = &object.data.as_ref().ok_or(InvalidRecord::Empty)?.0;
        let record: Self = serde_path_to_error::deserialize(data)?;
        record.digest.parse::<Sha256>()?;
        Ok(record)
    }

    /// Of a plugin whose good revision is the one that its resource asks for.
    fn of(object: &WasmPlugin, good: &ActiveRevision) -> Self {
        let mut spec = essence(&object.spec);
        if let (Some(oci), Some(digest)) = (&mut spec.source.oci, artifact(good)) {
            oci.digest = Some(digest.to_owned());
        }
        Self { generation: good.generation, digest: good.digest.to_string(), spec }
    }

    fn revision(
        &self,
        view: &View<'_>,
        id: &ResourceRef,
        object: &WasmPlugin,
        is_wanted: bool,
    ) -> Result<RecordedRevision, String> {
        let metadata = ObjectMeta { generation: Some(self.generation), ..object.metadata.clone() };
        let then = WasmPlugin { metadata, spec: self.spec.clone() };
        let evaluation = spec::evaluate(view, id, &then, None);
        let problem = evaluation.refused.or(evaluation.unresolved).map(|problem| problem.message);
        let spec = evaluation
            .spec
            .ok_or_else(|| format!("generation {}: {}", self.generation, problem.unwrap_or_default()))?;
        let digest = self.digest.parse().map_err(|error: InvalidSha256| error.to_string())?;
        Ok(RecordedRevision { spec, digest, is_wanted })
    }

    /// Whether the resource still says this. What its tag means is another question.
    fn is_wanted(&self, wanted: &WasmPluginSpec) -> bool {
        let (mut wanted, record) = (essence(wanted), &self.spec);
        if let (Some(oci), Some(record)) = (&mut wanted.source.oci, &record.source.oci) {
            oci.digest = oci.digest.take().or_else(|| record.digest.clone());
        }
        wanted == *record
    }

    /// Whether it is of this module, and of the artifact that it came from.
    fn has(&self, good: &ActiveRevision) -> bool {
        let pinned = |oci: &OciSource| artifact(good).is_none_or(|digest| oci.digest.as_deref() == Some(digest));
        *self.digest == *good.digest && self.spec.source.oci.as_ref().is_none_or(pinned)
    }
}

/// The digest of the artifact in a registry that the module of a revision came from.
fn artifact(revision: &ActiveRevision) -> Option<&str> {
    revision.artifact.as_ref()?.rsplit_once('@').map(|(_, digest)| digest)
}

/// What is good of a plugin, if that is what its resource asks for.
fn good<'a>(
    resources: &'a Resources,
    id: &ResourceRef,
    object: &WasmPlugin,
    evaluation: &PluginEvaluation,
) -> Option<&'a ActiveRevision> {
    let state = resources.facts.plugins.get(id)?;
    let settled = state.candidate.is_none() && state.probation.is_none() && state.last_good.restored.is_none();
    let is_current = |active: &&ActiveRevision| Some(active.generation) == object.metadata.generation;
    state.active.as_ref().filter(is_current).filter(|_| settled && evaluation.spec.is_some())
}

/// The part of a spec that makes a revision.
fn essence(spec: &WasmPluginSpec) -> WasmPluginSpec {
    let mut source = spec.source.clone();
    if let Some(oci) = &mut source.oci {
        oci.poll_interval = None; // a digest does not change
    }
    WasmPluginSpec {
        source,
        config: spec.config.clone(),
        secret_refs: spec.secret_refs.clone(),
        capabilities: spec.capabilities.clone(),
        limits: spec.limits.clone(),
        isolation: spec.isolation.clone(),
        ..WasmPluginSpec::default()
    }
}

/// What is to be done about the records of a plugin of ours.
pub(crate) fn upkeep(
    resources: &Resources,
    settings: &Settings,
    (id, object, evaluation): (&ResourceRef, &Arc<WasmPlugin>, &Arc<PluginEvaluation>),
    upkeep: &mut Upkeep,
) {
    if settings.implied_class.is_some() {
        return;
    }
    let recorded = &evaluation.recorded;
    upkeep.extend(recorded.stale.iter().map(|(id, uid)| (id.clone(), Action::Delete(uid.clone()))));
    let good = good(resources, id, object, evaluation);
    let is_known =
        |good: &ActiveRevision| recorded.is_wanted && recorded.record.as_ref().is_some_and(|it| it.has(good));
    let Some((good, uid)) = good.filter(|good| !is_known(good)).zip(object.metadata.uid.as_deref()) else { return };
    let installation = installation(settings);
    let data = serde_json::to_value(Record::of(object, good)).unwrap_or_default(); // maps of texts and numbers, which are always JSON
    let mark = fnv(format!("{installation}\n{uid}\n{data}").as_bytes());
    let name: String = id.name.chars().take(LONGEST_NAME).collect();
    let name = format!("{}-{mark:016x}", name.trim_end_matches(['.', '-']));
    let manifest = manifest(id, uid, &name, &installation, recorded.latest + 1, &data);
    let record = ResourceRef::new(Kind::ControllerRevision, id.namespace.clone(), name);
    upkeep.insert(record, Action::Create(manifest));
}

fn manifest(id: &ResourceRef, uid: &str, name: &str, installation: &str, revision: i64, data: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": *id.namespace,
            "labels": { MANAGED_BY.0: MANAGED_BY.1, CONTROLLER: installation, PLUGIN: label_value(&id.name) },
            "ownerReferences": [{
                "apiVersion": "penstock.dev/v1alpha1",
                "kind": "WasmPlugin",
                "name": *id.name,
                "uid": uid,
                "controller": true,
            }],
        },
        "revision": revision,
        "data": data,
    })
}
