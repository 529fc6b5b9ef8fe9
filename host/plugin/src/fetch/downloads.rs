//! What was downloaded and verified, by digest, so that it is not downloaded again: not for another plugin, another configuration or
//! after a restart.
//!
//! A file's name is the digest of its content, which is checked whenever it is read: damage costs a download and a line in the log. Files
//! that were not used for the longest time go first when there are too many bytes.
//!
//! Whoever has downloaded something has a mark beside it, an empty file: `<digest>.<digest of the namespace>`. Nobody else gets it. A digest is no
//! secret, and what it leads to may be: another namespace asks the source itself, with its own login.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use penstock_core::{ResourceRef, plugin::Sha256};

use crate::module::Digest;

/// Bytes on disk.
const MOST_ON_DISK: u64 = 1 << 30;
/// Bytes in memory, where there is no directory.
const MOST_IN_MEMORY: usize = 64 << 20;
/// What tags meant when they were resolved.
const TAGS: &str = "tags.json";

/// Downloads, and what tags were resolved to.
pub(crate) struct Downloads {
    directory: Option<PathBuf>,
    recent: Mutex<Recent>,
    tags: Mutex<Tags>,
}

/// Oldest first. Empty where there is a directory.
#[derive(Default)]
struct Recent {
    downloads: VecDeque<Download>,
    size: usize,
}

struct Download {
    digest: Sha256,
    bytes: Bytes,
    /// The namespaces that have it.
    of: BTreeSet<Box<str>>,
}

/// By plugin (`namespace/name`): its reference, and the digest of the manifest.
type Tags = BTreeMap<String, Tag>;

#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Tag {
    reference: String,
    manifest: String,
}

impl Downloads {
    /// In `directory`, which is created if need be, or in memory.
    pub(crate) fn open(directory: Option<&Path>) -> io::Result<Self> {
        let mut tags = Tags::new();
        if let Some(directory) = directory {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            tags = read_tags(&directory.join(TAGS));
        }
        Ok(Self { directory: directory.map(Into::into), recent: Mutex::default(), tags: Mutex::new(tags) })
    }

    /// The bytes with this digest, if the namespace has downloaded them. Reads files.
    pub(crate) fn get(&self, namespace: &str, digest: Sha256) -> Option<Bytes> {
        let Some(path) = self.path(digest) else { return self.recent().get(namespace, digest) };
        if !mark(&path, namespace).exists() {
            return None;
        }
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a downloaded module; it is downloaded again");
                return None;
            }
        };
        if Sha256::from(Digest::of(&bytes)) != digest {
            tracing::warn!(path = %path.display(), "a downloaded module is damaged; it is downloaded again");
            if let Some(directory) = &self.directory {
                remove(directory, &path);
            }
            return None;
        }
        Some(bytes.into())
    }

    /// Keep bytes whose digest was verified, for the namespace that has downloaded them. Writes files.
    pub(crate) fn put(&self, namespace: &str, digest: Sha256, bytes: &Bytes) {
        let Some((path, directory)) = self.path(digest).zip(self.directory.as_deref()) else {
            return self.recent().put(namespace, digest, bytes.clone());
        };
        let result = make_room(directory, bytes.len() as u64)
            .and_then(|()| write(&path, bytes))
            .and_then(|()| write(&mark(&path, namespace), b""));
        if let Err(error) = result {
            tracing::warn!(path = %path.display(), %error, "cannot keep a downloaded module; the next start downloads it again");
        }
    }

    /// What this plugin's reference was resolved to.
    pub(crate) fn resolved(&self, plugin: &ResourceRef, reference: &str) -> Option<Sha256> {
        let tags = self.tags();
        tags.get(&plugin.full_name()).filter(|tag| tag.reference == reference)?.manifest.parse().ok()
    }

    /// Remember what this plugin's reference was resolved to.
    pub(crate) fn resolve(&self, plugin: &ResourceRef, reference: &str, manifest: Sha256) {
        let tag = Tag { reference: reference.into(), manifest: manifest.to_string() };
        let mut tags = self.tags();
        if tags.get(&plugin.full_name()) != Some(&tag) {
            tags.insert(plugin.full_name(), tag);
            self.write_tags(&tags);
        }
    }

    /// The plugin is gone: if it comes back, its tag is resolved anew.
    pub(crate) fn forget(&self, plugin: &ResourceRef) {
        let mut tags = self.tags();
        if tags.remove(&plugin.full_name()).is_some() {
            self.write_tags(&tags);
        }
    }

    fn write_tags(&self, tags: &Tags) {
        let Some(path) = self.directory.as_ref().map(|directory| directory.join(TAGS)) else { return };
        let written = serde_json::to_vec_pretty(tags).map_err(io::Error::other).and_then(|text| write(&path, &text));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot keep what tags were resolved to; the next start resolves them again");
        }
    }

    fn path(&self, digest: Sha256) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(digest.hex()))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tags(&self) -> MutexGuard<'_, Tags> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn get(&mut self, namespace: &str, digest: Sha256) -> Option<Bytes> {
        let at = self.downloads.iter().position(|known| known.digest == digest && known.of.contains(namespace))?;
        let found = self.downloads.remove(at)?;
        let bytes = found.bytes.clone();
        self.downloads.push_back(found);
        Some(bytes)
    }

    fn put(&mut self, namespace: &str, digest: Sha256, bytes: Bytes) {
        if let Some(known) = self.downloads.iter_mut().find(|known| known.digest == digest) {
            known.of.insert(namespace.into());
            return;
        }
        self.size += bytes.len();
        self.downloads.push_back(Download { digest, bytes, of: BTreeSet::from([namespace.into()]) });
        while self.size > MOST_IN_MEMORY {
            let Some(oldest) = self.downloads.pop_front() else { return };
            self.size -= oldest.bytes.len();
        }
    }
}

/// What says that a namespace has downloaded the file. Its name may have any letters where resources come from files.
fn mark(path: &Path, namespace: &str) -> PathBuf {
    path.with_extension(&Digest::of(namespace.as_bytes()).hex()[..32])
}

/// Reading counts as use.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    let _ = File::options().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    Ok(bytes)
}

fn read_tags(path: &Path) -> Tags {
    let tags = fs::read(path).map(|text| serde_json::from_slice(&text).map_err(io::Error::from));
    match tags {
        Ok(Ok(tags)) => tags,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Tags::new(),
        Ok(Err(error)) | Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read what tags were resolved to; they are resolved again");
            Tags::new()
        }
    }
}

/// Write a private file such that nobody sees half of it, also when two gateways share the directory.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{number}.new", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Remove what was not used for the longest time until `size` more bytes are within the limit.
fn make_room(directory: &Path, size: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Another thread may have made room meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        if entry.file_name() != TAGS && metadata.len() > 0 {
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    files.sort();
    let mut total = size + files.iter().map(|(_, size, _)| size).sum::<u64>();
    for (_, size, path) in files {
        if total <= MOST_ON_DISK {
            break;
        }
        remove(directory, &path);
        total -= size;
    }
    Ok(())
}

/// Remove a file with its marks, and those first: a mark without a file would be taken for one of a later download.
fn remove(directory: &Path, path: &Path) {
    let marks = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    for mark in marks.filter(|mark| mark != path && mark.file_stem() == path.file_name()) {
        let _ = fs::remove_file(mark);
    }
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use penstock_core::Kind;

    use super::*;

    fn digest(bytes: &[u8]) -> Sha256 {
        Digest::of(bytes).into()
    }

    #[test]
    fn downloads_survive_a_restart_and_damage_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("downloads");
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        let downloads = Downloads::open(Some(&directory)).unwrap();
        assert_eq!(downloads.get("default", digest(&a)), None);
        downloads.put("default", digest(&a), &a);
        downloads.put("default", digest(&b), &b);
        let downloads = Downloads::open(Some(&directory)).unwrap();
        assert_eq!(downloads.get("default", digest(&a)), Some(a.clone()));
        fs::write(directory.join(digest(&b).hex()), "B").unwrap();
        assert_eq!(downloads.get("default", digest(&b)), None);
        assert!(!directory.join(digest(&b).hex()).exists());
        downloads.put("default", digest(&b), &b);
        assert_eq!(downloads.get("default", digest(&b)), Some(b));
    }

    #[test]
    fn without_a_directory_the_last_ones_stay_in_memory() {
        let downloads = Downloads::open(None).unwrap();
        let large = |fill: u8| Bytes::from(vec![fill; MOST_IN_MEMORY / 2]);
        for fill in [1, 2, 3] {
            downloads.put("default", digest(&large(fill)), &large(fill));
            assert!(downloads.get("default", digest(&large(1))).is_some(), "what is used stays");
        }
        assert_eq!(downloads.get("default", digest(&large(2))), None);
        assert!(downloads.get("default", digest(&large(3))).is_some());
    }

    #[test]
    fn who_knows_a_digest_gets_nothing_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        for place in [Some(directory.path()), None] {
            let downloads = Downloads::open(place).unwrap();
            downloads.put("shop", digest(&a), &a);
            for stranger in ["", "default", "sho", "../shop"] {
                assert_eq!(downloads.get(stranger, digest(&a)), None, "{stranger}");
            }
            downloads.put("../shop", digest(&a), &a);
            downloads.put("shop", digest(&b), &b);
            for known in ["shop", "../shop"] {
                assert_eq!(downloads.get(known, digest(&a)), Some(a.clone()), "{known}");
            }
            assert_eq!(downloads.get("../shop", digest(&b)), None);
        }
        // What was removed is nobody's.
        let downloads = Downloads::open(Some(directory.path())).unwrap();
        remove(directory.path(), &directory.path().join(digest(&a).hex()));
        downloads.put("other", digest(&a), &a);
        assert_eq!(downloads.get("shop", digest(&a)), None);
        assert_eq!(downloads.get("shop", digest(&b)), Some(b));
    }

    #[test]
    fn a_tag_is_remembered_for_its_plugin_and_reference() {
        let directory = tempfile::tempdir().unwrap();
        let plugin = |name: &str| ResourceRef::new(Kind::WasmPlugin, "default", name);
        let (old, new) = (digest(b"old"), digest(b"new"));
        let downloads = Downloads::open(Some(directory.path())).unwrap();
        downloads.resolve(&plugin("a"), "r.io/a:1", old);
        downloads.resolve(&plugin("a"), "r.io/a:1", new);
        downloads.resolve(&plugin("b"), "r.io/a:1", old);
        downloads.forget(&plugin("b"));
        let downloads = Downloads::open(Some(directory.path())).unwrap();
        assert_eq!(downloads.resolved(&plugin("a"), "r.io/a:1"), Some(new));
        assert_eq!(downloads.resolved(&plugin("a"), "r.io/a:2"), None);
        assert_eq!(downloads.resolved(&plugin("b"), "r.io/a:1"), None);
        fs::write(directory.path().join(TAGS), "{").unwrap();
        assert_eq!(Downloads::open(Some(directory.path())).unwrap().resolved(&plugin("a"), "r.io/a:1"), None);
    }
}
