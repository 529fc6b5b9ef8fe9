//! Routes as the proxy sees them: HTTPRoute, GRPCRoute and Ingress all become these values.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use http::{HeaderName, HeaderValue, Method};
use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

use crate::{
    ResourceRef,
    backend::Backend,
    filter::{HeaderEdits, Redirect, UrlRewrite},
    hostname::HostPattern,
    path::{self, InvalidPath},
    plugin::{PolicyCall, RouteCall},
    reason::Reason,
};

/// One route attached to a listener.
#[derive(Debug, Clone, Serialize)]
pub struct Route {
    /// The resource.
    pub id: ResourceRef,
    /// Creation time in seconds since the epoch: the older route wins where precedence is equal.
    pub created: i64,
    /// The route's own hostnames (not intersected with the listener's): the longer one wins. Never empty; `Any` if it has none.
    pub hostnames: Vec<HostPattern>,
    /// In the order of the resource.
    pub rules: Vec<Arc<Rule>>,
}

/// Which rule of which route: for the access record, metrics and plugins.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RuleId {
    /// The resource.
    pub route: ResourceRef,
    /// Position in the resource.
    pub index: u32,
    /// `rules[].name`, if given.
    pub name: Option<Arc<str>>,
}

/// `name`, or the index.
impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.index),
        }
    }
}

/// One rule: when it matches, what happens to the request, where it goes.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    /// Identity.
    pub id: RuleId,
    /// Any of them suffices. Never empty: a rule without matches has one that matches every path.
    pub matches: Vec<RuleMatch>,
    /// `RequestHeaderModifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderEdits>,
    /// `ResponseHeaderModifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<HeaderEdits>,
    /// `URLRewrite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<UrlRewrite>,
    /// Policy plugins in the order of their request hooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyCall>,
    /// The plugin that chooses among the backends; only with [`Action::Forward`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_plugin: Option<RouteCall>,
    /// What becomes of the request.
    pub action: Action,
}

impl Rule {
    /// A rule without filters and plugins.
    pub fn new(id: RuleId, matches: Vec<RuleMatch>, action: Action) -> Self {
        let (request_headers, response_headers, rewrite, route_plugin) = (None, None, None, None);
        Self { id, matches, request_headers, response_headers, rewrite, policies: Vec::new(), route_plugin, action }
    }
}

/// What becomes of a request that a rule took.
#[derive(Debug, Clone, Serialize)]
pub enum Action {
    /// To one of the backends, by weight.
    Forward(WeightedBackends),
    /// `RequestRedirect`.
    Redirect(Redirect),
    /// The rule is broken: it answers, it never falls through to a less specific rule.
    Fail(Failure),
}

/// Why a rule or a backend reference cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Failure {
    /// Decides the status code.
    pub reason: Reason,
    /// For the access log and `status`; not shown to clients.
    pub message: Arc<str>,
}

/// Backends of a rule with their weights.
#[derive(Debug, Clone, Serialize)]
pub struct WeightedBackends {
    /// In the order of the resource. Those with a weight of zero only if a route plugin may choose them.
    pub backends: Vec<WeightedBackend>,
    /// Sum of the weights; 0 means that nothing may be chosen (`Reason::NoBackend`).
    pub total: u32,
}

impl WeightedBackends {
    /// Backends as a resource lists them, with the total of their weights. Weights of zero are dropped.
    pub fn new(backends: impl IntoIterator<Item = WeightedBackend>) -> Self {
        Self::all(backends.into_iter().filter(|backend| backend.weight > 0).collect())
    }

    /// Backends as a resource lists them, also those with a weight of zero: a route plugin may choose them, the weights never do.
    pub fn all(backends: Vec<WeightedBackend>) -> Self {
        let total = backends.iter().map(|backend| backend.weight).fold(0, u32::saturating_add);
        Self { backends, total }
    }

    /// A number for the rule that is the same for as long as names, weights and order of its backends are.
    pub fn identity(&self, rule: &RuleId) -> u64 {
        let mut hasher = DefaultHasher::new();
        rule.hash(&mut hasher);
        for backend in &self.backends {
            (&backend.name, backend.weight).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The backend for a number drawn uniformly from all `u32`, with its place: each gets its share to within one part in 2³² / total.
    pub fn pick(&self, random: u32) -> Option<(usize, &WeightedBackend)> {
        // Multiply and shift in place of a remainder: one cycle, and no bias towards the first backends.
        let point = (u64::from(random) * u64::from(self.total)) >> 32;
        let mut end = 0;
        self.backends.iter().enumerate().find(|(_, backend)| {
            end += u64::from(backend.weight);
            point < end
        })
    }
}

/// One `backendRefs` entry.
#[derive(Debug, Clone, Serialize)]
pub struct WeightedBackend {
    /// As route plugins know it: `namespace/name:port`, also of a reference that does not resolve.
    #[serde(skip)]
    pub name: Arc<str>,
    /// Share of the total.
    pub weight: u32,
    /// Where it goes.
    pub target: Target,
    /// Filters of the reference itself, applied after those of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderEdits>,
    /// Likewise, before those of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<HeaderEdits>,
    /// Likewise, in place of that of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<UrlRewrite>,
}

impl WeightedBackend {
    /// A reference without filters of its own.
    pub fn new(name: impl Into<Arc<str>>, weight: u32, target: Target) -> Self {
        Self { name: name.into(), weight, target, request_headers: None, response_headers: None, rewrite: None }
    }
}

/// What a backend reference resolved to.
#[derive(Debug, Clone, Serialize)]
pub enum Target {
    /// A backend, whether or not it has ready endpoints now.
    Backend(Arc<Backend>),
    /// A reference that does not resolve: its share of requests gets this answer.
    Fail(Failure),
}

impl Target {
    /// How many endpoints could take a request now; none for a reference that does not resolve.
    pub fn ready_endpoints(&self) -> usize {
        match self {
            Self::Backend(backend) => backend.endpoints.load().endpoints.len(),
            Self::Fail(_) => 0,
        }
    }
}

/// All of it must hold.
#[derive(Debug, Clone, Serialize)]
pub struct RuleMatch {
    /// Path.
    pub path: PathMatch,
    /// Method, if it matters.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "crate::filter::display_opt")]
    pub method: Option<Method>,
    /// Headers, each name once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters, each name once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
}

/// A condition on the normalised path.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// Equal, byte by byte.
    Exact(Arc<str>),
    /// Equal up to an element boundary: `/a` covers `/a`, `/a/` and `/a/b`, not `/ab`. Kept without a trailing slash; `""` covers all.
    Prefix(Arc<str>),
    /// Matches the whole path: made by [`compile_regex`].
    Regex(Regex),
    /// A gRPC call of which one half is left open: tried after every prefix that says something.
    Call(CallMatch),
}

/// A condition on one half of `/service/method`.
#[derive(Debug, Clone)]
pub struct CallMatch {
    /// The half that is given.
    pub part: CallPart,
    /// Matches the whole path: made by [`compile_regex`].
    pub path: Regex,
}

/// Which half of a gRPC call a condition is about. Ordered by precedence: who names the service knows more than who names the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallPart {
    /// Any method of some services.
    Service,
    /// Some methods of any service.
    Method,
}

impl PathMatch {
    /// An exact path of a resource, in the normal form that requests are brought into.
    ///
    /// # Errors
    /// No request could ever have that path.
    pub fn exact(path: &str) -> Result<Self, InvalidPath> {
        Ok(Self::Exact(path::normalize(path)?.into()))
    }

    /// A path prefix of a resource, in normal form and without its trailing slash, which has no meaning.
    ///
    /// # Errors
    /// No request could ever have that prefix.
    pub fn prefix(path: &str) -> Result<Self, InvalidPath> {
        Ok(Self::Prefix(path::normalize(path)?.trim_end_matches('/').into()))
    }

    /// A regular expression of a resource, anchored at both ends.
    ///
    /// # Errors
    /// See [`compile_regex`].
    pub fn regex(pattern: &str) -> Result<Self, regex::Error> {
        compile_regex(pattern).map(Self::Regex)
    }

    /// One half of a gRPC call, as a regular expression over the whole path.
    ///
    /// # Errors
    /// See [`compile_regex`].
    pub fn call(part: CallPart, pattern: &str) -> Result<Self, regex::Error> {
        Ok(Self::Call(CallMatch { part, path: compile_regex(pattern)? }))
    }
}

/// The most memory that one compiled pattern may take: enough for any sensible one, and nobody's route can exhaust the process.
const MAX_REGEX_SIZE: usize = 1 << 20;

/// Compile a pattern so that it matches only a whole path or value, which [`PathMatch::Regex`] and [`ValueMatch::Regex`] demand.
///
/// # Errors
/// The pattern is malformed, or too large when compiled.
pub fn compile_regex(pattern: &str) -> Result<Regex, regex::Error> {
    // On its own first: `a)|(?:b` would become well-formed, and unanchored, inside the group.
    let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_REGEX_SIZE).build();
    compile(pattern)?;
    compile(&format!("{REGEX_START}{pattern}{REGEX_END}"))
}

const REGEX_START: &str = r"\A(?:";
const REGEX_END: &str = r")\z";

/// The pattern as the resource has it.
fn regex_source(regex: &Regex) -> &str {
    let text = regex.as_str();
    text.strip_prefix(REGEX_START).and_then(|text| text.strip_suffix(REGEX_END)).unwrap_or(text)
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "= {path}"),
            Self::Prefix(path) => write!(f, "{path}/*"),
            Self::Regex(regex) | Self::Call(CallMatch { path: regex, .. }) => write!(f, "~ {}", regex_source(regex)),
        }
    }
}

impl Serialize for PathMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A condition on a header.
#[derive(Debug, Clone, Serialize)]
pub struct HeaderMatch {
    /// Name.
    #[serde(serialize_with = "crate::filter::display")]
    pub name: HeaderName,
    /// Value; repeated headers match if any value does.
    pub value: ValueMatch,
}

/// A condition on a query parameter.
#[derive(Debug, Clone, Serialize)]
pub struct QueryMatch {
    /// Name, compared after percent-decoding.
    pub name: Arc<str>,
    /// Value; the first parameter of that name counts.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// Equal, byte by byte.
    Exact(HeaderValue),
    /// Matches the whole value: made by [`compile_regex`]. Values that are not UTF-8 never match.
    Regex(Regex),
}

impl Serialize for ValueMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(value) => {
                serializer.collect_str(&format_args!("= {}", String::from_utf8_lossy(value.as_bytes())))
            }
            Self::Regex(regex) => serializer.collect_str(&format_args!("~ {}", regex_source(regex))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(weights: &[u32]) -> WeightedBackends {
        WeightedBackends::new(weights.iter().map(|&weight| {
            WeightedBackend::new(
                format!("default/{weight}:80"),
                weight,
                Target::Fail(Failure { reason: Reason::InvalidBackend, message: "".into() }),
            )
        }))
    }

    #[track_caller]
    fn check(weights: &[u32], random: u32, expected: Option<u32>) {
        assert_eq!(backends(weights).pick(random).map(|(_, backend)| backend.weight), expected, "{weights:?} {random}");
    }

    #[test]
    fn pick() {
        check(&[], 0, None);
        check(&[0, 0], u32::MAX, None);
        check(&[1], 0, Some(1));
        check(&[1], u32::MAX, Some(1));
        check(&[1, 3], (1 << 30) - 1, Some(1));
        check(&[1, 3], 1 << 30, Some(3));
        check(&[1, 3], u32::MAX, Some(3));
        check(&[0, 5, 0], 7, Some(5));
    }

    #[test]
    fn a_weight_of_zero_is_there_for_route_plugins_only() {
        let zero = WeightedBackends::all(
            backends(&[7]).backends.into_iter().map(|it| WeightedBackend { weight: 0, ..it }).collect(),
        );
        assert_eq!((zero.backends.len(), zero.total), (1, 0));
        assert!(zero.pick(0).is_none() && zero.pick(u32::MAX).is_none());
    }

    #[test]
    fn the_identity_of_a_rule_is_that_of_its_backends() {
        let rule =
            |index| RuleId { route: ResourceRef::new(crate::Kind::HTTPRoute, "default", "a"), index, name: None };
        assert_eq!(backends(&[1, 2]).identity(&rule(0)), backends(&[1, 2]).identity(&rule(0)));
        assert_ne!(backends(&[1, 2]).identity(&rule(0)), backends(&[2, 1]).identity(&rule(0)));
        assert_ne!(backends(&[1, 2]).identity(&rule(0)), backends(&[1, 2]).identity(&rule(1)));
    }

    #[test]
    fn pick_gives_each_its_share() {
        let backends = backends(&[90, 9, 1]);
        let mut counts = [0u32; 3];
        for step in 0..100_000u32 {
            let (at, backend) = backends.pick(step.wrapping_mul(2_654_435_769)).unwrap();
            let weight = backend.weight;
            assert_eq!(weight, backends.backends[at].weight);
            counts[match weight {
                90 => 0,
                9 => 1,
                _ => 2,
            }] += 1;
        }
        for (count, expected) in counts.into_iter().zip([90_000u32, 9_000, 1_000]) {
            assert!(count.abs_diff(expected) <= expected / 20 + 5, "{count} instead of {expected}");
        }
    }

    #[test]
    fn regex_matches_whole_values() {
        #[track_caller]
        fn check(pattern: &str, text: &str, expected: bool) {
            assert_eq!(compile_regex(pattern).unwrap().is_match(text), expected, "{pattern} on {text}");
        }
        check("/a", "/a", true);
        check("/a", "/a/", false);
        check("/a|/ab", "/ab", true);
        check("/a|b", "x/a", false);
        check("/a.*", "/a\n", false);
        check("/v[0-9]+/.*", "/v12/x", true);
        assert!(compile_regex("a)|(?:b").is_err());
        assert!(compile_regex("[a").is_err());
        assert!(compile_regex("(((a{50}){50}){50}){50}").is_err());
        assert_eq!(PathMatch::Regex(compile_regex("/a+").unwrap()).to_string(), "~ /a+");
    }
}
