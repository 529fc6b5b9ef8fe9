//! Where a Gateway listens.

use std::net::IpAddr;

use crate::{
    problem::{Problem, sentences},
    resources::{Gateway, gateway::AddressType},
};

/// The addresses of one Gateway.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Addresses {
    /// In order, without duplicates.
    pub(crate) ips: Vec<IpAddr>,
    /// Whether the Gateway asked for these very addresses.
    pub(crate) explicit: bool,
    /// An address is of a type that cannot be served.
    pub(crate) unsupported: Option<Problem>,
    /// An address is malformed.
    pub(crate) unusable: Option<Problem>,
}

impl Addresses {
    pub(crate) fn of(gateway: &Gateway, defaults: &[IpAddr]) -> Self {
        let mut addresses = Self::default();
        let (mut unsupported, mut unusable) = (Vec::new(), Vec::new());
        for (index, address) in gateway.spec.addresses.iter().enumerate() {
            let value = address.value.as_deref().unwrap_or_default();
            match address.type_.as_ref().unwrap_or(&AddressType::IpAddress) {
                AddressType::IpAddress if value.is_empty() => addresses.ips.extend(defaults),
                AddressType::IpAddress => match value.parse() {
                    Ok(ip) => {
                        addresses.ips.push(ip);
                        addresses.explicit = true;
                    }
                    Err(_) => unusable.push(Problem::new(
                        "AddressNotUsable",
                        format!("spec.addresses[{index}].value: `{value}` is no IP address"),
                    )),
                },
                other => unsupported.push(Problem::new(
                    "UnsupportedAddress",
                    format!("spec.addresses[{index}].type: `{other}` is not supported; use `IPAddress`"),
                )),
            }
        }
        if gateway.spec.addresses.is_empty() {
            addresses.ips.extend(defaults);
        }
        addresses.ips.sort_unstable();
        addresses.ips.dedup();
        addresses.unsupported = merged(&unsupported);
        addresses.unusable = merged(&unusable);
        addresses
    }
}

fn merged(problems: &[Problem]) -> Option<Problem> {
    problems.first().map(|first| Problem::new(first.reason, sentences(problems)))
}
