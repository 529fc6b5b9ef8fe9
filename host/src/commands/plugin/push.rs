//! `penstock plugin push`: a plugin into a registry.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::bail;
use bytes::Bytes;
use penstock_core::plugin::{OciReference, OciVersion, Rejection};
use penstock_plugin_host::{Artifact, Described, RegistryClient};

use super::{
    module::{self, Module},
    pull::LARGEST,
    registry::Access,
    size,
    subject::Configuration,
};

/// Push a plugin to a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The login is the one that `docker login` or `podman login` keeps: in $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json,
$XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json or ~/.docker/config.json.
Prints the reference by digest. The same plugin has the same digest, whoever pushes it and when. A tag that means another
plugin already is left alone, unless --force is given.

Examples:
  penstock plugin push my-plugin.wasm ghcr.io/acme/my-plugin:1.2.0
  penstock plugin push my-plugin.wasm 127.0.0.1:5000/my-plugin:dev
  echo \"$TOKEN\" | penstock plugin push my-plugin.wasm ghcr.io/acme/my-plugin:1.2.0 --username me --password-stdin")]
pub(super) struct Args {
    /// The component
    #[arg(value_name = "FILE")]
    module: PathBuf,

    /// Where it goes: registry, repository and tag
    #[arg(value_name = "REFERENCE")]
    reference: OciReference,

    #[command(flatten)]
    access: Access,

    /// Let the tag mean this plugin even if it means another one now
    #[arg(long)]
    force: bool,
}

/// Push, and print the reference by digest.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let bytes = module::read(&args.module)?;
    let plugin = describe(args)?;
    let artifact = args.access.to(&args.reference)?;
    let (length, client, bytes) = (bytes.len(), RegistryClient::new()?, Bytes::from(bytes));
    if !args.force {
        refuse_to_replace(&client, &artifact, &bytes)?;
    }
    let digest = client.push(&artifact, bytes, annotations(&plugin))?;
    eprintln!("pushed {} {} ({}) to {}", plugin.name, plugin.version, size(length), args.reference);
    eprintln!("a WasmPlugin takes it with\n  source: {{oci: {{ref: {}, digest: {digest}}}}}", args.reference);
    println!("{}", args.reference.at(OciVersion::Digest(digest)));
    Ok(ExitCode::SUCCESS)
}

/// A tag that gateways name changes what they run. Pushing the same plugin again changes nothing.
fn refuse_to_replace(client: &RegistryClient, artifact: &Artifact, bytes: &Bytes) -> anyhow::Result<()> {
    // Some registries refuse to look for what nobody has pushed yet: whether it may be pushed, pushing says.
    let Ok(Some(digest)) = client.resolve(artifact) else { return Ok(()) };
    if client.pull(artifact, LARGEST).is_ok_and(|pulled| pulled.bytes == bytes) {
        return Ok(());
    }
    let reference = &artifact.reference;
    bail!(
        "{reference} was not pushed: the tag means {digest}, and gateways that name it would run something else from then on\n\
         Push under another tag, such as the new version of the plugin, or say --force"
    )
}

/// What the plugin says of itself. What is no plugin is not pushed: every gateway would refuse it.
fn describe(args: &Args) -> anyhow::Result<Described> {
    let spec = Configuration::default().spec_with_everything(&Module::File(args.module.clone()))?;
    match super::host()?.describe(&spec) {
        Ok(plugin) => Ok(plugin),
        Err(Rejection { reason, message }) => {
            let file = args.module.display();
            bail!("{file} was not pushed: {reason}: {message}\nWhat it is: penstock plugin inspect {file}")
        }
    }
}

fn annotations(plugin: &Described) -> BTreeMap<&'static str, String> {
    let all = [
        ("org.opencontainers.image.title", &plugin.name),
        ("org.opencontainers.image.version", &plugin.version),
        ("org.opencontainers.image.description", &plugin.description),
    ];
    all.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, text.to_string())).collect()
}
