//! Manifests: which layer of an artifact is the plugin.
//!
//! Understood are single manifests and indexes (multi-platform), in the formats of OCI and Docker, with a layer of one of the media types
//! that WebAssembly modules have: `application/wasm` (CNCF "Wasm OCI Artifact") and two older ones.

use std::collections::BTreeMap;

use penstock_core::plugin::{InvalidSha256, Sha256};
use serde::{Deserialize, Serialize};

/// Media types of the manifests that are understood, for `Accept`.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// What a pushed manifest is.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Configuration and layer of a pushed module, as the CNCF's guidance has it.
pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const WASM_LAYER: &str = "application/wasm";

/// Media types of layers that are modules.
const WASM_LAYERS: [&str; 3] =
    [WASM_LAYER, "application/vnd.wasm.content.layer.v1+wasm", "application/vnd.module.wasm.content.layer.v1+wasm"];

/// Names that are listed in a message.
const SHOWN: usize = 5;

/// A reference to content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// What a registry has under a name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Manifest {
    /// One artifact.
    Artifact {
        /// Its content.
        layers: Vec<Descriptor>,
    },
    /// Several, by platform.
    Index {
        /// Their manifests.
        manifests: Vec<Descriptor>,
    },
}

/// A manifest to be pushed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewManifest {
    pub(crate) schema_version: u8,
    pub(crate) media_type: &'static str,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<&'static str, String>,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidManifest {
    #[error("it is no JSON of a manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is of version {0}; only 2 is known")]
    Version(i64),
    #[error("it has neither layers nor manifests")]
    Neither,
    #[error("it has a digest that cannot be used: {0}")]
    Digest(#[from] InvalidSha256),
}

/// Why no layer of an artifact is the plugin: what it has instead, and what it should have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlugin {
    #[error("it has no layer of type `{WASM_LAYER}`, but {0}; `penstock plugin push` makes one that has")]
    NoLayer(String),
    #[error("it has {0} layers of WebAssembly, and a plugin is one")]
    SeveralLayers(usize),
    #[error("it is an index without a manifest for WebAssembly; its platforms are {0}")]
    NoPlatform(String),
    #[error("it is an index that leads to another index")]
    NestedIndex,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: i64,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Sha256, size: u64) -> Self {
        Self { media_type: media_type.into(), digest: digest.to_string(), size, platform: None }
    }

    pub(crate) fn sha256(&self) -> Result<Sha256, InvalidManifest> {
        Ok(self.digest.parse()?)
    }

    fn is_for_wasm(&self) -> bool {
        self.platform
            .as_ref()
            .is_some_and(|platform| platform.architecture == "wasm" || platform.os.starts_with("wasi"))
    }

    fn platform(&self) -> String {
        let Some(Platform { os, architecture }) = &self.platform else { return "not named".into() };
        format!("{os}/{architecture}")
    }
}

impl Manifest {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, InvalidManifest> {
        let raw: Raw = serde_json::from_slice(json)?;
        match raw {
            Raw { schema_version: 2, layers: Some(layers), .. } => Ok(Self::Artifact { layers }),
            Raw { schema_version: 2, manifests: Some(manifests), .. } => Ok(Self::Index { manifests }),
            Raw { schema_version: 2, .. } => Err(InvalidManifest::Neither),
            Raw { schema_version, .. } => Err(InvalidManifest::Version(schema_version)),
        }
    }
}

/// The layer that is the plugin.
pub(crate) fn plugin_layer(layers: &[Descriptor]) -> Result<&Descriptor, NoPlugin> {
    let mut modules = layers.iter().filter(|layer| WASM_LAYERS.contains(&&*layer.media_type));
    match (modules.next(), modules.count()) {
        (Some(module), 0) => Ok(module),
        (Some(_), more) => Err(NoPlugin::SeveralLayers(more + 1)),
        (None, _) => Err(NoPlugin::NoLayer(named(layers.iter().map(|layer| layer.media_type.clone())))),
    }
}

/// The manifest for WebAssembly, or the only one there is.
pub(crate) fn plugin_manifest(manifests: &[Descriptor]) -> Result<&Descriptor, NoPlugin> {
    match (manifests.iter().find(|manifest| manifest.is_for_wasm()), manifests) {
        (Some(manifest), _) => Ok(manifest),
        (None, [only]) if only.platform.is_none() => Ok(only),
        (None, _) => Err(NoPlugin::NoPlatform(named(manifests.iter().map(Descriptor::platform)))),
    }
}

fn named(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "none at all".into(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layers(types: &[&str]) -> Vec<Descriptor> {
        types.iter().map(|media_type| Descriptor::new(media_type, Sha256::new([1; 32]), 1)).collect()
    }

    #[test]
    fn the_one_layer_of_wasm_is_the_plugin() {
        let old = "application/vnd.wasm.content.layer.v1+wasm";
        for media_type in [WASM_LAYER, old] {
            let layers = layers(&["text/plain", media_type]);
            assert_eq!(plugin_layer(&layers), Ok(&layers[1]));
        }
        assert_eq!(plugin_layer(&layers(&[WASM_LAYER, old])), Err(NoPlugin::SeveralLayers(2)));
        assert_eq!(plugin_layer(&[]), Err(NoPlugin::NoLayer("none at all".into())));
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        let said = plugin_layer(&layers(&[tar, tar])).unwrap_err().to_string();
        assert_eq!(
            said,
            format!(
                "it has no layer of type `application/wasm`, but `{tar}`; `penstock plugin push` makes one that has"
            )
        );
    }

    #[test]
    fn of_an_index_the_platform_decides() {
        let parse = |platforms: &[serde_json::Value]| {
            let digest = Sha256::new([1; 32]).to_string();
            let manifests: Vec<_> =
                platforms.iter().map(|it| json!({ "digest": digest, "platform": it, "size": 1 })).collect();
            match Manifest::parse(json!({ "schemaVersion": 2, "manifests": manifests }).to_string().as_bytes()) {
                Ok(Manifest::Index { manifests }) => manifests,
                other => panic!("{other:?}"),
            }
        };
        let amd64 = json!({ "os": "linux", "architecture": "amd64" });
        let found = |platforms: &[serde_json::Value]| {
            let manifests = parse(platforms);
            plugin_manifest(&manifests).map(|found| manifests.iter().position(|it| it == found))
        };
        assert_eq!(found(&[amd64.clone(), json!({ "os": "wasip2", "architecture": "wasm" })]), Ok(Some(1)));
        assert_eq!(found(&[json!(null)]), Ok(Some(0)));
        assert_eq!(found(std::slice::from_ref(&amd64)), Err(NoPlugin::NoPlatform("`linux/amd64`".into())));
        assert_eq!(found(&[]), Err(NoPlugin::NoPlatform("none at all".into())));
    }

    #[test]
    fn what_is_no_manifest_says_why() {
        let check = |json: &str, expected: &str| {
            let said = Manifest::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        };
        check("<html>", "no JSON of a manifest");
        check(r#"{"schemaVersion": 1}"#, "version 1");
        check(r#"{"schemaVersion": 2}"#, "neither layers nor manifests");
        assert!(layers(&["a"])[0].sha256().is_ok());
        assert!(Descriptor { digest: "sha512:00".into(), ..layers(&["a"])[0].clone() }.sha256().is_err());
    }
}
