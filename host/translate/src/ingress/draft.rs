//! What an Ingress says by itself, before anything it refers to is looked at.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend, IngressServiceBackend};
use penstock_core::{ResourceRef, hostname::HostPattern, route::PathMatch};

use super::class::{WantedClass, created};
use crate::{nearest::did_you_mean, problem::Problem, resources::Ingress};

const PATH_TYPES: [&str; 3] = ["Exact", "Prefix", "ImplementationSpecific"];

/// An Ingress with everything compiled that needs nothing else.
#[derive(Debug)]
pub(crate) struct IngressDraft {
    pub(super) id: ResourceRef,
    pub(crate) generation: i64,
    /// Seconds since the epoch; 0 where the source has no time.
    pub(crate) created: i64,
    pub(super) class: WantedClass,
    /// Each host once.
    pub(super) hosts: Vec<HostDraft>,
    pub(super) default: Option<PathDraft>,
    /// What is wrong, in the order of the resource.
    pub(super) problems: Vec<Problem>,
    /// Whether `spec.tls` says anything.
    pub(super) tls: bool,
}

/// One host with its paths.
#[derive(Debug)]
pub(super) struct HostDraft {
    /// The field, for messages.
    pub(super) at: String,
    pub(super) hostname: HostPattern,
    pub(super) paths: Vec<PathDraft>,
}

/// One path, or the default backend.
#[derive(Debug)]
pub(super) struct PathDraft {
    /// The rule's name in logs and metrics, such as `rules[0].paths[1]`.
    pub(super) name: Arc<str>,
    /// The field of the backend, for messages.
    pub(super) at: String,
    pub(super) path: PathMatch,
    /// If it is none that can be served, the path answers in its place.
    pub(super) backend: Result<ServiceBackend, Problem>,
}

/// A port of a Service.
#[derive(Debug)]
pub(super) struct ServiceBackend {
    pub(super) service: String,
    pub(super) port: ServicePort,
}

#[derive(Debug)]
pub(super) enum ServicePort {
    Number(i32),
    Name(String),
}

/// Read an Ingress.
pub(crate) fn draft(id: &ResourceRef, ingress: &Ingress) -> IngressDraft {
    let spec = ingress.spec.clone().unwrap_or_default();
    let mut draft = IngressDraft {
        id: id.clone(),
        generation: ingress.metadata.generation.unwrap_or(0),
        created: created(&ingress.metadata),
        class: WantedClass::of(ingress),
        hosts: Vec::new(),
        default: None,
        problems: Vec::new(),
        tls: spec.tls.is_some_and(|tls| !tls.is_empty()),
    };
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
        draft.read_rule(index, rule.host.as_deref().unwrap_or_default(), paths);
    }
    if let Some(backend) = &spec.default_backend {
        draft.default = Some(PathDraft {
            name: "defaultBackend".into(),
            at: "spec.defaultBackend".to_owned(),
            path: PathMatch::Prefix("".into()),
            backend: draft.noted(service_backend("spec.defaultBackend", backend)),
        });
    }
    if draft.problems.is_empty() && draft.default.is_none() && draft.hosts.iter().all(|host| host.paths.is_empty()) {
        let message = "spec: has neither a path in its rules nor a defaultBackend, so there is nothing to serve";
        draft.problems.push(Problem::unsupported(message));
    }
    draft
}

impl IngressDraft {
    /// A host that no request could have is left out; whatever else is broken answers in its own place.
    fn read_rule(&mut self, index: usize, host: &str, paths: &[HTTPIngressPath]) {
        let at = format!("spec.rules[{index}].host");
        let hostname = match HostPattern::parse_ingress(host) {
            Ok(hostname) => hostname,
            Err(error) => return self.problems.push(Problem::unsupported(format!("{at}: `{host}` {error}"))),
        };
        let known = self.hosts.iter().position(|host| host.hostname == hostname);
        let place = known.unwrap_or_else(|| {
            self.hosts.push(HostDraft { at, hostname, paths: Vec::new() });
            self.hosts.len() - 1
        });
        for (position, path) in paths.iter().enumerate() {
            if let Some(path) = self.read_path(index, position, path) {
                self.hosts[place].paths.push(path);
            }
        }
    }

    fn read_path(&mut self, rule: usize, position: usize, path: &HTTPIngressPath) -> Option<PathDraft> {
        let at = format!("spec.rules[{rule}].http.paths[{position}]");
        let text = path.path.as_deref().filter(|text| !text.is_empty()).unwrap_or("/");
        let matches = match path.path_type.as_str() {
            "Exact" => PathMatch::exact(text),
            // Whatever cannot be said of a path, it is the beginning of those that are meant.
            _ => PathMatch::prefix(text),
        };
        let matches = match matches {
            Ok(matches) => matches,
            Err(error) => {
                self.problems.push(Problem::unsupported(format!("{at}.path: `{text}` cannot match: {error}")));
                return None;
            }
        };
        let type_ = &path.path_type;
        let backend = if PATH_TYPES.contains(&type_.as_str()) {
            service_backend(&format!("{at}.backend"), &path.backend)
        } else {
            let hint = did_you_mean(type_, PATH_TYPES.into_iter());
            let known = crate::nearest::list(PATH_TYPES);
            let message = format!("{at}.pathType: `{type_}` is none of {known}{hint}; until then the path answers 500");
            Err(Problem::unsupported(message))
        };
        Some(PathDraft {
            name: format!("rules[{rule}].paths[{position}]").into(),
            at: format!("{at}.backend"),
            path: matches,
            backend: self.noted(backend),
        })
    }

    fn noted<T>(&mut self, result: Result<T, Problem>) -> Result<T, Problem> {
        self.problems.extend(result.as_ref().err().cloned());
        result
    }
}

fn service_backend(at: &str, backend: &IngressBackend) -> Result<ServiceBackend, Problem> {
    let invalid = |field: &str, message: &str| Err(Problem::unsupported(format!("{at}.{field}: {message}")));
    let service = match (&backend.service, &backend.resource) {
        (Some(service), None) => service,
        (Some(_), Some(_)) => return invalid("resource", "excludes `service`; remove one of the two"),
        (None, Some(resource)) => {
            let message = format!(
                "{at}.resource: {} `{}` cannot be a backend; only Services can, by `service`",
                resource.kind, resource.name
            );
            return Err(Problem::new("InvalidKind", message));
        }
        (None, None) => return invalid("service", "is required"),
    };
    let port = match port(service) {
        Ok(port) => port,
        Err(message) => return invalid("service.port", message),
    };
    Ok(ServiceBackend { service: service.name.clone(), port })
}

fn port(service: &IngressServiceBackend) -> Result<ServicePort, &'static str> {
    let port = service.port.clone().unwrap_or_default();
    match (port.number.filter(|number| *number != 0), port.name.filter(|name| !name.is_empty())) {
        (Some(number), None) => Ok(ServicePort::Number(number)),
        (None, Some(name)) => Ok(ServicePort::Name(name)),
        (Some(_), Some(_)) => Err("has both `number` and `name`; remove one of the two"),
        (None, None) => Err("one of `number` and `name` is required"),
    }
}
