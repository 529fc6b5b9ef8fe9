//! Compiled modules: in memory while they are in use and a little longer, on disk for the next start.
//!
//! The same module is never compiled twice, not even when many plugins that use it are applied at the same time.

mod load;
mod store;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
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

/// Components kept in memory beyond those that revisions hold themselves.
const KEPT: usize = 32;

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
    components: HashMap<Digest, Component>,
    /// Keys of `components`, those that were not asked for longest first.
    order: VecDeque<Digest>,
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
    ) -> Result<Component, Rejection> {
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
        let component = self.load_or_compile(digest, compile)?;
        self.memory().insert(digest, component.clone());
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
            store.save(digest, &code);
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
    fn get(&mut self, digest: Digest) -> Option<Component> {
        let component = self.components.get(&digest)?.clone();
        self.order.retain(|known| *known != digest);
        self.order.push_back(digest);
        Some(component)
    }

    fn insert(&mut self, digest: Digest, component: Component) {
        if self.components.insert(digest, component).is_none() {
            self.order.push_back(digest);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.components.remove(&oldest);
            }
        }
    }
}
