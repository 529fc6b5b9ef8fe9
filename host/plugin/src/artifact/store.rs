//! Compiled modules on disk.
//!
//! A compiled module is machine code: whoever can make the gateway load one controls it. So every file carries an HMAC over its content,
//! the digest of the module it was compiled from and the engine that compiled it. The key is random, made by the first gateway that uses
//! the directory, and readable by its user alone. Nothing precompiled comes from anywhere else.
//!
//! The cache is a convenience: a file that is damaged, forged, foreign or cannot be written costs a compilation and a line in the log.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use wasmtime::{Engine, component::Component};

use super::load::{self, Trusted};
use crate::module::Digest;

/// First bytes of every artifact; the number grows when the layout changes.
const MAGIC: &[u8] = b"penstock artifact 1\n";
const SIGNATURE: usize = 32;
const KEY: usize = 32;
/// Digest of the module and hash of the engine.
const ORIGIN: usize = 32 + 8;
const KEY_FILE: &str = "key";
const SUFFIX: &str = "artifact";
/// Bytes of all artifacts. A first-party plugin takes some hundred kilobytes.
const MOST_BYTES: u64 = 512 << 20;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Creating or reading it failed.
    #[error("cannot use the directory {path} for compiled plugins")]
    Directory {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No random bytes for a new key.
    #[error("the operating system gave no random bytes for the key of compiled plugins")]
    Random,
}

/// A directory of artifacts of one engine.
pub(super) struct ArtifactStore {
    directory: PathBuf,
    key: hmac::Key,
    /// Changes with the version of wasmtime, its settings and the CPU's features.
    engine: u64,
}

impl ArtifactStore {
    /// Use `directory`, which is created if need be.
    pub(super) fn open(engine: &Engine, directory: &Path) -> Result<Self, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Directory { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(directory))?;
        let path = directory.join(KEY_FILE);
        let key = match read_key(&path) {
            Some(key) => key,
            None => {
                let mut key = [0; KEY];
                SystemRandom::new().fill(&mut key).map_err(|_| StoreError::Random)?;
                write_atomically(&path, &[&key]).map_err(failed(&path))?;
                key
            }
        };
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { directory: directory.into(), key: hmac::Key::new(hmac::HMAC_SHA256, &key), engine: hasher.finish() })
    }

    /// The compiled form of a module, if a good one is there.
    pub(super) fn load(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        let path = self.path(digest);
        let file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a compiled plugin; it is compiled again");
                return None;
            }
        };
        let Some(artifact) = self.verified(digest, &file) else {
            tracing::warn!(path = %path.display(), "a compiled plugin is damaged or not our own; it is compiled again");
            let _ = fs::remove_file(&path);
            return None;
        };
        match load::component(engine, artifact) {
            Ok(component) => {
                // What was used last goes last. If that cannot be noted down, it goes as if it had not been used.
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot load a compiled plugin; it is compiled again");
                None
            }
        }
    }

    /// Keep the compiled form of a module for the next start, if there is room beside those `in_use`.
    pub(super) fn save(&self, digest: Digest, artifact: &[u8], in_use: &HashSet<Digest>) {
        let path = self.path(digest);
        let in_use = in_use.iter().map(|digest| self.path(*digest)).collect();
        let result = self.make_room(artifact.len() as u64, &in_use).and_then(|()| {
            let origin = self.origin(digest);
            let mut signature = hmac::Context::with_key(&self.key);
            signature.update(&origin);
            signature.update(artifact);
            write_atomically(&path, &[MAGIC, signature.sign().as_ref(), &origin, artifact])
        });
        if let Err(error) = result {
            tracing::warn!(path = %path.display(), %error, "cannot keep a compiled plugin; the next start compiles it again");
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{}-{:016x}.{SUFFIX}", digest.hex(), self.engine))
    }

    /// What a file says behind its signature: which module, by which engine. Signed with the artifact, so that files cannot be swapped.
    fn origin(&self, digest: Digest) -> [u8; ORIGIN] {
        let mut origin = [0; ORIGIN];
        let (module, engine) = origin.split_at_mut(digest.as_bytes().len());
        module.copy_from_slice(digest.as_bytes());
        engine.copy_from_slice(&self.engine.to_le_bytes());
        origin
    }

    /// The artifact in `file`, if its signature is ours and for this module and engine.
    fn verified<'a>(&self, digest: Digest, file: &'a [u8]) -> Option<Trusted<'a>> {
        let (signature, signed) = file.strip_prefix(MAGIC)?.split_at_checked(SIGNATURE)?;
        hmac::verify(&self.key, signed, signature).ok()?;
        signed.strip_prefix(&self.origin(digest)).map(Trusted::signed)
    }

    /// Remove artifacts that are not `in_use`, those that were not used for longest first, until `size` more bytes are within the limit. Those
    /// of other engines go the same way.
    fn make_room(&self, size: u64, in_use: &HashSet<PathBuf>) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == SUFFIX) {
                let metadata = entry.metadata()?;
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut total = size + files.iter().map(|(_, size, _)| size).sum::<u64>();
        for (_, size, path) in files.into_iter().filter(|(.., path)| !in_use.contains(path)) {
            if total <= MOST_BYTES {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        if total > MOST_BYTES {
            return Err(io::Error::other(format!("with those in use it would be more than {MOST_BYTES} bytes")));
        }
        Ok(())
    }
}

/// The key, if it is there, whole and private. A key that others could read is worth nothing, and neither is what it signed.
fn read_key(path: &Path) -> Option<[u8; KEY]> {
    let metadata = fs::metadata(path).ok()?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the key of compiled plugins was readable by others; it is replaced");
        return None;
    }
    fs::read(path).ok()?.try_into().ok()
}

/// Write a private file such that nobody sees half of it, also when two gateways share the directory.
fn write_atomically(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part)).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests;
