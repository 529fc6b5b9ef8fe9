//! Label selectors.

use std::{collections::BTreeMap, fmt, str::FromStr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1;

use crate::resources::Namespace;

/// The label that every namespace carries.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Labels by name.
type Labels = BTreeMap<String, String>;

/// Whether the selector of a resource selects these labels; an operator that is not known selects nothing.
pub(crate) fn selects(selector: &v1::LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let values = expression.values.as_deref().unwrap_or_default();
            match expression.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// The labels of a namespace. Every namespace of a cluster carries its own name; files rarely spell their namespaces out.
pub(crate) fn namespace_labels(name: &str, namespace: Option<&Namespace>) -> Labels {
    let mut labels = namespace.and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default();
    labels.entry(NAME_LABEL.to_owned()).or_insert_with(|| name.to_owned());
    labels
}

/// A selector as people write it on a command line: `lb=internal,tier!=test,new,!old`. All of it must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Lacks(String),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no condition on a label; write `name=value`, `name!=value`, `name` or `!name`, separated by commas")]
pub struct InvalidSelector(String);

impl LabelSelector {
    /// Whether all of it holds.
    #[must_use]
    pub fn selects(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let value = |name: &String| labels.and_then(|labels| labels.get(name));
        self.0.iter().all(|requirement| match requirement {
            Requirement::Equals(name, wanted) => value(name) == Some(wanted),
            Requirement::Differs(name, unwanted) => value(name) != Some(unwanted),
            Requirement::Exists(name) => value(name).is_some(),
            Requirement::Lacks(name) => value(name).is_none(),
        })
    }
}

impl FromStr for LabelSelector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        text.split(',').map(|part| requirement(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn requirement(text: &str) -> Result<Requirement, InvalidSelector> {
    let name = |name: &str| {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let name = name.trim();
        (!name.is_empty() && name.chars().all(valid)).then(|| name.to_owned())
    };
    let pair = |(left, right): (&str, &str)| Some((name(left)?, right.trim_start_matches('=').trim().to_owned()));
    let read = match (text.split_once("!="), text.split_once('='), text.strip_prefix('!')) {
        (Some(parts), ..) => pair(parts).map(|(name, value)| Requirement::Differs(name, value)),
        (None, Some(parts), _) => pair(parts).map(|(name, value)| Requirement::Equals(name, value)),
        (None, None, Some(rest)) => name(rest).map(Requirement::Lacks),
        (None, None, None) => name(text).map(Requirement::Exists),
    };
    read.ok_or_else(|| InvalidSelector(text.to_owned()))
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match requirement {
                Requirement::Equals(name, value) => write!(f, "{name}={value}")?,
                Requirement::Differs(name, value) => write!(f, "{name}!={value}")?,
                Requirement::Exists(name) => write!(f, "{name}")?,
                Requirement::Lacks(name) => write!(f, "!{name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_the_command_line() {
        #[track_caller]
        fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
            let selector: LabelSelector = selector.parse().unwrap();
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(selector.selects(Some(&labels)), expected, "{selector} on {labels:?}");
        }
        check("lb=internal", &[("lb", "internal"), ("x", "1")], true);
        check("lb==internal", &[("lb", "internal")], true);
        check("lb=internal", &[("lb", "external")], false);
        check("lb!=internal", &[], true);
        check("lb, !old", &[("lb", "")], true);
        check("lb,!old", &[("lb", ""), ("old", "")], false);
        for invalid in ["", "a b", "=x", "a=1,,b", "a in (b)"] {
            assert!(invalid.parse::<LabelSelector>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn no_labels_satisfy_no_positive_condition() {
        assert!(!"lb=internal".parse::<LabelSelector>().unwrap().selects(None));
        assert!("!lb".parse::<LabelSelector>().unwrap().selects(None));
    }
}
