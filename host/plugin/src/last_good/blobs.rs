//! Files that are named by their content.

use std::{
    collections::{HashMap, HashSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::disk;
use crate::module::Digest;

/// SHA-256 of a blob in hexadecimal: also its file name, so nothing else is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct BlobName(String);

/// A text that is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no SHA-256 in hexadecimal")]
pub(crate) struct InvalidName(String);

impl BlobName {
    /// The name of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Digest::of(bytes).hex())
    }
}

impl TryFrom<String> for BlobName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(hex) { Ok(Self(text)) } else { Err(InvalidName(text)) }
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a blob is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the file {path} is missing")]
    Missing { path: PathBuf },
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the file {path} is damaged: its content is not what was written")]
    Changed { path: PathBuf },
}

/// A directory of blobs.
#[derive(Debug)]
pub(crate) struct Blobs {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sizes: HashMap<BlobName, u64>,
    /// Found damaged; written again when they are needed.
    damaged: HashSet<BlobName>,
}

impl Blobs {
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        disk::create_directory(&directory)?;
        let mut state = State::default();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if let Ok(name) = BlobName::try_from(entry.file_name().to_string_lossy().into_owned()) {
                state.sizes.insert(name, entry.metadata()?.len());
            }
        }
        Ok(Self { directory, state: Mutex::new(state) })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The content, if it is what the name says.
    pub(crate) fn get(&self, name: &BlobName) -> Result<Vec<u8>, Damage> {
        let read = self.read(name);
        if read.is_err() {
            self.state().damaged.insert(name.clone());
        }
        read
    }

    fn read(&self, name: &BlobName) -> Result<Vec<u8>, Damage> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) if BlobName::of(&bytes) == *name => Ok(bytes),
            Ok(_) => Err(Damage::Changed { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Damage::Missing { path }),
            Err(source) => Err(Damage::Unreadable { path, source }),
        }
    }

    /// Write a blob unless a good one is there.
    pub(super) fn put(&self, name: &BlobName, bytes: &[u8]) -> io::Result<()> {
        if self.read(name).is_err() {
            disk::write_whole(&self.directory, &name.0, bytes)?;
        }
        let mut state = self.state();
        state.damaged.remove(name);
        state.sizes.insert(name.clone(), bytes.len() as u64);
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        disk::sync_directory(&self.directory)
    }

    /// Remove all others.
    pub(super) fn sweep(&self, named: &HashSet<BlobName>) -> io::Result<()> {
        disk::sweep(&self.directory)?;
        let mut state = self.state();
        let gone: Vec<BlobName> = state.sizes.keys().filter(|name| !named.contains(*name)).cloned().collect();
        for name in gone {
            match fs::remove_file(self.path(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            state.sizes.remove(&name);
            state.damaged.remove(&name);
        }
        Ok(())
    }

    /// Whether it is there, as far as is known without reading it.
    pub(super) fn has(&self, name: &BlobName) -> bool {
        let state = self.state();
        state.sizes.contains_key(name) && !state.damaged.contains(name)
    }

    pub(super) fn is_damaged(&self, name: &BlobName) -> bool {
        self.state().damaged.contains(name)
    }

    pub(super) fn size_of(&self, name: &BlobName) -> Option<u64> {
        self.state().sizes.get(name).copied()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state().sizes.values().sum()
    }

    fn path(&self, name: &BlobName) -> PathBuf {
        self.directory.join(&name.0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
