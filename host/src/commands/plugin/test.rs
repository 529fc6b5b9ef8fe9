//! `penstock plugin test`: exchanges from a file through the component, in the gateway's own plugin host.

mod format;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use penstock_core::{
    check::{Difference, compare, compare_rejection},
    plugin::{ActiveRevision, PluginSpec, Rejection},
};
use penstock_plugin_host::rehearsal::Rehearsal;
use penstock_translate::Settings;
use serde::Serialize;
use serde_json::Value;

use self::format::{Exchange, ExchangeFile};
use super::{
    Output, counted,
    module::{self, Component, Module},
    registry::Access,
    session::{self, Session},
    subject,
};

/// Run exchanges from a file through a plugin, and compare what comes out
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The component runs in the gateway's own plugin host, with its limits and its rules for what hooks may answer: what passes
here does the same in a gateway. Exits with 1 if anything is not as expected.

The file:
  module: my-plugin.wasm              # relative to this file; or --module
  config: {…}                         # these four as in the spec of a WasmPlugin
  capabilities: {log: true}
  limits: {hookTime: 5ms}
  bodyOverflow: Reject
  exchanges:
    - name: what it shows
      config: {…}                     # in place of the one above
      repeat: 3                       # that often, with the same result
      request:  {method: POST, path: /a?b=c, authority: a.example, scheme: https, client: 192.0.2.7,
                 headers: {x-a: one, x-b: [two, three]}, body: text, trailers: {…}}
      response: {status: 200, headers: {…}, body: [in, pieces], trailers: {…}}      # what the backend answers
      outbound: {auth: {status: 200, headers: {x-user: anna}, body: …}}   # what backends answer that it calls, each time
      candidates: [{name: \"default/web:80\", weight: 1, readyEndpoints: 1}]          # for route plugins
      expect:
        request:  {method: …, path: …, authority: …, headers: {…}, absent: [x-c], body: …, trailers: {…}}
        response: {status: 200, headers: {x-a: one}, absent: [server], body: …, trailers: {…}}
        reply:    {status: 403, headers: {…}, body: {contains: no}}   # the plugin answers itself
        aborted: too odd                                              # it is given up, with this in the reason
        fault: deadline                                               # trap, deadline, memory, invalid_answer, any
        rejected: {reason: InvalidConfig, message: /rules/0}          # the configuration is refused
        candidate: \"default/web:80\"                                   # or default

An exchange ends with one of response, reply, aborted, fault and rejected; what is not given may be anything.
Headers and bodies that are expected: text, {contains: …}, {matches: a regular expression}, for headers a list of all
values or {present: true}, for bodies {base64: …} or {size: …}.
Backends are those of capabilities.outbound: [{name: auth, backendRef: {name: auth, port: 80}}]. One that the exchange gives
no answer, or {failure: connect}, {failure: timeout} or {failure: protocol}, cannot be reached.
Bodies that are given: text, a list of pieces, {base64: …}, {file: …} or {size: …}.

Examples:
  penstock plugin test                          # exchanges.yaml in this folder
  penstock plugin test cases/admin.yaml --module /tmp/next.wasm
  penstock plugin test -o json | jq '.exchanges[] | select(.passed | not)'
  penstock plugin test --schema > exchanges.schema.json      # for editors that complete YAML")]
pub(super) struct Args {
    /// The file of exchanges
    #[arg(value_name = "FILE", default_value = "exchanges.yaml")]
    file: PathBuf,

    /// The component, in place of the one that the file names
    #[arg(long, value_name = "FILE|oci://REFERENCE")]
    module: Option<Component>,

    #[command(flatten)]
    access: Access,

    /// Only exchanges whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// For people (table) or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// Print the JSON Schema of the file, and do nothing else
    #[arg(long)]
    schema: bool,
}

/// What came of all of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    file: String,
    module: String,
    passed: usize,
    failed: usize,
    exchanges: Vec<Line>,
}

/// What came of one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    name: String,
    passed: bool,
    /// Time in hooks of the last run; none if there was no exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    microseconds: Option<f64>,
    /// Of the first run that was not as expected.
    differences: Vec<Difference>,
}

/// Run, compare, print.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.schema {
        println!("{}", serde_json::to_string_pretty(format::schema())?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut file = ExchangeFile::read(&args.file)?;
    let folder = args.file.parent().unwrap_or(Path::new("")).to_owned();
    let component = component(args, &file, &folder)?;
    if let Some(only) = &args.only {
        let names: Vec<_> = file.exchanges.iter().map(|exchange| exchange.check.name.clone()).collect();
        file.exchanges.retain(|exchange| exchange.check.name.contains(only));
        if file.exchanges.is_empty() {
            bail!("no exchange has `{only}` in its name; there are:\n  {}", names.join("\n  "));
        }
    }
    let mut runner = Runner { session: Session::start(None)?, file: &file, component: &component, current: None };
    let exchanges = file.exchanges.iter().enumerate().map(|(index, exchange)| {
        runner
            .run(exchange)
            .with_context(|| format!("{}: exchanges[{index}] ({})", args.file.display(), exchange.check.name))
    });
    let exchanges = exchanges.collect::<anyhow::Result<Vec<_>>>()?;
    let failed = exchanges.iter().filter(|line| !line.passed).count();
    let report = Report {
        file: args.file.display().to_string(),
        module: component.to_string(),
        passed: exchanges.len() - failed,
        failed,
        exchanges,
    };
    args.output.print(&report, table)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn component(args: &Args, file: &ExchangeFile, folder: &Path) -> anyhow::Result<Module> {
    let module = match (&args.module, &file.module) {
        (Some(component), _) => component.module(&args.access)?,
        (None, Some(module)) => Module::File(folder.join(module)),
        (None, None) => {
            bail!("{} names no component: say `module: my-plugin.wasm` in it, or --module FILE", args.file.display())
        }
    };
    if let Module::File(path) = &module {
        module::read(path)?;
    }
    Ok(module)
}

/// Runs exchanges one after the other, with the revision that each needs.
struct Runner<'f> {
    session: Session,
    file: &'f ExchangeFile,
    component: &'f Module,
    current: Option<Configured>,
}

/// A configuration, and what became of it.
struct Configured {
    /// In place of the file's.
    config: Option<Value>,
    spec: Arc<PluginSpec>,
    result: Result<ActiveRevision, Rejection>,
}

impl Runner<'_> {
    fn run(&mut self, exchange: &Exchange) -> anyhow::Result<Line> {
        let check = &exchange.check;
        let rehearsal = Rehearsal::new(check)?;
        self.configure(exchange.config.as_ref())?;
        let (differences, time) = match &self.current {
            Some(Configured { spec, result: Ok(active), .. }) => {
                let call = session::call(spec, active, self.file.body_overflow());
                self.session.stand_ins().answer(exchange.answers(spec)?);
                let mut time = None;
                let mut runs = (0..check.repeat).map(|_| {
                    let outcome = rehearsal.run(self.session.worker(), &call);
                    time = Some(outcome.time);
                    compare(&check.expect, &outcome)
                });
                (runs.find(|differences| !differences.is_empty()).unwrap_or_default(), time)
            }
            Some(Configured { result: Err(rejection), .. }) => {
                (compare_rejection(&check.expect, rejection.reason, &rejection.message), None)
            }
            None => (Vec::new(), None),
        };
        let microseconds = time.map(|time| (time.as_secs_f64() * 1e7).round() / 10.0);
        Ok(Line { name: check.name.clone(), passed: differences.is_empty(), microseconds, differences })
    }

    /// Bring the configuration of an exchange into service, if it is not there already.
    fn configure(&mut self, config: Option<&Value>) -> anyhow::Result<()> {
        if self.current.as_ref().is_some_and(|current| current.config.as_ref() == config) {
            return Ok(());
        }
        let spec = subject::spec(self.component, &self.file.spec(config), &Settings::standalone())?;
        let result = self.session.activate(&spec);
        self.current = Some(Configured { config: config.cloned(), spec, result });
        Ok(())
    }
}

fn table(report: &Report) -> String {
    let mut out = String::new();
    let width = report.exchanges.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    for line in &report.exchanges {
        let verdict = if line.passed { "ok    " } else { "FAILED" };
        let time = line.microseconds.map_or_else(String::new, |time| format!("{time:>9.1} µs"));
        let _ = writeln!(out, "{}", format!("{verdict}  {:width$}  {time}", line.name).trim_end());
        for Difference { field, wanted, found } in &line.differences {
            let _ = writeln!(out, "          expect.{field}");
            let _ = writeln!(out, "            expected  {wanted}");
            let _ = writeln!(out, "            found     {found}");
        }
    }
    let all = report.exchanges.len();
    let _ = writeln!(out, "\n{} of {} as expected ({})", report.passed, counted(all, "exchange"), report.module);
    out
}
