//! `penstock plugin`: what plugin authors need, from the first line to the registry.
//!
//! Each command is a file; what several of them need stands in `subject` (from arguments to what the plugin host takes), `capability`
//! (what may be granted), `module` (files) and `session` (a plugin
//! host with one plugin in it).

mod bench;
mod build;
mod capability;
mod check;
mod inspect;
mod module;
mod new;
mod pull;
mod push;
mod registry;
mod schema;
mod session;
mod subject;
mod test;

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
  penstock plugin new my-plugin && cd my-plugin  # a project that builds and passes its tests
  cargo test                                     # the tests that need no gateway
  penstock plugin build                          # makes my-plugin.wasm
  penstock plugin test                           # exchanges through it, in the gateway's own plugin host
  penstock plugin inspect my-plugin.wasm         # what it is, what it wants, how it is configured
  penstock plugin check my-plugin.wasm --config config.yaml   # would a gateway take it? Its own validator answers
  penstock plugin bench my-plugin.wasm           # what it costs an exchange
  penstock plugin push my-plugin.wasm ghcr.io/acme/my-plugin:1.0.0   # into a registry, for gateways to fetch"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::Args),
    Build(build::Args),
    Test(test::Args),
    Check(check::Args),
    Inspect(inspect::Args),
    Bench(bench::Args),
    Push(push::Args),
    Pull(pull::Args),
}

/// Do what was asked.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Pull(args) => pull::run(&args),
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
