//! Where Gateways listen: on the same addresses, or each on its own out of a pool.

use std::{fmt, net::IpAddr, str::FromStr};

/// Where Gateways listen that do not say so themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayAddresses {
    /// All of them on these. They share the ports, as far as their protocols agree and their hostnames differ. A Gateway may ask for any other
    /// address of the machine.
    Shared(Vec<IpAddr>),
    /// Each on its own address out of these ranges. A Gateway may ask for a certain one of them, and for no other address.
    Pool(Vec<AddressRange>),
}

/// Addresses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddressRange {
    /// Not an address.
    #[error("`{0}` is not an IP address")]
    Address(String),
    /// Not a number that fits the address after the `/`.
    #[error("`{0}` is not a prefix length of this address")]
    Prefix(String),
    /// From IPv4 to IPv6, or the last before the first.
    #[error("{0} does not lead to {1}")]
    Order(IpAddr, IpAddr),
}

impl AddressRange {
    /// Whether the address is among them.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u128 {
        (bits(self.last) - bits(self.first)).saturating_add(1)
    }

    /// The address at this place, which is less than [`Self::len`].
    pub(crate) fn at(&self, index: u128) -> IpAddr {
        address(self.first, bits(self.first) + index)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address with these bits, of the same family as another one.
fn address(like: IpAddr, bits: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}

fn parse(text: &str) -> Result<IpAddr, InvalidAddressRange> {
    text.trim().parse().map_err(|_| InvalidAddressRange::Address(text.trim().to_owned()))
}

/// `10.0.0.5`, `10.0.0.5-10.0.0.20`, or `10.0.0.0/24` without its first and last address, which name the network and all of it.
impl FromStr for AddressRange {
    type Err = InvalidAddressRange;

    fn from_str(text: &str) -> Result<Self, InvalidAddressRange> {
        let (first, last) = match (text.split_once('-'), text.split_once('/')) {
            (Some((first, last)), _) => (parse(first)?, parse(last)?),
            (None, Some((network, prefix))) => network_range(parse(network)?, prefix)?,
            (None, None) => (parse(text)?, parse(text)?),
        };
        match first.is_ipv4() == last.is_ipv4() && first <= last {
            true => Ok(Self { first, last }),
            false => Err(InvalidAddressRange::Order(first, last)),
        }
    }
}

fn network_range(network: IpAddr, prefix: &str) -> Result<(IpAddr, IpAddr), InvalidAddressRange> {
    let width: u32 = if network.is_ipv4() { 32 } else { 128 };
    let length = prefix.trim().parse::<u32>().ok().filter(|length| *length <= width);
    let length = length.ok_or_else(|| InvalidAddressRange::Prefix(prefix.trim().to_owned()))?;
    let rest = u128::MAX.checked_shr(128 - (width - length)).unwrap_or(0);
    let (first, last) = (bits(network) & !rest, bits(network) | rest);
    let inset = u128::from(rest > 1);
    Ok((address(network, first + inset), address(network, last - inset)))
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        #[track_caller]
        fn check(text: &str, expected: &str, len: u128) {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!((range.to_string().as_str(), range.len()), (expected, len), "{text}");
            assert!(range.contains(range.at(0)) && range.contains(range.at(len - 1)), "{text}");
        }
        check("10.0.0.5", "10.0.0.5", 1);
        check("10.0.0.5 - 10.0.0.20", "10.0.0.5-10.0.0.20", 16);
        check("10.250.7.1/16", "10.250.0.1-10.250.255.254", 65_534);
        check("10.0.0.8/31", "10.0.0.8-10.0.0.9", 2);
        check("10.0.0.8/32", "10.0.0.8", 1);
        check("fd00::/126", "fd00::1-fd00::2", 2);
        let range: AddressRange = "10.0.0.0/24".parse().unwrap();
        assert!(!range.contains("10.0.0.255".parse().unwrap()) && !range.contains("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_range() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<AddressRange>().unwrap_err().to_string(), expected);
        };
        check("gateway", "`gateway` is not an IP address");
        check("10.0.0.0/33", "`33` is not a prefix length of this address");
        check("10.0.0.9-10.0.0.1", "10.0.0.9 does not lead to 10.0.0.1");
        check("10.0.0.9-::1", "10.0.0.9 does not lead to ::1");
    }
}
