//! Lists of header names, some of which are prefixes.

/// Names in lower case, and prefixes of names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) exact: Vec<String>,
    pub(crate) prefixes: Vec<String>,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    pub(crate) fn covers(&self, name: &str) -> bool {
        self.exact.iter().any(|known| known == name) || self.covers_by_prefix(name)
    }

    /// Whether a prefix covers a name that is not in the list itself.
    pub(crate) fn covers_by_prefix(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
            && !self.exact.iter().any(|known| known == name)
    }

    /// For the writes of a plan.
    pub(crate) fn declared(&self) -> impl Iterator<Item = String> {
        self.exact.iter().cloned().chain(self.prefixes.iter().map(|prefix| format!("{prefix}*")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cover_themselves_and_what_begins_so() {
        let names = Names { exact: vec!["x-user".into(), "x-auth-id".into()], prefixes: vec!["x-auth-".into()] };
        for (name, covered, by_prefix) in [
            ("x-user", true, false),
            ("x-users", false, false),
            ("x-auth-id", true, false),
            ("x-auth-groups", true, true),
            ("x-auth", false, false),
        ] {
            assert_eq!((names.covers(name), names.covers_by_prefix(name)), (covered, by_prefix), "{name}");
        }
        assert_eq!(names.declared().collect::<Vec<_>>(), ["x-user", "x-auth-id", "x-auth-*"]);
    }
}
