//! `cargo xtask <command>`: see the library's documentation.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use xtask::workspace::Workspace;
use xtask::{bench, checks, cluster, conformance, guests, image, run, scale, tidy};

/// Developer commands of Penstock.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and start an example, with its origins, on unprivileged ports
    Run(run::Arguments),
    /// Everything that CI runs
    Test(checks::Arguments),
    /// What a request costs, beside other proxies that are installed
    Bench(bench::Arguments),
    /// A real Kubernetes on this machine
    Cluster(cluster::Arguments),
    /// The gateway as a container image, without Docker
    Image(image::Arguments),
    /// Thousands of routes on that Kubernetes, and what the gateway makes of them
    Scale(scale::Arguments),
    /// The Gateway API's conformance suite
    Conformance(conformance::Arguments),
    /// The rules of the code base that no compiler checks
    Tidy,
    /// Build all guests (plugins and test guests) as components, and print their paths
    Guests,
}

fn main() -> ExitCode {
    // Printed here, because a backtrace of a failed check says nothing.
    run_command(Arguments::parse().command).map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run_command(command: Command) -> Result<()> {
    let workspace = Workspace::load()?;
    match command {
        Command::Run(arguments) => run::run(&workspace, &arguments),
        Command::Test(arguments) => checks::run(&workspace, &arguments),
        Command::Bench(arguments) => bench::run(&workspace, &arguments),
        Command::Cluster(arguments) => cluster::run(&workspace, &arguments),
        Command::Image(arguments) => image::run(&workspace, &arguments),
        Command::Scale(arguments) => scale::run(&workspace, &arguments),
        Command::Conformance(arguments) => conformance::run(&workspace, &arguments),
        Command::Tidy => {
            let problems = tidy::check(&workspace)?;
            problems.iter().for_each(|problem| println!("{problem}"));
            ensure!(problems.is_empty(), "{} problems", problems.len());
            Ok(())
        }
        Command::Guests => {
            guests::build(&workspace)?.iter().for_each(|guest| println!("{}", guest.component.display()));
            Ok(())
        }
    }
}
