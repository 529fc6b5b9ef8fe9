//! Listeners that cannot stand beside each other: within one Gateway nobody wins, between Gateways the older one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use penstock_core::{hostname::HostPattern, listener::SocketProtocol};

use super::{GatewayState, ListenerModel, ListenerState, created};
use crate::{ingress, nearest::list, problem::Problem, resources::gateway::Protocol};

/// Within a Gateway all listeners in conflict are refused, so that none wins by the order in a file.
pub(super) fn resolve_within(models: &[ListenerModel], listeners: &mut [ListenerState]) {
    let conflicts: Vec<_> = (0..listeners.len()).map(|at| conflict_of(at, models, listeners)).collect();
    let overlaps: Vec<_> = (0..listeners.len()).map(|at| overlap_of(at, models, listeners)).collect();
    for ((listener, conflict), overlap) in listeners.iter_mut().zip(conflicts).zip(overlaps) {
        listener.conflict = conflict;
        listener.overlap = overlap;
    }
}

/// The others on the same port that could stand if they were alone.
fn neighbours<'a>(
    at: usize,
    models: &'a [ListenerModel],
    listeners: &'a [ListenerState],
) -> impl Iterator<Item = (&'a ListenerModel, &'a ListenerState)> {
    let own = &listeners[at];
    models.iter().zip(listeners).enumerate().filter_map(move |(other, pair)| {
        let both = own.refused.is_none() && pair.1.refused.is_none();
        (other != at && both && pair.1.port == own.port).then_some(pair)
    })
}

fn conflict_of(at: usize, models: &[ListenerModel], listeners: &[ListenerState]) -> Option<Problem> {
    let named = |matches: &dyn Fn(&ListenerModel, &ListenerState) -> bool| -> Vec<&str> {
        let others = neighbours(at, models, listeners).filter(|(model, state)| matches(model, state));
        others.map(|(model, _)| &*model.name).collect()
    };
    let port = listeners[at].port;
    let protocol = named(&|_, other| other.protocol != listeners[at].protocol);
    if !protocol.is_empty() {
        let message = format!(
            "listeners[{at}].protocol: {} on port {port} speaks another protocol; give each protocol its own port",
            list(protocol)
        );
        return Some(Problem::new("ProtocolConflict", message));
    }
    let hostname = named(&|other, _| other.hostname == models[at].hostname);
    (!hostname.is_empty()).then(|| {
        let message = format!(
            "listeners[{at}].hostname: {} on port {port} has the same hostname; each needs its own",
            list(hostname)
        );
        Problem::new("HostnameConflict", message)
    })
}

/// HTTPS listeners that share hosts: a client may reuse a connection of one for requests of the other.
fn overlap_of(at: usize, models: &[ListenerModel], listeners: &[ListenerState]) -> Option<Problem> {
    if listeners[at].protocol != Some(SocketProtocol::Https) {
        return None;
    }
    let own = models[at].hostname.as_ref()?;
    let overlapping: Vec<&str> = neighbours(at, models, listeners)
        .filter(|(_, other)| other.protocol == Some(SocketProtocol::Https))
        .filter(|(other, _)| {
            other.hostname.as_ref().is_some_and(|other| other != own && own.intersect(other).is_some())
        })
        .map(|(other, _)| &*other.name)
        .collect();
    (!overlapping.is_empty()).then(|| {
        let message = format!(
            "listeners[{at}].hostname: overlaps with {}; a connection made for one is not used for the other (421)",
            list(overlapping)
        );
        Problem::new("OverlappingHostnames", message)
    })
}

/// Who has a socket, and which hostnames on it are taken by whom.
struct Claim {
    protocol: SocketProtocol,
    holder: String,
    hostnames: BTreeMap<HostPattern, String>,
}

/// What is taken of all sockets.
#[derive(Default)]
pub(crate) struct Claims(BTreeMap<SocketAddr, Claim>);

impl Claims {
    /// Who speaks something else there.
    pub(crate) fn other_protocol(&self, address: SocketAddr, protocol: SocketProtocol) -> Option<&str> {
        self.0.get(&address).filter(|claim| claim.protocol != protocol).map(|claim| &*claim.holder)
    }

    /// Who has that hostname.
    fn holder(&self, address: SocketAddr, hostname: &HostPattern) -> Option<&str> {
        self.0.get(&address)?.hostnames.get(hostname).map(String::as_str)
    }

    /// Who has all hosts of that hostname, and by which of its own.
    pub(crate) fn covering(&self, address: SocketAddr, hostname: &HostPattern) -> Option<(&HostPattern, &str)> {
        let mut hostnames = self.0.get(&address)?.hostnames.iter();
        let found = hostnames.find(|(theirs, _)| theirs.intersect(hostname) == Some(hostname));
        found.map(|(theirs, holder)| (theirs, &**holder))
    }

    /// All hostnames there but that for all hosts, and who has them.
    pub(crate) fn narrower(&self, address: SocketAddr) -> impl Iterator<Item = (HostPattern, String)> {
        let claim = self.0.get(&address).into_iter();
        claim
            .flat_map(|claim| &claim.hostnames)
            .filter(|(hostname, _)| **hostname != HostPattern::Any)
            .map(|(hostname, holder)| (hostname.clone(), holder.clone()))
    }

    /// From now on it is theirs.
    pub(crate) fn take(&mut self, address: SocketAddr, protocol: SocketProtocol, hostname: &HostPattern, who: &str) {
        let free = || Claim { protocol, holder: who.to_owned(), hostnames: BTreeMap::new() };
        self.0.entry(address).or_insert_with(free).hostnames.insert(hostname.clone(), who.to_owned());
    }
}

/// Sockets are shared by Gateways and ListenerSets that agree on the protocol and differ in hostnames; otherwise who goes first keeps the
/// place: the older Gateway, and a Gateway before its ListenerSets. Ingress takes its turn by age, after Gateways of the same age.
pub(crate) fn resolve_between(gateways: &mut [GatewayState<'_>], ingress: Option<&mut ingress::Place>) {
    let mut by_age: Vec<usize> = (0..gateways.len()).collect();
    by_age.sort_by(|a, b| gateways[*a].by_seniority(&gateways[*b]));
    let turn = ingress.as_ref().map_or(by_age.len(), |place| {
        by_age.partition_point(|at| created(&gateways[*at].gateway.metadata) <= place.created())
    });
    let (before, after) = by_age.split_at(turn);
    let mut claims = Claims::default();
    claim_all(&mut claims, gateways, before);
    match ingress {
        None => claim_all(&mut claims, gateways, after),
        Some(place) => {
            place.claim(&mut claims);
            claim_all(&mut claims, gateways, after);
            place.look_around(&claims);
        }
    }
    // Afterwards: what cannot be served takes no place from anybody, but it should say that there is none for it either.
    for gateway in gateways.iter_mut().filter(|gateway| gateway.stands()) {
        for at in 0..gateway.listeners.len() {
            if let Some(problem) = taken(&claims, gateway, at) {
                let listener = &mut gateway.listeners[at];
                (listener.refused, listener.conflict) = (None, Some(problem));
            }
        }
    }
}

fn claim_all(claims: &mut Claims, gateways: &mut [GatewayState<'_>], order: &[usize]) {
    for &at in order {
        if !gateways[at].stands() {
            continue;
        }
        for listener in 0..gateways[at].listeners.len() {
            if let Some(problem) = claim(claims, &gateways[at], listener) {
                gateways[at].listeners[listener].conflict = Some(problem);
            }
        }
    }
}

/// Why a listener could not be here even if its protocol were supported. TLS shares its port with HTTPS, TCP with nobody; UDP has ports of its own.
fn taken(claims: &Claims, gateway: &GatewayState<'_>, at: usize) -> Option<Problem> {
    let state = &gateway.listeners[at];
    if state.protocol.is_some() || state.refused.as_ref()?.reason != "UnsupportedProtocol" {
        return None;
    }
    let spec = &gateway.specs()[at];
    let goes_with_https = match spec.protocol {
        Protocol::Tcp => false,
        Protocol::Tls => true,
        _ => return None,
    };
    let (address, claim) = gateway.sockets(state).find_map(|address| {
        let claim = claims.0.get(&address)?;
        (!(goes_with_https && claim.protocol == SocketProtocol::Https)).then_some((address, claim))
    })?;
    let message = format!(
        "listeners[{at}].port: on {address}, {}, which goes first, speaks another protocol; besides, `{}` is not supported yet",
        claim.holder, spec.protocol
    );
    Some(Problem::new("ProtocolConflict", message))
}

/// Take the place of a listener on all its sockets, or say who has it. A listener that loses one of its sockets loses all.
fn claim(claims: &mut Claims, gateway: &GatewayState<'_>, at: usize) -> Option<Problem> {
    let (state, model) = (&gateway.listeners[at], &gateway.model.listeners[at]);
    let (protocol, hostname) = (state.protocol?, model.hostname.as_ref()?);
    if !state.stands() {
        return None;
    }
    let sockets: BTreeSet<SocketAddr> = gateway.sockets(state).collect();
    let me = format!("{} `{}/{}`", gateway.id.kind, gateway.id.namespace, gateway.id.name);
    for address in &sockets {
        if let Some(holder) = claims.other_protocol(*address, protocol) {
            let message = format!(
                "listeners[{at}].port: on {address}, {holder}, which goes first, speaks another protocol; use another port or address"
            );
            return Some(Problem::new("ProtocolConflict", message));
        }
        if let Some(holder) = claims.holder(*address, hostname).filter(|holder| **holder != me) {
            let message = format!(
                "listeners[{at}].hostname: on {address}, {holder}, which goes first, has the hostname `{hostname}`; use another hostname, \
                 port or address"
            );
            return Some(Problem::new("HostnameConflict", message));
        }
    }
    for address in sockets {
        claims.take(address, protocol, hostname, &me);
    }
    None
}
