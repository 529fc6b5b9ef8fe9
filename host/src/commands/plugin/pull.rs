//! `penstock plugin pull`: a plugin from a registry.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use penstock_core::plugin::{OciReference, OciVersion};
use penstock_plugin_host::RegistryClient;

use super::{registry::Access, size};

/// Bytes of a module that are taken: more than any gateway would.
pub(super) const LARGEST: u64 = 256 << 20;

/// Pull a plugin from a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The login is the one that `docker login` or `podman login` keeps: in $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json,
$XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json or ~/.docker/config.json.
Prints the reference by digest: what the tag means now.

Examples:
  penstock plugin pull ghcr.io/acme/my-plugin:1.2.0                    # makes my-plugin.wasm
  penstock plugin pull ghcr.io/acme/my-plugin@sha256:4c1b… -o it.wasm")]
pub(super) struct Args {
    /// Where it is: registry, repository and tag or digest
    #[arg(value_name = "REFERENCE")]
    reference: OciReference,

    /// The file to write; the last part of the repository with `.wasm` if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    access: Access,
}

/// Pull, write, and print the reference by digest.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let artifact = args.access.to(&args.reference)?;
    let pulled = RegistryClient::new()?.pull(&artifact, LARGEST)?;
    let path = args.output.clone().unwrap_or_else(|| default_output(&args.reference));
    write(&path, &pulled.bytes).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {} ({})", path.display(), size(pulled.bytes.len()));
    println!("{}", args.reference.at(OciVersion::Digest(pulled.manifest)));
    Ok(ExitCode::SUCCESS)
}

fn default_output(reference: &OciReference) -> PathBuf {
    let name = reference.repository.rsplit('/').next().unwrap_or_default();
    format!("{name}.wasm").into()
}

/// All or nothing: a gateway may be watching the file.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
