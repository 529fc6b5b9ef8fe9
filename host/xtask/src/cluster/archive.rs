//! Images without a registry: an OCI image layout in a tar file, as `ctr images import` and other tools read it.
//!
//! The same program gives the same bytes: times, owners and the order of entries are fixed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Entries of a tar file are padded to this.
const BLOCK: usize = 512;

/// Write an image that holds and runs one static program, not as root, under all the given names.
///
/// # Errors
/// When the program cannot be read or the archive not be written.
pub fn write(program: &Path, names: &[&str], archive: &Path) -> Result<()> {
    Image::of(program)?.write(names, archive)
}

/// An image in the making: one program that it runs, and the files that this needs.
#[derive(Debug)]
pub struct Image {
    /// Its name at the root.
    program: String,
    layer: Tar,
    labels: Map<String, Value>,
}

impl Image {
    /// An image that runs this static program, not as root.
    ///
    /// # Errors
    /// When the program cannot be read.
    pub fn of(program: &Path) -> Result<Self> {
        let name = program.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
        let content = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        Ok(Self::holding(name, &content))
    }

    fn holding(program: &str, content: &[u8]) -> Self {
        let mut layer = Tar::default();
        layer.file(program, 0o755, content);
        Self { program: program.to_owned(), layer, labels: Map::new() }
    }

    /// Add a file that everybody may read; `path` is below the root, and without its `/`.
    #[must_use]
    pub fn with_file(mut self, path: &str, content: &[u8]) -> Self {
        self.layer.file(path, 0o644, content);
        self
    }

    /// Add a file that everybody may run, such as what a dynamic program needs to be started.
    #[must_use]
    pub fn with_program(mut self, path: &str, content: &[u8]) -> Self {
        self.layer.file(path, 0o755, content);
        self
    }

    /// Add the shared libraries that a program needs and what loads them, each at the path where it is found on this machine.
    ///
    /// # Errors
    /// When the program is no dynamic one of this machine, or one of its libraries is missing.
    pub fn with_libraries_of(mut self, program: &Path) -> Result<Self> {
        let needed = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
        ensure!(needed.status.success(), "ldd {}: {}", program.display(), String::from_utf8_lossy(&needed.stderr));
        for library in libraries(&String::from_utf8(needed.stdout)?)? {
            let content = fs::read(library).with_context(|| format!("cannot read {library}"))?;
            self = self.with_program(library.trim_start_matches('/'), &content);
        }
        Ok(self)
    }

    /// Add a label.
    #[must_use]
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    /// Write it as an archive, under all the given names.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn write(self, names: &[&str], archive: &Path) -> Result<()> {
        fs::write(archive, self.layout(names)).with_context(|| format!("cannot write {}", archive.display()))
    }

    fn layout(self, names: &[&str]) -> Vec<u8> {
        let layer = self.layer.finish();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Entrypoint": [format!("/{}", self.program)], "User": "65532:65532", "Labels": self.labels },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let named = names.iter().map(|name| {
            let mut descriptor = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
            descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
            descriptor["annotations"] = json!({ "io.containerd.image.name": name });
            descriptor
        });
        let index = json!({ "schemaVersion": 2, "manifests": named.collect::<Vec<_>>() });

        let mut archive = Tar::default();
        archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        archive.file("index.json", 0o644, index.to_string().as_bytes());
        for blob in [&manifest, &config, &layer] {
            archive.file(&format!("blobs/sha256/{}", hexadecimal(&Sha256::digest(blob))), 0o644, blob);
        }
        archive.finish()
    }
}

/// The paths that ldd prints: `name => /path (address)` for a library, `/path (address)` for what loads them.
fn libraries(printed: &str) -> Result<Vec<&str>> {
    if let Some(line) = printed.lines().find(|line| line.contains("not found")) {
        bail!("a shared library is missing: {}", line.trim());
    }
    Ok(printed.split_whitespace().filter(|word| word.starts_with('/')).collect())
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(&Sha256::digest(blob)))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar file in the making (POSIX ustar, regular files with short names only).
#[derive(Debug, Default)]
struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        let mut header = [0_u8; BLOCK];
        let mut put = |offset: usize, text: &str| header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000"); // owner
        put(116, "0000000"); // group
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000"); // time of change
        put(148, "        "); // the checksum counts itself as blanks
        put(156, "0");
        put(257, "ustar\u{0}00");
        let checksum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..155].copy_from_slice(format!("{checksum:06o}\0").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// What the system's own tar makes of it.
    fn tar(archive: &[u8], arguments: &[&str]) -> Vec<u8> {
        let mut tar = Command::new("tar");
        let mut tar = tar.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = tar.stdin.take().unwrap();
        let bytes = archive.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let output = tar.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn libraries_are_where_ldd_finds_them() {
        let printed =
            "\tlinux-vdso.so.1 (0x7ffc)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f06)\n\t/lib64/ld-linux.so.2 (0x7f07)\n";
        assert_eq!(libraries(printed).unwrap(), ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]);
        assert!(libraries("\tlibz.so.1 => not found\n").unwrap_err().to_string().contains("libz.so.1"));
        // This test is a dynamic program itself.
        let test = std::env::current_exe().unwrap();
        let layer = Image::holding("test", b"").with_libraries_of(&test).unwrap().layer.finish();
        let names = String::from_utf8(tar(&layer, &["-tf-"])).unwrap();
        assert!(names.lines().any(|name| name.contains("ld-") || name.contains("ld64")), "{names}");
    }

    #[test]
    fn an_image_is_a_layout_whose_digests_hold() {
        let image =
            Image::holding("pause", b"\x7fELF and more").with_file("etc/names", b"files").with_label("kind", "test");
        let archive = image.layout(&["example.org/a:1", "example.org/a:2"]);
        let index: Value = serde_json::from_slice(&tar(&archive, &["-xOf-", "index.json"])).unwrap();
        let names: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["annotations"]["io.containerd.image.name"])
            .collect();
        assert_eq!(names, ["example.org/a:1", "example.org/a:2"]);

        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = tar(&archive, &["-xOf-", &digest.replace("sha256:", "blobs/sha256/")]);
            assert_eq!(super::digest(&bytes), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes
        };
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
        assert_eq!(config["config"]["Entrypoint"][0], "/pause");
        assert_eq!(config["config"]["Labels"]["kind"], "test");
        assert_eq!(tar(&layer, &["-xOf-", "pause"]), b"\x7fELF and more");
        assert_eq!(tar(&layer, &["-xOf-", "etc/names"]), b"files");
    }
}
