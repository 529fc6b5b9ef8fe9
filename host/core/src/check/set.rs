//! The checks of one plugin, and what bounds them: whoever may write a WasmPlugin writes them, and each validation runs all of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BodyGiven, Check, InvalidExchange};
use crate::nesting;

/// Checks of one plugin, as they are written: that is what is compared, and handed to the process that validates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checks(Arc<[Value]>);

/// A check that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheck {
    /// More than [`Checks::MOST`].
    #[error("there are {0}; at most {most} are allowed", most = Checks::MOST)]
    TooMany(usize),
    /// More text than [`Checks::LARGEST`].
    #[error("they are {0} bytes of JSON together; at most {most} are allowed", most = Checks::LARGEST)]
    TooLarge(usize),
    /// Deeper than [`nesting::DEEPEST`].
    #[error("they have more than {most} lists and objects within each other; make them flatter", most = nesting::DEEPEST)]
    TooDeep,
    /// More patterns than [`Checks::MOST_PATTERNS`].
    #[error("they have {0} patterns (`matches`) together; at most {most} are allowed", most = Checks::MOST_PATTERNS)]
    TooManyPatterns(usize),
    /// One of them.
    #[error("[{index}]{name}: {message}", name = shown(.name))]
    One {
        /// From 0.
        index: usize,
        /// Its name, if it has one.
        name: Option<String>,
        /// The field, and what is wrong with it.
        message: String,
    },
}

fn shown(name: &Option<String>) -> String {
    name.as_ref().map_or_else(String::new, |name| format!(" ({name})"))
}

impl Checks {
    /// More would be a test suite, which belongs into a file of `penstock plugin test`.
    pub const MOST: usize = 64;
    /// Bytes of all of them as JSON: a fraction of what an object in a cluster may have.
    pub const LARGEST: usize = 256 << 10;
    /// Patterns in all of them: each takes memory when it is compiled, in the gateway itself.
    pub const MOST_PATTERNS: usize = 64;
    /// Times that one exchange may happen.
    pub const MOST_REPEATS: u32 = 1000;
    /// Bytes of one body that is given.
    pub const LARGEST_BODY: usize = 1 << 20;
    /// Characters of a name: it stands in statuses.
    pub const LONGEST_NAME: usize = 100;

    /// Read checks as they are written.
    ///
    /// # Errors
    /// The first one that cannot be run, and why.
    pub fn read(values: &[Value]) -> Result<Self, InvalidCheck> {
        let checks = Self(values.into());
        checks.parse()?;
        Ok(checks)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The checks.
    ///
    /// # Errors
    /// Never after [`Self::read`].
    pub fn parse(&self) -> Result<Vec<Check>, InvalidCheck> {
        if self.0.len() > Self::MOST {
            return Err(InvalidCheck::TooMany(self.0.len()));
        }
        if self.0.iter().any(nesting::is_too_deep) {
            return Err(InvalidCheck::TooDeep);
        }
        let size = self.0.iter().map(|value| value.to_string().len()).sum();
        if size > Self::LARGEST {
            return Err(InvalidCheck::TooLarge(size));
        }
        let patterns = self.0.iter().map(patterns).sum();
        if patterns > Self::MOST_PATTERNS {
            return Err(InvalidCheck::TooManyPatterns(patterns));
        }
        let mut checks = Vec::<Check>::with_capacity(self.0.len());
        for (index, value) in self.0.iter().enumerate() {
            let name = value["name"].as_str().map(|name| name.chars().take(Self::LONGEST_NAME).collect());
            let check = parse(value).and_then(|check| {
                if checks.iter().any(|other| other.name == check.name) {
                    return Err(format!("name: another check is called `{}` as well", check.name));
                }
                Ok(check)
            });
            checks.push(check.map_err(|message| InvalidCheck::One { index, name, message })?);
        }
        Ok(checks)
    }
}

/// How many patterns are in it, wherever they stand.
fn patterns(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(patterns).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| usize::from(name == "matches") + patterns(value)).sum()
        }
        _ => 0,
    }
}

fn parse(value: &Value) -> Result<Check, String> {
    let check: Check = serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string() {
        path if path == "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    })?;
    check.problem().and_then(|()| limits(&check)).map_err(|error| error.to_string())?;
    Ok(check)
}

/// What holds in a resource alone.
fn limits(check: &Check) -> Result<(), InvalidExchange> {
    let wrong = |field, message: String| Err(InvalidExchange { field, message });
    if check.name.is_empty() || check.name.chars().count() > Checks::LONGEST_NAME {
        return wrong("name", format!("a check has a name of 1 to {} characters", Checks::LONGEST_NAME));
    }
    if check.repeat > Checks::MOST_REPEATS {
        return wrong("repeat", format!("{}; at most {} are allowed", check.repeat, Checks::MOST_REPEATS));
    }
    for (field, body) in [("request.body", &check.request.body), ("response.body", &check.response.body)] {
        if matches!(body, BodyGiven::File(_)) {
            return wrong(
                field,
                "`file` is for files of `penstock plugin test`; a resource has no files beside it".into(),
            );
        }
        if body.size() > Checks::LARGEST_BODY {
            return wrong(field, format!("{} bytes; at most {} are allowed", body.size(), Checks::LARGEST_BODY));
        }
    }
    if check.expect.fault.is_some() {
        return wrong("expect.fault", "a plugin that faults in a check is never accepted".into());
    }
    if check.expect.rejected.is_some() {
        return wrong("expect.rejected", "where the configuration is rejected no check runs".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refuses(values: &[Value], expected: &str) {
        assert_eq!(Checks::read(values).unwrap_err().to_string(), expected);
    }

    #[test]
    fn checks_are_read_and_stay_what_they_are() {
        let values = [
            json!({ "name": "a" }),
            json!({ "name": "b", "repeat": 1000, "request": { "body": { "size": 1 << 20 } } }),
        ];
        let checks = Checks::read(&values).unwrap();
        let again: Checks = serde_json::from_value(serde_json::to_value(&checks).unwrap()).unwrap();
        assert_eq!(checks, again);
        assert_eq!(again.parse().unwrap()[1].repeat, 1000);
        assert!(!again.is_empty() && Checks::default().is_empty());
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        let one = |fields: Value| {
            let mut check = json!({ "name": "a" });
            check.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            vec![check]
        };
        let matching = |count: usize, pattern: &str| {
            let headers = (0..count).map(|index| (format!("h{index}"), json!({ "matches": pattern })));
            one(json!({ "expect": { "response": { "headers": Value::Object(headers.collect()) } } }))
        };
        assert!(Checks::read(&matching(64, r"^\w+$")).is_ok());
        let many = "they have 65 patterns (`matches`) together; at most 64 are allowed";
        refuses(&matching(65, "a"), many);
        let large = Checks::read(&matching(1, r"\w{200}")).unwrap_err().to_string();
        assert!(large.contains("exceeds size limit"), "{large}");
        refuses(&[json!({})], "[0]: missing field `name`");
        refuses(&[json!(7)], "[0]: invalid type: integer `7`, expected struct Check");
        refuses(&[json!({ "name": "" })], "[0] (): name: a check has a name of 1 to 100 characters");
        refuses(
            &[json!({ "name": "a" }), json!({ "name": "a" })],
            "[1] (a): name: another check is called `a` as well",
        );
        refuses(&one(json!({ "repeat": 0 })), "[0] (a): repeat: an exchange that never happens checks nothing");
        refuses(&one(json!({ "repeat": 1001 })), "[0] (a): repeat: 1001; at most 1000 are allowed");
        refuses(&one(json!({ "request": { "path": "a" } })), "[0] (a): request.path: `a` does not begin with `/`");
        refuses(
            &one(json!({ "request": { "method": 3 } })),
            "[0] (a): request.method: invalid type: integer `3`, expected a string",
        );
        refuses(
            &one(json!({ "request": { "method": "a b" } })),
            "[0] (a): request.method: `a b` is no method, such as GET",
        );
        refuses(
            &one(json!({ "request": { "client": "me" } })),
            "[0] (a): request.client: `me` is no address, such as 192.0.2.1",
        );
        refuses(
            &one(json!({ "response": { "status": 100 } })),
            "[0] (a): response.status: 100 is no status from 200 to 599",
        );
        refuses(
            &one(json!({ "request": { "body": { "file": "/etc/passwd" } } })),
            "[0] (a): request.body: `file` is for files of `penstock plugin test`; a resource has no files beside it",
        );
        refuses(
            &one(json!({ "response": { "body": { "size": (1 << 20) + 1 } } })),
            "[0] (a): response.body: 1048577 bytes; at most 1048576 are allowed",
        );
        refuses(
            &one(json!({ "expect": { "reply": {}, "response": {} } })),
            "[0] (a): expect: an exchange ends in one way: `response`, `reply`, `aborted`, `fault` or `rejected`",
        );
        refuses(
            &one(json!({ "expect": { "fault": "any" } })),
            "[0] (a): expect.fault: a plugin that faults in a check is never accepted",
        );
        refuses(
            &one(json!({ "expect": { "rejected": "any" } })),
            "[0] (a): expect.rejected: where the configuration is rejected no check runs",
        );
        refuses(
            &one(json!({ "candidates": [{ "name": "x:1" }], "expect": { "candidate": "y:1" } })),
            "[0] (a): expect.candidate: `y:1` is none of the candidates; there are `x:1`, and `default`",
        );
    }

    #[test]
    fn there_are_not_too_many_and_they_are_not_too_large() {
        let many: Vec<_> = (0..=Checks::MOST).map(|n| json!({ "name": n.to_string() })).collect();
        refuses(&many, "there are 65; at most 64 are allowed");
        assert!(Checks::read(&many[1..]).is_ok());
        let large = json!({ "name": "a", "request": { "body": "x".repeat(Checks::LARGEST) } });
        assert!(matches!(Checks::read(&[large]), Err(InvalidCheck::TooLarge(size)) if size > Checks::LARGEST));
        let deep = (0..nesting::DEEPEST).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(Checks::read(&[json!({ "name": "a", "expect": deep })]), Err(InvalidCheck::TooDeep));
    }
}
