//! What the process does: give up every right, read the request, answer it, end.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use penstock_core::plugin::{PluginSpec, Rejection};

use super::wire::{self, Answer, InvalidFrame, Outcome, Request, Task};
use crate::{
    config,
    engine::{EngineError, TickingEngine, compiling_engine},
    examine,
    imports::wasi,
    sandbox::{self, SandboxError},
};

/// The code of a process that could not begin. Anything else but success is a crash.
pub(super) const NOT_BEGUN: u8 = 3;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("{0}: {source}", source = std::error::Error::source(.0).map_or_else(String::new, ToString::to_string))]
    Engine(#[from] EngineError),
    #[error("cannot read the request: {0}")]
    Read(#[source] io::Error),
    #[error("the request is damaged: {0}")]
    Request(#[from] InvalidFrame),
    #[error("the answer cannot be written: {0}")]
    Write(#[source] io::Error),
}

/// Answer the request on standard input.
pub(super) fn main() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "penstock: the validator: {failure}");
            match failure {
                Failure::Write(_) => ExitCode::FAILURE,
                _ => ExitCode::from(NOT_BEGUN),
            }
        }
    }
}

/// Before the sandbox is entered nothing looks at the bytes of the candidate.
fn answer() -> Result<(), Failure> {
    sandbox::give_up()?;
    let frame = wire::read(io::stdin().lock()).map_err(Failure::Read)?;
    let (request, bytes) = wire::parse::<Request>(&frame)?;
    sandbox::still_child_of(request.parent)?;
    let spec = request.spec().map_err(InvalidFrame::Text)?;
    let (module, artifact) = bytes.split_at_checked(request.module).ok_or(InvalidFrame::Short(bytes.len()))?;
    let work = Work::prepare(request.task)?;
    config::prepare();
    wasi::prepare();
    let confinement = sandbox::enter(&request.validation, spec.limits.memory)?;
    let (outcome, code) = match work.run(&request, &spec, module, artifact) {
        Ok(done) => done,
        Err(rejection) => (rejection.into(), Vec::new()),
    };
    wire::write(io::stdout().lock(), &Answer { confinement, outcome }, &code).map_err(Failure::Write)
}

/// What the task needs of threads and tables.
enum Work {
    Compile(wasmtime::Engine),
    Describe(TickingEngine),
    Examine(TickingEngine),
}

impl Work {
    fn prepare(task: Task) -> Result<Self, EngineError> {
        Ok(match task {
            Task::Compile => Self::Compile(compiling_engine()?),
            Task::Describe => Self::Describe(TickingEngine::start()?),
            Task::Examine | Task::Recognise => Self::Examine(TickingEngine::start()?),
        })
    }

    fn run(
        &self,
        request: &Request,
        spec: &PluginSpec,
        module: &[u8],
        artifact: &[u8],
    ) -> Result<(Outcome, Vec<u8>), Rejection> {
        match self {
            Self::Compile(engine) => Ok((Outcome::Compiled, examine::compile(engine, module, spec)?)),
            Self::Describe(engine) => {
                let manifest = examine::describe_artifact(engine, module, artifact, spec)?;
                Ok((Outcome::Described(manifest), Vec::new()))
            }
            Self::Examine(engine) => {
                let has_served = request.task == Task::Recognise;
                let findings = examine::examine_artifact(engine, module, artifact, spec, &request.config, has_served)?;
                Ok((Outcome::Examined(Box::new(findings)), Vec::new()))
            }
        }
    }
}
