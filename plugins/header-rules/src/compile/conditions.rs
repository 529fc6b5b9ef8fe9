//! Conditions.

use std::ops::RangeInclusive;

use penstock_plugin::{
    Direction, Pointer,
    extract::target,
    header::{InvalidName, check_read, is_host},
    nearest,
};

use super::{Compiler, canonical};
use crate::{
    condition::{HeaderMatcher, PathMatcher, ValueMatcher, When},
    config::{HeaderCondition, PathCondition, RequestCondition, StatusPattern},
};

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

impl Compiler {
    pub(super) fn when(&mut self, when: &RequestCondition, at: &Pointer) -> When {
        let hook = if self.request_hook { Direction::Request } else { Direction::Response };
        for (index, method) in when.methods.iter().enumerate() {
            self.method(method, &at.at("methods").at(index));
        }
        let methods = (!when.methods.is_empty())
            .then(|| self.place(hook, Direction::Request, ":method"))
            .flatten()
            .map(|place| (place, when.methods.clone()));
        let path = when.path.as_ref().and_then(|path| {
            let matcher = self.path(path, &at.at("path"))?;
            Some((self.place(hook, Direction::Request, ":path")?, matcher))
        });
        When { methods, path, headers: self.headers(&when.headers, hook, Direction::Request, &at.at("headers")) }
    }

    fn method(&mut self, method: &str, at: &Pointer) {
        let upper = method.to_ascii_uppercase();
        if method.is_empty() || check_read(&method.to_ascii_lowercase()).is_err() || method.starts_with(':') {
            self.problem(at, format!("`{method}` is no method: write one such as `GET`"));
        } else if METHODS.contains(&upper.as_str()) {
            if method != upper {
                self.problem(at, format!("methods are case-sensitive: write `{upper}` for `{method}`"));
            }
        } else if let Some(near) = nearest(&upper, METHODS).filter(|near| near.len() > 3) {
            // Methods of one's own exist, but hardly ones that look so much like a standard one.
            self.problem(at, format!("`{method}` is no method: did you mean `{near}`?"));
        }
    }

    fn path(&mut self, path: &PathCondition, at: &Pointer) -> Option<PathMatcher> {
        match (&path.exact, &path.prefix, &path.regex) {
            (Some(exact), None, None) => {
                self.check_path(exact, &at.at("exact"));
                Some(PathMatcher::Exact(exact.clone()))
            }
            (None, Some(prefix), None) => {
                self.check_path(prefix, &at.at("prefix"));
                Some(PathMatcher::Prefix(prefix.trim_end_matches('/').to_owned()))
            }
            (None, None, Some(regex)) => self.pattern(regex, &at.at("regex")).map(PathMatcher::Regex),
            _ => {
                self.problem(at, "write exactly one of `exact`, `prefix` and `regex`");
                None
            }
        }
    }

    fn check_path(&mut self, path: &str, at: &Pointer) {
        if !path.starts_with('/') {
            self.problem(at, format!("a path starts with `/`: write `/{path}`"));
        } else if let Some(mark) = path.find(['?', '#']) {
            self.problem(at, format!("conditions see the path alone: write `{}`", &path[..mark]));
        }
    }

    pub(super) fn headers(
        &mut self,
        conditions: &[HeaderCondition],
        hook: Direction,
        message: Direction,
        at: &Pointer,
    ) -> Vec<HeaderMatcher> {
        let conditions = conditions.iter().enumerate();
        conditions.filter_map(|(index, condition)| self.header(condition, hook, message, &at.at(index))).collect()
    }

    fn header(
        &mut self,
        condition: &HeaderCondition,
        hook: Direction,
        message: Direction,
        at: &Pointer,
    ) -> Option<HeaderMatcher> {
        let name = canonical(&condition.name, message);
        let pseudo = message == Direction::Response && name.starts_with(':');
        let valid = if pseudo { Err(InvalidName::Pseudo) } else { check_read(&name) };
        if pseudo {
            self.problem(&at.at("name"), format!("`{name}` is no header of a response; for the status use `status`"));
        } else if let Err(reason) = valid {
            self.problem(&at.at("name"), format!("`{name}` {reason}"));
        }
        let matcher = self.matcher(condition, message == Direction::Request && is_host(&name), at)?;
        valid.ok()?;
        Some(HeaderMatcher { place: self.place(hook, message, &name)?, matcher })
    }

    fn matcher(&mut self, condition: &HeaderCondition, is_host: bool, at: &Pointer) -> Option<ValueMatcher> {
        Some(match (&condition.present, &condition.exact, &condition.regex) {
            (Some(true), None, None) => ValueMatcher::Present,
            (Some(false), None, None) => ValueMatcher::Absent,
            (None, Some(host), None) if is_host => {
                if let Err(message) = target::check_host(host) {
                    self.problem(&at.at("exact"), message);
                }
                ValueMatcher::Host(host.clone().into_bytes())
            }
            (None, Some(exact), None) => ValueMatcher::Exact(exact.clone().into_bytes()),
            (None, None, Some(regex)) => {
                let pattern = self.pattern(regex, &at.at("regex"))?;
                if is_host { ValueMatcher::HostRegex(pattern) } else { ValueMatcher::Regex(pattern) }
            }
            _ => {
                self.problem(at, "write exactly one of `present`, `exact` and `regex`");
                return None;
            }
        })
    }

    pub(super) fn statuses(&mut self, patterns: &[StatusPattern], at: &Pointer) -> Vec<RangeInclusive<u16>> {
        let mut ranges = Vec::new();
        for (index, StatusPattern(pattern)) in patterns.iter().enumerate() {
            match status(pattern) {
                Some(range) => ranges.push(range),
                None => self.problem(
                    &at.at(index),
                    format!("`{pattern}` is no status: write a code (`404`), a class (`5xx`) or a range (`500-503`)"),
                ),
            }
        }
        ranges
    }
}

fn status(pattern: &str) -> Option<RangeInclusive<u16>> {
    let code = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|code| digits && (100..=599).contains(code))
    };
    if let Some(class) = pattern.to_ascii_lowercase().strip_suffix("xx") {
        let first = class.parse().ok().filter(|class: &u16| (1..=5).contains(class))? * 100;
        return Some(first..=first + 99);
    }
    let (first, last) = pattern.split_once('-').unwrap_or((pattern, pattern));
    let range = code(first)?..=code(last)?;
    (!range.is_empty()).then_some(range)
}
