//! Why a candidate is refused: one table of stable words for conditions, metrics and scripts. Messages may change, reasons do not.

use penstock_core::plugin::{FaultKind, PluginFault, Rejection};

use crate::printable::printable;

/// Bytes of a message: it becomes part of a status that people read in a terminal.
const LONGEST_MESSAGE: usize = 2048;

/// The module could not be read. The only reason after which the host tries again by itself.
pub const FETCH_FAILED: &str = "FetchFailed";
/// The module is larger than `limits.moduleSize`.
pub const MODULE_TOO_LARGE: &str = "ModuleTooLarge";
/// The bytes are no WebAssembly, or are cut off or malformed.
pub const INVALID_MODULE: &str = "InvalidModule";
/// A core module where a component is needed.
pub const NOT_A_COMPONENT: &str = "NotAComponent";
/// A precompiled artifact: only artifacts that this host compiled and signed itself are ever loaded.
pub const PRECOMPILED_MODULE: &str = "PrecompiledModule";
/// The component does not export what a plugin must export.
pub const NOT_A_PLUGIN: &str = "NotAPlugin";
/// The component exports a world that this version of the gateway does not run.
pub const WORLD_NOT_SUPPORTED: &str = "WorldNotSupported";
/// The component was built against a newer version of the plugin contract.
pub const NEWER_CONTRACT: &str = "NewerContract";
/// The component imports an interface that no version of the contract has.
pub const UNKNOWN_IMPORT: &str = "UnknownImport";
/// The component imports a capability that the resource does not grant.
pub const IMPORT_NOT_GRANTED: &str = "ImportNotGranted";
/// The component imports a capability that this version of the gateway does not offer.
pub const IMPORT_NOT_AVAILABLE: &str = "ImportNotAvailable";
/// An import or export has another type than the contract's.
pub const CONTRACT_MISMATCH: &str = "ContractMismatch";
/// The component is valid but cannot be compiled.
pub const COMPILE_FAILED: &str = "CompileFailed";
/// The component's start code trapped.
pub const START_TRAPPED: &str = "StartTrapped";
/// `describe` trapped.
pub const DESCRIBE_TRAPPED: &str = "DescribeTrapped";
/// The manifest breaks the contract.
pub const INVALID_MANIFEST: &str = "InvalidManifest";
/// `spec.config` does not fit the plugin's schema, or `configure` found problems.
pub const INVALID_CONFIG: &str = "InvalidConfig";
/// `configure` trapped.
pub const CONFIGURE_TRAPPED: &str = "ConfigureTrapped";
/// The plan that `configure` answered breaks the contract.
pub const INVALID_PLAN: &str = "InvalidPlan";
/// `self-test` answered with an error.
pub const SELF_TEST_FAILED: &str = "SelfTestFailed";
/// `self-test` trapped.
pub const SELF_TEST_TRAPPED: &str = "SelfTestTrapped";
/// A hook trapped in one of the host's sample exchanges.
pub const SAMPLE_TRAPPED: &str = "SampleTrapped";
/// A hook's answer to one of the host's sample exchanges breaks the contract.
pub const INVALID_ANSWER: &str = "InvalidAnswer";
/// A step used more CPU time than `limits.configureTime`, or a hook more than `limits.hookTime`.
pub const TIME_LIMIT: &str = "TimeLimitExceeded";
/// A step needed more than `limits.memory`.
pub const MEMORY_LIMIT: &str = "MemoryLimitExceeded";
/// The thread that validated the candidate panicked: a defect of the gateway, which goes on without it.
pub const INTERNAL: &str = "InternalError";

/// Where in its validation a candidate runs code of the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Start,
    Describe,
    Configure,
    SelfTest,
    /// A sample exchange, by name.
    Sample(&'static str),
}

impl Step {
    fn trapped(self) -> &'static str {
        match self {
            Self::Start => START_TRAPPED,
            Self::Describe => DESCRIBE_TRAPPED,
            Self::Configure => CONFIGURE_TRAPPED,
            Self::SelfTest => SELF_TEST_TRAPPED,
            Self::Sample(_) => SAMPLE_TRAPPED,
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start => f.write_str("the start code"),
            Self::Describe => f.write_str("describe"),
            Self::Configure => f.write_str("configure"),
            Self::SelfTest => f.write_str("self-test"),
            Self::Sample(name) => write!(f, "the sample exchange `{name}`"),
        }
    }
}

/// A fault during validation refuses the candidate.
pub(crate) fn faulted(step: Step, fault: &PluginFault) -> Rejection {
    let reason = match fault.kind {
        FaultKind::Trap | FaultKind::Unavailable | FaultKind::Lost => step.trapped(),
        FaultKind::Deadline => TIME_LIMIT,
        FaultKind::Memory => MEMORY_LIMIT,
        FaultKind::InvalidAnswer => match step {
            Step::Sample(_) => INVALID_ANSWER,
            _ => CONTRACT_MISMATCH,
        },
    };
    rejection(reason, format!("{step}: {}", fault.message))
}

/// Shorthand for the places that refuse. Messages may quote what a plugin wrote.
pub(crate) fn rejection(reason: &'static str, message: impl AsRef<str>) -> Rejection {
    Rejection { reason, message: printable(message.as_ref(), LONGEST_MESSAGE) }
}
