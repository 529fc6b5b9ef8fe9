//! ListenerSet: listeners that others add to a Gateway.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{gateway::Listener, macros::resource};

resource! {
    /// Listeners in addition to those of a Gateway.
    ListenerSet(ListenerSetSpec), "gateway.networking.k8s.io" / "v1", "listenersets", NamespaceResourceScope
}

/// Spec of [`ListenerSet`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    /// The Gateway, which must allow it by `allowedListeners`.
    pub parent_ref: ParentGatewayReference,
    /// Listeners, told apart from each other and from those of the Gateway by port, protocol and hostname.
    pub listeners: Vec<Listener>,
}

/// A Gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentGatewayReference {
    /// Group of the parent; `gateway.networking.k8s.io` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind of the parent; `Gateway` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the Gateway.
    pub name: String,
    /// Namespace of the Gateway; that of the ListenerSet if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
