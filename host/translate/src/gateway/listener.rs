//! One listener of a Gateway on its own.

use std::sync::Arc;

use penstock_core::{
    Kind, ResourceRef,
    hostname::HostPattern,
    listener::{Certificate, SocketProtocol},
};

use super::{AllowedNamespaces, ListenerModel, ListenerState, certificates::CertificateCache};
use crate::{
    grants::{self, End},
    nearest::{did_you_mean, list},
    ownership::Ownership,
    problem::{Problem, sentences},
    resources::{
        common::{GATEWAY_GROUP, SecretObjectReference},
        gateway::{AllowedRoutes, FromNamespaces, Listener, Protocol, TlsMode},
    },
    status::SupportedKind,
};

/// Routes that a listener for HTTP takes.
const HTTP_KINDS: [SupportedKind; 2] = [
    SupportedKind { group: GATEWAY_GROUP, kind: "HTTPRoute" },
    SupportedKind { group: GATEWAY_GROUP, kind: "GRPCRoute" },
];

pub(super) fn evaluate(
    ownership: Ownership<'_>,
    certificates: &mut CertificateCache,
    parent: &ResourceRef,
    index: usize,
    spec: &Listener,
) -> (ListenerModel, ListenerState) {
    let at = format!("listeners[{index}]");
    let protocol = match spec.protocol {
        Protocol::Http => Some(SocketProtocol::Http),
        Protocol::Https => Some(SocketProtocol::Https),
        _ => None,
    };
    let (supported_kinds, kinds_problem) = supported_kinds(&at, protocol, spec.allowed_routes.as_ref());
    let mut problems: Vec<Problem> = unsupported_protocol(&at, &spec.protocol).into_iter().collect();
    let port = u16::try_from(spec.port).ok().filter(|port| *port > 0);
    if port.is_none() {
        problems.push(Problem::unsupported(format!("{at}.port: {} is not between 1 and 65535", spec.port)));
    }
    let hostname = HostPattern::parse(spec.hostname.as_deref().unwrap_or_default());
    if let Err(error) = &hostname {
        let text = spec.hostname.as_deref().unwrap_or_default();
        problems.push(Problem::unsupported(format!("{at}.hostname: `{text}` {error}")));
    }
    let namespaces = allowed_namespaces(&at, spec.allowed_routes.as_ref(), &mut problems);
    problems.extend(unsupported_tls(&at, spec));
    if spec.filters.is_some() {
        problems.push(Problem::unsupported(format!("{at}.filters: filters of listeners are not supported yet")));
    }
    let tls = match protocol {
        Some(SocketProtocol::Https) => Tls::read(ownership, certificates, parent, &at, spec),
        _ => Tls::default(),
    };
    let model = ListenerModel {
        name: spec.name.as_str().into(),
        port: spec.port,
        hostname: hostname.ok(),
        kinds: supported_kinds.iter().filter_map(|kind| route_kind(kind.kind)).collect(),
        namespaces,
    };
    let state = ListenerState {
        supported_kinds,
        protocol,
        port: port.unwrap_or_default(),
        refused: problems.first().map(|first| Problem::new(first.reason, sentences(&problems))),
        conflict: None,
        unresolved: tls.unresolved.or(kinds_problem),
        unusable: tls.unusable,
        overlap: None,
        certificates: tls.certificates,
    };
    (model, state)
}

fn route_kind(kind: &str) -> Option<Kind> {
    match kind {
        "HTTPRoute" => Some(Kind::HTTPRoute),
        "GRPCRoute" => Some(Kind::GRPCRoute),
        _ => None,
    }
}

fn unsupported_protocol(at: &str, protocol: &Protocol) -> Option<Problem> {
    let hint = match protocol {
        Protocol::Http | Protocol::Https => return None,
        Protocol::Tls | Protocol::Tcp | Protocol::Udp => " yet".to_owned(),
        Protocol::Unknown(text) => did_you_mean(text, ["HTTP", "HTTPS"].into_iter()),
    };
    let message = format!("{at}.protocol: `{protocol}` is not supported{hint}");
    Some(Problem::new("UnsupportedProtocol", message))
}

fn unsupported_tls(at: &str, spec: &Listener) -> Option<Problem> {
    let tls = spec.tls.as_ref()?;
    match (&spec.protocol, tls.mode.as_ref().unwrap_or(&TlsMode::Terminate)) {
        (Protocol::Http, _) => {
            Some(Problem::unsupported(format!("{at}.tls: a listener for HTTP has none; use protocol `HTTPS`")))
        }
        (Protocol::Https, TlsMode::Terminate) => None,
        (Protocol::Https, mode) => {
            Some(Problem::unsupported(format!("{at}.tls.mode: `{mode}` does not go with HTTPS; use `Terminate`")))
        }
        _ => None,
    }
}

fn supported_kinds(
    at: &str,
    protocol: Option<SocketProtocol>,
    allowed: Option<&AllowedRoutes>,
) -> (Vec<SupportedKind>, Option<Problem>) {
    if protocol.is_none() {
        return (Vec::new(), None);
    }
    let wanted = allowed.map(|allowed| allowed.kinds.as_slice()).unwrap_or_default();
    if wanted.is_empty() {
        return (HTTP_KINDS.to_vec(), None);
    }
    let mut supported = Vec::new();
    let mut problems = Vec::new();
    for (index, want) in wanted.iter().enumerate() {
        let group = want.group.as_deref().unwrap_or(GATEWAY_GROUP);
        match HTTP_KINDS.iter().find(|kind| kind.group == group && kind.kind == want.kind) {
            Some(kind) if !supported.contains(kind) => supported.push(*kind),
            Some(_) => {}
            None => {
                let hint = did_you_mean(&want.kind, HTTP_KINDS.iter().map(|kind| kind.kind));
                let message = format!(
                    "{at}.allowedRoutes.kinds[{index}]: `{group}/{}` cannot attach to this protocol{hint}",
                    want.kind
                );
                problems.push(Problem::new("InvalidRouteKinds", message));
            }
        }
    }
    let problem = (!problems.is_empty()).then(|| Problem::new("InvalidRouteKinds", sentences(&problems)));
    (supported, problem)
}

fn allowed_namespaces(at: &str, allowed: Option<&AllowedRoutes>, problems: &mut Vec<Problem>) -> AllowedNamespaces {
    let Some(namespaces) = allowed.and_then(|allowed| allowed.namespaces.as_ref()) else {
        return AllowedNamespaces::Same;
    };
    match (namespaces.from.as_ref().unwrap_or(&FromNamespaces::Same), &namespaces.selector) {
        (FromNamespaces::All, _) => AllowedNamespaces::All,
        (FromNamespaces::Same, _) => AllowedNamespaces::Same,
        (FromNamespaces::Selector, Some(selector)) => AllowedNamespaces::Selector(selector.clone()),
        (FromNamespaces::Selector, None) => {
            let message = format!("{at}.allowedRoutes.namespaces.selector: is required with `from: Selector`");
            problems.push(Problem::unsupported(message));
            AllowedNamespaces::Nobody
        }
        (FromNamespaces::Unknown(text), _) => {
            let known = list(FromNamespaces::KNOWN.iter().copied());
            let message = format!("{at}.allowedRoutes.namespaces.from: `{text}` is none of {known}");
            problems.push(Problem::unsupported(message));
            AllowedNamespaces::Nobody
        }
    }
}

/// What an HTTPS listener serves with.
#[derive(Default)]
struct Tls {
    certificates: Vec<Arc<Certificate>>,
    unresolved: Option<Problem>,
    unusable: Option<Problem>,
}

impl Tls {
    fn read(
        ownership: Ownership<'_>,
        cache: &mut CertificateCache,
        parent: &ResourceRef,
        at: &str,
        spec: &Listener,
    ) -> Self {
        let references = spec.tls.as_ref().map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
        if references.is_empty() {
            let message = format!("{at}.tls.certificateRefs: a listener for HTTPS needs a Secret with its certificate");
            return Self {
                certificates: Vec::new(),
                unresolved: Some(Problem::new("InvalidCertificateRef", message.clone())),
                unusable: Some(Problem::new("InvalidTLSConfig", message)),
            };
        }
        let mut tls = Self::default();
        let mut problems = Vec::new();
        for (index, reference) in references.iter().enumerate() {
            match certificate(ownership, cache, parent, reference) {
                Ok(certificate) => tls.certificates.push(certificate),
                Err(problem) => problems.push(problem.within(format_args!("{at}.tls.certificateRefs[{index}]"))),
            }
        }
        // A reference that is not granted goes first: it tells nothing about whether the Secret exists.
        let first = problems.iter().find(|problem| problem.reason == "RefNotPermitted").or(problems.first());
        tls.unresolved = first.map(|first| Problem::new(first.reason, sentences(&problems)));
        if tls.certificates.is_empty() {
            tls.unusable = Some(Problem::invalid(format!("no certificate to serve with: {}", sentences(&problems))));
        }
        tls
    }
}

fn certificate(
    ownership: Ownership<'_>,
    cache: &mut CertificateCache,
    parent: &ResourceRef,
    reference: &SecretObjectReference,
) -> Result<Arc<Certificate>, Problem> {
    let invalid = |message: String| Problem::new("InvalidCertificateRef", message);
    let (group, kind) = (reference.group.as_deref().unwrap_or(""), reference.kind.as_deref().unwrap_or("Secret"));
    if !group.is_empty() || kind != "Secret" {
        return Err(invalid(format!(
            "kind: `{group}/{kind}` cannot hold a certificate; only Secrets of the core group can"
        )));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&parent.namespace);
    let referrer = parent.kind.to_string();
    let from = End { group: GATEWAY_GROUP, kind: &referrer, namespace: &parent.namespace };
    let to = End { group: "", kind: "Secret", namespace };
    let resources = ownership.resources;
    if !grants::permitted(&resources.reference_grants, from, to, &reference.name) {
        let message = format!("name: Secret `{}` {}", reference.name, grants::advice(from, to, &reference.name));
        return Err(Problem::new("RefNotPermitted", message));
    }
    let key = ResourceRef::new(Kind::Secret, namespace, reference.name.as_str());
    cache.want(&key);
    let Some(secret) = resources.secrets.get(&key) else {
        let hint = did_you_mean(&reference.name, resources.secrets.names_in(Kind::Secret, namespace));
        return Err(invalid(format!("name: there is no Secret `{namespace}/{}`{hint}", reference.name)));
    };
    cache.get(&key, secret).map_err(|error| invalid(format!("name: Secret `{namespace}/{}` {error}", reference.name)))
}
