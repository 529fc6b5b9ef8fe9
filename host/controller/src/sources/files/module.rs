//! Modules in files, which WasmPlugins name. A new content is a new spec, so the source watches and identifies them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use penstock_core::{Kind, ResourceRef};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Where a WasmPlugin names a file.
const FIELD: &str = "/spec/source/file/path";

/// A module in a file, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    path: PathBuf,
    stamp: Option<Arc<str>>,
}

impl Module {
    /// The module of a WasmPlugin that comes from a file. A relative path counts from the directory of the resource's file.
    pub(super) fn of(file: &Path, reference: &ResourceRef, value: &Value) -> Option<Self> {
        let path = value.pointer(FIELD).filter(|_| reference.kind == Kind::WasmPlugin)?.as_str()?;
        let path = file.parent().unwrap_or(Path::new("")).join(path);
        let path = std::path::absolute(&path).unwrap_or(path);
        let stamp = fs::read(&path).ok().map(|bytes| hex(&Sha256::digest(bytes)).into());
        Some(Self { path, stamp })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Identity of the content; none if it cannot be read.
    pub(super) fn stamp(&self) -> Option<&Arc<str>> {
        self.stamp.as_ref()
    }

    /// Put the path into the resource as it is from here.
    pub(super) fn resolve(&self, value: &mut Value) {
        if let (Some(field), Some(path)) = (value.pointer_mut(FIELD), self.path.to_str()) {
            *field = path.into();
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
