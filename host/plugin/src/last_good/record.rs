//! A revision as it is written: a module, and a record of everything else.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use penstock_core::{
    ResourceRef,
    plugin::{Capabilities, ModuleSource, PluginLimits, PluginSpec, Rollout, SecretPlace},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BlobName, Blobs, Good, Slot};
use crate::module::Module;

/// Everything of a revision but its module. Values of Secrets are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The module, so that two revisions that differ in it alone have two records.
    module: BlobName,
    /// With null in the places of `secrets`.
    config: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<SecretPlace>,
    #[serde(default)]
    capabilities: Capabilities,
    #[serde(default)]
    limits: PluginLimits,
}

/// A value that was not written and is not to be had any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs `{key}` of Secret `{secret}`, which the resource does not provide now; values of Secrets are not kept on disk"
)]
pub(crate) struct MissingSecret {
    pub(crate) secret: Arc<str>,
    pub(crate) key: Arc<str>,
}

impl Record {
    fn new(spec: &PluginSpec, module: BlobName) -> Self {
        let mut config = Value::clone(&spec.config);
        for place in &spec.secrets {
            if let Some(value) = config.pointer_mut(&place.pointer) {
                *value = Value::Null;
            }
        }
        let (secrets, capabilities, limits) = (spec.secrets.clone(), spec.capabilities.clone(), spec.limits.clone());
        Self { module, config, secrets, capabilities, limits }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// What to run, with the values of Secrets as `provider` has them now.
    pub(crate) fn spec(
        &self,
        plugin: &ResourceRef,
        generation: i64,
        module: Bytes,
        provider: Option<&PluginSpec>,
    ) -> Result<PluginSpec, MissingSecret> {
        let mut config = self.config.clone();
        for place in &self.secrets {
            let missing = || MissingSecret { secret: Arc::clone(&place.secret), key: Arc::clone(&place.key) };
            let value = provider.and_then(|spec| secret(spec, place)).ok_or_else(missing)?;
            *config.pointer_mut(&place.pointer).ok_or_else(missing)? = value.clone();
        }
        Ok(PluginSpec {
            plugin: plugin.clone(),
            generation,
            source: ModuleSource::Inline(module),
            config: Arc::new(config),
            secrets: self.secrets.clone(),
            capabilities: self.capabilities.clone(),
            limits: self.limits.clone(),
            rollout: Rollout::default(),
        })
    }
}

/// The value that `spec` has for this key of this Secret, wherever it puts it.
fn secret<'a>(spec: &'a PluginSpec, wanted: &SecretPlace) -> Option<&'a Value> {
    let place = spec.secrets.iter().find(|place| place.secret == wanted.secret && place.key == wanted.key)?;
    spec.config.pointer(&place.pointer).filter(|value| value.is_string())
}

/// What a loaded revision carries along, so that it can be written when it turns out to be good.
#[derive(Debug)]
pub(crate) struct Keepable {
    record: Vec<u8>,
    record_name: BlobName,
    module_name: BlobName,
    /// Until they are on disk: megabytes that nobody else needs.
    module: Mutex<Option<Bytes>>,
}

impl Keepable {
    /// Of a revision that was just loaded.
    pub(crate) fn new(spec: &PluginSpec, module: &Module) -> Self {
        let module_name = BlobName::of(&module.bytes);
        let record = serde_json::to_vec(&Record::new(spec, module_name.clone()));
        let record = record.expect("every map in a record has names as keys, and nothing else could fail");
        let record_name = BlobName::of(&record);
        Self { record, record_name, module_name, module: Mutex::new(Some(module.bytes.clone())) }
    }

    /// The module is at hand again; what is on disk may have been removed in between.
    pub(crate) fn remember_module(&self, module: &Module) {
        *self.module() = Some(module.bytes.clone());
    }

    pub(crate) fn record_name(&self) -> &BlobName {
        &self.record_name
    }

    pub(super) fn slot(&self, good: &Good) -> Slot {
        let (generation, artifact) = (good.generation, good.artifact.clone());
        Slot { generation, artifact, record: self.record_name.clone(), module: self.module_name.clone() }
    }

    /// Give up the module in memory if it is on disk.
    pub(super) fn forget_module(&self, blobs: &Blobs) {
        if blobs.has(&self.module_name) {
            *self.module() = None;
        }
    }

    /// Bring both to disk, unless they are there.
    pub(super) fn write(&self, blobs: &Blobs) -> io::Result<()> {
        match &*self.module() {
            Some(module) => blobs.put(&self.module_name, module)?,
            None if blobs.has(&self.module_name) => {}
            None => return Err(io::Error::new(io::ErrorKind::NotFound, "the module is neither in memory nor on disk")),
        }
        blobs.put(&self.record_name, &self.record)
    }

    /// Bytes of what is not on disk yet.
    pub(super) fn size(&self) -> u64 {
        let module = self.module().as_ref().map_or(0, Bytes::len);
        (self.record.len() + module) as u64
    }

    pub(super) fn size_of(&self, name: &BlobName) -> Option<u64> {
        if *name == self.record_name {
            return Some(self.record.len() as u64);
        }
        let module = self.module();
        module.as_ref().filter(|_| *name == self.module_name).map(|module| module.len() as u64)
    }

    fn module(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.module.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
