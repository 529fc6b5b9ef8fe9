//! ReferenceGrant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::macros::resource;

resource! {
    /// Allows references from other namespaces to objects of its own.
    ReferenceGrant(ReferenceGrantSpec), "gateway.networking.k8s.io" / "v1beta1", "referencegrants", NamespaceResourceScope
}

/// Spec of [`ReferenceGrant`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<ReferenceGrantFrom>,
    /// To what.
    pub to: Vec<ReferenceGrantTo>,
}

/// Who may refer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantFrom {
    /// Group of the referrer.
    pub group: String,
    /// Kind of the referrer.
    pub kind: String,
    /// Namespace of the referrer.
    pub namespace: String,
}

/// To what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantTo {
    /// Group of the referent; empty for the core group.
    pub group: String,
    /// Kind of the referent.
    pub kind: String,
    /// Its name; all of that kind if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
