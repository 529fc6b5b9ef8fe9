//! What a condition means for people: some are good when true, some when false.

/// How a resource fares by one of its conditions. Ordered: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should be.
    Good,
    /// It works, and may not do what its owner expects.
    Doubtful,
    /// Not known yet.
    Pending,
    /// Not as it should be.
    Bad,
}

/// Conditions that report a fault by being true.
const NEGATIVE: [&str; 3] = ["Conflicted", "Degraded", "PartiallyInvalid"];

/// Conditions that report something worth knowing by being true.
const WARNINGS: [&str; 3] = ["RulesOverlap", "OverlappingTLSConfig", "InsecureFrontendValidationMode"];

/// A condition that is false while something is on its way.
const PENDING: &str = "Pending";

impl Health {
    /// What a condition with this type, `status` and reason means.
    pub fn of(type_: &str, status: &str, reason: &str) -> Self {
        if WARNINGS.contains(&type_) {
            return if status == "True" { Self::Doubtful } else { Self::Good };
        }
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
            Self::Doubtful => "warning",
            Self::Pending => "pending",
            Self::Bad => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_good_depends_on_the_type() {
        let check = |type_, status, reason, expected| assert_eq!(Health::of(type_, status, reason), expected);
        check("Accepted", "True", "Accepted", Health::Good);
        check("Accepted", "False", "NotAllowedByListeners", Health::Bad);
        check("Degraded", "True", "LastGoodServing", Health::Bad);
        check("Conflicted", "False", "NoConflicts", Health::Good);
        check("RulesOverlap", "True", "OtherRuleWins", Health::Doubtful);
        check("OverlappingTLSConfig", "False", "", Health::Good);
        check("Programmed", "False", "Pending", Health::Pending);
        check("Programmed", "Unknown", "Pending", Health::Pending);
        check("Degraded", "Unknown", "Pending", Health::Pending);
    }

    #[test]
    fn the_worst_is_the_greatest() {
        assert!(Health::Good < Health::Doubtful && Health::Doubtful < Health::Pending && Health::Pending < Health::Bad);
    }
}
