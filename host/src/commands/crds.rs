//! `penstock crds`: the CustomResourceDefinitions of Penstock's own kinds.

use std::process::ExitCode;

use anyhow::Context as _;

/// Print the CustomResourceDefinitions of Penstock's own kinds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Those of the Gateway API come from its own project.

Example:
  penstock crds | kubectl apply --server-side -f -")]
pub(crate) struct Args {}

/// Print them as one YAML stream.
pub(crate) fn run(_: &Args) -> anyhow::Result<ExitCode> {
    for definition in penstock_translate::crd::definitions() {
        print!("---\n{}", serde_yaml_ng::to_string(&definition).context("a definition is plain data")?);
    }
    Ok(ExitCode::SUCCESS)
}
