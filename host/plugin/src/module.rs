//! A module: bytes and their digest.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use penstock_core::plugin::{ModuleSource, Sha256};
use ring::digest::{SHA256, digest};

use crate::fetch::FetchError;

/// A SHA-256: of a module, for the most part.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut value = [0; 32];
        value.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(value)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Without the name of the algorithm, for file names.
    pub(crate) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As the resources show it.
    pub(crate) fn label(&self) -> Arc<str> {
        self.to_string().into()
    }
}

impl From<Digest> for Sha256 {
    fn from(digest: Digest) -> Self {
        Self::new(digest.0)
    }
}

/// `sha256:…`.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes that were fetched.
#[derive(Debug, Clone)]
pub(crate) struct Module {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    /// The artifact in a registry that they came from, by digest.
    pub(crate) artifact: Option<Arc<str>>,
}

impl Module {
    /// A module of at most `limit` bytes.
    pub(crate) fn new(bytes: Bytes, limit: u64) -> Result<Self, FetchError> {
        let size = bytes.len() as u64;
        if size > limit {
            return Err(FetchError::TooLarge { size: Some(size), limit });
        }
        let digest = Digest::of(&bytes);
        Ok(Self { bytes, digest, artifact: None })
    }

    /// Read a module that is on this machine, at most `limit` bytes of it. What is not, a [`crate::fetch::Fetcher`] fetches.
    pub(crate) fn read(source: &ModuleSource, limit: u64) -> Result<Self, FetchError> {
        match source {
            ModuleSource::File { path, .. } => Self::new(read(path, limit)?, limit),
            ModuleSource::Inline(bytes) => Self::new(bytes.clone(), limit),
            ModuleSource::Http(_) | ModuleSource::Oci(_) => Err(FetchError::Internal),
        }
    }
}

/// Whether a source is read where it is, without waiting for anybody.
pub(crate) fn is_local(source: &ModuleSource) -> bool {
    matches!(source, ModuleSource::File { .. } | ModuleSource::Inline(_))
}

/// Open a regular file, and nothing else: a FIFO would keep whoever opens it until somebody writes, and a device may do anything.
fn open(path: &Path) -> io::Result<File> {
    let regular = |metadata: Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is no regular file")),
    };
    regular(fs::metadata(path)?)?;
    // It may have become something else since.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    regular(file.metadata()?)?;
    Ok(file)
}

fn read(path: &Path, limit: u64) -> Result<Bytes, FetchError> {
    let failed = |source| FetchError::File { path: path.into(), source };
    let file = open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > limit {
        return Err(FetchError::TooLarge { size: Some(size), limit });
    }
    let mut bytes = Vec::new();
    // The file may grow while it is read: one byte beyond the limit is enough to know.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let (file, fifo) = (directory.path().join("file"), directory.path().join("fifo"));
        fs::write(&file, b"module").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_eq!(read(&file, 6).unwrap(), "module");
        assert!(matches!(read(&file, 5), Err(FetchError::TooLarge { size: Some(6), limit: 5 })));
        for path in [&fifo, Path::new("/dev/zero"), directory.path()] {
            let error = read(path, 6).unwrap_err().to_string();
            assert!(error.ends_with("it is no regular file"), "{error}");
        }
    }
}
