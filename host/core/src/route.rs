//! Routes as the proxy sees them: HTTPRoute, GRPCRoute and Ingress all become these values.

use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue, Method};
use regex::Regex;
use serde::{Serialize, Serializer};

use crate::{
    ResourceRef,
    backend::Backend,
    filter::{HeaderEdits, Redirect, UrlRewrite},
    hostname::HostPattern,
    plugin::PolicyCall,
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
    /// What becomes of the request.
    pub action: Action,
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
    /// In the order of the resource; weights of zero are kept out.
    pub backends: Vec<WeightedBackend>,
    /// Sum of the weights; 0 means that nothing may be chosen (`Reason::NoBackend`).
    pub total: u32,
}

/// One `backendRefs` entry.
#[derive(Debug, Clone, Serialize)]
pub struct WeightedBackend {
    /// Share of the total, at least 1.
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

/// What a backend reference resolved to.
#[derive(Debug, Clone, Serialize)]
pub enum Target {
    /// A backend, whether or not it has ready endpoints now.
    Backend(Arc<Backend>),
    /// A reference that does not resolve: its share of requests gets this answer.
    Fail(Failure),
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
    /// Matches the whole path.
    Regex(Regex),
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "= {path}"),
            Self::Prefix(path) => write!(f, "{path}/*"),
            Self::Regex(regex) => write!(f, "~ {regex}"),
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
    /// Matches the whole value; values that are not UTF-8 never match.
    Regex(Regex),
}

impl Serialize for ValueMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(value) => {
                serializer.collect_str(&format_args!("= {}", String::from_utf8_lossy(value.as_bytes())))
            }
            Self::Regex(regex) => serializer.collect_str(&format_args!("~ {regex}")),
        }
    }
}
