//! Gateways: what their listeners are, which of them serve, and what their status says.

pub(crate) mod addresses;
pub(crate) mod certificates;
mod conflicts;
mod listener;
mod listener_set;
mod status;

use std::{cmp::Ordering, net::SocketAddr, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use penstock_core::{
    Kind, ResourceRef,
    hostname::HostPattern,
    listener::{Certificate, SocketProtocol},
};

use self::{
    addresses::{Addresses, Assignments, Wish},
    certificates::CertificateCache,
};
pub(crate) use self::{
    conflicts::Claims,
    listener_set::{lost, others, parent as parent_of},
    status::{listener_set_status, status},
};
use crate::{
    Settings,
    ingress::{Demand, Place},
    ownership::{ClassState, Ownership},
    problem::Problem,
    resources::{Gateway, ListenerSet, gateway::Listener},
    status::SupportedKind,
    upkeep,
};

/// A Gateway or ListenerSet as routes see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GatewayModel {
    pub(crate) id: ResourceRef,
    /// The Gateway itself, or that of the ListenerSet.
    pub(crate) gateway: ResourceRef,
    pub(crate) listeners: Vec<ListenerModel>,
}

impl GatewayModel {
    /// Whether there is such a listener; the whole Gateway is always there.
    pub(crate) fn has_section(&self, section: Option<&str>) -> bool {
        section.is_none_or(|name| self.listeners.iter().any(|listener| *listener.name == *name))
    }
}

/// A listener as routes see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ListenerModel {
    pub(crate) name: Arc<str>,
    pub(crate) port: i32,
    /// None if it is malformed: then no route fits.
    pub(crate) hostname: Option<HostPattern>,
    /// Kinds of routes that may attach.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) namespaces: AllowedNamespaces,
}

/// Namespaces whose routes may attach.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AllowedNamespaces {
    All,
    Same,
    Selector(LabelSelector),
    /// The field has a value that is not understood: nobody, rather than everybody.
    Nobody,
}

/// One of our Gateways, or a ListenerSet of one, evaluated without its routes.
pub(crate) struct GatewayState<'a> {
    pub(crate) id: ResourceRef,
    pub(crate) gateway: &'a Arc<Gateway>,
    /// None if it is the Gateway itself.
    pub(crate) set: Option<&'a Arc<ListenerSet>>,
    pub(crate) model: GatewayModel,
    pub(crate) listeners: Vec<ListenerState>,
    pub(crate) addresses: Addresses,
    /// As a whole it cannot be accepted.
    pub(crate) refused: Option<Problem>,
    /// Fields that are well-formed and have no effect.
    pub(crate) notes: Vec<String>,
}

/// One listener, evaluated without its routes.
pub(crate) struct ListenerState {
    pub(crate) supported_kinds: Vec<SupportedKind>,
    /// What is spoken; none if it is not supported.
    pub(crate) protocol: Option<SocketProtocol>,
    /// In range, if accepted.
    pub(crate) port: u16,
    pub(crate) refused: Option<Problem>,
    pub(crate) conflict: Option<Problem>,
    pub(crate) unresolved: Option<Problem>,
    /// It is well-formed, but there is nothing to serve with.
    pub(crate) unusable: Option<Problem>,
    pub(crate) overlap: Option<Problem>,
    pub(crate) certificates: Vec<Arc<Certificate>>,
}

impl ListenerState {
    /// Whether it belongs into the snapshot: accepted, alone in its place.
    pub(crate) fn stands(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none()
    }

    /// Whether it can answer requests.
    pub(crate) fn serves(&self) -> bool {
        self.stands() && self.unusable.is_none()
    }
}

impl GatewayState<'_> {
    /// Older Gateways first, then by name; each followed by its ListenerSets, likewise.
    fn by_seniority(&self, other: &Self) -> Ordering {
        let age = |of: &Self| (created(&of.gateway.metadata), of.set.map(|set| created(&set.metadata)));
        let ((own, own_set), (others, others_set)) = (age(self), age(other));
        own.cmp(&others)
            .then_with(|| self.model.gateway.by_full_name(&other.model.gateway))
            .then_with(|| own_set.cmp(&others_set))
            .then_with(|| self.id.by_full_name(&other.id))
    }

    /// The listeners as they are written.
    pub(crate) fn specs(&self) -> &[Listener] {
        self.set.map_or(&self.gateway.spec.listeners, |set| &set.spec.listeners)
    }

    /// The generation that its status speaks of.
    pub(crate) fn generation(&self) -> i64 {
        self.set.map_or(&self.gateway.metadata, |set| &set.metadata).generation.unwrap_or(0)
    }

    /// Where a listener accepts.
    pub(crate) fn sockets(&self, listener: &ListenerState) -> impl Iterator<Item = SocketAddr> {
        let port = self.addresses.instance_port(listener.port);
        self.addresses.ips.iter().map(move |ip| SocketAddr::new(*ip, port))
    }

    /// Whether anything of it may serve.
    pub(crate) fn stands(&self) -> bool {
        self.refused.is_none() && self.addresses.unsupported.is_none() && self.addresses.unusable.is_none()
    }
}

/// Seconds since the epoch; 0 where the source has no time.
fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

/// Evaluate all Gateways that are ours, in order of their names, then their ListenerSets; and the place of Ingress beside them.
pub(crate) fn evaluate<'a>(
    ownership: Ownership<'a>,
    certificates: &mut CertificateCache,
    ingress: Option<&Arc<Demand>>,
) -> (Vec<GatewayState<'a>>, Option<Place>) {
    let gateways = ownership.resources.gateways.iter();
    let ours: Vec<(&ResourceRef, &Arc<Gateway>, ClassState)> = gateways
        .map(|(id, gateway)| (id, gateway, ownership.class_of(gateway)))
        .filter(|(_, _, class)| *class != ClassState::Foreign)
        .collect();
    let assignments = assign(ownership, &ours, ingress);
    let mut states: Vec<_> = ours
        .into_iter()
        .map(|(id, gateway, class)| one(ownership, certificates, &assignments, id, gateway, class))
        .collect();
    let sets = listener_set::evaluate(ownership, certificates, &states);
    states.extend(sets);
    assign_ports(ownership, &mut states);
    let settings = ownership.settings;
    let mut place = ingress.map(|demand| {
        let addresses = Addresses::of(demand.wish(), &settings.addresses, &assignments);
        Place::new(Arc::clone(demand), settings.ingress, addresses)
    });
    conflicts::resolve_between(&mut states, place.as_mut());
    (states, place)
}

fn assign(
    ownership: Ownership<'_>,
    ours: &[(&ResourceRef, &Arc<Gateway>, ClassState)],
    ingress: Option<&Arc<Demand>>,
) -> Assignments {
    let gateways = ours.iter().filter(|(_, _, class)| *class == ClassState::Ours);
    let gateways = gateways.map(|(id, gateway, _)| (created(&gateway.metadata), Wish::of(id, gateway)));
    let mut by_age: Vec<(i64, Wish<'_>)> = gateways.collect();
    by_age.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.id.by_full_name(b.id)));
    if let Some(demand) = ingress {
        let turn = by_age.partition_point(|(created, _)| *created <= demand.created);
        by_age.insert(turn, (demand.created, demand.wish()));
    }
    Assignments::make(&ownership.settings.addresses, by_age.into_iter().map(|(_, wish)| wish))
}

/// Where each Gateway has a Service, each has ports of its own behind it.
fn assign_ports(ownership: Ownership<'_>, states: &mut [GatewayState<'_>]) {
    if ownership.settings.services.of_each().is_none() {
        return;
    }
    let mut by_age: Vec<usize> = (0..states.len()).filter(|at| states[*at].set.is_none()).collect();
    by_age.sort_by(|a, b| states[*a].by_seniority(&states[*b]));
    upkeep::assign(states, &by_age, ownership.resources);
}

fn one<'a>(
    ownership: Ownership<'a>,
    certificates: &mut CertificateCache,
    assignments: &Assignments,
    id: &ResourceRef,
    gateway: &'a Arc<Gateway>,
    class: ClassState,
) -> GatewayState<'a> {
    let mut notes = notes(gateway);
    let (models, mut listeners, twice) = listeners(ownership, certificates, id, &gateway.spec.listeners);
    notes.extend(twice);
    refuse_client_certificates(gateway, &mut listeners);
    conflicts::resolve_within(&models, &mut listeners);
    GatewayState {
        id: id.clone(),
        gateway,
        set: None,
        model: GatewayModel { id: id.clone(), gateway: id.clone(), listeners: models },
        listeners,
        addresses: addresses(ownership.settings, assignments, Wish::of(id, gateway)),
        refused: refusal(ownership, gateway, class),
        notes,
    }
}

fn addresses(settings: &Settings, assignments: &Assignments, wish: Wish<'_>) -> Addresses {
    let addresses = Addresses::of(wish, &settings.addresses, assignments);
    if settings.services.of_each().is_some() { addresses.behind_service() } else { addresses }
}

/// The listeners by themselves, and a note for each whose name is taken.
fn listeners(
    ownership: Ownership<'_>,
    certificates: &mut CertificateCache,
    parent: &ResourceRef,
    specs: &[Listener],
) -> (Vec<ListenerModel>, Vec<ListenerState>, Vec<String>) {
    let (mut models, mut states, mut twice) = (Vec::<ListenerModel>::new(), Vec::new(), Vec::new());
    for (index, spec) in specs.iter().enumerate() {
        let (mut model, mut state) = listener::evaluate(ownership, certificates, parent, index, spec);
        if models.iter().any(|earlier| *earlier.name == *spec.name) {
            let message = format!("listeners[{index}].name: `{}` is used by an earlier listener", spec.name);
            // Status is keyed by name and has no place for this one, so the Gateway itself says it.
            twice.push(message.clone());
            model.kinds.clear();
            state.refused = Some(Problem::unsupported(message));
        }
        models.push(model);
        states.push(state);
    }
    (models, states, twice)
}

fn refusal(ownership: Ownership<'_>, gateway: &Gateway, class: ClassState) -> Option<Problem> {
    let name = &gateway.spec.gateway_class_name;
    if class == ClassState::Lost {
        let implied = ownership.settings.implied_class.as_deref();
        let known = ownership.resources.gateway_classes.keys().map(|key| &*key.name).chain(implied);
        let hint = match (crate::nearest::nearest(name, known), implied) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(implied)) => format!("use `{implied}`"),
            (None, None) => "create it".to_owned(),
        };
        return Some(Problem::new("Pending", format!("spec.gatewayClassName: no GatewayClass `{name}`; {hint}")));
    }
    if class == ClassState::OursRefused {
        let message = format!("spec.gatewayClassName: GatewayClass `{name}` is not accepted; see its status");
        return Some(Problem::new("Pending", message));
    }
    let parameters = gateway.spec.infrastructure.as_ref().and_then(|it| it.parameters_ref.as_ref())?;
    let message = format!(
        "spec.infrastructure.parametersRef: {} `{}` cannot be used, Penstock has no parameters for Gateways; remove the field",
        parameters.kind, parameters.name
    );
    Some(Problem::new("InvalidParameters", message))
}

/// A Gateway that asks for client certificates must not serve whoever has none, only because they are not checked yet.
fn refuse_client_certificates(gateway: &Gateway, listeners: &mut [ListenerState]) {
    if gateway.spec.tls.as_ref().and_then(|tls| tls.get("frontend")).is_none() {
        return;
    }
    for listener in listeners.iter_mut().filter(|listener| listener.protocol == Some(SocketProtocol::Https)) {
        let message =
            "spec.tls.frontend: client certificates are not supported yet, and without the check nobody is let in";
        listener.refused.get_or_insert(Problem::unsupported(message));
    }
}

/// Well-formed fields that this version does not act on: saying nothing would be a lie by omission.
fn notes(gateway: &Gateway) -> Vec<String> {
    let fields = [
        ("spec.tls.backend", gateway.spec.tls.as_ref().is_some_and(|tls| tls.get("backend").is_some())),
        ("spec.defaultScope", gateway.spec.default_scope.is_some()),
    ];
    fields
        .iter()
        .filter(|(_, given)| *given)
        .map(|(field, _)| format!("{field} is not supported yet and ignored"))
        .collect()
}
