//! Filters of rules and backend references, compiled.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use penstock_core::{
    Kind,
    filter::{HeaderEdits, PathRewrite, Redirect, Scheme, UrlRewrite},
    hostname::HostPattern,
    path,
};

use crate::{
    nearest::{did_you_mean, list},
    problem::Problem,
    resources::{
        common::{LocalObjectReference, PENSTOCK_GROUP},
        filter::{
            self, FilterType, HeaderModifier, HttpHeader, PathModifier, PathModifierType, RedirectScheme, RouteFilter,
        },
    },
};

/// Filters by what they do.
#[derive(Debug, Default)]
pub(super) struct FilterSet {
    pub(super) request_headers: Option<HeaderEdits>,
    pub(super) response_headers: Option<HeaderEdits>,
    pub(super) rewrite: Option<UrlRewrite>,
    pub(super) redirect: Option<Redirect>,
    /// Names of WasmPlugins with the path of their filter, in order.
    pub(super) plugins: Vec<(String, String)>,
}

/// Where filters stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilterPlace {
    /// Of the route.
    pub(super) kind: Kind,
    pub(super) in_backend: bool,
    /// Whether the rule matches by exactly one path prefix.
    pub(super) single_prefix: bool,
}

/// All of them, or the first one that does not work.
pub(super) fn compile(filters: &[RouteFilter], place: FilterPlace) -> Result<FilterSet, Problem> {
    let mut set = FilterSet::default();
    for (index, filter) in filters.iter().enumerate() {
        set.add(filter, index, place).map_err(|problem| problem.within(format_args!("filters[{index}]")))?;
    }
    if set.redirect.is_some() && set.rewrite.is_some() {
        let message = "filters: RequestRedirect and URLRewrite exclude each other; remove one of the two";
        return Err(Problem::new("IncompatibleFilters", message));
    }
    Ok(set)
}

impl FilterSet {
    fn add(&mut self, filter: &RouteFilter, index: usize, place: FilterPlace) -> Result<(), Problem> {
        match &filter.type_ {
            FilterType::RequestHeaderModifier => {
                let edits = required(filter.request_header_modifier.as_ref(), "requestHeaderModifier")?;
                let edits = header_edits(edits).map_err(|problem| problem.within("requestHeaderModifier"))?;
                once(&mut self.request_headers, edits, &filter.type_)
            }
            FilterType::ResponseHeaderModifier => {
                let edits = required(filter.response_header_modifier.as_ref(), "responseHeaderModifier")?;
                let edits = header_edits(edits).map_err(|problem| problem.within("responseHeaderModifier"))?;
                once(&mut self.response_headers, edits, &filter.type_)
            }
            FilterType::RequestRedirect if place.kind == Kind::HTTPRoute && !place.in_backend => {
                let redirect = required(filter.request_redirect.as_ref(), "requestRedirect")?;
                let redirect = redirect_of(redirect, place).map_err(|problem| problem.within("requestRedirect"))?;
                once(&mut self.redirect, redirect, &filter.type_)
            }
            FilterType::UrlRewrite if place.kind == Kind::HTTPRoute => {
                let rewrite = required(filter.url_rewrite.as_ref(), "urlRewrite")?;
                let rewrite = rewrite_of(rewrite, place).map_err(|problem| problem.within("urlRewrite"))?;
                once(&mut self.rewrite, rewrite, &filter.type_)
            }
            FilterType::ExtensionRef if !place.in_backend => {
                let reference = required(filter.extension_ref.as_ref(), "extensionRef")?;
                let name = plugin_name(reference).map_err(|problem| problem.within("extensionRef"))?;
                self.plugins.push((name, format!("filters[{index}].extensionRef.name")));
                Ok(())
            }
            other => Err(unsupported(other, place)),
        }
    }
}

fn unsupported(type_: &FilterType, place: FilterPlace) -> Problem {
    let mut usable = vec!["RequestHeaderModifier", "ResponseHeaderModifier"];
    if place.kind == Kind::HTTPRoute {
        usable.push("URLRewrite");
    }
    if place.kind == Kind::HTTPRoute && !place.in_backend {
        usable.push("RequestRedirect");
    }
    if !place.in_backend {
        usable.push("ExtensionRef");
    }
    let scope = if place.in_backend { "a backendRef of " } else { "" };
    let hint = match type_ {
        FilterType::Unknown(text) => did_you_mean(text, usable.iter().copied()),
        _ => String::new(),
    };
    let message =
        format!("type: `{type_}` is not supported here; {scope}{} takes {}{hint}", article(place.kind), list(usable));
    Problem::unsupported(message)
}

fn article(kind: Kind) -> String {
    format!("{} {kind}", if kind == Kind::HTTPRoute { "an" } else { "a" })
}

fn required<'a, T>(field: Option<&'a T>, name: &str) -> Result<&'a T, Problem> {
    field.ok_or_else(|| Problem::unsupported(format!("{name}: is required with this type")))
}

fn once<T>(place: &mut Option<T>, value: T, type_: &FilterType) -> Result<(), Problem> {
    if place.is_some() {
        let message = format!("type: a second {type_} filter; put its edits into the first one");
        return Err(Problem::new("IncompatibleFilters", message));
    }
    *place = Some(value);
    Ok(())
}

fn header_edits(modifier: &HeaderModifier) -> Result<HeaderEdits, Problem> {
    let named = |list: &str, headers: &[HttpHeader]| -> Result<Vec<_>, Problem> {
        let headers = headers.iter().enumerate();
        headers
            .map(|(index, it)| header(it).map_err(|problem| problem.within(format_args!("{list}[{index}]"))))
            .collect()
    };
    let remove = modifier.remove.iter().enumerate().map(|(index, name)| {
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Problem::unsupported(format!("remove[{index}]: `{name}` is no header name")))
    });
    Ok(HeaderEdits {
        set: named("set", &modifier.set)?,
        add: named("add", &modifier.add)?,
        remove: remove.collect::<Result<_, _>>()?,
    })
}

fn header(header: &HttpHeader) -> Result<(HeaderName, HeaderValue), Problem> {
    let name = HeaderName::from_bytes(header.name.as_bytes())
        .map_err(|_| Problem::unsupported(format!("name: `{}` is no header name", header.name)))?;
    let value = HeaderValue::from_bytes(header.value.as_bytes()).map_err(|_| {
        Problem::unsupported("value: has a control character, which no header value can have".to_owned())
    })?;
    Ok((name, value))
}

fn redirect_of(redirect: &filter::RequestRedirect, place: FilterPlace) -> Result<Redirect, Problem> {
    let scheme = match &redirect.scheme {
        None => None,
        Some(RedirectScheme::Http) => Some(Scheme::Http),
        Some(RedirectScheme::Https) => Some(Scheme::Https),
        Some(RedirectScheme::Unknown(text)) => {
            return Err(Problem::unsupported(format!("scheme: `{text}` is neither `http` nor `https`")));
        }
    };
    let code = redirect.status_code.unwrap_or(302);
    let status = u16::try_from(code).ok().filter(|code| [301, 302, 303, 307, 308].contains(code));
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status
        .ok_or_else(|| Problem::unsupported(format!("statusCode: {code} is none of 301, 302, 303, 307 and 308")))?;
    let port = redirect.port.map(|port| {
        let valid = u16::try_from(port).ok().filter(|port| *port > 0);
        valid.ok_or_else(|| Problem::unsupported(format!("port: {port} is not between 1 and 65535")))
    });
    Ok(Redirect {
        scheme,
        hostname: redirect.hostname.as_deref().map(hostname).transpose()?,
        port: port.transpose()?,
        path: path_rewrite(redirect.path.as_ref(), place)?,
        status,
    })
}

fn rewrite_of(rewrite: &filter::UrlRewrite, place: FilterPlace) -> Result<UrlRewrite, Problem> {
    let host = rewrite.hostname.as_deref().map(hostname).transpose()?;
    let host = host.map(|host| HeaderValue::from_str(&host).expect("a hostname has only letters, digits, '-' and '.'"));
    Ok(UrlRewrite { hostname: host, path: path_rewrite(rewrite.path.as_ref(), place)? })
}

fn hostname(text: &str) -> Result<Arc<str>, Problem> {
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(name)) => Ok(name),
        Ok(_) => Err(Problem::unsupported(format!("hostname: `{text}` is not one host"))),
        Err(error) => Err(Problem::unsupported(format!("hostname: `{text}` {error}"))),
    }
}

fn path_rewrite(modifier: Option<&PathModifier>, place: FilterPlace) -> Result<Option<PathRewrite>, Problem> {
    let Some(modifier) = modifier else { return Ok(None) };
    let checked = |field: &str, value: Option<&String>| -> Result<Arc<str>, Problem> {
        let text = value.ok_or_else(|| Problem::unsupported(format!("path.{field}: is required with this type")))?;
        if text.is_empty() {
            return Ok("".into());
        }
        let normal = path::normalize(text);
        let normal = normal.map_err(|error| Problem::unsupported(format!("path.{field}: `{text}`: {error}")))?;
        Ok(normal.into())
    };
    match &modifier.type_ {
        PathModifierType::ReplaceFullPath => {
            let full = checked("replaceFullPath", modifier.replace_full_path.as_ref())?;
            Ok(Some(PathRewrite::Full(full)))
        }
        PathModifierType::ReplacePrefixMatch if !place.single_prefix => {
            let message = "path.type: `ReplacePrefixMatch` needs a rule with exactly one match, of type `PathPrefix`";
            Err(Problem::new("IncompatibleFilters", message))
        }
        PathModifierType::ReplacePrefixMatch => {
            let prefix = checked("replacePrefixMatch", modifier.replace_prefix_match.as_ref())?;
            Ok(Some(PathRewrite::Prefix(prefix)))
        }
        PathModifierType::Unknown(text) => {
            let hint = did_you_mean(text, PathModifierType::KNOWN.iter().copied());
            Err(Problem::unsupported(format!("path.type: `{text}` is not known{hint}")))
        }
    }
}

fn plugin_name(reference: &LocalObjectReference) -> Result<String, Problem> {
    if reference.group == PENSTOCK_GROUP && reference.kind == "WasmPlugin" {
        return Ok(reference.name.clone());
    }
    let message = format!(
        "kind: `{}/{}` is no filter; Penstock has `{PENSTOCK_GROUP}/WasmPlugin`",
        reference.group, reference.kind
    );
    Err(Problem::unsupported(message))
}
