//! Modules in files, which WasmPlugins name. A new content is a new spec, so the source watches and identifies them.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use penstock_core::{Kind, ResourceRef};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Where a WasmPlugin names a file.
const FIELD: &str = "/spec/source/file/path";

/// Bytes that tell one content from another. No plugin may be as large (`limits.moduleSize`), and what is larger is not read for ever.
const MOST_BYTES: u64 = 1 << 30;

/// A module in a file, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    path: PathBuf,
    stamp: Option<Arc<str>>,
}

impl Module {
    /// The module of a WasmPlugin that comes from a file. A relative path counts from the directory of the resource's file.
    pub(super) fn of(file: &Path, reference: &ResourceRef, value: &Value) -> Option<Self> {
        let path = value.pointer(FIELD).filter(|_| reference.kind == Kind::WasmPlugin)?.as_str()?;
        let path = file.parent().unwrap_or(Path::new("")).join(path);
        let path = std::path::absolute(&path).unwrap_or(path);
        let stamp = identify(&path).ok().map(Into::into);
        Some(Self { path, stamp })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Identity of the content; none if it cannot be read.
    pub(super) fn stamp(&self) -> Option<&Arc<str>> {
        self.stamp.as_ref()
    }

    /// Put the path into the resource as it is from here.
    pub(super) fn resolve(&self, value: &mut Value) {
        if let (Some(field), Some(path)) = (value.pointer_mut(FIELD), self.path.to_str()) {
            *field = path.into();
        }
    }
}

/// The digest of a regular file, read piece by piece. A FIFO or a device would keep the thread that reads all resources.
fn identify(path: &Path) -> io::Result<String> {
    let mut file = open(path)?.take(MOST_BYTES);
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}

/// As the plugin host opens it, which then reads it.
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_have_an_identity() {
        let directory = tempfile::tempdir().unwrap();
        let (file, fifo) = (directory.path().join("file"), directory.path().join("fifo"));
        fs::write(&file, b"abc").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(identify(&file).unwrap(), known);
        for path in [&fifo, Path::new("/dev/zero"), directory.path()] {
            assert!(identify(path).is_err(), "{}", path.display());
        }
    }
}
