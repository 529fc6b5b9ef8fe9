//! Penstock: the gateway binary. Parse, run, exit code; what the commands do stands in [`commands`].

mod admin;
mod commands;
mod descriptors;
mod logging;
mod machine;
mod outputs;
mod signals;

use std::{env, process::ExitCode};

use clap::Parser as _;
use penstock_plugin_host::validator;

use crate::commands::Cli;

/// The request path allocates small and short-lived; jemalloc keeps that fast and gives memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before anything else: a process that is to validate a candidate starts no logging and reads no environment.
    if env::args_os().nth(1).is_some_and(|argument| argument == validator::ARGUMENT) {
        return validator::main();
    }
    let cli = Cli::parse();
    let log = match logging::start(cli.log_format()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("penstock: the thread that writes the log cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = cli.run();
    drop(log);
    done.unwrap_or_else(|error| {
        eprintln!("penstock: {error:#}");
        ExitCode::FAILURE
    })
}
