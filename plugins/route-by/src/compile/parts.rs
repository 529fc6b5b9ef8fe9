//! Conditions and keys.

use penstock_plugin::{
    Pointer,
    extract::{address::Lengths, claim::Claim, pattern::Pattern, target},
    header,
};

use super::Compiler;
use crate::{
    condition::{Condition, Matcher},
    config::{ClaimConfig, ConditionConfig, KeyConfig, PrefixLengths},
    source::{Key, Part, Source},
};

const MOST_SOURCES: usize = 8;

impl Compiler {
    pub(super) fn condition(&mut self, config: &ConditionConfig, at: &Pointer) -> Option<Condition> {
        let ConditionConfig { header, cookie, query, unverified_jwt_claim, present, exact, prefix, regex, one_of } =
            config;
        let key = KeyConfig {
            header: header.clone(),
            cookie: cookie.clone(),
            query: query.clone(),
            unverified_jwt_claim: unverified_jwt_claim.clone(),
            client_address: None,
        };
        let given = [present.is_some(), exact.is_some(), prefix.is_some(), regex.is_some(), one_of.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            self.problem(at, "a condition has exactly one of `present`, `exact`, `prefix`, `regex`, `in`");
            return None;
        }
        let what = "`header`, `cookie`, `query`, `unverifiedJwtClaim`";
        let source = self.source(&key, what, at)?;
        if matches!(source.part, Part::Host) {
            self.check_hosts(config, at);
        }
        let matcher = match (present, exact, prefix, regex, one_of) {
            (Some(true), ..) => Matcher::Present,
            (Some(false), ..) => Matcher::Absent,
            (_, Some(exact), ..) => Matcher::Exact(exact.clone().into_bytes()),
            (_, _, Some(prefix), ..) => Matcher::Prefix(prefix.clone().into_bytes()),
            (_, _, _, Some(regex), _) => match Pattern::new(regex) {
                Ok(pattern) => Matcher::Regex(pattern),
                Err(message) => {
                    self.problem(&at.at("regex"), message);
                    return None;
                }
            },
            _ => {
                let mut values: Vec<_> = one_of.iter().flatten().map(|value| value.clone().into_bytes()).collect();
                if values.is_empty() {
                    self.problem(&at.at("in"), "there is no value: add one");
                }
                values.sort();
                Matcher::OneOf(values)
            }
        };
        Some(Condition { source, matcher })
    }

    pub(super) fn key(&mut self, sources: &[KeyConfig], at: &Pointer) -> Key {
        if sources.is_empty() {
            self.problem(at, "there is no key: add one, such as `{header: x-user}` or `{clientAddress: {}}`");
        }
        if sources.len() > MOST_SOURCES {
            self.problem(at, format!("{} keys are too many: {MOST_SOURCES} are the most", sources.len()));
        }
        let what = "`header`, `cookie`, `query`, `unverifiedJwtClaim`, `clientAddress`";
        let sources = sources.iter().enumerate();
        Key(sources.filter_map(|(index, source)| self.source(source, what, &at.at(index))).collect())
    }

    /// `what` are the fields of which one must be given.
    fn source(&mut self, config: &KeyConfig, what: &str, at: &Pointer) -> Option<Source> {
        let KeyConfig { header, cookie, query, unverified_jwt_claim, client_address } = config;
        let given = [
            header.is_some(),
            cookie.is_some(),
            query.is_some(),
            unverified_jwt_claim.is_some(),
            client_address.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            self.problem(at, format!("exactly one of {what} says which value is meant"));
            return None;
        }
        let (place, part) = match (header, cookie, query, unverified_jwt_claim, client_address) {
            (Some(name), ..) => {
                let part = if header::is_host(name) { Part::Host } else { Part::Whole };
                (self.header(name, &at.at("header")), part)
            }
            (_, Some(name), ..) => {
                self.check_given(name, &at.at("cookie"));
                (self.read("cookie"), Part::Cookie(name.clone()))
            }
            (_, _, Some(name), ..) => {
                self.check_given(name, &at.at("query"));
                (self.read(":path"), Part::Query(name.clone()))
            }
            (_, _, _, Some(ClaimConfig { claim, header }), _) => {
                let at = at.at("unverifiedJwtClaim");
                self.check_given(claim, &at.at("claim"));
                let header = header.as_deref().unwrap_or("authorization");
                (self.header(header, &at.at("header")), Part::Claim(Claim::new(claim)))
            }
            _ => {
                let lengths = self.lengths(client_address.unwrap_or_default(), &at.at("clientAddress"));
                (self.read(":client-address"), Part::Client(lengths))
            }
        };
        Some(Source { place, part })
    }

    fn check_hosts(&mut self, config: &ConditionConfig, at: &Pointer) {
        let listed = config.one_of.iter().flatten().enumerate().map(|(index, host)| (at.at("in").at(index), host));
        let hosts: Vec<_> = config.exact.iter().map(|host| (at.at("exact"), host)).chain(listed).collect();
        for (at, host) in hosts {
            if let Err(message) = target::check_host(host) {
                self.problem(&at, message);
            }
        }
    }

    fn check_given(&mut self, name: &str, at: &Pointer) {
        if name.is_empty() {
            self.problem(at, "must not be empty");
        }
    }

    fn lengths(&mut self, config: PrefixLengths, at: &Pointer) -> Lengths {
        Lengths::given(config.ipv4_prefix_length, config.ipv6_prefix_length, at, &mut self.problems)
    }
}
