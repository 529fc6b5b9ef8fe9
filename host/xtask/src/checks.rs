//! `cargo xtask test`: everything that must hold before a change is taken.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;
use clap::ValueEnum;

use crate::cluster::trial;
use crate::process::{self, Outcome};
use crate::workspace::{GATEWAY_OF_TESTS, Workspace};
use crate::{guests, packages, tidy};

/// Options of `cargo xtask test`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Run only this step; may be given several times
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,

    /// In the step `deploy`, install the image that users get: one static program with optimisations, which takes minutes to build
    #[arg(long)]
    release: bool,
}

/// Set for the tests of the step `deploy`: the image that users get.
pub const RELEASE: &str = "PENSTOCK_DEPLOY_RELEASE";

/// The steps, in the order in which they run: cheap ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting (rustfmt)
    Fmt,
    /// The rules of the code base: arrows between crates, sizes, words, links
    Tidy,
    /// Licences and advisories (cargo-deny), where it is installed
    Deny,
    /// Plugins and test guests as WebAssembly components
    Guests,
    /// Lints (clippy), warnings denied
    Clippy,
    /// Unit, golden, integration and plugin tests
    Test,
    /// Examples in the documentation
    Doctest,
    /// The documentation builds without warnings
    Docs,
    /// `penstock check` on every world under examples/
    Examples,
    /// The cluster for tests itself, where one can be started: with root, in namespaces of its own
    Cluster,
    /// The gateway beside a real Kubernetes in such a cluster
    Kubernetes,
    /// The image and the manifests in such clusters, as users install them
    Deploy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// Why it could not run, and that this is all right.
    NotRun(String),
    Failed(String),
}

/// Run the steps, and fail when one of them did.
///
/// # Errors
/// When a step fails, or the user stops it.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let mut report = Report::default();
    for step in
        Step::value_variants().iter().copied().filter(|step| arguments.only.is_empty() || arguments.only.contains(step))
    {
        if report.failed(step.needs()) {
            report.add(step, Duration::ZERO, Verdict::NotRun("it needs a step that failed".into()));
            continue;
        }
        eprintln!("\n── {step} ──");
        let begin = Instant::now();
        let verdict = step.run(workspace, arguments).unwrap_or_else(|error| Verdict::Failed(format!("{error:#}")));
        eprintln!("── {step}: {verdict} ({:.1} s)", begin.elapsed().as_secs_f32());
        report.add(step, begin.elapsed(), verdict);
        if process::interrupted() {
            bail!("stopped");
        }
    }
    eprintln!("\n{report}total {:.1} s", started.elapsed().as_secs_f32());
    if report.rows.iter().any(|row| matches!(row.2, Verdict::Failed(_))) {
        bail!("not everything passed; one step alone: cargo xtask test --only <step>");
    }
    Ok(())
}

impl Step {
    /// Without this step the other one could only fail for the same reason.
    fn needs(self) -> Option<Self> {
        match self {
            Self::Clippy | Self::Test | Self::Doctest | Self::Examples | Self::Kubernetes | Self::Deploy => {
                Some(Self::Guests)
            }
            _ => None,
        }
    }

    /// A step that takes longer hangs: these are several times what two cores need with nothing built.
    fn deadline(self) -> Duration {
        let minutes = match self {
            Self::Fmt | Self::Tidy | Self::Deny => 3,
            Self::Guests | Self::Doctest | Self::Docs | Self::Examples => 15,
            Self::Cluster | Self::Kubernetes => 30,
            Self::Clippy | Self::Test => 45,
            // It may compile everything once more, for the image that users get.
            Self::Deploy => 60,
        };
        Duration::from_secs(minutes * 60)
    }

    fn run(self, workspace: &Workspace, arguments: &Arguments) -> Result<Verdict> {
        match self {
            Self::Fmt => self.cargo(workspace, &["fmt", "--all", "--check"]),
            Self::Tidy => Ok(tidy_verdict(workspace)?),
            Self::Deny => self.deny(workspace),
            Self::Guests => guests::build(workspace).map(|_| Verdict::Passed),
            Self::Clippy => self.cargo(
                workspace,
                &["clippy", "--workspace", "--all-targets", "--keep-going", "--", "--deny", "warnings"],
            ),
            Self::Test => {
                install_servers();
                self.cargo(workspace, &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"])
            }
            Self::Doctest => self.cargo(workspace, &["test", "--workspace", "--doc", "--no-fail-fast"]),
            Self::Docs => {
                let mut cargo = workspace.cargo();
                cargo.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
                self.wait(&mut cargo)
            }
            Self::Examples => self.examples(workspace),
            Self::Cluster => self.with_clusters(workspace, "cluster", trial::run_with_own, &[]),
            Self::Kubernetes => self.with_clusters(workspace, "kubernetes", trial::run, &[]),
            Self::Deploy => {
                install_servers();
                let environment: &[_] = if arguments.release { &[(RELEASE, "1")] } else { &[] };
                self.with_clusters(workspace, "deploy", trial::run_with_own, environment)
            }
        }
    }

    /// Run tests that are no part of `cargo test`, because they need clusters.
    fn with_clusters(
        self,
        workspace: &Workspace,
        test: &str,
        run: trial::Run,
        environment: &[(&str, &str)],
    ) -> Result<Verdict> {
        if let Err(why) = trial::is_possible(workspace) {
            return Ok(Verdict::NotRun(format!("{why:#}")));
        }
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--workspace", "--test", test, "--no-run"]);
        let output = cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()).output()?;
        let Some(program) = Message::parse_stream(&*output.stdout).flatten().find_map(|message| match message {
            // Programs that the tests start are built with them, and are executables too.
            Message::CompilerArtifact(artifact) if artifact.target.name == test => artifact.executable,
            _ => None,
        }) else {
            return Ok(Verdict::Failed("the tests do not compile".into()));
        };
        // One at a time: some stop what all of them use, and a cluster alone has enough to do with two cores.
        let (program, arguments) = (program.as_std_path(), &["--test-threads=1"][..]);
        let outcome = run(workspace, trial::Call { program, arguments, environment, deadline: self.deadline() })?;
        Ok(self.verdict(&outcome))
    }

    fn cargo(self, workspace: &Workspace, arguments: &[&str]) -> Result<Verdict> {
        self.wait(workspace.cargo().args(arguments))
    }

    fn wait(self, command: &mut Command) -> Result<Verdict> {
        Ok(self.verdict(&process::start(command)?.wait(self.deadline())?))
    }

    fn verdict(self, outcome: &Outcome) -> Verdict {
        match outcome {
            Outcome::Exited(status) if status.success() => Verdict::Passed,
            Outcome::Exited(status) => Verdict::Failed(status.to_string()),
            Outcome::Interrupted => Verdict::Failed("stopped".into()),
            Outcome::TimedOut => Verdict::Failed(format!(
                "ended after {:?}: something hangs; a test that does is named above (`has been running for over 60 seconds`)",
                self.deadline()
            )),
        }
    }

    fn deny(self, workspace: &Workspace) -> Result<Verdict> {
        let version =
            workspace.cargo().args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            return Ok(Verdict::NotRun("cargo-deny is not installed (cargo install --locked cargo-deny)".into()));
        }
        // Advisories need a database that is fetched from a repository; what changes without a commit must not fail a commit.
        self.cargo(workspace, &["deny", "--all-features", "check", "bans", "licenses", "sources"])
    }

    fn examples(self, workspace: &Workspace) -> Result<Verdict> {
        let built = self.cargo(workspace, &GATEWAY_OF_TESTS)?;
        if built != Verdict::Passed {
            return Ok(built);
        }
        let mut wrong = Vec::new();
        for world in workspace.examples()? {
            let name = world.file_name().unwrap_or_default().to_string_lossy().into_owned();
            eprintln!("penstock check -f {}", workspace.relative(&world).display());
            let verdict = self.wait(Command::new(workspace.gateway("dev")).arg("check").arg("-f").arg(&world))?;
            if verdict != Verdict::Passed {
                wrong.push(name);
            }
        }
        Ok(if wrong.is_empty() { Verdict::Passed } else { Verdict::Failed(wrong.join(", ")) })
    }
}

/// Tests talk to a real registry and a real Redis. Where one cannot be installed they say so themselves, and only they fail.
fn install_servers() {
    for server in ["docker-registry", "redis-server"] {
        if !packages::is_found(server)
            && let Err(error) = packages::install(&[server])
        {
            eprintln!("{server} is missing: {error:#}");
        }
    }
}

fn tidy_verdict(workspace: &Workspace) -> Result<Verdict> {
    let problems = tidy::check(workspace).context("tidy")?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    Ok(if problems.is_empty() { Verdict::Passed } else { Verdict::Failed(format!("{} problems", problems.len())) })
}

#[derive(Debug, Default)]
struct Report {
    rows: Vec<(Step, Duration, Verdict)>,
}

impl Report {
    fn add(&mut self, step: Step, duration: Duration, verdict: Verdict) {
        self.rows.push((step, duration, verdict));
    }

    fn failed(&self, step: Option<Step>) -> bool {
        self.rows.iter().any(|row| Some(row.0) == step && matches!(row.2, Verdict::Failed(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, duration, verdict) in &self.rows {
            writeln!(f, "{:<9} {:>7.1} s  {verdict}", step.to_string(), duration.as_secs_f32())?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::NotRun(why) => write!(f, "not run: {why}"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_failed_step_is_left_out() {
        let mut report = Report::default();
        report.add(Step::Guests, Duration::from_secs(1), Verdict::Failed("no compiler".into()));
        report.add(Step::Clippy, Duration::ZERO, Verdict::Failed("warnings".into()));
        assert!(report.failed(Step::Test.needs()), "tests need guests");
        assert!(!report.failed(Step::Docs.needs()), "documentation needs nothing");
        assert_eq!(
            report.to_string(),
            "guests        1.0 s  FAILED: no compiler\nclippy        0.0 s  FAILED: warnings\n"
        );
    }
}
