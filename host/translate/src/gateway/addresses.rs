//! Where a Gateway listens.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use penstock_core::ResourceRef;

use crate::{
    AddressRange, GatewayAddresses,
    nearest::list,
    problem::{Problem, sentences},
    resources::{
        Gateway,
        gateway::{AddressType, GatewayAddress},
    },
};

/// The addresses of one Gateway.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Addresses {
    /// In order, without duplicates.
    pub(crate) ips: Vec<IpAddr>,
    /// Ports of the instances for those of the Gateway; where there is none, they are the same.
    pub(crate) ports: BTreeMap<u16, u16>,
    /// Whether the Gateway asked for these very addresses.
    pub(crate) explicit: bool,
    /// An address is of a type that cannot be served.
    pub(crate) unsupported: Option<Problem>,
    /// An address is malformed, not to be had, or there is none left.
    pub(crate) unusable: Option<Problem>,
}

/// Somebody who needs addresses, and those that it asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) id: &'a ResourceRef,
    pub(crate) addresses: &'a [GatewayAddress],
}

impl<'a> Wish<'a> {
    pub(crate) fn of(id: &'a ResourceRef, gateway: &'a Gateway) -> Self {
        Self { id, addresses: &gateway.spec.addresses }
    }
}

/// Who has which address of the pool.
#[derive(Debug, Default)]
pub(crate) struct Assignments(BTreeMap<ResourceRef, IpAddr>);

impl Assignments {
    /// Give every Gateway that asks for no certain address one of its own. `by_age` are all that may have one, the oldest first: an older one
    /// is never moved by a newer one. The first address that is tried follows from the name, so that it is the same after a restart.
    pub(crate) fn make<'a>(settings: &GatewayAddresses, by_age: impl Iterator<Item = Wish<'a>>) -> Self {
        let GatewayAddresses::Pool(ranges) = settings else { return Self::default() };
        let mut taken = BTreeSet::new();
        let mut assigned = BTreeMap::new();
        for Wish { id, addresses } in by_age {
            taken.extend(addresses.iter().filter_map(|address| value(address)?.parse::<IpAddr>().ok()));
            if wants_any(addresses)
                && let Some(ip) = free(ranges, id, &taken)
            {
                taken.insert(ip);
                assigned.insert(id.clone(), ip);
            }
        }
        Self(assigned)
    }
}

fn value(address: &GatewayAddress) -> Option<&str> {
    address.value.as_deref().filter(|value| !value.is_empty())
}

fn wants_any(addresses: &[GatewayAddress]) -> bool {
    let any = |address: &GatewayAddress| {
        value(address).is_none() && matches!(address.type_, None | Some(AddressType::IpAddress))
    };
    addresses.is_empty() || addresses.iter().any(any)
}

fn free(ranges: &[AddressRange], id: &ResourceRef, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let total = ranges.iter().fold(0u128, |sum, range| sum.saturating_add(range.len()));
    let start = u128::from(hash(id)) % total.max(1);
    // One more than are taken: among so many, one is free, if there are so many.
    let tries = total.min(taken.len() as u128 + 1);
    (0..tries).map(|step| nth(ranges, (start + step) % total)).find_map(|ip| ip.filter(|ip| !taken.contains(ip)))
}

fn nth(ranges: &[AddressRange], mut index: u128) -> Option<IpAddr> {
    for range in ranges {
        if index < range.len() {
            return Some(range.at(index));
        }
        index -= range.len();
    }
    None
}

/// FNV-1a of `namespace/name`. Written out, because an address must not change with the version of a library.
fn hash(id: &ResourceRef) -> u64 {
    let text = id.namespace.bytes().chain([b'/']).chain(id.name.bytes());
    text.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl Addresses {
    /// The port of the instances for one of the Gateway.
    pub(crate) fn instance_port(&self, port: u16) -> u16 {
        self.ports.get(&port).copied().unwrap_or(port)
    }

    /// A Service has addresses of its own, and asks for none.
    pub(crate) fn behind_service(mut self) -> Self {
        if self.explicit {
            let message = "spec.addresses: no address can be asked for where each Gateway has a Service; remove the field, and ask by an annotation \
                           in spec.infrastructure that the load balancer understands";
            self.explicit = false;
            self.unusable = Some(Problem::new("AddressNotUsable", message));
        }
        self
    }

    pub(crate) fn of(wish: Wish<'_>, settings: &GatewayAddresses, assignments: &Assignments) -> Self {
        let mut addresses = Self::default();
        let (mut unsupported, mut unusable) = (Vec::new(), Vec::new());
        if wants_any(wish.addresses) {
            match (settings, assignments.0.get(wish.id)) {
                (GatewayAddresses::Shared(shared), _) => addresses.ips.extend(shared),
                (GatewayAddresses::Pool(_), Some(ip)) => addresses.ips.push(*ip),
                (GatewayAddresses::Pool(ranges), None) => unusable.push(exhausted(ranges)),
            }
        }
        for (index, address) in wish.addresses.iter().enumerate() {
            match (address.type_.as_ref().unwrap_or(&AddressType::IpAddress), value(address)) {
                (AddressType::IpAddress, None) => {}
                (AddressType::IpAddress, Some(value)) => match usable(value, settings) {
                    Ok(ip) => {
                        addresses.ips.push(ip);
                        addresses.explicit = true;
                    }
                    Err(message) => unusable.push(Problem::new(
                        "AddressNotUsable",
                        format!("spec.addresses[{index}].value: `{value}` {message}"),
                    )),
                },
                (other, _) => unsupported.push(Problem::new(
                    "UnsupportedAddress",
                    format!("spec.addresses[{index}].type: `{other}` is not supported; use `IPAddress`"),
                )),
            }
        }
        addresses.ips.sort_unstable();
        addresses.ips.dedup();
        addresses.unsupported = merged(&unsupported);
        addresses.unusable = merged(&unusable);
        addresses
    }
}

fn usable(value: &str, settings: &GatewayAddresses) -> Result<IpAddr, String> {
    let ip: IpAddr = value.parse().map_err(|_| "is no IP address".to_owned())?;
    match settings {
        GatewayAddresses::Pool(ranges) if !ranges.iter().any(|range| range.contains(ip)) => {
            Err(format!("is not among the addresses of this installation: {}", ranges_list(ranges)))
        }
        _ => Ok(ip),
    }
}

fn exhausted(ranges: &[AddressRange]) -> Problem {
    Problem::new("AddressNotAssigned", format!("no address is left among {}", ranges_list(ranges)))
}

fn ranges_list(ranges: &[AddressRange]) -> String {
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    list(ranges.iter().map(String::as_str))
}

fn merged(problems: &[Problem]) -> Option<Problem> {
    problems.first().map(|first| Problem::new(first.reason, sentences(problems)))
}
