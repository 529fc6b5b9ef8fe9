//! Compiled modules: in memory while they are in use and a little longer, on disk for the next start.
//!
//! The same module is never compiled twice, not even when many plugins that use it are applied at the same time. What is in use is found in
//! memory however many there are, and gives its place on disk to nobody.

mod load;
mod store;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use penstock_core::plugin::Rejection;
use wasmtime::{Engine, component::Component};

pub use self::store::StoreError;
use self::{load::Trusted, store::ArtifactStore};
use crate::{
    metrics::{Found, PluginMetrics},
    module::Digest,
    reason::{self, rejection},
};

/// Components that stay in memory when no revision holds them any more, and the bytes of code that they may have together.
const KEPT: usize = 32;
const KEPT_BYTES: usize = 256 << 20;

/// Where compiled modules are found.
pub(crate) struct ArtifactCache {
    engine: Engine,
    metrics: Arc<PluginMetrics>,
    store: Option<ArtifactStore>,
    memory: Mutex<Memory>,
    compiled: Condvar,
}

#[derive(Default)]
struct Memory {
    components: HashMap<Digest, Weak<Component>>,
    /// The last ones that were asked for, oldest first.
    kept: VecDeque<(Digest, Arc<Component>)>,
    compiling: HashSet<Digest>,
}

impl ArtifactCache {
    /// A cache for `engine`, with a disk part if there is a directory.
    pub(crate) fn open(
        engine: Engine,
        directory: Option<&Path>,
        metrics: Arc<PluginMetrics>,
    ) -> Result<Self, StoreError> {
        let store = directory.map(|directory| ArtifactStore::open(&engine, directory)).transpose()?;
        Ok(Self { engine, metrics, store, memory: Mutex::default(), compiled: Condvar::new() })
    }

    /// The compiled module; `compile` is called if there is none yet, and answers with its code. Waits while another thread compiles the same
    /// one.
    pub(crate) fn component(
        &self,
        digest: Digest,
        compile: impl FnOnce() -> Result<Vec<u8>, Rejection>,
    ) -> Result<Arc<Component>, Rejection> {
        let mut memory = self.memory();
        loop {
            if let Some(component) = memory.get(digest) {
                self.metrics.found(Found::InMemory);
                return Ok(component);
            }
            if memory.compiling.insert(digest) {
                break;
            }
            memory = self.compiled.wait(memory).unwrap_or_else(PoisonError::into_inner);
        }
        drop(memory);
        // Dropped on a panic as well: whoever waits must not wait for ever.
        let claim = Claim { cache: self, digest };
        let component = Arc::new(self.load_or_compile(digest, compile)?);
        self.memory().keep(digest, &component);
        drop(claim);
        Ok(component)
    }

    fn load_or_compile(
        &self,
        digest: Digest,
        compile: impl FnOnce() -> Result<Vec<u8>, Rejection>,
    ) -> Result<Component, Rejection> {
        if let Some(component) = self.store.as_ref().and_then(|store| store.load(&self.engine, digest)) {
            self.metrics.found(Found::OnDisk);
            return Ok(component);
        }
        self.metrics.found(Found::Nowhere);
        let start = Instant::now();
        let code = compile()?;
        self.metrics.compiled(start.elapsed());
        let component = load::component(&self.engine, Trusted::compiled(&code)).map_err(|error| unloadable(&error))?;
        if let Some(store) = &self.store {
            store.save(digest, &code, &self.memory().in_use());
        }
        Ok(component)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The code of a component, for the process that runs it first.
pub(crate) fn code(component: &Component) -> Result<Vec<u8>, Rejection> {
    component.serialize().map_err(|error| rejection(reason::INTERNAL, error.to_string()))
}

/// In that process: the component again.
pub(crate) fn handed(engine: &Engine, code: &[u8]) -> Result<Component, Rejection> {
    load::component(engine, Trusted::handed(code)).map_err(|error| unloadable(&error))
}

fn code_size(component: &Component) -> usize {
    let image = component.image_range();
    image.end.addr() - image.start.addr()
}

fn unloadable(error: &wasmtime::Error) -> Rejection {
    rejection(reason::INTERNAL, format!("what was compiled cannot be loaded: {error:#}"))
}

struct Claim<'a> {
    cache: &'a ArtifactCache,
    digest: Digest,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.cache.memory().compiling.remove(&self.digest);
        self.cache.compiled.notify_all();
    }
}

impl Memory {
    /// What is asked for is kept longest.
    fn get(&mut self, digest: Digest) -> Option<Arc<Component>> {
        let component = self.components.get(&digest)?.upgrade()?;
        self.keep(digest, &component);
        Some(component)
    }

    fn keep(&mut self, digest: Digest, component: &Arc<Component>) {
        self.components.insert(digest, Arc::downgrade(component));
        self.kept.retain(|(known, _)| *known != digest);
        self.kept.push_back((digest, Arc::clone(component)));
        while self.kept.len() > KEPT || self.kept_bytes() > KEPT_BYTES {
            self.kept.pop_front();
        }
        self.components.retain(|_, known| known.strong_count() > 0);
    }

    fn kept_bytes(&self) -> usize {
        self.kept.iter().map(|(_, component)| code_size(component)).sum()
    }

    /// What somebody holds besides this cache.
    fn in_use(&self) -> HashSet<Digest> {
        let kept: HashSet<Digest> = self.kept.iter().map(|(digest, _)| *digest).collect();
        let is_held =
            |(digest, known): &(&Digest, &Weak<Component>)| known.strong_count() > usize::from(kept.contains(digest));
        self.components.iter().filter(is_held).map(|(digest, _)| *digest).collect()
    }
}
