//! Where modules come from: files and bytes at hand are read where they are examined, everything else is fetched here.
//!
//! ```text
//! owner ──begin──► task on the thread `plugin-fetch` ──► downloads, by digest ──► then(module)
//!                       │   ▲                                  ▲
//!                       ▼   │ (one download for all who want it)│
//!                  web server or registry ─── verified bytes ───┘
//! ```
//!
//! One thread with one runtime: a fetch is a task that waits, so none keeps another from going on. Dropping a [`Fetch`] ends its task
//! wherever it is, which happens when the spec changes or goes.

mod addresses;
mod challenge;
mod client;
mod downloads;
mod error;
mod explain;
mod http;
mod manifest;
mod metrics;
mod oci;
mod push;
mod registry;
mod tls;

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Instant,
};

use bytes::Bytes;
use penstock_core::{
    ResourceRef,
    plugin::{HttpSource, ModuleSource, PluginSpec, Sha256},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::AbortHandle,
};

pub use self::{
    addresses::SourceAddresses,
    client::{Artifact, PulledModule, RegistryClient, RegistryError},
};
use self::{
    downloads::Downloads,
    http::{HttpClient, Patience},
    tls::Tls,
};
pub(crate) use self::{error::FetchError, metrics::FetchMetrics};
use crate::module::{Digest, Module};

/// Fetches modules. Dropping it ends the thread and all fetches.
pub(crate) struct Fetcher {
    runtime: Handle,
    sources: Arc<Sources>,
    _stop: oneshot::Sender<()>,
}

/// Whether a tag may mean what it meant before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolve {
    /// As long as the reference is the same, it may: a moved tag changes nothing by itself.
    Known,
    /// It was asked to look again.
    Anew,
}

/// A fetch under way; dropping it ends it.
pub(crate) struct Fetch(AbortHandle);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What fetches share.
struct Sources {
    client: HttpClient,
    downloads: Downloads,
    metrics: Arc<FetchMetrics>,
    /// Whoever downloads something holds its lock. Keyed by place and digest: who waits must not depend on another server than its own.
    downloading: Mutex<HashMap<(String, Sha256), Turn>>,
    /// Of each namespace that fetches.
    places: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

/// Modules that are fetched at the same time for one namespace: each is in memory as a whole, and a server that does not answer holds its
/// place for as long as patience lasts.
const FETCHES: usize = 8;

/// Held while something is downloaded.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl Fetcher {
    /// Start the thread. Downloads are kept in `downloads`, or in memory if there is no such directory.
    pub(crate) fn start(
        downloads: Option<&Path>,
        addresses: SourceAddresses,
        metrics: Arc<FetchMetrics>,
    ) -> io::Result<Self> {
        let client = HttpClient::new(Tls::default(), Patience::default()).reaching(addresses);
        Self::with(client, downloads, metrics)
    }

    fn with(client: HttpClient, downloads: Option<&Path>, metrics: Arc<FetchMetrics>) -> io::Result<Self> {
        let downloads = Downloads::open(downloads)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("plugin-fetch-file") // those that resolve names and read files
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("plugin-fetch".into()).spawn(move || {
            let _ = runtime.block_on(stopped);
            // A name server that does not answer must not hold up the end.
            runtime.shutdown_background();
        })?;
        let sources = Arc::new(Sources::new(client, downloads, metrics));
        Ok(Self { runtime: handle, sources, _stop: stop })
    }

    /// Fetch the module of `spec`, then call `then` with it on the thread of the fetcher.
    pub(crate) fn begin(
        &self,
        spec: Arc<PluginSpec>,
        resolve: Resolve,
        then: impl FnOnce(Result<Module, FetchError>) + Send + 'static,
    ) -> Fetch {
        let sources = Arc::clone(&self.sources);
        let task = self.runtime.spawn(async move {
            // A task of its own, so that a panic is an outcome like others.
            let fetched = Abort(tokio::spawn(async move { sources.fetch(&spec, resolve).await }));
            then(fetched.join().await);
        });
        Fetch(task.abort_handle())
    }

    /// Fetch, and wait for it. Not on a worker.
    pub(crate) fn fetch(&self, spec: &PluginSpec) -> Result<Module, FetchError> {
        let (sender, receiver) = mpsc::channel();
        let _fetch = self.begin(Arc::new(spec.clone()), Resolve::Known, move |module| drop(sender.send(module)));
        receiver.recv().unwrap_or(Err(FetchError::Internal))
    }

    /// The plugin is gone.
    pub(crate) fn forget(&self, plugin: &ResourceRef) {
        self.sources.downloads.forget(plugin);
    }
}

/// A task that ends with whoever waits for it.
struct Abort<T>(tokio::task::JoinHandle<Result<T, FetchError>>);

impl<T> Abort<T> {
    async fn join(mut self) -> Result<T, FetchError> {
        (&mut self.0).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a defect of the gateway: fetching a module panicked");
            Err(FetchError::Internal)
        })
    }
}

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sources {
    fn new(client: HttpClient, downloads: Downloads, metrics: Arc<FetchMetrics>) -> Self {
        Self { client, downloads, metrics, downloading: Mutex::default(), places: Mutex::default() }
    }

    async fn fetch(self: &Arc<Self>, spec: &PluginSpec, resolve: Resolve) -> Result<Module, FetchError> {
        let places = self.places(&spec.plugin.namespace);
        // Nobody closes it.
        let _place = places.acquire().await;
        let (start, limit) = (Instant::now(), self.client.patience());
        let result = tokio::time::timeout(limit, self.module(spec, resolve)).await;
        let late = |_| FetchError::Timeout { place: place(&spec.source), awaited: "give the module", limit };
        let result = result.map_err(late).flatten();
        self.metrics.ended(spec.source.kind(), &result, start.elapsed());
        result
    }

    fn places(&self, namespace: &Arc<str>) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, places| Arc::strong_count(places) > 1);
        let new = || Arc::new(Semaphore::new(FETCHES));
        Arc::clone(places.entry(Arc::clone(namespace)).or_insert_with(new))
    }

    async fn module(self: &Arc<Self>, spec: &PluginSpec, resolve: Resolve) -> Result<Module, FetchError> {
        let limit = spec.limits.module_size;
        match &spec.source {
            ModuleSource::Http(source) => self.http(&spec.plugin.namespace, source, limit).await,
            ModuleSource::Oci(source) => self.oci(spec, source, resolve).await,
            // They are read where they are examined; asking here works all the same.
            ModuleSource::File { .. } | ModuleSource::Inline(_) => Module::read(&spec.source, limit),
        }
    }

    async fn http(
        self: &Arc<Self>,
        namespace: &Arc<str>,
        source: &HttpSource,
        limit: u64,
    ) -> Result<Module, FetchError> {
        let place = source.url.uri().to_string();
        let what = || format!("the module at {}", source.url);
        let download = async || self.http_module(source, limit).await;
        let bytes = self.download((namespace, source.sha256), place, what, download).await?;
        Module::new(bytes, limit)
    }

    async fn http_module(&self, source: &HttpSource, limit: u64) -> Result<Bytes, FetchError> {
        let bytes = http::module(&self.client, &source.url, limit).await?;
        self.metrics.downloaded("http", bytes.len());
        Ok(bytes)
    }

    /// The bytes with this digest: from an earlier download of the namespace, or from `download`, which is verified and kept. Who knows a digest
    /// alone gets nothing that another namespace may have had a login for.
    async fn download(
        self: &Arc<Self>,
        (namespace, digest): (&Arc<str>, Sha256),
        place: String,
        what: impl Fn() -> String,
        download: impl AsyncFnOnce() -> Result<Bytes, FetchError>,
    ) -> Result<Bytes, FetchError> {
        let lock = self.claim(place, digest);
        let _alone = lock.lock().await;
        match self.kept(namespace, digest).await {
            Some(bytes) => Ok(bytes),
            None => self.verified(namespace, download().await?, digest, what).await,
        }
    }

    async fn verified(
        self: &Arc<Self>,
        namespace: &Arc<str>,
        bytes: Bytes,
        expected: Sha256,
        what: impl Fn() -> String,
    ) -> Result<Bytes, FetchError> {
        let actual = Sha256::from(Digest::of(&bytes));
        if actual != expected {
            return Err(FetchError::DigestMismatch { what: what(), expected, actual });
        }
        self.keep(namespace, bytes, expected).await
    }

    async fn keep(self: &Arc<Self>, namespace: &Arc<str>, bytes: Bytes, digest: Sha256) -> Result<Bytes, FetchError> {
        let (sources, namespace, kept) = (Arc::clone(self), Arc::clone(namespace), bytes.clone());
        on_a_thread(move || sources.downloads.put(&namespace, digest, &kept)).await?;
        Ok(bytes)
    }

    async fn kept(self: &Arc<Self>, namespace: &Arc<str>, digest: Sha256) -> Option<Bytes> {
        let (sources, namespace) = (Arc::clone(self), Arc::clone(namespace));
        on_a_thread(move || sources.downloads.get(&namespace, digest)).await.ok().flatten()
    }

    fn claim(&self, place: String, digest: Sha256) -> Arc<tokio::sync::Mutex<()>> {
        let mut downloading = self.downloading.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds any more.
        downloading.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(downloading.entry((place, digest)).or_default())
    }
}

fn place(source: &ModuleSource) -> String {
    match source {
        ModuleSource::Http(source) => http::place(&source.url),
        ModuleSource::Oci(source) => source.reference.registry.to_string(),
        ModuleSource::File { .. } | ModuleSource::Inline(_) => "this machine".into(),
    }
}

/// What reads or writes files, away from the thread on which all fetches wait.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a defect of the gateway: keeping a download panicked");
        FetchError::Internal
    })
}

#[cfg(test)]
mod tests;
