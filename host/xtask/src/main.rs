//! `cargo xtask <command>`: see the library's documentation.

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::guests;
use xtask::workspace::Workspace;

/// Developer commands of Penstock.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build all guests (plugins and test guests) as components.
    Guests,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workspace = Workspace::load()?;
    match arguments.command {
        Command::Guests => {
            for guest in guests::build(&workspace)? {
                println!("{}", guest.component.display());
            }
        }
    }
    Ok(())
}
