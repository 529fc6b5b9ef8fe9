//! Penstock: the gateway binary. Parse, run, exit code; what the commands do stands in [`commands`].

mod admin;
mod commands;
mod logging;
mod outputs;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

use crate::commands::Cli;

/// The request path allocates small and short-lived; jemalloc keeps that fast and gives memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format());
    cli.run().unwrap_or_else(|error| {
        eprintln!("penstock: {error:#}");
        ExitCode::FAILURE
    })
}
