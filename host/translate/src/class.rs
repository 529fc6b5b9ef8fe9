//! GatewayClass: accepted or not, and what is claimed to be supported.

use std::{collections::BTreeSet, sync::Arc};

use penstock_core::ResourceRef;

use crate::{
    GatewayAddresses, Status, Statuses,
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

/// Gateway API v1.7. Earlier ones have less.
const LATEST_MINOR: u32 = 7;

/// Whether a version of Gateway API is known, by what the definitions say: `v1.7.0`, `v1.7.0-rc.1`.
fn is_supported(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    matches!((number(), number()), (Some(1), Some(..=LATEST_MINOR)))
}

/// Statuses of the classes that are ours.
pub(crate) fn translate(ownership: Ownership<'_>, statuses: &mut Statuses) {
    for (key, class) in ownership.resources.gateway_classes.iter() {
        if ownership.owns_class(class) {
            let status = status(ownership, key, class);
            statuses.insert(key.clone(), Arc::new(Status::GatewayClass(status)));
        }
    }
}

fn status(ownership: Ownership<'_>, key: &ResourceRef, class: &GatewayClass) -> GatewayClassStatus {
    let Ownership { resources, settings } = ownership;
    let mut conditions = Conditions::new(class.metadata.generation.unwrap_or(0));
    let refused = class.spec.parameters_ref.as_ref().map(|parameters| {
        let message = format!(
            "spec.parametersRef: {} `{}` cannot be used, Penstock has no parameters for classes; remove the field",
            parameters.kind, parameters.name
        );
        Problem::new("InvalidParameters", message)
    });
    conditions.holds_unless("Accepted", refused.as_ref(), format!("Gateways of class `{}` are served", key.name));
    let installed: BTreeSet<&str> = resources.facts.bundles.values().map(|version| &**version).collect();
    let unsupported = installed.iter().find(|version| !is_supported(version)).map(|version| {
        let message = format!(
            "the definitions in the cluster are of Gateway API {version}, and this gateway knows v1.0 to v1.{LATEST_MINOR}; what \
             is in both is served"
        );
        Problem::new("UnsupportedVersion", message)
    });
    conditions.holds_unless("SupportedVersion", unsupported.as_ref(), format!("Gateway API v1.{LATEST_MINOR}"));
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
    fn versions_that_are_known() {
        let check = |version: &str, expected: bool| assert_eq!(super::is_supported(version), expected, "{version}");
        for version in ["v1.0.0", "v1.5.1", "v1.7.0", "v1.7.0-rc.1", "v1.7.3"] {
            check(version, true);
        }
        for version in ["v1.8.0", "v2.0.0", "v0.8.1", "v1", "", "main"] {
            check(version, false);
        }
    }

    #[test]
    fn features_are_sorted_and_few_enough() {
        assert!(super::SUPPORTED_FEATURES.is_sorted());
        assert!(super::SUPPORTED_FEATURES.len() <= 64);
    }
}
