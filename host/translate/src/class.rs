//! GatewayClass: accepted or not, and what is claimed to be supported.

use penstock_core::ResourceRef;

use crate::{
    GatewayAddresses, Settings, Status, Statuses,
    ownership::Ownership,
    problem::{Conditions, Problem},
    resources::GatewayClass,
    status::{GatewayClassStatus, SupportedFeature},
};

/// What the gateway does, ascending by name. Nothing is claimed that does not pass the conformance suite.
const SUPPORTED_FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "GRPCRouteRequestHeaderModifier",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayInfrastructure",
    "GatewayPort8080",
    "GatewayRouteHostnameIntersectionPrecedence",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
];

/// Of these, what holds only where Gateways get addresses out of a pool: elsewhere the machine or the cluster decides on them.
const WITH_A_POOL: &[&str] = &["GatewayStaticAddresses"];

/// And what holds only where something is made for each Gateway, which can carry its labels and annotations.
const WITH_SERVICES: &[&str] = &["GatewayInfrastructure"];

/// Statuses of the classes that are ours.
pub(crate) fn translate(ownership: Ownership<'_>, statuses: &mut Statuses) {
    for (key, class) in ownership.resources.gateway_classes.iter() {
        if ownership.owns_class(class) {
            let status = std::sync::Arc::new(Status::GatewayClass(status(key, class, ownership.settings)));
            statuses.insert(key.clone(), status);
        }
    }
}

fn status(key: &ResourceRef, class: &GatewayClass, settings: &Settings) -> GatewayClassStatus {
    let mut conditions = Conditions::new(class.metadata.generation.unwrap_or(0));
    let refused = class.spec.parameters_ref.as_ref().map(|parameters| {
        let message = format!(
            "spec.parametersRef: {} `{}` cannot be used, Penstock has no parameters for classes; remove the field",
            parameters.kind, parameters.name
        );
        Problem::new("InvalidParameters", message)
    });
    conditions.holds_unless("Accepted", refused.as_ref(), format!("Gateways of class `{}` are served", key.name));
    conditions.yes("SupportedVersion", "SupportedVersion", "Gateway API v1.7");
    let has_pool = matches!(settings.addresses, GatewayAddresses::Pool(_));
    let has_services = settings.services.of_each().is_some();
    let holds =
        |name: &&&str| (has_pool || !WITH_A_POOL.contains(name)) && (has_services || !WITH_SERVICES.contains(name));
    let supported_features = SUPPORTED_FEATURES.iter().filter(holds).map(|name| SupportedFeature { name }).collect();
    GatewayClassStatus { conditions: conditions.finish(), supported_features }
}

#[cfg(test)]
mod tests {
    #[test]
    fn features_are_sorted_and_few_enough() {
        assert!(super::SUPPORTED_FEATURES.is_sorted());
        assert!(super::SUPPORTED_FEATURES.len() <= 64);
    }
}
