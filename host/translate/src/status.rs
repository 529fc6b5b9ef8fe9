//! Status as it should be, complete and without time stamps: the writer compares with what is there and sets `lastTransitionTime` where a
//! condition's `status` flipped.

use std::{borrow::Cow, collections::BTreeMap, ops::Not, sync::Arc};

use penstock_core::{Kind, ResourceRef};
use serde::{Serialize, Serializer};

use crate::resources::common::{GATEWAY_GROUP, NETWORKING_GROUP, ParentReference};

/// The desired status of every resource that this installation speaks for. What is absent here must not carry an entry of ours.
pub type Statuses = BTreeMap<ResourceRef, Arc<Status>>;

/// The status of one resource, in the shape of its `.status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Status {
    /// Of a GatewayClass.
    GatewayClass(GatewayClassStatus),
    /// Of a Gateway.
    Gateway(GatewayStatus),
    /// Of a ListenerSet.
    ListenerSet(ListenerSetStatus),
    /// Of an HTTPRoute or GRPCRoute: our entries only.
    Route(RouteStatus),
    /// Of an Ingress.
    Ingress(IngressStatus),
    /// Of a BackendTLSPolicy: our entries only.
    Policy(PolicyStatus),
    /// Of a WasmPlugin.
    WasmPlugin(WasmPluginStatus),
}

/// The limit of `status.ancestors` in Gateway API.
pub const MAX_ANCESTORS: usize = 16;

impl Status {
    /// What the resource itself has room for: `.status` in a cluster.
    pub fn written(&self) -> serde_json::Value {
        let written = match self {
            Self::Ingress(status) => Ok(serde_json::json!({ "loadBalancer": status.load_balancer })),
            Self::WasmPlugin(status) => serde_json::to_value(status).map(of_every_instance),
            other => serde_json::to_value(other),
        };
        // Maps of texts and numbers, which are always JSON.
        written.unwrap_or_default()
    }

    /// Every condition in it, with the part of the resource that it speaks of (a listener, a parent; empty for the resource itself).
    pub fn conditions(&self) -> impl Iterator<Item = (Cow<'_, str>, &Condition)> {
        let mut all = Vec::new();
        match self {
            Self::GatewayClass(status) => all.extend(status.conditions.iter().map(|it| (Cow::Borrowed(""), it))),
            Self::Gateway(status) => {
                all.extend(status.conditions.iter().map(|it| (Cow::Borrowed(""), it)));
                all.extend(of_listeners(&status.listeners));
            }
            Self::ListenerSet(status) => {
                all.extend(status.conditions.iter().map(|it| (Cow::Borrowed(""), it)));
                all.extend(of_listeners(&status.listeners));
            }
            Self::Ingress(status) => all.extend(status.conditions.iter().map(|it| (Cow::Borrowed(""), it))),
            Self::Route(status) => {
                for parent in &status.parents {
                    let part = parent.parent_ref.to_string();
                    all.extend(parent.conditions.iter().map(|it| (Cow::Owned(part.clone()), it)));
                }
            }
            Self::WasmPlugin(status) => {
                all.extend(status.conditions.iter().map(|it| (Cow::Borrowed(""), it)));
                all.extend(of_ancestors(&status.ancestors));
            }
            Self::Policy(status) => all.extend(of_ancestors(&status.ancestors)),
        }
        all.into_iter()
    }
}

/// How often this instance has tried something, or where it has from what serves, is another instance's business as little as it was its own before a
/// restart.
fn of_every_instance(mut status: serde_json::Value) -> serde_json::Value {
    for (part, field) in [("candidate", "retry"), ("active", "restored")] {
        if let Some(part) = status.get_mut(part).and_then(serde_json::Value::as_object_mut) {
            part.remove(field);
        }
    }
    status
}

fn of_listeners(listeners: &[ListenerStatus]) -> impl Iterator<Item = (Cow<'_, str>, &Condition)> {
    listeners
        .iter()
        .flat_map(|listener| listener.conditions.iter().map(|it| (Cow::Borrowed(listener.name.as_str()), it)))
}

fn of_ancestors(ancestors: &[AncestorStatus]) -> impl Iterator<Item = (Cow<'_, str>, &Condition)> {
    ancestors.iter().flat_map(|ancestor| {
        let part = ancestor.ancestor_ref.to_string();
        ancestor.conditions.iter().map(move |it| (Cow::Owned(part.clone()), it))
    })
}

/// `namespace/name#section`, without what is not given.
impl std::fmt::Display for ParentReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)?;
        if let Some(section) = &self.section_name {
            write!(f, "#{section}")?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A condition without `lastTransitionTime`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs`, `Programmed`, …
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one CamelCase word.
    pub reason: &'static str,
    /// Why, for people: what is wrong, which field, what to do.
    pub message: String,
    /// The `metadata.generation` that this speaks of; 0 where the source has none.
    pub observed_generation: i64,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are those of Kubernetes")]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// Status of a GatewayClass.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassStatus {
    /// `Accepted`, `SupportedVersion`.
    pub conditions: Vec<Condition>,
    /// Ascending by name.
    pub supported_features: Vec<SupportedFeature>,
}

/// A feature of Gateway API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SupportedFeature {
    /// Its name.
    pub name: &'static str,
}

/// Status of a Gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Where it listens.
    pub addresses: Vec<GatewayStatusAddress>,
    /// `Accepted`, `Programmed`.
    pub conditions: Vec<Condition>,
    /// In the order of the spec.
    pub listeners: Vec<ListenerStatus>,
    /// How many ListenerSets are accepted.
    #[serde(skip_serializing_if = "is_zero")]
    pub attached_listener_sets: i32,
}

/// Status of a ListenerSet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetStatus {
    /// `Accepted`, `Programmed`.
    pub conditions: Vec<Condition>,
    /// In the order of the spec.
    pub listeners: Vec<ListenerStatus>,
}

/// An address of a Gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GatewayStatusAddress {
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// The address.
    pub value: String,
}

/// Status of a listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Its name in the spec.
    pub name: String,
    /// The kinds of routes that may attach.
    pub supported_kinds: Vec<SupportedKind>,
    /// How many routes are accepted here.
    pub attached_routes: i32,
    /// `Accepted`, `Conflicted`, `Programmed`, `ResolvedRefs`, and `OverlappingTLSConfig` where it is so.
    pub conditions: Vec<Condition>,
}

/// A kind of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SupportedKind {
    /// Its group.
    pub group: &'static str,
    /// Its name.
    pub kind: &'static str,
}

/// Status of a route: one entry for each parent of ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// In the order of `parentRefs`.
    pub parents: Vec<RouteParentStatus>,
}

/// What a route is for one of its parents.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// As in the spec.
    pub parent_ref: ParentReference,
    /// Ours.
    #[serde(serialize_with = "text")]
    pub controller_name: Arc<str>,
    /// `Accepted`, `ResolvedRefs`, and `PartiallyInvalid` where it is so.
    pub conditions: Vec<Condition>,
}

/// Status of an Ingress.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressStatus {
    /// `Accepted`, `ResolvedRefs`, `Programmed`, `Conflicted` and `PartiallyInvalid` where it is so. Not part of the resource, which has no
    /// place for conditions.
    pub conditions: Vec<Condition>,
    /// As the resource has it.
    pub load_balancer: LoadBalancer,
}

/// Where an Ingress is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoadBalancer {
    /// In order. None if nothing of it works, or if the gateway listens on all addresses of a machine and cannot know which of them clients see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<LoadBalancerAddress>,
}

/// One address of an Ingress, as Services have them too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalancerAddress {
    /// An IP address.
    Ip(String),
    /// A name, from those who give no certain address.
    Hostname(String),
}

impl From<LoadBalancerAddress> for GatewayStatusAddress {
    fn from(address: LoadBalancerAddress) -> Self {
        match address {
            LoadBalancerAddress::Ip(value) => Self { type_: "IPAddress", value },
            LoadBalancerAddress::Hostname(value) => Self { type_: "Hostname", value },
        }
    }
}

/// Status of a WasmPlugin.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmPluginStatus {
    /// `Accepted`, `ResolvedRefs`, `Programmed`, `Degraded`.
    pub conditions: Vec<Condition>,
    /// What serves now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveStatus>,
    /// What does not serve, or not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateStatus>,
    /// What serves is new, and is being watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation: Option<Box<ProbationStatus>>,
    /// The Gateways whose traffic it sees, at most 16.
    pub ancestors: Vec<AncestorStatus>,
}

/// The revision that serves.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveStatus {
    /// Generation of the resource that it came from.
    pub generation: i64,
    /// `sha256:…` of the module.
    #[serde(serialize_with = "text")]
    pub digest: Arc<str>,
    /// Name of the plugin from its manifest.
    #[serde(serialize_with = "text")]
    pub name: Arc<str>,
    /// Version from its manifest.
    #[serde(serialize_with = "text")]
    pub version: Arc<str>,
    /// The artifact in a registry that the module came from, by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Arc<str>>,
    /// This instance has it from its disk or from the record in the cluster, and nothing newer is ready. For whoever asks it: never written to the
    /// resource.
    #[serde(skip_serializing_if = "Not::not")]
    pub restored: bool,
}

/// What serves is new, and is being watched.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbationStatus {
    /// When it is over, in UTC.
    pub until: String,
    /// Faults that are accepted until then.
    pub max_faults: u32,
    /// The last good revision, which comes back after too many.
    pub fallback: ActiveStatus,
}

/// The revision that does not serve, or not yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CandidateStatus {
    /// Generation of the resource that it came from.
    pub generation: i64,
    /// `sha256:…` of the module, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Arc<str>>,
    /// The artifact in a registry that the module came from, by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Arc<str>>,
    /// `Fetching`, `Validating`, `Waiting` or `Rejected`.
    pub phase: &'static str,
    /// Why it was refused or waits, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Why it was refused or waits, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// It could not be fetched or validated, and is tried again. For whoever asks this instance: never written to the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryStatus>,
}

/// What failed and may work later.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RetryStatus {
    /// How often it was tried. Beyond ten it grows in steps.
    pub attempts: u32,
    /// About how long until the next one.
    pub pause: String,
}

/// Status of a policy: one entry for each Gateway of ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// By namespace and name, at most 16.
    pub ancestors: Vec<AncestorStatus>,
}

/// What a policy is for one Gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorStatus {
    /// The Gateway.
    pub ancestor_ref: ParentReference,
    /// Ours.
    #[serde(serialize_with = "text")]
    pub controller_name: Arc<str>,
    /// `Accepted`, `ResolvedRefs`, and for a WasmPlugin `Programmed`.
    pub conditions: Vec<Condition>,
}

/// What is to be said of Gateways for which a list of ancestors has no room.
pub(crate) fn not_named(ancestors: usize) -> String {
    match ancestors {
        ..=MAX_ANCESTORS => String::new(),
        _ => format!("; status.ancestors names {MAX_ANCESTORS} of {ancestors} Gateways, which are as many as it may"),
    }
}

impl AncestorStatus {
    /// How the status of a policy names a Gateway, or the class of an Ingress.
    pub(crate) fn reference(ancestor: &ResourceRef) -> ParentReference {
        let group = if ancestor.kind == Kind::IngressClass { NETWORKING_GROUP } else { GATEWAY_GROUP };
        ParentReference {
            group: Some(group.to_owned()),
            kind: Some(ancestor.kind.to_string()),
            namespace: (!ancestor.namespace.is_empty()).then(|| ancestor.namespace.to_string()),
            name: ancestor.name.to_string(),
            ..ParentReference::default()
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_instances_own_business_is_not_written() {
        let candidate = CandidateStatus {
            generation: 1,
            digest: None,
            artifact: None,
            phase: "Fetching",
            reason: Some("ConnectFailed"),
            message: Some("connection refused".to_owned()),
            retry: Some(RetryStatus { attempts: 3, pause: "1s".to_owned() }),
        };
        let active = ActiveStatus {
            generation: 1,
            digest: "sha256:aa".into(),
            name: "rules".into(),
            version: "1.0.0".into(),
            artifact: None,
            restored: true,
        };
        let (active, candidate) = (Some(active), Some(candidate));
        let (conditions, ancestors) = (Vec::new(), Vec::new());
        let status = WasmPluginStatus { conditions, active, candidate, probation: None, ancestors };
        let status = Status::WasmPlugin(status);
        assert_eq!(serde_json::to_value(&status).unwrap()["active"]["restored"], true);
        assert_eq!(serde_json::to_value(&status).unwrap()["candidate"]["retry"]["attempts"], 3);
        let written = status.written();
        assert_eq!(written["candidate"]["retry"], serde_json::Value::Null);
        assert_eq!(written["active"]["restored"], serde_json::Value::Null);
        assert_eq!(written["active"]["generation"], 1);
        assert_eq!(written["candidate"]["message"], "connection refused");
    }
}
