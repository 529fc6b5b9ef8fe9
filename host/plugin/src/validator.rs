//! Candidates are compiled and run for the first time in a process of their own, which this program starts by executing itself.
//!
//! ```text
//! gateway                                           a process for each task, in the sandbox
//!    │── Compile: module ─────────────────────────►  static check, compile
//!    │◄── code ────────────────────────────────────
//!    │   signed and kept, so this happens once
//!    │── Examine: module, code, configuration ────►  static check, link, instantiate, describe, schema, configure, plan, self-test, samples
//!    │◄── manifest, plan ──────────────────────────
//!    │   checked again; instances for traffic
//! ```
//!
//! Whatever becomes of the process, the candidate is refused for a reason, and the gateway goes on.

mod child;
mod process;
mod wire;

use std::{
    ffi::OsString,
    num::NonZeroUsize,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::{Condvar, Mutex, MutexGuard, Once, PoisonError},
};

use penstock_core::plugin::{PluginSpec, Rejection};

pub(crate) use self::wire::Findings;
use self::{
    process::{End, Patience, Remains},
    wire::{Answer, InvalidFrame, Outcome, Request, Task},
};
pub use crate::sandbox::ValidationLimits;
use crate::{
    contract::types::Manifest,
    examine::Errand,
    module::Module,
    reason::{self, rejection},
    sandbox::Confinement,
};

/// The argument with which a program is asked to be the process: it must then call [`main`] before it does anything else.
pub const ARGUMENT: &str = "validate-candidate";

/// Be the process: read one request from standard input, answer it on standard output.
#[must_use]
pub fn main() -> ExitCode {
    child::main()
}

/// How many processes validate at the same time, unless the settings say otherwise. More than the cores of a small machine, so that a few
/// candidates that spin until their limit do not keep the others waiting; not many more, because each may take [`ValidationLimits::memory`].
pub(crate) const PROCESSES: usize = 5;

/// How candidates are validated.
#[derive(Debug, Clone)]
pub struct ValidatorSettings {
    /// The program that calls [`main`].
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Processes at the same time.
    pub processes: NonZeroUsize,
    /// What each may use.
    pub limits: ValidationLimits,
}

impl Default for ValidatorSettings {
    /// This very program, by the file that it was started from, even if that was replaced since.
    fn default() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            arguments: vec![ARGUMENT.into()],
            processes: NonZeroUsize::new(PROCESSES).expect("is not zero"),
            limits: ValidationLimits::default(),
        }
    }
}

/// Asks the process.
pub(crate) struct Validator {
    settings: ValidatorSettings,
    running: Mutex<usize>,
    ended: Condvar,
    unconfined: Once,
}

impl Validator {
    pub(crate) fn new(settings: ValidatorSettings) -> Self {
        Self { settings, running: Mutex::default(), ended: Condvar::new(), unconfined: Once::new() }
    }

    /// Check the bytes and compile them.
    pub(crate) fn compile(&self, module: &Module, spec: &PluginSpec, errand: Errand<'_>) -> Result<Vec<u8>, Rejection> {
        match self.ask(Task::Compile, spec, (module, &[]), errand.is_wanted)? {
            (Outcome::Compiled, code) => Ok(code),
            _ => Err(invalid_answer(&InvalidFrame::Question)),
        }
    }

    /// What a compiled module says of itself.
    pub(crate) fn describe(&self, module: &Module, code: &[u8], spec: &PluginSpec) -> Result<Manifest, Rejection> {
        match self.ask(Task::Describe, spec, (module, code), Errand::CANDIDATE.is_wanted)? {
            (Outcome::Described(manifest), _) => Ok(manifest),
            _ => Err(invalid_answer(&InvalidFrame::Question)),
        }
    }

    /// Everything that can be found out without traffic, or of what has served before what it is.
    pub(crate) fn examine(
        &self,
        module: &Module,
        code: &[u8],
        spec: &PluginSpec,
        errand: Errand<'_>,
    ) -> Result<Findings, Rejection> {
        let task = if errand.has_served { Task::Recognise } else { Task::Examine };
        match self.ask(task, spec, (module, code), errand.is_wanted)? {
            (Outcome::Examined(findings), _) => Ok(*findings),
            _ => Err(invalid_answer(&InvalidFrame::Question)),
        }
    }

    /// The answer, if it is none that refuses.
    fn ask(
        &self,
        task: Task,
        spec: &PluginSpec,
        (module, code): (&Module, &[u8]),
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(Outcome, Vec<u8>), Rejection> {
        let _turn = self.turn();
        let ValidatorSettings { program, arguments, limits, .. } = &self.settings;
        let request = Request::new(task, spec, module.bytes.len(), limits);
        let head = wire::head(&request).map_err(|error| rejection(reason::INTERNAL, error.to_string()))?;
        let mut command = Command::new(program);
        let patience = Patience { time: limits.time, longest: task.longest_answer(), is_wanted };
        let remains = process::run(command.args(arguments), &[&head, &module.bytes, code], patience)
            .map_err(|error| unavailable(&format!("{} cannot be run: {error}", program.display())))?;
        if !remains.complaint.is_empty() {
            let (plugin, complaint) = (&spec.plugin, remains.complaint.trim_end());
            tracing::debug!(%plugin, ?task, complaint, "the process that validates said something");
        }
        if let Some(rejection) = failed(&remains, limits) {
            return Err(rejection);
        }
        let (Answer { confinement, outcome }, code) =
            wire::parse_answer(&remains.answer).map_err(|error| invalid_answer(&error))?;
        self.note(confinement);
        match outcome {
            Outcome::Rejected { reason, message } => {
                Err(wire::refusal(&reason, &message).unwrap_or_else(|error| invalid_answer(&error)))
            }
            outcome => {
                // The last part of the answer, which is large.
                let before = remains.answer.len() - code.len();
                let mut answer = remains.answer;
                answer.drain(..before);
                Ok((outcome, answer))
            }
        }
    }

    fn note(&self, confinement: Confinement) {
        if confinement == Confinement::WithoutSeccomp {
            self.unconfined.call_once(|| {
                tracing::warn!(
                    "this kernel has no seccomp: plugins are validated in a process without a filter of system calls"
                );
            });
        }
    }

    /// Wait until one more process may run; it has its turn until this is dropped.
    fn turn(&self) -> Turn<'_> {
        let most = self.settings.processes.get();
        let mut running =
            self.ended.wait_while(self.running(), |running| *running >= most).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Turn(self)
    }

    fn running(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Turn<'a>(&'a Validator);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.running() -= 1;
        self.0.ended.notify_one();
    }
}

/// Why a process that ended so has not answered.
fn failed(remains: &Remains, limits: &ValidationLimits) -> Option<Rejection> {
    const XCPU: i32 = libc::SIGXCPU;
    const KILL: i32 = libc::SIGKILL;
    const SYS: i32 = libc::SIGSYS;
    let because = |reason, message: String| Some(rejection(reason, message));
    let says_why = |line: &&str| !line.is_empty() && !line.starts_with("note: ") && !line.starts_with("<jemalloc>");
    let last = remains.complaint.lines().rfind(says_why).unwrap_or("it said nothing");
    match remains.end {
        End::Exit(0) => None,
        End::Unwanted => Some(unavailable("nobody waits for it any more")),
        End::TimedOut => because(
            reason::VALIDATION_TIME_LIMIT,
            format!("validating the module takes longer than {:?}", limits.time),
        ),
        End::Signal(XCPU) => because(
            reason::VALIDATION_TIME_LIMIT,
            format!("validating the module takes more than {:?} of CPU time", limits.cpu_time),
        ),
        End::Signal(KILL) => because(
            reason::VALIDATOR_KILLED,
            "the process that validated the module was killed, as the kernel does when the machine is short of memory".into(),
        ),
        End::Signal(SYS) => because(
            reason::SANDBOX_VIOLATION,
            "the process that validated the module made a system call that validation never makes, and was ended: do not \
             trust where the module came from"
                .into(),
        ),
        // How Rust says that an allocation failed before it aborts.
        End::Signal(_) | End::Exit(_) if remains.complaint.contains("memory allocation of ") => because(
            reason::VALIDATION_MEMORY_LIMIT,
            format!("validating the module takes more than {} bytes of memory", limits.memory),
        ),
        End::Signal(signal) => because(
            reason::VALIDATOR_CRASHED,
            format!("the process that validated the module was ended by signal {signal}: {last}"),
        ),
        End::Exit(code) if code == i32::from(child::NOT_BEGUN) => Some(unavailable(last)),
        End::Exit(code) => because(
            reason::VALIDATOR_CRASHED,
            format!("the process that validated the module ended with code {code}: {last}"),
        ),
        End::Endless => Some(invalid_answer(&"its answer has no end")),
    }
}

fn unavailable(why: &str) -> Rejection {
    rejection(reason::VALIDATOR_UNAVAILABLE, format!("the process that validates plugins cannot work: {why}"))
}

fn invalid_answer(why: &dyn std::fmt::Display) -> Rejection {
    let message = format!("the process that validated the module gave no proper answer: {why}");
    rejection(reason::VALIDATOR_ANSWER_INVALID, message)
}

#[cfg(test)]
mod tests;
