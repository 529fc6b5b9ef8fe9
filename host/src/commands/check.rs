//! `penstock check`: everything that `run` would find wrong, without opening a port.
//!
//! It reads, translates and validates plugins by the same code as `run`, and stands in for the facts: every socket could be bound.

use std::{borrow::Cow, collections::BTreeSet, fmt, process::ExitCode, sync::Arc};

use penstock_controller::{
    Health,
    sources::files::{FileSource, Problem},
};
use penstock_core::{
    ResourceRef,
    fact::{Fact, FactSink, SocketState},
    plugin::{ActiveRevision, Candidate, Phase, PluginSpec, PluginState, Revision},
};
use penstock_plugin_host::{PluginHost, PluginSettings};
use penstock_translate::{Change, Condition, Resources, Settings, Status, Statuses, Translator};
use prometheus_client::registry::Registry;

/// Say what `run` would refuse, without opening a port
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits with 0 if all is well, with 1 if anything is wrong: in files, in references between resources,
or in plugins.

Example:
  penstock check -f examples/quickstart")]
pub(crate) struct Args {
    #[command(flatten)]
    files: super::Files,

    #[command(flatten)]
    ownership: super::Ownership,

    #[command(flatten)]
    ingress: super::Ingress,

    #[command(flatten)]
    limits: super::PluginLimits,
}

/// One line of the answer, ordered by place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    column: usize,
    message: String,
    severity: Severity,
}

/// Whether `run` would refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Problem,
    /// It would serve, though not as its owner may expect.
    Warning,
}

/// Read, translate, validate, print.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut source = FileSource::new(args.files.filename.iter().cloned());
    let reading = source.read();
    let resources = reading.changes.iter().filter(|change| matches!(change, Change::Upsert(_))).count();
    let mut findings: BTreeSet<_> = reading.problems.iter().map(Finding::of_problem).collect();
    let plugin_limits = args.limits.plugin_limits.clone();
    let settings = Settings { ingress: args.ingress.ports()?, plugin_limits, ..args.ownership.standalone() };
    let statuses = translate(&settings, reading.changes)?;
    findings.extend(statuses.iter().flat_map(|(resource, status)| Finding::of_status(resource, status, &source)));

    for finding in &findings {
        println!("{finding}");
    }
    let (problems, warnings): (Vec<_>, Vec<_>) =
        findings.iter().partition(|finding| finding.severity == Severity::Problem);
    let warnings = match warnings.len() {
        0 => String::new(),
        some => format!(", {}", counted(some, "warning")),
    };
    if problems.is_empty() {
        println!("ok: {}{warnings}", counted(resources, "resource"));
        return Ok(ExitCode::SUCCESS);
    }
    let files: BTreeSet<_> = problems.iter().map(|finding| &finding.file).collect();
    println!("{} in {}{warnings}", counted(problems.len(), "problem"), counted(files.len(), "file"));
    Ok(ExitCode::FAILURE)
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The statuses that these resources would get, once plugins are validated and sockets bound.
fn translate(settings: &Settings, changes: Vec<Change>) -> anyhow::Result<Arc<Statuses>> {
    let (mut resources, mut translator) = (Resources::default(), Translator::default());
    for change in changes {
        resources.apply(change);
    }
    let needs = translator.translate(&resources, settings).needs;
    for address in needs.sockets {
        resources.apply(Change::Observe(Fact::Socket(address, SocketState::Bound)));
    }
    if !needs.plugins.is_empty() {
        let host = PluginHost::start(PluginSettings::default(), Arc::new(Unheard), &mut Registry::default())?;
        for spec in &needs.plugins {
            let state = Arc::new(validate(&host, spec));
            resources.apply(Change::Observe(Fact::Plugin(spec.plugin.clone(), state)));
        }
    }
    Ok(translator.translate(&resources, settings).statuses)
}

/// What the plugin host would report of this plugin.
fn validate(host: &PluginHost, spec: &PluginSpec) -> PluginState {
    match host.validate(spec) {
        Ok(valid) => PluginState {
            active: Some(ActiveRevision {
                // Nothing runs here, so nothing is loaded.
                revision: Revision::new(0, Arc::new(())),
                generation: spec.generation,
                digest: valid.digest,
                name: valid.name,
                version: valid.version,
                outbound: Arc::default(),
                redis: Arc::default(),
                hooks: valid.hooks,
                artifact: valid.artifact,
            }),
            ..PluginState::default()
        },
        Err(rejection) => {
            let phase = Phase::Rejected(rejection);
            PluginState {
                candidate: Some(Candidate { generation: spec.generation, digest: None, artifact: None, phase }),
                ..PluginState::default()
            }
        }
    }
}

/// Nobody applies anything to the host, so it has nothing to say.
struct Unheard;

impl FactSink for Unheard {
    fn report(&self, _: Fact) {}
}

impl Finding {
    fn of_problem(problem: &Problem) -> Self {
        let (line, column) = problem.position.map_or((0, 0), |position| (position.line, position.column));
        let message = match &problem.resource {
            Some(resource) => format!("{resource}: {}", problem.message()),
            None => problem.message(),
        };
        Self { file: problem.file.display().to_string(), line, column, message, severity: Severity::Problem }
    }

    /// One for each condition that reports a fault or a doubt, but without faults that only follow from another one.
    fn of_status(resource: &ResourceRef, status: &Status, source: &FileSource) -> Vec<Self> {
        let follows = match status {
            Status::WasmPlugin(_) => "Degraded",
            Status::GatewayClass(_)
            | Status::Gateway(_)
            | Status::ListenerSet(_)
            | Status::Route(_)
            | Status::Ingress(_)
            | Status::Policy(_) => "Programmed",
        };
        let health =
            |condition: &Condition| Health::of(condition.type_, &format!("{:?}", condition.status), condition.reason);
        let bad = status.conditions().filter(|(_, condition)| health(condition) == Health::Bad);
        let bad = bad.filter(|(part, condition)| !is_told_elsewhere(status, part, condition));
        let (consequences, causes): (Vec<_>, Vec<_>) = bad.partition(|(_, condition)| condition.type_ == follows);
        let told = if causes.is_empty() { consequences } else { causes };
        let doubtful = status.conditions().filter(|(_, condition)| health(condition) == Health::Doubtful);
        let (file, line) = source
            .place(resource)
            .map_or_else(|| (String::new(), 0), |(file, line)| (file.display().to_string(), line));
        let finding = |severity: Severity, (part, condition): (Cow<'_, str>, &Condition)| {
            let warning = if severity == Severity::Warning { "warning: " } else { "" };
            let part = if part.is_empty() { String::new() } else { format!("{part}: ") };
            let message = format!("{warning}{resource}: {part}{}: {}", condition.reason, condition.message);
            Self { file: file.clone(), line, column: 0, message, severity }
        };
        let told = told.into_iter().map(|told| finding(Severity::Problem, told));
        told.chain(doubtful.map(|doubt| finding(Severity::Warning, doubt))).collect()
    }
}

/// What a plugin says of itself it says of each of its Gateways too, and routes and Gateways say when one of theirs lets nothing through.
fn is_told_elsewhere(status: &Status, part: &str, condition: &Condition) -> bool {
    let of_whole = |(whole, told): (Cow<'_, str>, &Condition)| whole.is_empty() && told == condition;
    let is_repeated = !part.is_empty() && status.conditions().any(of_whole);
    is_repeated || condition.type_ == "Degraded" && condition.reason == "PluginUnavailable"
}

/// As compilers print it, so that editors can jump there.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.file, self.line, self.column) {
            ("", ..) => write!(f, "{}", self.message),
            (file, 0, _) => write!(f, "{file}: {}", self.message),
            (file, line, 0) => write!(f, "{file}:{line}: {}", self.message),
            (file, line, column) => write!(f, "{file}:{line}:{column}: {}", self.message),
        }
    }
}
