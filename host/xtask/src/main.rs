//! `cargo xtask <command>`: see the library's documentation.

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use xtask::workspace::Workspace;
use xtask::{checks, guests, tidy};

/// Developer commands of Penstock.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that CI runs
    Test(checks::Arguments),
    /// The rules of the code base that no compiler checks
    Tidy,
    /// Build all guests (plugins and test guests) as components, and print their paths
    Guests,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workspace = Workspace::load()?;
    match arguments.command {
        Command::Test(arguments) => checks::run(&workspace, &arguments),
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
