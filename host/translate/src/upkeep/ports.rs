//! Which port of the instances a port of a Gateway leads to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use penstock_core::ResourceRef;

use super::service_of;
use crate::{Resources, gateway::GatewayState};

/// Above those that programs listen on, below those of nodes and of outgoing connections.
const FIRST: u16 = 10_240;
const COUNT: u16 = 19_000;

/// Give every port of every Gateway one of the instances' own. One that its Service leads to already stays, so that nothing moves when others
/// come and go; the first one that is tried for another follows from the names, so that all instances agree before there is a Service.
/// `by_age` are the places of Gateways, the oldest first.
pub(crate) fn assign(states: &mut [GatewayState<'_>], by_age: &[usize], resources: &Resources) {
    let wishes: Vec<(ResourceRef, BTreeSet<u16>)> = by_age.iter().map(|at| wish(states, *at)).collect();
    let mut taken = BTreeSet::new();
    let mut assigned = BTreeMap::<(&ResourceRef, u16), u16>::new();
    for ((gateway, ports), at) in wishes.iter().zip(by_age) {
        let service = resources.services.get(&service_of(gateway, states[*at].gateway));
        let known = service.and_then(|service| service.spec.as_ref()?.ports.as_deref()).unwrap_or_default();
        for port in ports {
            let known = known.iter().find(|known| known.port == i32::from(*port));
            let target = known.and_then(|known| match known.target_port {
                Some(IntOrString::Int(target)) => u16::try_from(target).ok(),
                _ => None,
            });
            if let Some(target) = target.filter(|target| is_ours(*target) && taken.insert(*target)) {
                assigned.insert((gateway, *port), target);
            }
        }
    }
    for (gateway, ports) in &wishes {
        for port in ports {
            if !assigned.contains_key(&(gateway, *port))
                && let Some(target) = free(gateway, *port, &taken)
            {
                taken.insert(target);
                assigned.insert((gateway, *port), target);
            }
        }
    }
    let mut by_gateway = BTreeMap::<&ResourceRef, BTreeMap<u16, u16>>::new();
    for ((gateway, port), target) in assigned {
        by_gateway.entry(gateway).or_default().insert(port, target);
    }
    for state in states {
        state.addresses.ports = by_gateway.get(&state.model.gateway).cloned().unwrap_or_default();
    }
}

/// The Gateway at this place, and the ports of it and of its ListenerSets.
fn wish(states: &[GatewayState<'_>], at: usize) -> (ResourceRef, BTreeSet<u16>) {
    let gateway = states[at].id.clone();
    let parts = states.iter().filter(|state| state.model.gateway == gateway);
    let ports = parts.flat_map(|state| state.listeners.iter().map(|listener| listener.port)).filter(|port| *port > 0);
    let ports = ports.collect();
    (gateway, ports)
}

fn is_ours(port: u16) -> bool {
    (FIRST..FIRST + COUNT).contains(&port)
}

fn free(gateway: &ResourceRef, port: u16, taken: &BTreeSet<u16>) -> Option<u16> {
    let start = hash(gateway, port) % u64::from(COUNT);
    (0..u64::from(COUNT))
        .filter_map(|step| u16::try_from((start + step) % u64::from(COUNT)).ok())
        .map(|offset| FIRST + offset)
        .find(|port| !taken.contains(port))
}

/// FNV-1a, written out: a port must not change with the version of a library.
fn hash(gateway: &ResourceRef, port: u16) -> u64 {
    super::manifest::fnv(format!("{}/{}:{port}", gateway.namespace, gateway.name).as_bytes())
}
