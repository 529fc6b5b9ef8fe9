//! Modules in registries by hand, for the command line: the same code that fetches what a WasmPlugin names.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use penstock_core::plugin::{OciReference, RegistryLogin, Sha256};
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;

use super::{
    Downloads, FetchError, FetchMetrics, Sources,
    http::{HttpClient, Patience},
    push,
    registry::{Access, Repository},
    tls::Tls,
};

/// Pushes and pulls modules. Calls block for as long as it takes.
pub struct RegistryClient {
    runtime: Runtime,
    sources: Arc<Sources>,
    /// There is none: nothing is fetched for a resource.
    namespace: Arc<str>,
}

/// An artifact, and as whom to ask for it.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Where it is, or is to be.
    pub reference: OciReference,
    /// Without it the registry is asked as nobody.
    pub login: Option<RegistryLogin>,
    /// Without TLS. For loopback addresses it need not be said.
    pub insecure: bool,
}

/// A module from a registry.
#[derive(Debug, Clone)]
pub struct PulledModule {
    /// The module.
    pub bytes: Bytes,
    /// Digest of the manifest that leads to it: what a tag meant.
    pub manifest: Sha256,
}

/// Why a registry did not give or take a module: one sentence that says all of it, so there is no source to be printed behind it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RegistryError(FetchError);

impl From<FetchError> for RegistryError {
    fn from(error: FetchError) -> Self {
        Self(error)
    }
}

impl RegistryClient {
    /// A client that trusts the authorities of this machine.
    ///
    /// # Errors
    /// When the operating system gives no means to wait for sockets.
    pub fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = HttpClient::new(Tls::default(), Patience::default());
        let metrics = FetchMetrics::register(&mut Registry::default());
        let sources = Arc::new(Sources::new(client, Downloads::open(None)?, metrics));
        Ok(Self { runtime, sources, namespace: "".into() })
    }

    /// Push a module with annotations (`org.opencontainers.image.…`). Answers with the digest of its manifest; the same module with the same
    /// annotations has the same digest.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub fn push(
        &self,
        artifact: &Artifact,
        module: Bytes,
        annotations: BTreeMap<&'static str, String>,
    ) -> Result<Sha256, RegistryError> {
        let mut repository = Repository::new(&self.sources.client, artifact.access("pull,push", &self.namespace));
        let pushed = push::push(&mut repository, &artifact.reference, module, annotations);
        Ok(self.runtime.block_on(pushed)?)
    }

    /// The digest of the manifest to which a reference leads now; none if there is nothing.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub fn resolve(&self, artifact: &Artifact) -> Result<Option<Sha256>, RegistryError> {
        let mut repository = Repository::new(&self.sources.client, artifact.access("pull", &self.namespace));
        match self.runtime.block_on(repository.manifest(&artifact.reference.version)) {
            Ok((_, digest)) => Ok(Some(digest)),
            Err(FetchError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Pull a module of at most `limit` bytes. Its digest is verified.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, or the artifact is no plugin.
    pub fn pull(&self, artifact: &Artifact, limit: u64) -> Result<PulledModule, RegistryError> {
        let mut repository = Repository::new(&self.sources.client, artifact.access("pull", &self.namespace));
        let pulled = self.sources.artifact(&mut repository, &artifact.reference, None, limit);
        let (bytes, manifest) = self.runtime.block_on(pulled)?;
        Ok(PulledModule { bytes, manifest })
    }
}

impl Artifact {
    fn access<'a>(&'a self, actions: &'static str, namespace: &'a Arc<str>) -> Access<'a> {
        let Self { reference, login, insecure } = self;
        Access { reference, login: login.as_ref(), secret: None, insecure: *insecure, actions, namespace }
    }
}
