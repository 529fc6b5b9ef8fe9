//! `cargo xtask run`: a world under `examples/`, as it is, with its origins.
//!
//! What to start and what to try stands in the README of the example, where people read it too: the lines `penstock echo …`
//! are its origins, and what follows `Then try` is printed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guests;
use crate::process::{self, Running};
use crate::workspace::Workspace;

/// Options of `cargo xtask run`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A folder under examples/
    #[arg(default_value = "quickstart")]
    example: String,

    /// Build with optimisations: takes longer to build, and is as fast as a release
    #[arg(long)]
    release: bool,

    /// Where the gateway answers questions about itself
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
}

/// How long the gateway may take to serve. It compiles plugins in that time, on a machine that may be busy.
const STARTING: Duration = Duration::from_secs(60);

/// A world and what its README says about it.
#[derive(Debug)]
struct World {
    folder: PathBuf,
    /// Arguments of `penstock`, one list for each origin.
    origins: Vec<Vec<String>>,
    /// What `penstock run` needs beside the folder.
    options: Vec<String>,
    /// What to try.
    then: String,
}

/// Build, start, and wait for Ctrl-C.
///
/// # Errors
/// When something does not build or start, or ends by itself.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let world = World::read(workspace, &arguments.example)?;
    eprintln!("Building the plugins and the gateway. The first time this compiles some 300 crates and takes minutes.");
    guests::build(workspace)?;
    let gateway = workspace.build_gateway(arguments.release)?;

    let mut children = Vec::new();
    for origin in &world.origins {
        eprintln!("  penstock {}", origin.join(" "));
        children.push(("origin", process::start(Command::new(&gateway).args(origin))?));
    }
    eprintln!("  penstock run -f {} {}", workspace.relative(&world.folder).display(), world.options.join(" "));
    let admin = arguments.admin.to_string();
    let mut command = Command::new(&gateway);
    command.arg("run").arg("-f").arg(&world.folder).args(&world.options).args(["--admin", &admin]);
    children.push(("gateway", process::start(&mut command)?));

    let outcome = await_ready(arguments.admin, &mut children).and_then(|()| {
        announce(&gateway, &world);
        await_end(&mut children)
    });
    // The gateway first: it finishes its requests while the origins still answer.
    for (_, child) in children.into_iter().rev() {
        child.stop()?;
    }
    outcome
}

fn announce(gateway: &Path, world: &World) {
    println!("\nRunning until Ctrl-C; edits under {} take effect at once.", world.folder.display());
    println!("The program itself: alias penstock={}\n\nTry:\n{}", gateway.display(), world.then);
}

fn await_ready(admin: SocketAddr, children: &mut [(&str, Running)]) -> Result<()> {
    let deadline = Instant::now() + STARTING;
    while !is_ready(admin) {
        if Instant::now() > deadline {
            bail!("the gateway was not ready within {STARTING:?}: its log is above, and so may be the reason");
        }
        if is_over(children)? {
            return Ok(());
        }
        process::pause(Duration::from_millis(50));
    }
    Ok(())
}

fn await_end(children: &mut [(&str, Running)]) -> Result<()> {
    while !is_over(children)? {
        process::pause(Duration::from_millis(200));
    }
    Ok(())
}

/// Whether the user wants to stop. A child that ended by itself is an error.
fn is_over(children: &mut [(&str, Running)]) -> Result<bool> {
    if process::interrupted() {
        return Ok(true);
    }
    for (name, child) in children {
        if let Some(status) = child.exited()? {
            bail!("the {name} ended by itself ({status}): its log is above (another one on the same port?)");
        }
    }
    Ok(false)
}

/// Ask `/readyz`; any failure means not yet.
fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

impl World {
    fn read(workspace: &Workspace, name: &str) -> Result<Self> {
        let worlds = workspace.examples()?;
        let Some(folder) = worlds.iter().find(|folder| folder.ends_with(name)) else {
            let names: Vec<_> = worlds.iter().filter_map(|folder| folder.file_name()?.to_str()).collect();
            bail!("there is no example {name}; there are {}", names.join(", "));
        };
        let readme = folder.join("README.md");
        let text = fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
        let (origins, options) = (origins(&text), options(&text));
        Ok(Self { folder: folder.clone(), origins, options, then: what_to_try(&text).to_owned() })
    }
}

/// The arguments of every `penstock …` in the code of a README.
fn commands(readme: &str) -> impl Iterator<Item = Vec<String>> {
    let code = readme.lines().filter_map(|line| line.strip_prefix("    "));
    let commands = code.flat_map(|line| line.split('&')).map(str::split_whitespace);
    commands.filter_map(|mut words| (words.next()? == "penstock").then(|| words.map(str::to_owned).collect()))
}

/// Every `penstock echo …`.
fn origins(readme: &str) -> Vec<Vec<String>> {
    commands(readme).filter(|arguments| arguments.first().is_some_and(|command| command == "echo")).collect()
}

/// What follows `penstock run -f examples/…`.
fn options(readme: &str) -> Vec<String> {
    let run = commands(readme).find(|arguments| arguments.first().is_some_and(|command| command == "run"));
    run.map(|arguments| arguments.into_iter().skip(3).collect()).unwrap_or_default()
}

fn what_to_try(readme: &str) -> &str {
    let after = readme.split_once("\nThen try").map_or("", |(_, rest)| rest);
    after.split_once('\n').map_or("", |(_, rest)| rest).trim_matches('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readme_says_what_to_start_and_what_to_try() {
        let readme = "# Canary\n\nTwo versions, `penstock echo` each.\n\n    penstock echo --name a & penstock echo --name b\n    \
                      penstock run -f examples/canary --workers 1\n\nThen try:\n\n    curl localhost:8080\n\nThe end.\n";
        assert_eq!(origins(readme), [["echo", "--name", "a"], ["echo", "--name", "b"]]);
        assert_eq!(options(readme), ["--workers", "1"]);
        assert_eq!(what_to_try(readme), "    curl localhost:8080\n\nThe end.");
    }

    #[test]
    fn every_example_has_an_origin_and_something_to_try() {
        let workspace = Workspace::load().unwrap();
        for folder in workspace.examples().unwrap() {
            let world = World::read(&workspace, folder.file_name().unwrap().to_str().unwrap()).unwrap();
            assert!(!world.origins.is_empty(), "no `penstock echo` in the README of {}", folder.display());
            assert!(
                world.then.contains("curl "),
                "no curl line after `Then try` in the README of {}",
                folder.display()
            );
        }
    }
}
