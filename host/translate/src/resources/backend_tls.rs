//! BackendTLSPolicy, and XBackend with which it shares how an endpoint is verified.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{LocalObjectReference, PolicyTargetReference, SecretObjectReference},
    macros::{open_enum, resource},
};

resource! {
    /// How endpoints of a Service are reached over TLS.
    BackendTLSPolicy(BackendTLSPolicySpec), "gateway.networking.k8s.io" / "v1", "backendtlspolicies", NamespaceResourceScope
}

/// Spec of [`BackendTLSPolicy`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTLSPolicySpec {
    /// The Services.
    pub target_refs: Vec<PolicyTargetReference>,
    /// How their certificates are verified.
    pub validation: BackendTlsValidation,
    /// Options of the implementation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// How the certificate of an endpoint is verified.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsValidation {
    /// ConfigMaps with `ca.crt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca_certificate_refs: Vec<LocalObjectReference>,
    /// `System`: the roots of the operating system.
    #[serde(default, rename = "wellKnownCACertificates", skip_serializing_if = "Option::is_none")]
    pub well_known_ca_certificates: Option<WellKnownCaCertificates>,
    /// Server name, and what the certificate must carry unless `subjectAltNames` are given.
    pub hostname: String,
    /// Of these names the certificate must carry one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SubjectAltName>,
}

open_enum! {
    /// Sets of roots that need no ConfigMap.
    pub enum WellKnownCaCertificates {
        /// Those of the operating system.
        System = "System",
    }
}

/// A name that a certificate may carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectAltName {
    /// Which of the two.
    #[serde(rename = "type")]
    pub type_: SubjectAltNameType,
    /// A DNS name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// A URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

open_enum! {
    /// Type of a subject alternative name.
    pub enum SubjectAltNameType {
        /// A DNS name.
        Hostname = "Hostname",
        /// A URI.
        Uri = "URI",
    }
}

resource! {
    /// A backend that is no Service, such as a host outside of the cluster.
    XBackend(XBackendSpec), "gateway.networking.x-k8s.io" / "v1alpha1", "xbackends", NamespaceResourceScope
}

/// Spec of [`XBackend`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct XBackendSpec {
    /// Which kind of backend.
    #[serde(rename = "type")]
    pub type_: XBackendType,
    /// A host, with `type: ExternalHostname`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_hostname: Option<ExternalHostname>,
    /// Pods by labels, with `type: EndpointSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_selector: Option<EndpointSelector>,
    /// Its port.
    pub port: XBackendPort,
    /// What it speaks; HTTP/1.1 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<XBackendProtocol>,
    /// TLS towards it; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<XBackendTls>,
    /// Whether requests of one session stay with one endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<serde_json::Value>,
}

impl Default for XBackendSpec {
    fn default() -> Self {
        Self {
            type_: XBackendType::ExternalHostname,
            external_hostname: None,
            endpoint_selector: None,
            port: XBackendPort::default(),
            protocol: None,
            tls: None,
            session_persistence: None,
        }
    }
}

open_enum! {
    /// Which kind of backend.
    pub enum XBackendType {
        /// A host by name.
        ExternalHostname = "ExternalHostname",
        /// Pods by labels.
        EndpointSelector = "EndpointSelector",
    }
}

/// A host by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalHostname {
    /// The name; no address.
    pub hostname: String,
}

/// Pods by labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSelector {
    /// Labels.
    pub match_labels: BTreeMap<String, String>,
}

/// The port of an XBackend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct XBackendPort {
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
}

open_enum! {
    /// What an XBackend speaks.
    pub enum XBackendProtocol {
        /// TCP.
        Tcp = "TCP",
        /// HTTP; the version by ALPN with TLS, 1.1 in clear.
        Http = "HTTP",
        /// HTTP/2 over TLS.
        Http2 = "HTTP2",
        /// HTTP/1.1.
        Http11 = "HTTP11",
        /// HTTP/2 in clear with prior knowledge.
        H2c = "H2C",
        /// Model context protocol.
        Mcp = "MCP",
        /// gRPC.
        Grpc = "GRPC",
        /// WebSocket over TLS.
        Wss = "WSS",
    }
}

/// TLS towards an XBackend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct XBackendTls {
    /// Who shows a certificate.
    pub mode: XBackendTlsMode,
    /// How that of the backend is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<BackendTlsValidation>,
    /// That of the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretObjectReference>,
}

open_enum! {
    /// Who shows a certificate.
    pub enum XBackendTlsMode {
        /// Nobody: in clear.
        None = "None",
        /// The backend.
        ServerOnly = "ServerOnly",
        /// Both.
        ClientAndServer = "ClientAndServer",
    }
}
