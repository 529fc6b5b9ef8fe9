//! Where Ingresses are served, beside Gateways on the same sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use penstock_core::{
    ResourceRef,
    fact::SocketState,
    hostname::HostPattern,
    listener::{Certificate, ListenerId, SocketProtocol},
};

use super::{Demand, place_id};
use crate::{
    Facts, IngressPorts,
    gateway::{Claims, addresses::Addresses},
    problem::Problem,
    status::LoadBalancerAddress,
};

/// The place in one state of the world.
#[derive(Debug)]
pub(crate) struct Place {
    demand: Arc<Demand>,
    addresses: Addresses,
    http: Entrance,
    https: Entrance,
    /// Hosts of `spec.tls` that a Gateway has.
    lost: BTreeMap<HostPattern, Problem>,
    /// Hosts that go to Gateways in clear, and to whom.
    elsewhere: Vec<(HostPattern, String)>,
}

/// One of the two ports.
#[derive(Debug)]
struct Entrance {
    port: u16,
    protocol: SocketProtocol,
    /// By which it is moved elsewhere.
    flag: &'static str,
    conflict: Option<Problem>,
}

/// A listener of the place.
pub(crate) struct PlaceListener<'a> {
    pub(crate) id: ListenerId,
    pub(crate) protocol: SocketProtocol,
    pub(crate) hostname: &'a HostPattern,
    pub(crate) certificate: Option<&'a Arc<Certificate>>,
    pub(crate) sockets: Vec<SocketAddr>,
}

/// The place as Ingresses see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlaceModel {
    /// Where clients find it.
    pub(super) addresses: Result<Vec<LoadBalancerAddress>, Problem>,
    pub(super) http: Result<(), Problem>,
    pub(super) https: Result<(), Problem>,
    /// Hosts that go to Gateways in clear, and to whom.
    pub(super) elsewhere: Vec<(HostPattern, String)>,
}

impl Place {
    pub(crate) fn new(demand: Arc<Demand>, ports: IngressPorts, addresses: Addresses) -> Self {
        let entrance = |port, protocol, flag| Entrance { port, protocol, flag, conflict: None };
        Self {
            demand,
            addresses,
            http: entrance(ports.http, SocketProtocol::Http, "--ingress-http-port"),
            https: entrance(ports.https, SocketProtocol::Https, "--ingress-https-port"),
            lost: BTreeMap::new(),
            elsewhere: Vec::new(),
        }
    }

    /// Its age, by which it takes its turn among Gateways.
    pub(crate) fn created(&self) -> i64 {
        self.demand.created
    }

    fn sockets(&self, entrance: &Entrance) -> impl Iterator<Item = SocketAddr> + use<> {
        let port = entrance.port;
        self.addresses.ips.clone().into_iter().map(move |ip| SocketAddr::new(ip, port))
    }

    /// Take what those who went before have left.
    pub(crate) fn claim(&mut self, claims: &mut Claims) {
        let http = self.other_protocol(&self.http, claims);
        let http = http.or_else(|| self.taken(&self.http, claims, &HostPattern::Any));
        let https = self.other_protocol(&self.https, claims);
        let hosts = self.demand.hosts.keys();
        let lost =
            hosts.filter_map(|hostname| Some((hostname.clone(), self.taken(&self.https, claims, hostname)?))).collect();
        (self.http.conflict, self.https.conflict, self.lost) = (http, https, lost);
        for listener in self.listeners() {
            for address in listener.sockets {
                claims.take(address, listener.protocol, listener.hostname, "Ingress");
            }
        }
    }

    fn other_protocol(&self, entrance: &Entrance, claims: &Claims) -> Option<Problem> {
        self.sockets(entrance).find_map(|address| {
            let holder = claims.other_protocol(address, entrance.protocol)?;
            let message = format!("on {address}, {holder}, which goes first, speaks another protocol");
            Some(entrance.problem("ProtocolConflict", &message))
        })
    }

    fn taken(&self, entrance: &Entrance, claims: &Claims, hostname: &HostPattern) -> Option<Problem> {
        self.sockets(entrance).find_map(|address| {
            let (theirs, holder) = claims.covering(address, hostname)?;
            let by = if theirs == hostname { String::new() } else { format!(" by `{theirs}`") };
            let message = format!("on {address}, {holder}, which goes first, has the hostname `{hostname}`{by}");
            Some(entrance.problem("HostnameConflict", &message))
        })
    }

    /// See which hosts Gateways have beside the place, once everybody has taken theirs.
    pub(crate) fn look_around(&mut self, claims: &Claims) {
        let theirs: BTreeSet<_> = self.sockets(&self.http).flat_map(|address| claims.narrower(address)).collect();
        self.elsewhere = theirs.into_iter().collect();
    }

    /// The listeners that stand.
    pub(crate) fn listeners(&self) -> Vec<PlaceListener<'_>> {
        let mut listeners = Vec::new();
        let mut add = |entrance: &Entrance, name: &str, hostname, certificate| {
            listeners.push(PlaceListener {
                id: ListenerId { parent: place_id(), name: name.into() },
                protocol: entrance.protocol,
                hostname,
                certificate,
                sockets: self.sockets(entrance).collect(),
            });
        };
        let stands = |entrance: &Entrance| self.addresses.unusable.is_none() && entrance.conflict.is_none();
        if stands(&self.http) {
            add(&self.http, "http", &HostPattern::Any, None);
        }
        let hosts = self.demand.hosts.iter().filter(|(hostname, _)| !self.lost.contains_key(hostname));
        for (hostname, host) in hosts.filter(|_| stands(&self.https)) {
            add(&self.https, "https", hostname, host.certificate.as_ref());
        }
        listeners
    }

    /// Hosts that Gateways have, with the Ingress that wanted each.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (&ResourceRef, Problem)> {
        self.lost.iter().filter_map(|(hostname, problem)| {
            let host = self.demand.hosts.get(hostname)?;
            Some((&host.ingress, Problem::new(problem.reason, format!("{}: {}", host.at, problem.message))))
        })
    }

    /// The place as Ingresses see it, behind a Service with such addresses, if there is one.
    pub(crate) fn model(&self, facts: &Facts, front: Option<Result<Vec<LoadBalancerAddress>, Problem>>) -> PlaceModel {
        let certified = self.demand.hosts.values().any(|host| host.certificate.is_some());
        let https = match certified {
            true => self.takes_connections(&self.https, facts),
            false => Err(Problem::invalid("there is no certificate to serve with")),
        };
        PlaceModel {
            addresses: front.unwrap_or_else(|| Ok(self.listening())),
            http: self.takes_connections(&self.http, facts),
            https,
            elsewhere: self.elsewhere.clone(),
        }
    }

    /// Who listens on all addresses has none to tell.
    fn listening(&self) -> Vec<LoadBalancerAddress> {
        let certain = self.addresses.ips.iter().filter(|ip| !ip.is_unspecified());
        certain.map(|ip| LoadBalancerAddress::Ip(ip.to_string())).collect()
    }

    fn takes_connections(&self, entrance: &Entrance, facts: &Facts) -> Result<(), Problem> {
        if let Some(problem) = self.addresses.unusable.as_ref().or(entrance.conflict.as_ref()) {
            return Err(problem.clone());
        }
        let mut failed = Vec::new();
        for address in self.sockets(entrance) {
            match facts.sockets.get(&address) {
                Some(SocketState::Bound) => return Ok(()),
                Some(SocketState::Failed(why)) => failed.push(format!("{address}: {why}")),
                Some(SocketState::Closed) | None => {}
            }
        }
        Err(match failed.is_empty() {
            true => Problem::new("Pending", format!("about to listen on port {}", entrance.port)),
            false => entrance.problem("PortUnavailable", &format!("cannot listen on {}", failed.join("; "))),
        })
    }
}

impl Entrance {
    fn problem(&self, reason: &'static str, message: &str) -> Problem {
        let flag = self.flag;
        Problem::new(reason, format!("{message}; {flag} gives Ingress another port, --address-pool its own address"))
    }
}
