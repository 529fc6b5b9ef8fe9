//! What a condition means for people: some are good when true, some when false.

/// How a resource fares by one of its conditions. Ordered: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should be.
    Good,
    /// Not known yet.
    Pending,
    /// Not as it should be.
    Bad,
}

/// Conditions that report a fault by being true.
const NEGATIVE: [&str; 5] =
    ["Conflicted", "Degraded", "OverlappingTLSConfig", "PartiallyInvalid", "InsecureFrontendValidationMode"];

/// A condition that is false while something is on its way.
const PENDING: &str = "Pending";

impl Health {
    /// What a condition with this type, `status` and reason means.
    pub fn of(type_: &str, status: &str, reason: &str) -> Self {
        match (status, NEGATIVE.contains(&type_)) {
            ("False", false) if reason == PENDING => Self::Pending,
            ("True", false) | ("False", true) => Self::Good,
            ("True", true) | ("False", false) => Self::Bad,
            _ => Self::Pending,
        }
    }

    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Pending => "pending",
            Self::Bad => "failed",
        }
    }
}
