//! Ingress: the older API of Kubernetes for HTTP, beside Gateways and their routes.
//!
//! ```text
//! IngressClass, Ingress ──► Cache: classes in use, hosts of spec.tls with their certificates ──► Place: addresses, ports, what Gateways have of them
//! Ingress ──► draft ──► resolve ──► routes (as those of HTTPRoute), status              PlaceModel ◄──┘
//! ```
//!
//! An Ingress has no listeners, so all of ours share one place: in clear for all hosts, over TLS for the hosts of their `spec.tls`. To everything
//! else the place is one more Gateway, and it keeps to the rules among Gateways that share a socket:
//! * The most specific hostname decides whose routes count.
//! * Of two with the same hostname the older one has it; the place is as old as the oldest class in use, and goes after a Gateway of that age.
//! * Beyond that, an Ingress takes no host over TLS that a Gateway which goes first covers.

mod cache;
mod class;
mod draft;
mod place;
mod resolve;
mod status;

use penstock_core::{Kind, ResourceRef};

use self::class::{Owner, WantedClass, owner};
use crate::{ownership::Ownership, resources};

pub(crate) use self::{
    cache::{Demand, IngressCache, IngressTls},
    draft::{IngressDraft, draft},
    place::{Place, PlaceListener, PlaceModel},
    resolve::resolve,
};

/// The place that all Ingresses share, as it is called in metrics and logs. No resource has this name.
pub(crate) fn place_id() -> ResourceRef {
    ResourceRef::new(Kind::Ingress, "", "all")
}

/// Whether its class is not somebody else's.
pub(crate) fn may_be_ours(ownership: Ownership<'_>, ingress: &resources::Ingress) -> bool {
    let Ownership { resources, settings } = ownership;
    owner(&resources.ingress_classes, settings, &WantedClass::of(ingress)) != Owner::Foreign
}

/// The class of this name.
fn class_id(name: &str) -> ResourceRef {
    ResourceRef::new(Kind::IngressClass, "", name)
}
