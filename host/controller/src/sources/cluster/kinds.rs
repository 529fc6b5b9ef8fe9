//! What is watched, and how much of it.

use kube::{
    Client,
    core::{ApiResource, GroupVersionKind},
    discovery,
};
use penstock_core::Kind;

/// How much of the objects of a kind is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// All of every object.
    All,
    /// Name, labels and annotations.
    Metadata,
    /// Names of all, and all of those that are referred to.
    Referenced,
}

/// A kind that is read.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) kind: Kind,
    group: &'static str,
    /// Versions that can be read, the best first.
    versions: &'static [&'static str],
    plural: &'static str,
    pub(super) contents: Contents,
    /// Whose objects are read.
    pub(super) selected: Selected,
}

/// Which objects of a kind are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selected {
    /// All of them.
    All,
    /// Records of this installation. An installation that may not read them does without.
    Records,
}

/// Whether the gateway writes statuses of this kind.
pub(super) fn is_written(kind: Kind) -> bool {
    let custom = CUSTOM.iter().any(|watched| watched.kind == kind);
    kind == Kind::Ingress || custom && !matches!(kind, Kind::ReferenceGrant | Kind::XBackend)
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// What every cluster has.
pub(super) const BUILT_IN: &[Watched] = &[
    built_in(Kind::Service, "", "services", Contents::All),
    built_in(Kind::EndpointSlice, "discovery.k8s.io", "endpointslices", Contents::All),
    built_in(Kind::IngressClass, "networking.k8s.io", "ingressclasses", Contents::All),
    built_in(Kind::Ingress, "networking.k8s.io", "ingresses", Contents::All),
    built_in(Kind::Namespace, "", "namespaces", Contents::Metadata),
    built_in(Kind::Secret, "", "secrets", Contents::Referenced),
    built_in(Kind::ConfigMap, "", "configmaps", Contents::Referenced),
    Watched {
        selected: Selected::Records,
        ..built_in(Kind::ControllerRevision, "apps", "controllerrevisions", Contents::All)
    },
];

/// What is there once somebody installed it.
pub(super) const CUSTOM: &[Watched] = &[
    custom(Kind::GatewayClass, GATEWAY_API, &["v1", "v1beta1"], "gatewayclasses"),
    custom(Kind::Gateway, GATEWAY_API, &["v1", "v1beta1"], "gateways"),
    custom(Kind::ListenerSet, GATEWAY_API, &["v1"], "listenersets"),
    custom(Kind::HTTPRoute, GATEWAY_API, &["v1", "v1beta1"], "httproutes"),
    custom(Kind::GRPCRoute, GATEWAY_API, &["v1"], "grpcroutes"),
    custom(Kind::BackendTLSPolicy, GATEWAY_API, &["v1"], "backendtlspolicies"),
    custom(Kind::ReferenceGrant, GATEWAY_API, &["v1", "v1beta1"], "referencegrants"),
    custom(Kind::XBackend, "gateway.networking.x-k8s.io", &["v1alpha1"], "xbackends"),
    custom(Kind::WasmPlugin, "penstock.dev", &["v1alpha1"], "wasmplugins"),
];

const fn built_in(kind: Kind, group: &'static str, plural: &'static str, contents: Contents) -> Watched {
    Watched { kind, group, versions: &["v1"], plural, contents, selected: Selected::All }
}

const fn custom(kind: Kind, group: &'static str, versions: &'static [&'static str], plural: &'static str) -> Watched {
    Watched { kind, group, versions, plural, contents: Contents::All, selected: Selected::All }
}

impl Watched {
    /// The kind in its best version, without asking.
    pub(super) fn resource(&self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group, self.versions[0], &self.kind.to_string());
        ApiResource::from_gvk_with_plural(&gvk, self.plural)
    }

    /// The name of the CustomResourceDefinition.
    pub(super) fn definition(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The best version that the cluster serves, if any.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub(super) async fn discover(&self, client: &Client) -> Result<Option<ApiResource>, kube::Error> {
        for version in self.versions {
            let gvk = GroupVersionKind::gvk(self.group, version, &self.kind.to_string());
            match discovery::pinned_kind(client, &gvk).await {
                Ok((resource, _)) => return Ok(Some(resource)),
                Err(kube::Error::Discovery(_)) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use penstock_translate::resources::Object;

    use super::*;

    #[test]
    fn every_kind_that_can_be_read_is_watched() {
        let watched: Vec<Kind> = BUILT_IN.iter().chain(CUSTOM).map(|watched| watched.kind).collect();
        for kind in Object::KINDS {
            assert!(watched.contains(kind), "{kind}");
        }
    }

    #[test]
    fn versions_are_those_that_can_be_read() {
        for watched in BUILT_IN.iter().chain(CUSTOM) {
            let resource = watched.resource();
            assert_eq!(Object::api_version(watched.kind), Some(resource.api_version.as_str()));
        }
    }
}
