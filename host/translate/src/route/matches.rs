//! What rules match on, compiled.

use http::{HeaderName, HeaderValue, Method};
use penstock_core::route::{CallPart, HeaderMatch, PathMatch, QueryMatch, RuleMatch, ValueMatch, compile_regex};

use crate::{
    nearest::{did_you_mean, list},
    problem::Problem,
    resources::route::{
        GrpcMatch, GrpcMethodMatch, HttpMatch, HttpPathMatch, NamedValueMatch, PathMatchType, ValueMatchType,
    },
};

/// The methods of Gateway API. Others are tokens too, but one that differs from these by case alone is a mistake.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// A kind of match that can be compiled.
pub(super) trait CompileMatch: Sized {
    /// The compiled form, or the field that is wrong.
    fn compile(&self) -> Result<RuleMatch, Problem>;

    /// Whether the rule matches by exactly one path prefix: only then can a prefix be replaced.
    fn is_single_prefix(matches: &[Self]) -> bool;

    /// What a rule without matches matches on.
    fn everything() -> RuleMatch {
        RuleMatch { path: PathMatch::Prefix("".into()), method: None, headers: Vec::new(), query: Vec::new() }
    }
}

impl CompileMatch for HttpMatch {
    fn compile(&self) -> Result<RuleMatch, Problem> {
        let path = match &self.path {
            Some(path) => http_path(path).map_err(|problem| problem.within("path"))?,
            None => PathMatch::Prefix("".into()),
        };
        let query = distinct(&self.query_params, str::to_owned);
        let query = query.map(|(index, param)| {
            let value = value(param).map_err(|problem| problem.within(format_args!("queryParams[{index}]")))?;
            Ok(QueryMatch { name: param.name.as_str().into(), value })
        });
        Ok(RuleMatch {
            path,
            method: self.method.as_deref().map(method).transpose()?,
            headers: headers(&self.headers)?,
            query: query.collect::<Result<_, Problem>>()?,
        })
    }

    fn is_single_prefix(matches: &[Self]) -> bool {
        let is_prefix = |one: &Self| {
            let type_ = one.path.as_ref().and_then(|path| path.type_.as_ref());
            matches!(type_, None | Some(PathMatchType::PathPrefix))
        };
        // A rule without matches matches by the prefix `/`.
        matches.len() <= 1 && matches.iter().all(is_prefix)
    }
}

impl CompileMatch for GrpcMatch {
    fn compile(&self) -> Result<RuleMatch, Problem> {
        let path = match &self.method {
            Some(method) => grpc_path(method).map_err(|problem| problem.within("method"))?,
            None => PathMatch::Prefix("".into()),
        };
        Ok(RuleMatch { path, method: None, headers: headers(&self.headers)?, query: Vec::new() })
    }

    /// gRPC has no path rewrites.
    fn is_single_prefix(_: &[Self]) -> bool {
        false
    }
}

fn http_path(path: &HttpPathMatch) -> Result<PathMatch, Problem> {
    let text = path.value.as_deref().unwrap_or("/");
    let invalid =
        |error: &dyn std::fmt::Display| Problem::unsupported(format!("value: `{text}` cannot match: {error}"));
    match path.type_.as_ref().unwrap_or(&PathMatchType::PathPrefix) {
        PathMatchType::Exact => PathMatch::exact(text).map_err(|error| invalid(&error)),
        PathMatchType::PathPrefix => PathMatch::prefix(text).map_err(|error| invalid(&error)),
        PathMatchType::RegularExpression => PathMatch::regex(text).map_err(|error| bad_regex("value", text, &error)),
        PathMatchType::Unknown(type_) => Err(unknown_type(type_, PathMatchType::KNOWN)),
    }
}

/// `/service/method`; a service alone is a prefix, a method alone fits every service and goes after whoever names the service.
fn grpc_path(path: &GrpcMethodMatch) -> Result<PathMatch, Problem> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (given(&path.service), given(&path.method));
    let (exact, service, method) = match (path.type_.as_ref().unwrap_or(&ValueMatchType::Exact), service, method) {
        (ValueMatchType::Unknown(type_), _, _) => return Err(unknown_type(type_, ValueMatchType::KNOWN)),
        (_, None, None) => return Err(Problem::unsupported("service: one of `service` and `method` is required")),
        (ValueMatchType::Exact, Some(service), None) => {
            let prefix = PathMatch::prefix(&format!("/{service}"));
            return prefix.map_err(|error| Problem::unsupported(format!("service: `{service}` cannot match: {error}")));
        }
        (ValueMatchType::Exact, Some(service), Some(method)) => {
            let path = format!("/{service}/{method}");
            let exact = PathMatch::exact(&path);
            return exact.map_err(|error| Problem::unsupported(format!("service: `{path}` cannot match: {error}")));
        }
        (ValueMatchType::Exact, None, Some(method)) => (true, None, Some(method)),
        (ValueMatchType::RegularExpression, service, method) => (false, service, method),
    };
    // Each on its own first, so that a message shows what the resource has.
    for (field, text) in [("service", &service), ("method", &method)] {
        if let Some(text) = text.as_ref().filter(|_| !exact) {
            compile_regex(text).map_err(|error| bad_regex(field, text, &error))?;
        }
    }
    let part = |text: Option<String>| match text {
        Some(text) if exact => escape(&text),
        Some(text) => format!("(?:{text})"),
        None => "[^/]+".to_owned(),
    };
    let open = match (&service, &method) {
        (Some(_), Some(_)) => None,
        (Some(_), None) => Some(CallPart::Service),
        (None, _) => Some(CallPart::Method),
    };
    let pattern = format!("/{}/{}", part(service), part(method));
    let compiled = match open {
        None => PathMatch::regex(&pattern),
        Some(given) => PathMatch::call(given, &pattern),
    };
    compiled.map_err(|error| bad_regex("service", &pattern, &error))
}

fn escape(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c])).collect()
}

fn method(text: &str) -> Result<Method, Problem> {
    let invalid = |hint: String| Problem::unsupported(format!("method: `{text}` is no HTTP method{hint}"));
    let upper = text.to_uppercase();
    if text != upper && METHODS.contains(&upper.as_str()) {
        return Err(invalid(format!("; did you mean `{upper}`?")));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| invalid(did_you_mean(text, METHODS.into_iter())))
}

fn headers(matches: &[NamedValueMatch]) -> Result<Vec<HeaderMatch>, Problem> {
    let distinct = distinct(matches, str::to_ascii_lowercase);
    distinct
        .map(|(index, header)| {
            let at = format!("headers[{index}]");
            let name = HeaderName::from_bytes(header.name.as_bytes())
                .map_err(|_| Problem::unsupported(format!("{at}.name: `{}` is no header name", header.name)))?;
            Ok(HeaderMatch { name, value: value(header).map_err(|problem| problem.within(&at))? })
        })
        .collect()
}

/// Of conditions with equivalent names the first one counts, as Gateway API says.
fn distinct(
    matches: &[NamedValueMatch],
    normal: fn(&str) -> String,
) -> impl Iterator<Item = (usize, &NamedValueMatch)> {
    let first = move |index: usize| {
        let name = normal(&matches[index].name);
        !matches[..index].iter().any(|earlier| normal(&earlier.name) == name)
    };
    matches.iter().enumerate().filter(move |(index, _)| first(*index))
}

fn value(condition: &NamedValueMatch) -> Result<ValueMatch, Problem> {
    let text = &condition.value;
    match condition.type_.as_ref().unwrap_or(&ValueMatchType::Exact) {
        ValueMatchType::Exact => HeaderValue::from_bytes(text.as_bytes())
            .map(ValueMatch::Exact)
            .map_err(|_| Problem::unsupported("value: has a control character, which no value can have".to_owned())),
        ValueMatchType::RegularExpression => {
            compile_regex(text).map(ValueMatch::Regex).map_err(|error| bad_regex("value", text, &error))
        }
        ValueMatchType::Unknown(type_) => Err(unknown_type(type_, ValueMatchType::KNOWN)),
    }
}

fn unknown_type(type_: &str, known: &[&str]) -> Problem {
    let hint = did_you_mean(type_, known.iter().copied());
    Problem::unsupported(format!("type: `{type_}` is none of {}{hint}", list(known.iter().copied())))
}

fn bad_regex(field: &str, text: &str, error: &regex::Error) -> Problem {
    let why = match error {
        regex::Error::CompiledTooBig(limit) => format!("it needs more than {limit} bytes when compiled"),
        // The last line says what is wrong; those before draw the pattern.
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    Problem::unsupported(format!("{field}: `{text}` is no usable regular expression: {why}"))
}
