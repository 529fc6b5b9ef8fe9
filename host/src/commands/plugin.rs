//! `penstock plugin`: what plugin authors need, from the first line to the registry.
//!
//! Each command is a file; what several of them need stands in `subject` (from arguments to what the plugin host takes), `capability`
//! (what may be granted) and `module` (files and where they come from).

mod build;
mod capability;
mod check;
mod inspect;
mod module;
mod schema;
mod subject;

use std::{process::ExitCode, sync::Arc};

use clap::Subcommand;
use penstock_core::fact::{Fact, FactSink};
use penstock_plugin_host::{PluginHost, PluginSettings};
use prometheus_client::registry::Registry;

/// Write, build, test and inspect plugins
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
The way of a plugin:
  penstock plugin build                               # in the folder of its crate: makes my-plugin.wasm
  penstock plugin inspect my-plugin.wasm              # what it is, what it wants, how it is configured
  penstock plugin check my-plugin.wasm --config c.yaml  # would a gateway take it? Its own validator answers"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Args),
    Check(check::Args),
    Inspect(inspect::Args),
}

/// Do what was asked.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Build(args) => build::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    }
}

/// How what was found is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
    Yaml,
}

impl Output {
    /// Print for programs, or leave it to `table`.
    fn print<T: serde::Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        match self {
            Self::Table => print!("{}", table(value)),
            Self::Json => println!("{}", serde_json::to_string_pretty(value)?),
            Self::Yaml => print!("{}", serde_yaml_ng::to_string(value)?),
        }
        Ok(())
    }
}

/// A plugin host for questions: nothing is ever applied to it, so it has nothing to report.
fn host() -> anyhow::Result<PluginHost> {
    struct Unheard;
    impl FactSink for Unheard {
        fn report(&self, _: Fact) {}
    }
    Ok(PluginHost::start(PluginSettings::default(), Arc::new(Unheard), &mut Registry::default())?)
}

/// `1 hook`, `2 hooks`.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `212 KiB`.
fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => counted(bytes, "byte"),
        1024..10_485_760 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}
