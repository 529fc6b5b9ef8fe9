//! Gateway and its listeners.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{ParametersReference, SecretObjectReference},
    macros::{open_enum, resource},
};

resource! {
    /// Where traffic arrives: addresses and listeners.
    Gateway(GatewaySpec), "gateway.networking.k8s.io" / "v1", "gateways", NamespaceResourceScope
}

/// Spec of [`Gateway`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Name of the GatewayClass.
    pub gateway_class_name: String,
    /// Listeners, told apart by port, protocol and hostname.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Addresses to listen on; those of the installation if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<GatewayAddress>,
    /// Labels, annotations and parameters of what is created for the Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<GatewayInfrastructure>,
    /// Which ListenerSets may attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_listeners: Option<AllowedListeners>,
    /// TLS of the Gateway as a whole: client certificates of both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<serde_json::Value>,
    /// Whether routes attach without naming this Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_scope: Option<String>,
}

/// Which ListenerSets may attach.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedListeners {
    /// From which namespaces; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<ListenerNamespaces>,
}

/// Namespaces of ListenerSets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerNamespaces {
    /// `None` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromListenerNamespaces>,
    /// Labels of the namespaces, with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

open_enum! {
    /// How namespaces of ListenerSets are chosen.
    pub enum FromListenerNamespaces {
        /// All of them.
        All = "All",
        /// By labels.
        Selector = "Selector",
        /// That of the Gateway.
        Same = "Same",
        /// No ListenerSet may attach.
        Nobody = "None",
    }
}

/// An address of a Gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayAddress {
    /// Type of the address; `IPAddress` if not given.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<AddressType>,
    /// The address; any of that type if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// From where the address can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routability: Option<String>,
}

open_enum! {
    /// Type of an address.
    pub enum AddressType {
        /// IPv4 or IPv6.
        IpAddress = "IPAddress",
        /// A name.
        Hostname = "Hostname",
    }
}

/// What is created for a Gateway carries these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayInfrastructure {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Parameters of this Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_ref: Option<ParametersReference>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Unique within the Gateway; routes refer to it by `sectionName`.
    pub name: String,
    /// Hosts that it takes: exact, or with a first label `*`; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Port.
    pub port: i32,
    /// Protocol.
    pub protocol: Protocol,
    /// Certificates; required for HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Which routes may attach; those of the same namespace if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
    /// Filters that run before a route is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<serde_json::Value>,
}

open_enum! {
    /// Protocol of a listener.
    pub enum Protocol {
        /// HTTP/1.1 and HTTP/2 in clear.
        Http = "HTTP",
        /// HTTP over TLS that ends here.
        Https = "HTTPS",
        /// TLS.
        Tls = "TLS",
        /// TCP.
        Tcp = "TCP",
        /// UDP.
        Udp = "UDP",
    }
}

/// TLS of a listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Where TLS ends; `Terminate` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsMode>,
    /// Secrets with `tls.crt` and `tls.key`. The first one answers clients without SNI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate_refs: Vec<SecretObjectReference>,
    /// Options of the implementation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

open_enum! {
    /// Where TLS ends.
    pub enum TlsMode {
        /// Here.
        Terminate = "Terminate",
        /// At the backend.
        Passthrough = "Passthrough",
    }
}

/// Which routes may attach to a listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// From which namespaces; `Same` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<RouteNamespaces>,
    /// Of which kinds; all that fit the protocol if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<RouteGroupKind>,
}

/// Namespaces of routes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteNamespaces {
    /// `Same` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromNamespaces>,
    /// Labels of the namespaces, with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

open_enum! {
    /// How namespaces are chosen.
    pub enum FromNamespaces {
        /// All of them.
        All = "All",
        /// By labels.
        Selector = "Selector",
        /// That of the Gateway.
        Same = "Same",
    }
}

/// A kind of routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteGroupKind {
    /// Group; `gateway.networking.k8s.io` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind.
    pub kind: String,
}
