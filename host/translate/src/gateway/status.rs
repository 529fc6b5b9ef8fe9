//! The status of a Gateway: its evaluation, the facts about its sockets, the routes that attached.

use std::net::SocketAddr;

use penstock_core::{ResourceRef, fact::SocketState};

use super::{GatewayState, ListenerState};
use crate::{
    Condition, ConditionStatus, Facts, GatewayServices, ServiceType, front,
    nearest::list,
    ownership::Ownership,
    plugin::{self, AttachedPlugin},
    problem::{Conditions, Problem},
    status::{GatewayStatus, GatewayStatusAddress, ListenerSetStatus, ListenerStatus, LoadBalancerAddress},
    upkeep,
};

/// So many the resource has room for.
const MAX_ADDRESSES: usize = 16;

/// The status of a Gateway, with the number of accepted routes by listener, the number of accepted ListenerSets, and the plugins that target it.
pub(crate) fn status(
    ownership: Ownership<'_>,
    gateway: &GatewayState<'_>,
    attached: &[i32],
    sets: usize,
    plugins: &[AttachedPlugin],
) -> GatewayStatus {
    let facts = &ownership.resources.facts;
    let places = places(ownership, gateway);
    let addresses = reached(ownership, gateway);
    let mut conditions = gateway_conditions(gateway, &places, facts, &addresses);
    plugin::degraded(plugins.iter().map(|it| &it.plugin), &mut conditions);
    GatewayStatus {
        conditions: conditions.finish(),
        addresses: if gateway.stands() { addresses.unwrap_or_default() } else { Vec::new() },
        listeners: listeners(gateway, &places, attached),
        attached_listener_sets: i32::try_from(sets).unwrap_or(i32::MAX),
    }
}

/// Where clients reach the Gateway: at the addresses that it listens on, or at those of a Service before them.
fn reached(ownership: Ownership<'_>, gateway: &GatewayState<'_>) -> Result<Vec<GatewayStatusAddress>, Problem> {
    let addresses = match &ownership.settings.services {
        GatewayServices::Each { type_, .. } => Some(own_service(ownership, gateway, *type_)?),
        // Nobody but the instances themselves can be at an address that was asked for.
        GatewayServices::Shared(_) if !gateway.addresses.explicit => front::shared(ownership).transpose()?,
        GatewayServices::Shared(_) | GatewayServices::Absent => None,
    };
    let listening = || gateway.addresses.ips.iter().map(|ip| LoadBalancerAddress::Ip(ip.to_string())).collect();
    Ok(addresses.unwrap_or_else(listening).into_iter().take(MAX_ADDRESSES).map(GatewayStatusAddress::from).collect())
}

fn own_service(
    ownership: Ownership<'_>,
    gateway: &GatewayState<'_>,
    type_: ServiceType,
) -> Result<Vec<LoadBalancerAddress>, Problem> {
    let id = upkeep::service_of(&gateway.model.gateway, gateway.gateway);
    match ownership.resources.services.get(&id) {
        Some(service) => front::of(&id, service, type_),
        None => {
            let message = format!("Service `{}` is about to be created", id.full_name());
            Err(Problem::new("AddressNotAssigned", message))
        }
    }
}

/// The status of a ListenerSet, with the number of accepted routes by listener.
pub(crate) fn listener_set_status(
    ownership: Ownership<'_>,
    set: &GatewayState<'_>,
    attached: &[i32],
) -> ListenerSetStatus {
    let places = places(ownership, set);
    let mut conditions = Conditions::new(set.generation());
    let broken = names(set, |at| !set.listeners[at].serves());
    let notes = set.notes.iter().map(|note| format!("; {note}")).collect::<String>();
    let refused = set.refusal();
    match &refused {
        Some(problem) => conditions.no("Accepted", problem),
        None if broken.is_empty() => conditions.yes("Accepted", "Accepted", format!("the ListenerSet is valid{notes}")),
        None => {
            let message = format!("listeners that are not valid: {}; see their conditions{notes}", list(broken));
            conditions.yes("Accepted", "ListenersNotValid", message);
        }
    }
    match set_programmed(ownership, set, &places, refused.as_ref()) {
        Ok(()) => conditions.yes("Programmed", "Programmed", "listeners take connections"),
        Err(problem) => conditions.no("Programmed", &problem),
    }
    ListenerSetStatus { conditions: conditions.finish(), listeners: listeners(set, &places, attached) }
}

fn set_programmed(
    ownership: Ownership<'_>,
    set: &GatewayState<'_>,
    places: &[Place],
    refused: Option<&Problem>,
) -> Result<(), Problem> {
    let parent = |problem: &Problem| Problem::new("ParentNotProgrammed", problem.message.clone());
    match refused {
        Some(problem) if problem.reason == "ParentNotAccepted" => return Err(parent(problem)),
        Some(problem) => return Err(problem.clone()),
        None => {}
    }
    if let Some(problem) = &set.addresses.unusable {
        return Err(parent(problem));
    }
    reached(ownership, set).map_err(|problem| parent(&problem))?;
    if places.iter().any(|place| matches!(place, Place::Bound(_))) {
        return Ok(());
    }
    let pending = places.iter().any(|place| matches!(place, Place::No(problem) if problem.reason == "Pending"));
    let reason = if pending { "Pending" } else { "PortUnavailable" };
    Err(Problem::new(reason, "no listener takes connections; see the conditions of the listeners"))
}

impl GatewayState<'_> {
    /// Why a ListenerSet is not accepted.
    fn refusal(&self) -> Option<Problem> {
        let serves = self.listeners.iter().any(ListenerState::serves);
        let invalid = || Problem::new("ListenersNotValid", "no listener is valid; see the conditions of the listeners");
        self.refused.clone().or_else(|| (!serves).then(invalid))
    }

    /// Whether it is a ListenerSet of this Gateway, and accepted.
    pub(crate) fn is_attached_to(&self, gateway: &ResourceRef) -> bool {
        self.set.is_some() && self.model.gateway == *gateway && self.refusal().is_none()
    }
}

fn places(ownership: Ownership<'_>, gateway: &GatewayState<'_>) -> Vec<Place> {
    let facts = &ownership.resources.facts;
    let unreached = |listener: &ListenerState| {
        let is_behind = !gateway.addresses.explicit;
        is_behind.then(|| front::unreached(ownership, listener.port)).flatten()
    };
    let place = |listener| match (Place::of(gateway, listener, facts), unreached(listener)) {
        (Place::Bound(message), Some(but)) => Place::Bound(format!("{message}, but {but}")),
        (place, _) => place,
    };
    gateway.listeners.iter().map(place).collect()
}

fn listeners(gateway: &GatewayState<'_>, places: &[Place], attached: &[i32]) -> Vec<ListenerStatus> {
    let mut listeners = Vec::<ListenerStatus>::new();
    for (at, (listener, spec)) in gateway.listeners.iter().zip(gateway.specs()).enumerate() {
        if listeners.iter().any(|earlier| earlier.name == spec.name) {
            continue; // refused for its name; the list is keyed by name, so there is no place for it
        }
        listeners.push(ListenerStatus {
            name: spec.name.clone(),
            supported_kinds: listener.supported_kinds.clone(),
            attached_routes: attached.get(at).copied().unwrap_or_default(),
            conditions: listener_conditions(listener, &places[at], gateway.generation()),
        });
    }
    listeners
}

/// How far a listener is from taking connections.
enum Place {
    /// Something in its way.
    No(Problem),
    /// Bound; the message says where, and where not.
    Bound(String),
}

impl Place {
    fn of(gateway: &GatewayState<'_>, listener: &ListenerState, facts: &Facts) -> Self {
        if let Some(problem) = listener.refused.as_ref().or(listener.conflict.as_ref()) {
            // A ListenerSet repeats the reason of a conflict, as Gateway API asks; a Gateway knows only one word here.
            let reason = match &listener.conflict {
                Some(conflict) if gateway.set.is_some() && listener.refused.is_none() => conflict.reason,
                _ => "Invalid",
            };
            return Self::No(Problem::new(reason, problem.message.clone()));
        }
        if let Some(problem) = &listener.unusable {
            return Self::No(problem.clone());
        }
        if !gateway.stands() {
            return Self::No(Problem::invalid("the Gateway is not accepted or has no usable address"));
        }
        let (mut bound, mut failed, mut pending) = (Vec::new(), Vec::new(), Vec::new());
        for address in gateway.sockets(listener) {
            match facts.sockets.get(&address) {
                Some(SocketState::Bound) => bound.push(address.to_string()),
                Some(SocketState::Failed(text)) => failed.push(format!("{address}: {text}")),
                Some(SocketState::Closed) | None => pending.push(address.to_string()),
            }
        }
        if !bound.is_empty() && pending.is_empty() {
            let but = if failed.is_empty() { String::new() } else { format!("; not on {}", failed.join("; ")) };
            return Self::Bound(format!("listening on {}{but}", bound.join(", ")));
        }
        if !failed.is_empty() {
            return Self::No(Problem::new("PortUnavailable", format!("cannot listen on {}", failed.join("; "))));
        }
        if pending.is_empty() && bound.is_empty() {
            return Self::No(Problem::new("AddressNotAssigned", "the Gateway has no address"));
        }
        Self::No(Problem::new("Pending", format!("about to listen on {}", pending.join(", "))))
    }
}

fn listener_conditions(listener: &ListenerState, place: &Place, generation: i64) -> Vec<Condition> {
    let mut conditions = Conditions::new(generation);
    let refused = listener.refused.as_ref().or(listener.conflict.as_ref());
    conditions.holds_unless("Accepted", refused, "the listener is valid");
    match &listener.conflict {
        Some(problem) => conditions.yes("Conflicted", problem.reason, problem.message.clone()),
        None => conditions.set("Conflicted", ConditionStatus::False, "NoConflicts", ""),
    }
    match place {
        Place::No(problem) => conditions.no("Programmed", problem),
        Place::Bound(message) => conditions.yes("Programmed", "Programmed", message.clone()),
    }
    conditions.holds_unless("ResolvedRefs", listener.unresolved.as_ref(), "all references are resolved");
    if let Some(problem) = &listener.overlap {
        conditions.yes("OverlappingTLSConfig", problem.reason, problem.message.clone());
    }
    conditions.finish()
}

fn gateway_conditions(
    gateway: &GatewayState<'_>,
    places: &[Place],
    facts: &Facts,
    addresses: &Result<Vec<GatewayStatusAddress>, Problem>,
) -> Conditions {
    let mut conditions = Conditions::new(gateway.generation());
    let refused = refusal(gateway);
    let notes = gateway.notes.iter().map(|note| format!("; {note}")).collect::<String>();
    let broken = names(gateway, |at| !gateway.listeners[at].stands());
    match &refused {
        Some(problem) => conditions.no("Accepted", problem),
        None if broken.is_empty() => conditions.yes("Accepted", "Accepted", format!("the Gateway is valid{notes}")),
        None => {
            let message = format!("listeners that are not valid: {}; see their conditions{notes}", list(broken));
            conditions.yes("Accepted", "ListenersNotValid", message);
        }
    }
    let programmed = programmed(gateway, places, facts, refused.as_ref());
    match programmed.and_then(|message| addresses.as_ref().map(|_| message).map_err(Clone::clone)) {
        Ok(message) => conditions.yes("Programmed", "Programmed", message),
        Err(problem) => conditions.no("Programmed", &problem),
    }
    conditions
}

fn refusal(gateway: &GatewayState<'_>) -> Option<Problem> {
    if let Some(problem) = gateway.refused.as_ref().or(gateway.addresses.unsupported.as_ref()) {
        return Some(problem.clone());
    }
    let none_stands = !gateway.listeners.iter().any(ListenerState::stands);
    none_stands.then(|| Problem::new("ListenersNotValid", "no listener is valid; see the conditions of the listeners"))
}

fn programmed(
    gateway: &GatewayState<'_>,
    places: &[Place],
    facts: &Facts,
    refused: Option<&Problem>,
) -> Result<String, Problem> {
    if let Some(problem) = refused {
        let reason = if problem.reason == "Pending" { "Pending" } else { "Invalid" };
        return Err(Problem::new(reason, problem.message.clone()));
    }
    if let Some(problem) = &gateway.addresses.unusable {
        return Err(problem.clone());
    }
    if let Some(problem) = unusable_address(gateway, facts) {
        return Err(problem);
    }
    let waiting = names(gateway, |at| matches!(places[at], Place::No(_)));
    if places.iter().any(|place| matches!(place, Place::Bound(_))) {
        return Ok(if waiting.is_empty() {
            "every listener takes connections".to_owned()
        } else {
            format!("listeners that do not take connections: {}; see their conditions", list(waiting))
        });
    }
    let first = places.iter().find_map(|place| match place {
        Place::No(problem) if problem.reason == "Pending" => Some("Pending"),
        _ => None,
    });
    Err(Problem::new(first.unwrap_or("Invalid"), "no listener takes connections; see the conditions of the listeners"))
}

/// An address that the Gateway asked for, on which not one of its listeners could be bound.
fn unusable_address(gateway: &GatewayState<'_>, facts: &Facts) -> Option<Problem> {
    if !gateway.addresses.explicit {
        return None;
    }
    gateway.addresses.ips.iter().find_map(|ip| {
        let ports = gateway.listeners.iter().filter(|listener| listener.serves()).map(|listener| listener.port);
        let states: Vec<_> = ports.map(|port| facts.sockets.get(&SocketAddr::new(*ip, port))).collect();
        let texts: Option<Vec<&str>> = states
            .iter()
            .map(|state| match state {
                Some(SocketState::Failed(text)) => Some(&**text),
                _ => None,
            })
            .collect();
        let text = *texts?.first()?;
        Some(Problem::new("AddressNotUsable", format!("spec.addresses: cannot listen on {ip}: {text}")))
    })
}

fn names<'a>(gateway: &'a GatewayState<'_>, which: impl Fn(usize) -> bool) -> Vec<&'a str> {
    let listeners = gateway.model.listeners.iter().enumerate();
    listeners.filter(|(at, _)| which(*at)).map(|(_, model)| &*model.name).collect()
}
