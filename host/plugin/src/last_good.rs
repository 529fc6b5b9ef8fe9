//! The last good set on disk: which revision of each plugin is good, and everything that is needed to make it again.
//!
//! ```text
//! <directory>/lock             held by the one process that uses the directory
//!             index.0 index.1  plugin → good revision and the one before it; written in turns, the newer whole one counts
//!             blobs/<sha256>   modules and records (configuration, limits, capabilities), by content
//! ```
//!
//! A commit writes blobs, then an index that names them: each file under another name first, synced, renamed, and the directory synced. So
//! whenever the process or the machine stops, an index is there that is whole, and so is every blob that it names. What no index
//! names is removed after the commit.
//!
//! Everything is read with suspicion: blobs are what their names say or nothing, an index carries a digest. Where the newer index is
//! damaged the older one counts, and for each plugin the revision before the last good one is kept as the next best.
//!
//! **Secrets.** Values of Secrets are not written, only where they belong and which Secret they come from. The alternative, encryption
//! under a key in the same directory, would keep out nobody who can read the directory. The price: a revision whose Secret is gone
//! cannot be restored, and the status of the plugin says so.

mod blobs;
mod disk;
mod index;
mod record;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use penstock_core::ResourceRef;

use self::index::{Index, Indexes};
pub(crate) use self::{
    blobs::{BlobName, Blobs, Damage},
    index::{Condemned, Kept, Slot},
    record::{Keepable, MissingSecret, Record},
};

/// Bytes of all revisions that the index names. A namespace may have half of what others leave: with modules of a megabyte, some hundred plugins
/// and the revisions before theirs.
const MOST_BYTES: u64 = 1 << 30;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{path} is used by another gateway{holder}; every gateway needs a data directory of its own")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// ` (process …)`, where that is known.
        holder: String,
    },
    /// Creating, locking or reading it failed.
    #[error("cannot use the directory {path} for the last good plugins")]
    Directory {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why a set was not kept, or not all of it. Of what is missing is kept what was kept before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("cannot write to {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the good revisions of the namespace {namespace} take {needed} bytes; in the last good set they may take {limit} now"
    )]
    TooLarge { namespace: Arc<str>, needed: u64, limit: u64 },
}

/// A revision that is good.
#[derive(Debug, Clone)]
pub(crate) struct Good {
    pub(crate) plugin: ResourceRef,
    pub(crate) generation: i64,
    /// The artifact in a registry that the module came from, by digest.
    pub(crate) artifact: Option<Arc<str>>,
    pub(crate) keepable: Arc<Keepable>,
}

/// The good set as it should be.
#[derive(Debug, Clone, Default)]
pub(crate) struct GoodSet {
    /// Plugins that exist. All others are forgotten.
    pub(crate) plugins: BTreeSet<ResourceRef>,
    /// What is good of them. A plugin without an entry keeps what is there of it.
    pub(crate) good: Vec<Good>,
    /// What must not be tried again, by plugin.
    pub(crate) condemned: Vec<(ResourceRef, Condemned)>,
}

/// The directory, open for as long as this lives.
pub(crate) struct LastGood {
    directory: PathBuf,
    limit: u64,
    blobs: Arc<Blobs>,
    indexes: Indexes,
    _lock: Lock,
}

/// The lock of the directory. It is given back by name and not by closing the file: a validator that is being started at that moment shares
/// the file until it runs its own program, and the lock would stay for as long.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // What could go wrong is that it is lost already.
        let _ = self.0.unlock();
    }
}

impl LastGood {
    /// Use `directory`, which is created if need be.
    pub(crate) fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_with(directory, MOST_BYTES)
    }

    fn open_with(directory: &Path, limit: u64) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { path: directory.into(), source };
        disk::create_directory(directory).map_err(failed)?;
        let lock = lock(directory)?;
        let indexes = Indexes::read(directory).map_err(failed)?;
        let blobs = Blobs::open(directory.join("blobs")).map_err(failed)?;
        let store = Self { directory: directory.into(), limit, blobs: Arc::new(blobs), indexes, _lock: lock };
        // What a process that was killed left behind.
        store.sweep();
        Ok(store)
    }

    /// Where revisions are read; may be shared with other threads.
    pub(crate) fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    /// What is kept of each plugin.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = (ResourceRef, Kept)> {
        self.indexes.newest.plugins().map(|(plugin, kept)| (plugin, kept.clone()))
    }

    /// What was found damaged when the directory was opened.
    pub(crate) fn damage(&self) -> &[String] {
        &self.indexes.damage
    }

    /// Bytes of all that is kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.bytes()
    }

    /// Make this the last good set, as far as there is room. Answers whether something had to be written.
    pub(crate) fn keep(&mut self, set: &GoodSet) -> Result<bool, KeepError> {
        let mut fitting = set.clone();
        let mut too_large = None;
        let next = loop {
            let mut next = self.indexes.newest.following(&fitting, |blob| !self.blobs.is_damaged(blob));
            let Err(error) = self.fit(&mut next, &fitting) else { break next };
            // One that is too large costs no other one its place.
            let Some(largest) = self.largest_new(&fitting, &error) else { return Err(error) };
            fitting.good.remove(largest);
            too_large.get_or_insert(error);
        };
        let changed = self.commit(next, &fitting)?;
        too_large.map_or(Ok(changed), Err)
    }

    fn commit(&mut self, next: Index, set: &GoodSet) -> Result<bool, KeepError> {
        // What was found damaged is written again.
        let damaged = next.blobs().any(|name| self.blobs.is_damaged(name));
        let changed = damaged || !next.same_plugins(&self.indexes.newest);
        if changed {
            let written = self.write(next, set);
            // After a failure as well: half of a commit must not take the room that the next one needs.
            self.sweep();
            written?;
        }
        for good in &set.good {
            good.keepable.forget_module(&self.blobs);
        }
        Ok(changed)
    }

    /// Plugins whose good revision is not the one on disk.
    pub(crate) fn missing<'a>(&self, set: &'a GoodSet) -> impl Iterator<Item = &'a ResourceRef> {
        let kept: HashMap<ResourceRef, &BlobName> =
            self.indexes.newest.plugins().filter_map(|(id, kept)| Some((id, &kept.current.as_ref()?.record))).collect();
        let missing =
            move |good: &&Good| kept.get(&good.plugin).is_none_or(|record| *record != good.keepable.record_name());
        set.good.iter().filter(missing).map(|good| &good.plugin).collect::<Vec<_>>().into_iter()
    }

    fn write(&mut self, next: Index, set: &GoodSet) -> Result<(), KeepError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeepError::Write { path, source }
        };
        let names: HashSet<&BlobName> = next.blobs().collect();
        for good in set.good.iter().filter(|good| names.contains(good.keepable.record_name())) {
            good.keepable.write(&self.blobs).map_err(failed(self.blobs.directory()))?;
        }
        self.blobs.sync().map_err(failed(self.blobs.directory()))?;
        self.indexes.write(&self.directory, next).map_err(failed(&self.directory))
    }

    /// Of the revisions that are not on disk, and are of the namespace which takes too much, the one that takes most.
    fn largest_new(&self, set: &GoodSet, error: &KeepError) -> Option<usize> {
        let KeepError::TooLarge { namespace, .. } = error else { return None };
        let missing: HashSet<&ResourceRef> =
            self.missing(set).filter(|plugin| plugin.namespace == *namespace).collect();
        let new = set.good.iter().enumerate().filter(|(_, good)| missing.contains(&good.plugin));
        new.max_by_key(|(_, good)| good.keepable.size()).map(|(index, _)| index)
    }

    /// Where something new is: in namespaces that would have more than others leave, give up next best revisions, the largest first. Whoever takes
    /// most pays first, and the good ones stay.
    fn fit(&self, next: &mut Index, set: &GoodSet) -> Result<(), KeepError> {
        let new: BTreeSet<Arc<str>> = self.missing(set).map(|plugin| Arc::clone(&plugin.namespace)).collect();
        for namespace in new {
            loop {
                let (needed, others) = self.sizes(next, set, &namespace);
                let limit = self.limit.saturating_sub(others) / 2;
                if needed <= limit {
                    break;
                }
                if !next.drop_previous(&namespace, |name| self.size_of(name, set)) {
                    return Err(KeepError::TooLarge { namespace, needed, limit });
                }
            }
        }
        Ok(())
    }

    /// Bytes of a namespace, and of all others together.
    fn sizes(&self, index: &Index, set: &GoodSet, namespace: &str) -> (u64, u64) {
        let size = |is_counted: &dyn Fn(&ResourceRef) -> bool| {
            let kept = index.plugins().filter(|(plugin, _)| is_counted(plugin)).flat_map(|(_, kept)| kept.slots());
            let names: HashSet<&BlobName> = kept.flat_map(|slot| [&slot.record, &slot.module]).collect();
            names.into_iter().map(|name| self.size_of(name, set)).sum()
        };
        (size(&|plugin| *plugin.namespace == *namespace), size(&|plugin| *plugin.namespace != *namespace))
    }

    /// Bytes of a blob, on disk or not yet.
    fn size_of(&self, name: &BlobName, set: &GoodSet) -> u64 {
        let fresh = || set.good.iter().find_map(|good| good.keepable.size_of(name));
        self.blobs.size_of(name).or_else(fresh).unwrap_or(0)
    }

    fn sweep(&self) {
        let named: HashSet<BlobName> = self.indexes.blobs().cloned().collect();
        if let Err(error) = disk::sweep(&self.directory).and_then(|()| self.blobs.sweep(&named)) {
            tracing::warn!(path = %self.directory.display(), %error, "cannot remove what no last good plugin needs");
        }
    }
}

fn lock(directory: &Path) -> Result<Lock, OpenError> {
    let path = directory.join("lock");
    let failed = |source| OpenError::Directory { path: path.clone(), source };
    let file = disk::open_lock(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            let holder = holder.trim().parse::<u32>().map_or_else(|_| String::new(), |id| format!(" (process {id})"));
            return Err(OpenError::InUse { path: directory.into(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    // Only tells others who it is; a full disk is no reason not to start.
    let _ = disk::write_lock(&file);
    Ok(Lock(file))
}

#[cfg(test)]
mod tests;
