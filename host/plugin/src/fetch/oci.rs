//! From a reference to the module that it means.

use std::sync::Arc;

use bytes::Bytes;
use penstock_core::plugin::{OciReference, OciSource, OciVersion, PluginSpec, Sha256};

use super::{
    FetchError, Resolve, Sources,
    manifest::{Descriptor, Manifest, NoPlugin, plugin_layer, plugin_manifest},
    registry::{Access, Repository, parse},
};
use crate::module::Module;

impl Sources {
    /// The module that `source` means. What a tag means is asked once, unless `resolve` says otherwise.
    pub(super) async fn oci(
        self: &Arc<Self>,
        spec: &PluginSpec,
        source: &OciSource,
        resolve: Resolve,
    ) -> Result<Module, FetchError> {
        let OciSource { reference, pull_secret, insecure, .. } = source;
        let access = Access {
            reference,
            login: pull_secret.as_ref().map(|secret| &secret.login),
            secret: pull_secret.as_ref().map(|secret| &secret.secret),
            insecure: *insecure,
            actions: "pull",
            namespace: &spec.plugin.namespace,
        };
        let mut repository = Repository::new(&self.client, access);
        let name = reference.to_string();
        let known = match (&reference.version, resolve) {
            (OciVersion::Digest(digest), _) => Some(*digest),
            (OciVersion::Tag(_), Resolve::Known) => self.downloads.resolved(&spec.plugin, &name),
            (OciVersion::Tag(_), Resolve::Anew) => None,
        };
        let limit = spec.limits.module_size;
        let (bytes, digest) = self.artifact(&mut repository, reference, known, limit).await?;
        let mut module = Module::new(bytes, limit)?;
        module.artifact = Some(reference.at(OciVersion::Digest(digest)).to_string().into());
        if let OciVersion::Tag(_) = reference.version {
            // Not before: what a tag means is worth nothing as long as it leads to no module.
            let (sources, plugin) = (Arc::clone(self), spec.plugin.clone());
            super::on_a_thread(move || sources.downloads.resolve(&plugin, &name, digest)).await?;
        }
        Ok(module)
    }

    /// The module of an artifact, and the digest of its manifest; `known` if it is known already.
    pub(super) async fn artifact(
        self: &Arc<Self>,
        repository: &mut Repository<'_>,
        reference: &OciReference,
        known: Option<Sha256>,
        limit: u64,
    ) -> Result<(Bytes, Sha256), FetchError> {
        let (digest, manifest) = match known {
            Some(digest) => (digest, self.manifest(repository, reference, digest).await?),
            None => {
                let (manifest, digest) = repository.manifest(&reference.version).await?;
                (digest, self.keep(repository.namespace(), manifest, digest).await?)
            }
        };
        let layers = self.layers(repository, reference, &manifest).await?;
        let layer = plugin_layer(&layers).map_err(|why| not_wasm(reference, &why))?;
        Ok((self.layer(repository, reference, layer, limit).await?, digest))
    }

    async fn manifest(
        self: &Arc<Self>,
        repository: &mut Repository<'_>,
        reference: &OciReference,
        digest: Sha256,
    ) -> Result<Bytes, FetchError> {
        let kept = (&Arc::clone(repository.namespace()), digest);
        let what = || format!("the manifest that {} gave", reference.registry);
        let fetch = async || Ok(repository.manifest(&OciVersion::Digest(digest)).await?.0);
        self.download(kept, place(reference), what, fetch).await
    }

    async fn layers(
        self: &Arc<Self>,
        repository: &mut Repository<'_>,
        reference: &OciReference,
        manifest: &[u8],
    ) -> Result<Vec<Descriptor>, FetchError> {
        let manifests = match parse(reference, manifest)? {
            Manifest::Artifact { layers } => return Ok(layers),
            Manifest::Index { manifests } => manifests,
        };
        let entry = plugin_manifest(&manifests).map_err(|why| not_wasm(reference, &why))?;
        let manifest = self.manifest(repository, reference, digest(reference, entry)?).await?;
        match parse(reference, &manifest)? {
            Manifest::Artifact { layers } => Ok(layers),
            Manifest::Index { .. } => Err(not_wasm(reference, &NoPlugin::NestedIndex)),
        }
    }

    async fn layer(
        self: &Arc<Self>,
        repository: &mut Repository<'_>,
        reference: &OciReference,
        layer: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, FetchError> {
        if layer.size > limit {
            return Err(FetchError::TooLarge { size: Some(layer.size), limit });
        }
        let digest = digest(reference, layer)?;
        let kept = (&Arc::clone(repository.namespace()), digest);
        let what = || format!("the layer that {} gave", reference.registry);
        let fetch = async || {
            let bytes = repository.blob(digest, limit).await?;
            self.metrics.downloaded("oci", bytes.len());
            Ok(bytes)
        };
        self.download(kept, place(reference), what, fetch).await
    }
}

fn place(reference: &OciReference) -> String {
    format!("oci://{}/{}", reference.registry, reference.repository)
}

fn digest(reference: &OciReference, descriptor: &Descriptor) -> Result<Sha256, FetchError> {
    descriptor
        .sha256()
        .map_err(|error| FetchError::Malformed { what: format!("the manifest of {reference}"), why: error.to_string() })
}

fn not_wasm(reference: &OciReference, why: &NoPlugin) -> FetchError {
    FetchError::NotWasm { what: reference.to_string(), why: why.to_string() }
}
