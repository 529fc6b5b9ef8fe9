//! Conditions on requests, as configurations of several plugins have them: by client, method, path and headers.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    address::{self, Network},
    target,
    template::Template,
};
use crate::{
    Pointer, Problems, Request,
    header::{self, Reads},
};

/// Conditions on the request. All parts that are given must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConditionConfig {
    /// The client is in one of these networks, such as `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.7`.
    pub client_addresses: Vec<String>,
    /// One of these methods, in upper case.
    pub methods: Vec<String>,
    /// The path fits one of these templates, such as `/healthz`, `/users/{id}` or `/static/**`. Upper and lower case differ.
    pub paths: Vec<String>,
    /// Each of these conditions on headers.
    pub headers: Vec<HeaderConditionConfig>,
}

/// Exactly one of `present` and `exact`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderConditionConfig {
    /// Name of the header, in any case. Of `host` the port and the spelling do not count.
    pub name: String,
    /// `true`: there is such a header. `false`: there is none.
    pub present: Option<bool>,
    /// One of the header's values is this one.
    pub exact: Option<String>,
}

/// A condition that is ready to be asked. All parts must hold; numbers are places in the plan's `request_reads`.
#[derive(Debug, Default)]
pub struct Condition {
    networks: Option<(usize, Vec<Network>)>,
    methods: Option<(usize, Vec<String>)>,
    paths: Option<(usize, Vec<Template>)>,
    headers: Vec<(usize, HeaderMatcher)>,
}

#[derive(Debug)]
enum HeaderMatcher {
    Present,
    Absent,
    Exact(Vec<u8>),
    /// The authority names this host, however it is spelled.
    Host(Vec<u8>),
}

impl Condition {
    /// The condition that stands at `at` in a configuration. What it reads goes to `reads`, every mistake to `problems`.
    #[must_use]
    pub fn compile(config: &ConditionConfig, at: &Pointer, reads: &mut Reads, problems: &mut Problems) -> Self {
        let ConditionConfig { client_addresses, methods, paths, headers } = config;
        if client_addresses.is_empty() && methods.is_empty() && paths.is_empty() && headers.is_empty() {
            problems.push(at, "the condition says nothing: add `clientAddresses`, `methods`, `paths` or `headers`");
        }
        for (index, method) in methods.iter().enumerate() {
            check_method(method, &at.at("methods").at(index), problems);
        }
        let networks = parse_all(client_addresses, &at.at("clientAddresses"), problems);
        let templates = parse_all(paths, &at.at("paths"), problems);
        let at = at.at("headers");
        Self {
            networks: (!client_addresses.is_empty()).then(|| (reads.place(":client-address"), networks)),
            methods: (!methods.is_empty()).then(|| (reads.place(":method"), methods.clone())),
            paths: (!paths.is_empty()).then(|| (reads.place(":path"), templates)),
            headers: headers
                .iter()
                .enumerate()
                .map(|(index, header)| HeaderMatcher::compile(header, &at.at(index), reads, problems))
                .collect(),
        }
    }

    /// Whether it holds for the request: for conditions under which a request is let pass.
    #[must_use]
    pub fn holds(&self, request: &Request) -> bool {
        self.holds_if(request, Template::fits)
    }

    /// As [`Condition::holds`], also if a slash stands behind the path: for conditions under which a request is limited or refused, where a path that
    /// the backend takes for another must not be a way around.
    #[must_use]
    pub fn catches(&self, request: &Request) -> bool {
        self.holds_if(request, Template::catches)
    }

    fn holds_if(&self, request: &Request, fits: fn(&Template, &[u8]) -> bool) -> bool {
        self.methods.as_ref().is_none_or(|(place, methods)| {
            let found = request.read(*place);
            methods.iter().any(|method| found.first() == Some(method.as_bytes()))
        }) && self.networks.as_ref().is_none_or(|(place, networks)| {
            let client = request.read(*place).first().and_then(address::parse);
            client.is_some_and(|client| networks.iter().any(|network| network.contains(client)))
        }) && self.paths.as_ref().is_none_or(|(place, templates)| {
            let found = request.read(*place);
            let path = target::path(found.first().unwrap_or_default());
            templates.iter().any(|template| fits(template, path))
        }) && self.headers.iter().all(|(place, matcher)| {
            let values = request.read(*place);
            match matcher {
                HeaderMatcher::Present => !values.is_empty(),
                HeaderMatcher::Absent => values.is_empty(),
                HeaderMatcher::Exact(wanted) => values.iter().any(|value| value == wanted),
                HeaderMatcher::Host(wanted) => values.iter().any(|value| *target::host(value) == **wanted),
            }
        })
    }
}

impl HeaderMatcher {
    fn compile(
        config: &HeaderConditionConfig,
        at: &Pointer,
        reads: &mut Reads,
        problems: &mut Problems,
    ) -> (usize, Self) {
        let matcher = match (config.present, &config.exact) {
            (Some(true), None) => Self::Present,
            (Some(false), None) => Self::Absent,
            (None, Some(host)) if header::is_host(&config.name) => {
                if let Err(message) = target::check_host(host) {
                    problems.push(&at.at("exact"), message);
                }
                Self::Host(host.clone().into_bytes())
            }
            (None, Some(exact)) => Self::Exact(exact.clone().into_bytes()),
            _ => {
                problems.push(at, "a condition on a header has exactly one of `present` and `exact`");
                Self::Present
            }
        };
        (reads.given(&config.name, &at.at("name"), problems), matcher)
    }
}

/// Each item as what it means; those that mean nothing are problems of their place below `at`.
pub fn parse_all<T: FromStr<Err = String>>(items: &[String], at: &Pointer, problems: &mut Problems) -> Vec<T> {
    let parsed = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| item.parse().map_err(|message: String| problems.push(&at.at(index), message)).ok());
    parsed.collect()
}

/// Methods are case-sensitive (RFC 9110 §9.1), so `get` is a mistake.
pub fn check_method(method: &str, at: &Pointer, problems: &mut Problems) {
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte)) {
        problems.push(at, format!("`{method}` is no method: write it in upper case, such as GET"));
    }
}
