//! From the configuration to what runs. Every mistake becomes a problem; none hides another.

use std::time::Duration;

use penstock_plugin::{
    Direction, Plan, Pointer, Problems, duration,
    extract::condition::{self, Condition},
    header::{self, InvalidName, Reads},
};

use crate::{
    config::{Config, OnError, RequestConfig, ServiceConfig},
    names::Names,
    outcome::{Metrics, Refusal, Vouched},
    service::{Route, Service},
    told::{self, BY_GATEWAY, Headers, Target, Told},
};

/// The longest `timeout` that a backend can be granted.
const LONGEST: Duration = Duration::from_secs(60);
/// Headers that may be named for the service, and for either way of its answer: a question has 256 at most, and so has a plan.
const MOST_TOLD: usize = 128;
const MOST_NAMES: usize = 64;

/// A configuration, ready for requests.
pub(crate) struct Program {
    pub(crate) service: Service,
    pub(crate) exempt: Vec<Condition>,
    pub(crate) vouched: Vouched,
    pub(crate) refusal: Refusal,
    pub(crate) on_error: OnError,
    pub(crate) error_status: u16,
    pub(crate) metrics: Metrics,
    /// Of requests, in the order of the places that everything else names.
    reads: Vec<String>,
}

impl Program {
    pub(crate) fn plan(&self) -> Plan {
        let plan = Plan::new().request_reads(&self.reads);
        if self.vouched.0.is_empty() { plan } else { plan.request_writes(self.vouched.0.declared()) }
    }
}

pub(crate) fn compile(config: &Config) -> Result<Program, Problems> {
    let mut compiler = Compiler::default();
    let root = Pointer::root();
    let told = compiler.told(&config.request, &root.at("request"));
    let service = compiler.service(&config.service, told, &root.at("service"));
    let allowed = &config.allowed.request_headers;
    let vouched = compiler.names(allowed, Direction::Request, &root.at("allowed").at("requestHeaders"));
    let shown = config.denied.response_headers.as_ref();
    let shown = shown.map(|names| compiler.names(names, Direction::Response, &root.at("denied").at("responseHeaders")));
    let error_status = compiler.error_status(config.error_status, &root.at("errorStatus"));
    let Compiler { mut problems, mut reads } = compiler;
    let at = root.at("exempt");
    let exempt = config.exempt.iter().enumerate();
    let exempt = exempt
        .map(|(index, condition)| Condition::compile(condition, &at.at(index), &mut reads, &mut problems))
        .collect();
    problems.into_result(())?;
    let metrics = Metrics::register().map_err(|error| format!("the metric cannot be registered: {error:?}"))?;
    Ok(Program {
        service,
        exempt,
        vouched: Vouched(vouched),
        refusal: Refusal { shown },
        on_error: config.on_error,
        error_status,
        metrics,
        reads: reads.into_names(),
    })
}

/// What is known so far.
#[derive(Default)]
struct Compiler {
    problems: Problems,
    reads: Reads,
}

impl Compiler {
    fn problem(&mut self, at: &Pointer, message: impl Into<String>) {
        self.problems.push(at, message);
    }

    fn service(&mut self, config: &ServiceConfig, told: Told, at: &Pointer) -> Service {
        let ServiceConfig { backend, path, path_prefix, method, host, timeout } = config;
        if backend.is_empty() {
            self.problem(&at.at("backend"), "must be the name of a backend in spec.capabilities.outbound");
        }
        let route = match (path, path_prefix) {
            (None, Some(prefix)) => self.prefix(prefix, &at.at("pathPrefix")),
            (path, None) => self.path(path.as_deref().unwrap_or("/"), &at.at("path")),
            (Some(_), Some(_)) => {
                self.problem(at, "has both `path` and `pathPrefix`: leave one out");
                Route::Path(String::new())
            }
        };
        if let Some(method) = method {
            let at = at.at("method");
            condition::check_method(method, &at, &mut self.problems);
            if let Err(reason) = header::check_value(":method", method.as_bytes()) {
                self.problem(&at, format!("`{method}` {reason}"));
            }
        }
        if let Some(host) = host
            && let Err(reason) = header::check_value(":authority", host.as_bytes())
        {
            self.problem(&at.at("host"), format!("`{host}` {reason}"));
        }
        Service {
            backend: backend.clone(),
            route,
            method: method.clone(),
            host: host.clone(),
            timeout: timeout.as_ref().and_then(|text| self.timeout(text, &at.at("timeout"))),
            told,
        }
    }

    fn path(&mut self, path: &str, at: &Pointer) -> Route {
        if let Err(reason) = header::check_value(":path", path.as_bytes()) {
            self.problem(at, format!("`{path}` {reason}"));
        }
        Route::Path(path.to_owned())
    }

    fn prefix(&mut self, prefix: &str, at: &Pointer) -> Route {
        if prefix.ends_with('/') {
            self.problem(at, format!("`{prefix}` ends with `/`: the path of the request, which follows, begins so"));
        } else if prefix.contains('?') {
            self.problem(at, format!("`{prefix}` has a query, and the path of the request follows"));
        } else if !prefix.is_empty()
            && let Err(reason) = header::check_value(":path", prefix.as_bytes())
        {
            self.problem(at, format!("`{prefix}` {reason}"));
        }
        Route::Prefix(prefix.to_owned())
    }

    fn timeout(&mut self, text: &str, at: &Pointer) -> Option<Duration> {
        let timeout = duration::parse(text).filter(|timeout| !timeout.is_zero() && *timeout <= LONGEST);
        if timeout.is_none() {
            self.problem(at, format!("`{text}` is no time to wait: write 1ms to 60s, such as 200ms"));
        }
        timeout
    }

    fn told(&mut self, config: &RequestConfig, at: &Pointer) -> Told {
        let constants = self.constants(config, &at.at("set"));
        let target = Target {
            method: self.reads.place(":method"),
            scheme: self.reads.place(":scheme"),
            authority: self.reads.place(":authority"),
            path: self.reads.place(":path"),
        };
        let headers = match &config.headers {
            None => Headers::All,
            Some(names) => self.named(names, &constants, &at.at("headers")),
        };
        Told { headers, constants, target }
    }

    fn constants(&mut self, config: &RequestConfig, at: &Pointer) -> Vec<(String, Vec<u8>)> {
        let mut constants: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in &config.set {
            let at = at.at(name);
            let known = name.to_ascii_lowercase();
            if let Err(reason) = told::check(&known) {
                self.problem(&at, format!("`{name}` {reason}"));
            }
            if constants.iter().any(|(other, _)| *other == known) {
                self.problem(&at, format!("`{known}` is given twice"));
            }
            if let Err(reason) = header::check_value(&known, value.as_bytes()) {
                self.problem(&at, format!("the value {reason}"));
            }
            constants.push((known, value.clone().into_bytes()));
        }
        constants
    }

    fn named(&mut self, names: &[String], constants: &[(String, Vec<u8>)], at: &Pointer) -> Headers {
        self.at_most(MOST_TOLD, names.len(), at);
        let mut named: Vec<_> = BY_GATEWAY.map(|name| (name.to_owned(), self.reads.place(name))).into();
        for (index, name) in names.iter().enumerate().take(MOST_TOLD) {
            let known = name.to_ascii_lowercase();
            if let Err(reason) = told::check(&known) {
                self.problem(&at.at(index), format!("`{name}` {reason}"));
            } else if constants.iter().any(|(constant, _)| *constant == known) {
                self.problem(&at.at(index), format!("`{name}` is in `set` as well, which replaces it: leave one out"));
            } else if named.iter().all(|(other, _)| *other != known) {
                let place = self.reads.place(&known);
                named.push((known, place));
            }
        }
        Headers::Named(named)
    }

    fn names(&mut self, names: &[String], direction: Direction, at: &Pointer) -> Names {
        self.at_most(MOST_NAMES, names.len(), at);
        let mut known = Names::default();
        for (index, name) in names.iter().enumerate().take(MOST_NAMES) {
            let at = at.at(index);
            let lower = name.to_ascii_lowercase();
            let (list, name) = match lower.strip_suffix('*') {
                Some("") => {
                    self.problem(
                        &at,
                        "`*` alone would stand for every header: write what the names begin with, such as `x-auth-*`",
                    );
                    continue;
                }
                Some(prefix) => (&mut known.prefixes, prefix),
                None => (&mut known.exact, lower.as_str()),
            };
            match check_name(name, direction) {
                Ok(()) if list.iter().any(|other| other == name) => {}
                Ok(()) => list.push(name.to_owned()),
                Err(reason) => self.problems.push(&at, format!("`{lower}` {reason}")),
            }
        }
        known
    }

    fn error_status(&mut self, given: Option<u16>, at: &Pointer) -> u16 {
        let status = given.unwrap_or(503);
        if !(400..=599).contains(&status) {
            self.problem(at, format!("{status} is no status of an error: use 400 to 599, such as 503 or 403"));
        }
        status
    }

    fn at_most(&mut self, most: usize, found: usize, at: &Pointer) {
        if found > most {
            self.problem(at, format!("{found} names are too many: {most} are the most"));
        }
    }
}

/// A header that an answer can have and a message can get.
fn check_name(name: &str, direction: Direction) -> Result<(), InvalidName> {
    if name.starts_with(':') || name == "host" {
        return Err(InvalidName::Pseudo);
    }
    header::check_write(name, direction)
}
