//! Why a candidate is refused: one table of stable words for conditions, metrics and scripts. Messages may change, reasons do not.

use penstock_core::plugin::{FaultKind, PluginFault, Rejection};

use crate::printable::printable;

/// Bytes of a message: it becomes part of a status that people read in a terminal.
const LONGEST_MESSAGE: usize = 2048;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        /// Every reason there is.
        pub(crate) const ALL: &[&str] = &[$($name),*];
    };
}

reasons! {
    /// The module could not be read, for a reason that has no word of its own. The host tries again by itself.
    FETCH_FAILED = "FetchFailed";
    /// The host of the source is unknown.
    NAME_NOT_RESOLVED = "NameNotResolved";
    /// No connection to the source.
    CONNECT_FAILED = "ConnectFailed";
    /// The source is on an address from which no modules are fetched.
    ADDRESS_REFUSED = "AddressRefused";
    /// No TLS with the source, or its certificate is not trusted.
    TLS_FAILED = "TLSFailed";
    /// The source wants a login, or another one.
    ACCESS_REFUSED = "AccessRefused";
    /// The source is there, the module is not.
    MODULE_NOT_FOUND = "ModuleNotFound";
    /// The source redirects in a circle, or to where nothing can be fetched.
    INVALID_REDIRECT = "InvalidRedirect";
    /// The source gave other bytes than the resource wants.
    DIGEST_MISMATCH = "DigestMismatch";
    /// What the registry gave breaks the OCI specifications.
    INVALID_ARTIFACT = "InvalidArtifact";
    /// The artifact in the registry holds no WebAssembly module, or several.
    NOT_A_WASM_ARTIFACT = "NotAWasmArtifact";
    /// The module is larger than `limits.moduleSize`.
    MODULE_TOO_LARGE = "ModuleTooLarge";
    /// The bytes are no WebAssembly, or are cut off or malformed.
    INVALID_MODULE = "InvalidModule";
    /// A core module where a component is needed.
    NOT_A_COMPONENT = "NotAComponent";
    /// A precompiled artifact: only artifacts that this host compiled and signed itself are ever loaded.
    PRECOMPILED_MODULE = "PrecompiledModule";
    /// The component does not export what a plugin must export.
    NOT_A_PLUGIN = "NotAPlugin";
    /// The component was built against a newer version of the plugin contract.
    NEWER_CONTRACT = "NewerContract";
    /// The component imports an interface that no version of the contract has.
    UNKNOWN_IMPORT = "UnknownImport";
    /// The component imports a capability that the resource does not grant.
    IMPORT_NOT_GRANTED = "ImportNotGranted";
    /// An import or export has another type than the contract's.
    CONTRACT_MISMATCH = "ContractMismatch";
    /// The component is valid but cannot be compiled.
    COMPILE_FAILED = "CompileFailed";
    /// The component's start code trapped.
    START_TRAPPED = "StartTrapped";
    /// `describe` trapped.
    DESCRIBE_TRAPPED = "DescribeTrapped";
    /// The manifest breaks the contract.
    INVALID_MANIFEST = "InvalidManifest";
    /// `spec.config` does not fit the plugin's schema, or `configure` found problems.
    INVALID_CONFIG = "InvalidConfig";
    /// `configure` trapped.
    CONFIGURE_TRAPPED = "ConfigureTrapped";
    /// The plan that `configure` answered breaks the contract.
    INVALID_PLAN = "InvalidPlan";
    /// `self-test` answered with an error.
    SELF_TEST_FAILED = "SelfTestFailed";
    /// `self-test` trapped.
    SELF_TEST_TRAPPED = "SelfTestTrapped";
    /// A hook trapped in one of the host's sample exchanges.
    SAMPLE_TRAPPED = "SampleTrapped";
    /// A hook's answer to one of the host's sample exchanges breaks the contract.
    INVALID_ANSWER = "InvalidAnswer";
    /// An exchange of `spec.checks` did not end as it must.
    CHECK_FAILED = "CheckFailed";
    /// A step used more CPU time than `limits.configureTime`, or a hook more than `limits.hookTime`.
    TIME_LIMIT = "TimeLimitExceeded";
    /// A step needed more than `limits.memory`.
    MEMORY_LIMIT = "MemoryLimitExceeded";
    /// The revision served, and faulted more often than `spec.probation.maxFaults` while it was on probation.
    FAULTS_IN_PROBATION = "FaultsInProbation";
    /// The process that validates candidates cannot be started. The host tries again by itself.
    VALIDATOR_UNAVAILABLE = "ValidatorUnavailable";
    /// The process that validated the candidate crashed on it.
    VALIDATOR_CRASHED = "ValidatorCrashed";
    /// The process that validated the candidate was killed from outside: the machine is short of memory. The host tries again by itself, a few
    /// times.
    VALIDATOR_KILLED = "ValidatorKilled";
    /// The process that validated the candidate answered what no validator answers.
    VALIDATOR_ANSWER_INVALID = "ValidatorAnswerInvalid";
    /// Validating the candidate took more CPU time, or more time, than validation may.
    VALIDATION_TIME_LIMIT = "ValidationTimeLimitExceeded";
    /// Validating the candidate took more memory than validation may.
    VALIDATION_MEMORY_LIMIT = "ValidationMemoryLimitExceeded";
    /// The process that validated the candidate did what validation never does, such as opening a socket: it was taken over.
    SANDBOX_VIOLATION = "SandboxViolation";
    /// The plugins that run have taken all the memory that there is for plugins, or this one all that there is for one. The host tries again by
    /// itself.
    NO_ROOM = "NoMemoryLeft";
    /// The thread that validated the candidate panicked: a defect of the gateway, which goes on without it.
    INTERNAL = "InternalError";
}

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
        FaultKind::Overloaded => NO_ROOM,
        FaultKind::InvalidAnswer => match step {
            Step::Sample(_) => INVALID_ANSWER,
            _ => CONTRACT_MISMATCH,
        },
    };
    rejection(reason, format!("{step}: {}", fault.message))
}

/// The reason of these letters, if there is such a one.
pub(crate) fn known(text: &str) -> Option<&'static str> {
    ALL.iter().find(|reason| **reason == text).copied()
}

/// Whether the same candidate may pass when it is tried again: what went wrong lies with this machine.
pub(crate) fn is_passing(reason: &str) -> bool {
    [FETCH_FAILED, VALIDATOR_UNAVAILABLE, VALIDATOR_KILLED, NO_ROOM].contains(&reason)
}

/// Whether it says more about the process that validated than about the candidate.
pub(crate) fn is_of_validator(reason: &str) -> bool {
    [
        VALIDATOR_UNAVAILABLE,
        VALIDATOR_CRASHED,
        VALIDATOR_KILLED,
        VALIDATOR_ANSWER_INVALID,
        VALIDATION_TIME_LIMIT,
        VALIDATION_MEMORY_LIMIT,
        SANDBOX_VIOLATION,
        INTERNAL,
    ]
    .contains(&reason)
}

/// Shorthand for the places that refuse. Messages may quote what a plugin wrote.
pub(crate) fn rejection(reason: &'static str, message: impl AsRef<str>) -> Rejection {
    Rejection { reason, message: printable(message.as_ref(), LONGEST_MESSAGE) }
}
