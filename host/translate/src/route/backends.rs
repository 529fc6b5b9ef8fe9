//! Backend references: granted, existing, speaking something that the route can speak.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ServicePort;
use penstock_core::{
    Kind, ResourceRef,
    backend::{BackendKey, BackendProtocol, BackendTls},
    plugin::OutboundReference,
};

use super::draft::RouteDraft;
use crate::{
    backend_tls::{self, InvalidValidation, ServiceTls},
    endpoints::Origin,
    grants::{self, End},
    nearest::did_you_mean,
    problem::Problem,
    resources::{
        XBackend,
        backend_tls::{XBackendProtocol, XBackendTlsMode, XBackendType},
        common::{GATEWAY_GROUP, GATEWAY_X_GROUP, NETWORKING_GROUP, PENSTOCK_GROUP},
        route::BackendRef,
    },
    view::View,
};

/// What a reference leads to.
pub(crate) enum Found {
    /// A backend, and where its endpoints come from.
    Backend(BackendKey, Origin),
    /// A backend for which somebody demands TLS in a way that cannot be done: nothing is sent in clear instead.
    Unsafe(Problem),
}

/// Who refers.
#[derive(Clone, Copy)]
pub(crate) struct Referrer<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: &'a str,
}

impl<'a> Referrer<'a> {
    pub(super) fn route(route: &'a RouteDraft) -> Self {
        let kind = if route.is_grpc() { "GRPCRoute" } else { "HTTPRoute" };
        Self { group: GATEWAY_GROUP, kind, namespace: &route.id.namespace }
    }

    pub(crate) fn ingress(ingress: &'a ResourceRef) -> Self {
        Self { group: NETWORKING_GROUP, kind: "Ingress", namespace: &ingress.namespace }
    }

    fn is_grpc(self) -> bool {
        self.kind == "GRPCRoute"
    }
}

/// Find what a grant of a plugin means.
pub(crate) fn find_for_plugin(
    view: &View<'_>,
    plugin: &ResourceRef,
    reference: &OutboundReference,
) -> Result<(BackendKey, Origin), Problem> {
    let referrer = Referrer { group: PENSTOCK_GROUP, kind: "WasmPlugin", namespace: &plugin.namespace };
    let reference = BackendRef {
        group: Some(reference.group.to_string()),
        kind: Some(reference.kind.to_string()),
        namespace: Some(reference.namespace.to_string()),
        name: reference.name.to_string(),
        port: reference.port,
        ..BackendRef::default()
    };
    match find(view, referrer, &reference, &mut Vec::new())? {
        Found::Backend(key, origin) => Ok((key, origin)),
        Found::Unsafe(problem) => Err(problem),
    }
}

/// Find what a reference means. Whether it is granted is asked before whether it exists: the answer must not tell. Services with
/// BackendTLSPolicies are added to `met`.
pub(crate) fn find(
    view: &View<'_>,
    route: Referrer<'_>,
    reference: &BackendRef,
    met: &mut Vec<Arc<ServiceTls>>,
) -> Result<Found, Problem> {
    let group = reference.group.as_deref().unwrap_or("");
    let kind = match (group, reference.kind.as_deref().unwrap_or("Service")) {
        ("", "Service") => Kind::Service,
        (GATEWAY_X_GROUP, "XBackend") => Kind::XBackend,
        (group, kind) => {
            let hint = did_you_mean(kind, ["Service", "XBackend"].into_iter());
            let message = format!(
                "kind: `{group}/{kind}` cannot be a backend; Services of the core group and XBackends of `{GATEWAY_X_GROUP}` \
                 can{hint}"
            );
            return Err(Problem::new("InvalidKind", message));
        }
    };
    let own = route.namespace;
    let namespace = reference.namespace.as_deref().unwrap_or(own);
    let from = End { group: route.group, kind: route.kind, namespace: own };
    let referent = kind.to_string();
    let to = End { group, kind: &referent, namespace };
    if namespace != own && !grants::permitted(view.reference_grants(), from, to, &reference.name) {
        let message = format!("namespace: {kind} `{}` {}", reference.name, grants::advice(from, to, &reference.name));
        return Err(Problem::new("RefNotPermitted", message));
    }
    let key = ResourceRef::new(kind, namespace, reference.name.as_str());
    match kind {
        Kind::XBackend => x_backend(view, route, &key, reference),
        _ => {
            let policies = view.service_tls(&key);
            if let Some(policies) = policies.filter(|policies| !met.iter().any(|known| Arc::ptr_eq(known, policies))) {
                met.push(policies.clone());
            }
            service(view, route, &key, reference, policies)
        }
    }
}

fn service(
    view: &View<'_>,
    route: Referrer<'_>,
    key: &ResourceRef,
    reference: &BackendRef,
    policies: Option<&Arc<ServiceTls>>,
) -> Result<Found, Problem> {
    let missing = |message: String| Problem::new("BackendNotFound", message);
    let service = key.clone();
    let Some(object) = view.service(key) else {
        let hint = did_you_mean(&key.name, view.services().names_in(Kind::Service, &key.namespace));
        return Err(missing(format!("name: there is no Service `{}/{}`{hint}", key.namespace, key.name)));
    };
    let spec = object.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let instead = match route.kind {
            "Ingress" => "an HTTPRoute can have an XBackend with `ExternalHostname`, an Ingress cannot",
            _ => "use an XBackend with `ExternalHostname`",
        };
        let message =
            format!("name: Service `{}` is of type ExternalName, which could lead anywhere; {instead}", key.name);
        return Err(Problem::new("InvalidKind", message));
    }
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let numbers = || ports.iter().map(|port| port.port.to_string()).collect::<Vec<_>>().join(", ");
    let Some(wanted) = reference.port else {
        return Err(missing(format!("port: is required for a Service; `{}` has {}", key.name, numbers())));
    };
    let found = ports.iter().find(|port| port.port == wanted && port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let (Some(port), Ok(number)) = (found, u16::try_from(wanted)) else {
        return Err(missing(format!("port: Service `{}` has no TCP port {wanted}; it has {}", key.name, numbers())));
    };
    let policy = policies.and_then(|policies| policies.port(port.name.as_deref()));
    let protocol = spoken(route, port, policy.is_some()).map_err(|message| {
        Problem::new(
            "UnsupportedProtocol",
            format!("port: appProtocol of port {wanted} of Service `{}`: {message}", key.name),
        )
    })?;
    let tls = match policy.map(|policy| (&policy.policy, &policy.tls)) {
        None => None,
        Some((_, Ok(tls))) => Some(tls.clone()),
        Some((policy, Err(problem))) => {
            let message = format!("name: BackendTLSPolicy `{}` demands TLS, but {}", policy.name, problem.message);
            return Ok(Found::Unsafe(Problem::new(problem.reason, message)));
        }
    };
    let name = format!("{}/{}", key.namespace, key.name);
    let key = BackendKey { name: name.into(), port: number, protocol, tls };
    let port_name = port.name.clone().unwrap_or_default();
    Ok(Found::Backend(key, Origin::Service { service, port_name }))
}

/// What is spoken to a port of a Service. Words that say nothing about HTTP do not forbid it.
fn spoken(route: Referrer<'_>, port: &ServicePort, tls: bool) -> Result<BackendProtocol, String> {
    let default = if route.is_grpc() { BackendProtocol::Http2 } else { BackendProtocol::Http1 };
    match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => Ok(BackendProtocol::Http2),
        Some("kubernetes.io/ws") if !route.is_grpc() => Ok(BackendProtocol::Http1),
        Some("kubernetes.io/ws") => Err("`kubernetes.io/ws` does not go with a GRPCRoute".to_owned()),
        Some("kubernetes.io/wss") if tls && !route.is_grpc() => Ok(BackendProtocol::Http1),
        Some("kubernetes.io/wss") => {
            Err("`kubernetes.io/wss` needs a BackendTLSPolicy for the Service, and an HTTPRoute".to_owned())
        }
        Some(other) if other.starts_with("kubernetes.io/") => Err(format!("`{other}` is not supported")),
        _ => Ok(default),
    }
}

fn x_backend(
    view: &View<'_>,
    route: Referrer<'_>,
    key: &ResourceRef,
    reference: &BackendRef,
) -> Result<Found, Problem> {
    let Some(backend) = view.x_backend(key) else {
        let hint = did_you_mean(&key.name, view.x_backends().names_in(Kind::XBackend, &key.namespace));
        let message = format!("name: there is no XBackend `{}/{}`{hint}", key.namespace, key.name);
        return Err(Problem::new("BackendNotFound", message));
    };
    if reference.port.is_some() {
        return Err(Problem::new("UnsupportedValue", "port: an XBackend has its own port; remove the field"));
    }
    let invalid = |(reason, message): (&'static str, String)| {
        Problem::new(reason, format!("name: XBackend `{}/{}`: {message}", key.namespace, key.name))
    };
    let (host, port) = external_host(backend).map_err(invalid)?;
    let tls = x_tls(view, key, backend).map_err(invalid)?;
    let protocol = x_protocol(route, backend, tls.is_some()).map_err(invalid)?;
    let name = format!("XBackend/{}/{}", key.namespace, key.name);
    let key = BackendKey { name: name.into(), port, protocol, tls: tls.map(Arc::new) };
    Ok(Found::Backend(key, Origin::Name(host, port)))
}

type Wrong = (&'static str, String);

fn external_host(backend: &XBackend) -> Result<(Arc<str>, u16), Wrong> {
    let spec = &backend.spec;
    if spec.type_ != XBackendType::ExternalHostname {
        return Err((
            "UnsupportedValue",
            format!("spec.type: `{}` is not supported; use `ExternalHostname`", spec.type_),
        ));
    }
    let Some(host) = spec.external_hostname.as_ref().filter(|host| !host.hostname.is_empty()) else {
        return Err(("UnsupportedValue", "spec.externalHostname.hostname: is required with this type".to_owned()));
    };
    let port = spec.port.number.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let port = port.ok_or(("UnsupportedValue", "spec.port.number: must be between 1 and 65535".to_owned()))?;
    Ok((host.hostname.as_str().into(), port))
}

fn x_protocol(route: Referrer<'_>, backend: &XBackend, tls: bool) -> Result<BackendProtocol, Wrong> {
    let wrong = |message: String| Err(("UnsupportedProtocol", message));
    let grpc = route.is_grpc();
    match (&backend.spec.protocol, tls) {
        (None | Some(XBackendProtocol::Http), _) if grpc => Ok(BackendProtocol::Http2),
        (Some(XBackendProtocol::Grpc), _)
        | (Some(XBackendProtocol::Http2), true)
        | (Some(XBackendProtocol::H2c), false) => Ok(BackendProtocol::Http2),
        (Some(protocol), _) if grpc => wrong(format!("spec.protocol: `{protocol}` does not go with a GRPCRoute")),
        (None | Some(XBackendProtocol::Http | XBackendProtocol::Http11), _) | (Some(XBackendProtocol::Wss), true) => {
            Ok(BackendProtocol::Http1)
        }
        (Some(protocol @ (XBackendProtocol::Http2 | XBackendProtocol::Wss)), false) => {
            wrong(format!("spec.protocol: `{protocol}` needs spec.tls"))
        }
        (Some(XBackendProtocol::H2c), true) => wrong("spec.protocol: `H2C` excludes spec.tls; use `HTTP2`".to_owned()),
        (Some(protocol), _) => wrong(format!("spec.protocol: `{protocol}` is not supported")),
    }
}

fn x_tls(view: &View<'_>, key: &ResourceRef, backend: &XBackend) -> Result<Option<BackendTls>, Wrong> {
    let Some(tls) = &backend.spec.tls else { return Ok(None) };
    match (&tls.mode, &tls.validation) {
        (XBackendTlsMode::None, _) => Ok(None),
        (XBackendTlsMode::ServerOnly, Some(validation)) => {
            match backend_tls::read(view, &key.namespace, validation, "spec.tls.validation") {
                Ok(read) => Ok(Some(read.tls)),
                Err(InvalidValidation::Field(message)) => Err(("UnsupportedValue", message)),
                Err(InvalidValidation::NoAuthority(problem)) => Err((problem.reason, problem.message)),
            }
        }
        (XBackendTlsMode::ServerOnly, None) => {
            Err(("UnsupportedValue", "spec.tls.validation: is required with mode `ServerOnly`".to_owned()))
        }
        (mode, _) => Err(("UnsupportedValue", format!("spec.tls.mode: `{mode}` is not supported; use `ServerOnly`"))),
    }
}
