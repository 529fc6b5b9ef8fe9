//! Which revisions are good. Two files, written in turns: whatever happens to the one that is being written, the other one is whole.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use penstock_core::{Kind, ResourceRef};
use serde::{Deserialize, Serialize};

use super::{BlobName, Good, GoodSet, disk};
use crate::module::Digest;

/// First line of an index; the number grows when the layout changes.
const MAGIC: &str = "penstock last good 1";
const FILES: [&str; 2] = ["index.0", "index.1"];

/// A set of good revisions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    /// Grows with each commit.
    sequence: u64,
    /// By `namespace/name`.
    plugins: BTreeMap<String, Kept>,
}

/// What is kept of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The last good revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<Slot>,
    /// The one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Slot>,
    /// What must not be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) condemned: Option<Condemned>,
}

/// A revision on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Generation of the resource it came from.
    pub(crate) generation: i64,
    /// The artifact in a registry that the module came from, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact: Option<Arc<str>>,
    /// Configuration, limits and capabilities.
    pub(crate) record: BlobName,
    /// The module.
    pub(crate) module: BlobName,
}

/// A revision that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condemned {
    /// Its record.
    pub(crate) record: BlobName,
    /// What it did.
    pub(crate) message: String,
}

impl Kept {
    /// Newest first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.current.iter().chain(&self.previous)
    }
}

impl Index {
    pub(super) fn plugins(&self) -> impl Iterator<Item = (ResourceRef, &Kept)> {
        self.plugins.iter().filter_map(|(name, kept)| {
            let (namespace, name) = name.split_once('/')?;
            Some((ResourceRef::new(Kind::WasmPlugin, namespace, name), kept))
        })
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = &BlobName> {
        self.plugins.values().flat_map(Kept::slots).flat_map(|slot| [&slot.record, &slot.module])
    }

    pub(super) fn same_plugins(&self, other: &Self) -> bool {
        self.plugins == other.plugins
    }

    /// Give up one next best revision of a namespace, the one with the largest module; whether there was one.
    pub(super) fn drop_previous(&mut self, namespace: &str, size: impl Fn(&BlobName) -> u64) -> bool {
        let of_namespace = self
            .plugins
            .iter_mut()
            .filter(|(name, _)| name.split_once('/').is_some_and(|(of_plugin, _)| of_plugin == namespace));
        let with_previous = of_namespace.map(|(_, kept)| kept).filter(|kept| kept.previous.is_some());
        let largest = with_previous.max_by_key(|kept| kept.previous.as_ref().map(|slot| size(&slot.module)));
        largest.and_then(|kept| kept.previous.take()).is_some()
    }

    /// This index after `set`. Revisions with a blob that is not `whole` count as absent.
    pub(super) fn following(&self, set: &GoodSet, whole: impl Fn(&BlobName) -> bool) -> Self {
        let readable = |slot: &Slot| whole(&slot.record) && whole(&slot.module);
        let mut plugins: BTreeMap<String, Kept> = BTreeMap::new();
        for plugin in &set.plugins {
            if let Some(kept) = self.plugins.get(&plugin.full_name()) {
                plugins.insert(plugin.full_name(), kept.clone());
            }
        }
        for good in set.good.iter().filter(|good| set.plugins.contains(&good.plugin)) {
            let kept = plugins.entry(good.plugin.full_name()).or_default();
            let before = std::mem::take(kept);
            *kept = before.followed_by(good, readable);
        }
        for (plugin, kept) in &mut plugins {
            let condemned = set.condemned.iter().find(|(condemned, _)| condemned.full_name() == *plugin);
            kept.condemned = condemned.map(|(_, condemned)| condemned.clone());
        }
        Self { sequence: self.sequence + 1, plugins }
    }

    fn parse(file: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(file).ok()?;
        let (digest, body) = text.strip_prefix(MAGIC)?.strip_prefix('\n')?.split_once('\n')?;
        let whole = Digest::of(body.as_bytes()).hex() == digest;
        whole.then(|| serde_json::from_str(body).ok()).flatten()
    }

    fn to_file(&self) -> io::Result<Vec<u8>> {
        let body = serde_json::to_string(self).map_err(io::Error::other)?;
        Ok(format!("{MAGIC}\n{}\n{body}", Digest::of(body.as_bytes()).hex()).into_bytes())
    }
}

impl Kept {
    fn followed_by(self, good: &Good, readable: impl Fn(&Slot) -> bool) -> Self {
        let slot = good.keepable.slot(good);
        let same = |known: &Slot| known.record == slot.record;
        // The same value under another generation replaces it; what was damaged gives its place away.
        let previous =
            [self.current, self.previous].into_iter().flatten().find(|known| !same(known) && readable(known));
        Self { current: Some(slot), previous, condemned: None }
    }
}

/// Both files.
#[derive(Debug)]
pub(super) struct Indexes {
    pub(super) newest: Index,
    older: Option<Index>,
    /// The file that is written next.
    next: usize,
    /// What was wrong with a file.
    pub(super) damage: Vec<String>,
}

impl Indexes {
    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        let mut damage = Vec::new();
        let mut found = Vec::new();
        for (file, name) in FILES.into_iter().enumerate() {
            let path = directory.join(name);
            match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => damage.push(format!("cannot read {}: {error}", path.display())),
                Ok(bytes) => match Index::parse(&bytes) {
                    Some(index) => found.push((file, index)),
                    None => damage.push(format!("the file {} is damaged", path.display())),
                },
            }
        }
        found.sort_by_key(|(_, index)| std::cmp::Reverse(index.sequence));
        let mut found = found.into_iter();
        // A damaged file is the one to write over.
        let (file, newest) = found.next().unwrap_or_default();
        let (next, older) = (1 - file, found.next().map(|(_, index)| index));
        Ok(Self { newest, older, next, damage })
    }

    pub(super) fn write(&mut self, directory: &Path, index: Index) -> io::Result<()> {
        disk::write_whole(directory, FILES[self.next], &index.to_file()?)?;
        // From here on the new index is what a restart finds, even if the directory cannot be synced.
        self.older = Some(std::mem::replace(&mut self.newest, index));
        self.next = 1 - self.next;
        disk::sync_directory(directory)
    }

    /// What either of them names: the older one must be readable when the newer one is not.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &BlobName> {
        self.newest.blobs().chain(self.older.iter().flat_map(Index::blobs))
    }
}
