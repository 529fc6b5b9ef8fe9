//! `cargo xtask conformance`: the Gateway API's own suite against a gateway in the test cluster, or in the user's.
//!
//! The suite is a Go module (`host/testing/cluster/conformance`) built once into a program. Which features it tests is what the
//! GatewayClass claims in its status, so a claim that is not kept fails. Its exit code is the verdict; the table only reads
//! what it prints.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use self::results::Results;
use crate::cluster::Suite;
use crate::process::{self, Outcome};
use crate::workspace::Workspace;

mod results;

/// Options of `cargo xtask conformance`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// What to test; may be given several times
    #[arg(long, value_enum, default_values_t = [Profile::Http, Profile::Grpc])]
    profile: Vec<Profile>,

    /// Run only this test, whether its features are claimed or not; may be given several times
    #[arg(long, value_name = "NAME")]
    run_test: Vec<String>,

    /// A cluster of your own, in place of the one that `cargo xtask cluster up` starts
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Which of the clusters that run here
    #[arg(long, env = "PENSTOCK_CLUSTER", default_value = crate::cluster::DEFAULT_NAME)]
    cluster: String,

    /// The GatewayClass of the gateway; made in our own cluster if it is missing
    #[arg(long, default_value = "penstock")]
    gateway_class: String,

    /// The controller that a GatewayClass made here names
    #[arg(long, default_value = "penstock.dev/gateway-controller")]
    controller_name: String,

    /// Flags of the suite itself, for instance --skip-tests=… or --supported-features=…
    #[arg(last = true)]
    suite: Vec<String>,
}

/// A conformance profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
    MeshHttp,
    MeshGrpc,
}

/// A whole run takes half an hour; Go's own limit would be ten minutes.
const LIMIT: &str = "-test.timeout=120m";

/// How long the suite may take to end after it closed its output: it has nothing left to do.
const ENDING: Duration = Duration::from_secs(30);

/// How often the user's wish to stop is looked for.
const PULSE: Duration = Duration::from_millis(200);

/// Build the suite, run it, and print what came of it.
///
/// # Errors
/// When a test fails, none runs, or there is no cluster.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let suite = Suite::new(workspace, &arguments.cluster)?;
    let mut command = match &arguments.kubeconfig {
        Some(file) => {
            let file = file.canonicalize().with_context(|| format!("no file {}", file.display()))?;
            let mut command = Command::new(suite.program()?);
            command.env("KUBECONFIG", file);
            command
        }
        None => {
            suite.sweep()?;
            suite.ensure_class(&arguments.gateway_class, &arguments.controller_name)?;
            suite.ensure_gateway(&arguments.gateway_class)?;
            let program = suite.program()?;
            let mut command = suite.enter()?;
            command.arg(program);
            command
        }
    };
    let folder = next_folder(&workspace.target().join("conformance"))?;
    command.args(flags(arguments, &folder.join("report.yaml"), workspace));

    eprintln!("  {}", workspace.relative(&folder.join("output.log")).display());
    let (results, outcome) = follow(command, &folder.join("output.log"))?;
    print!("\n{results}");
    let report = folder.join("report.yaml");
    if report.exists() {
        println!("report: {}", workspace.relative(&report).display());
    }
    match outcome {
        Outcome::Interrupted => bail!("interrupted"),
        Outcome::TimedOut => bail!("the suite did not end"),
        Outcome::Exited(status) if !status.success() => {
            let why = results.suite_complaint().map(|complaint| format!(": {complaint}")).unwrap_or_default();
            bail!("the suite failed ({status}){why}\nWhat it said is in {}", folder.join("output.log").display())
        }
        Outcome::Exited(_) => {
            ensure!(results.passed() > 0, "no test has run: does the GatewayClass claim anything?");
            Ok(())
        }
    }
}

fn flags(arguments: &Arguments, report: &Path, workspace: &Workspace) -> Vec<String> {
    let mut flags = vec!["-test.v".to_owned(), LIMIT.to_owned(), format!("-gateway-class={}", arguments.gateway_class)];
    if arguments.kubeconfig.is_none() {
        flags.extend(crate::cluster::suite_addresses());
    }
    if arguments.run_test.is_empty() {
        let profiles: Vec<_> = arguments.profile.iter().map(|profile| profile.name()).collect();
        flags.push(format!("-conformance-profiles={}", profiles.join(",")));
        flags.push(format!("-report-output={}", report.display()));
        let version = workspace.packages().iter().find(|package| package.name.as_str() == "penstock");
        flags.push(format!("-version=v{}", version.map(|package| package.version.to_string()).unwrap_or_default()));
        flags.extend(
            [
                "-organization=penstock",
                "-project=penstock",
                "-url=https://penstock.dev",
                "-contact=https://penstock.dev",
            ]
            .map(str::to_owned),
        );
    } else {
        flags.push(format!("-only={}", arguments.run_test.join(",")));
    }
    // The last one counts, so these win.
    flags.extend_from_slice(&arguments.suite);
    flags
}

/// Run the suite, keep everything that it says, and show results as they come.
fn follow(mut command: Command, log: &Path) -> Result<(Results, Outcome)> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let running = process::start(&mut command)?;
    drop(command); // It holds the pipe open.

    let mut log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let (lines, incoming) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(reader).split(b'\n').map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    let mut results = Results::default();
    loop {
        match incoming.recv_timeout(PULSE) {
            Ok(line) => {
                log.write_all(&line)?;
                log.write_all(b"\n")?;
                if let Some(result) = results.read(&String::from_utf8_lossy(&line)) {
                    eprintln!("  {result}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if process::interrupted() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Ok((results, running.wait(ENDING)?))
}

/// A folder for this run; earlier ones are kept.
fn next_folder(parent: &Path) -> Result<PathBuf> {
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    for number in 1_u32.. {
        let folder = parent.join(format!("run-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", folder.display())),
        }
    }
    bail!("{} is full", parent.display())
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "GATEWAY-HTTP",
            Self::Grpc => "GATEWAY-GRPC",
            Self::Tls => "GATEWAY-TLS",
            Self::Tcp => "GATEWAY-TCP",
            Self::Udp => "GATEWAY-UDP",
            Self::MeshHttp => "MESH-HTTP",
            Self::MeshGrpc => "MESH-GRPC",
        }
    }
}
