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

    /// Whether a server behind CGI or WSGI may take a header of this name for one that the list covers: `x_auth_user`, and for some servers
    /// `x.auth.user`, is there what `x-auth-user` is (RFC 3875 §4.1.18).
    pub(crate) fn is_taken_for(&self, name: &str) -> bool {
        let same = |a: u8, b: u8| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
        let begins =
            |known: &str| name.len() >= known.len() && known.bytes().zip(name.bytes()).all(|(a, b)| same(a, b));
        self.exact.iter().any(|known| known.len() == name.len() && begins(known))
            || self.prefixes.iter().any(|prefix| begins(prefix))
    }

    /// For the writes of a plan: what clients may have sent under names that are taken for these can be anything.
    pub(crate) fn declared(&self) -> impl Iterator<Item = String> {
        self.exact.iter().cloned().chain(["*".to_owned()])
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
        assert_eq!(names.declared().collect::<Vec<_>>(), ["x-user", "x-auth-id", "*"]);
    }

    #[test]
    fn names_that_servers_fold_together_are_taken_for_each_other() {
        let names = Names { exact: vec!["x-user".into()], prefixes: vec!["x-auth-".into()] };
        for name in ["x-user", "x_user", "x.user", "x-auth-id", "x_auth_id", "x-auth_id", "x_auth-", "x~auth~id"] {
            assert!(names.is_taken_for(name), "{name}");
        }
        for name in ["x-users", "x-use", "xuser", "xauth-id", "x-auth", "xxuser"] {
            assert!(!names.is_taken_for(name), "{name}");
        }
    }
}
