//! GatewayClass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{common::ParametersReference, macros::resource};

resource! {
    /// A class of Gateways, served by one controller.
    GatewayClass(GatewayClassSpec), "gateway.networking.k8s.io" / "v1", "gatewayclasses", ClusterResourceScope
}

/// Spec of [`GatewayClass`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// The controller that serves Gateways of this class.
    pub controller_name: String,
    /// Parameters of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_ref: Option<ParametersReference>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
