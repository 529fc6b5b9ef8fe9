//! Addresses of clients, and networks of them.

use std::{net::IpAddr, str::FromStr};

use crate::{Pointer, Problems};

/// The address in the value of `:client-address`, if there is one. An IPv4 address that is written as an IPv6 one is an IPv4 address.
#[must_use]
pub fn parse(value: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(value).ok()?.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The first `length` bits of the address, the others zero: 4 or 16 bytes.
#[must_use]
pub fn prefix(address: IpAddr, lengths: Lengths) -> Prefix {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(lengths.ipv4)).unwrap_or(0);
            Prefix::V4((address.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(lengths.ipv6)).unwrap_or(0);
            Prefix::V6((address.to_bits() & mask).to_be_bytes())
        }
    }
}

/// How many leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// At most 32.
    pub ipv4: u8,
    /// At most 128.
    pub ipv6: u8,
}

impl Lengths {
    /// Of a configuration with the fields `ipv4PrefixLength`, 32 if left out, and `ipv6PrefixLength`, 64 if left out: a subscriber has a whole
    /// network. A length beyond the address is a problem of its field below `at`.
    pub fn given(ipv4: Option<u8>, ipv6: Option<u8>, at: &Pointer, problems: &mut Problems) -> Self {
        let mut length = |given: Option<u8>, usual: u8, most: u8, field: &str| match given.unwrap_or(usual) {
            length if length <= most => length,
            length => {
                problems.push(&at.at(field), format!("{length} is too long: {most} bits are the most"));
                most
            }
        };
        Self { ipv4: length(ipv4, 32, 32, "ipv4PrefixLength"), ipv6: length(ipv6, 64, 128, "ipv6PrefixLength") }
    }
}

/// The leading bits of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Of an IPv4 address.
    V4([u8; 4]),
    /// Of an IPv6 address.
    V6([u8; 16]),
}

impl Prefix {
    /// 4 or 16 of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        }
    }
}

/// A network, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    lengths: Lengths,
    prefix: Prefix,
}

impl Network {
    /// Whether the address is one of the network's.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        prefix(address, self.lengths) == self.prefix
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no network: write an address, or an address and a length such as 10.0.0.0/8");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| wrong())?.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        if length > most {
            return Err(format!("`{text}` is no network: the length is at most {most}"));
        }
        let lengths = Lengths { ipv4: length.min(32), ipv6: length };
        let network = Self { lengths, prefix: prefix(address, lengths) };
        let whole = prefix(address, Lengths { ipv4: 32, ipv6: 128 });
        if network.prefix == whole {
            Ok(network)
        } else {
            Err(format!(
                "`{text}` is no network: there are bits set behind the first {length}; write {}",
                network.text()
            ))
        }
    }
}

impl Network {
    fn text(self) -> String {
        match self.prefix {
            Prefix::V4(bytes) => format!("{}/{}", IpAddr::from(bytes), self.lengths.ipv4),
            Prefix::V6(bytes) => format!("{}/{}", IpAddr::from(bytes), self.lengths.ipv6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let parsed: Network = network.parse().unwrap();
        let contains = |address: &&str| parsed.contains(parse(address.as_bytes()).unwrap());
        for address in inside {
            assert!(contains(address), "{address} in {network}");
        }
        for address in outside {
            assert!(!contains(address), "{address} not in {network}");
        }
    }

    #[test]
    fn networks_contain_their_addresses() {
        check("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], &["11.0.0.0", "::a00:1"]);
        check("192.0.2.7", &["192.0.2.7"], &["192.0.2.6"]);
        check("0.0.0.0/0", &["1.2.3.4"], &["::1"]);
        check("::/0", &["::1", "2001:db8::"], &["1.2.3.4"]);
        check("2001:db8::/32", &["2001:db8:ffff::1"], &["2001:db9::"]);
        check("2001:db8::1", &["2001:db8::1"], &["2001:db8::2"]);
    }

    #[test]
    fn what_is_no_network_says_why() {
        let message = |text: &str| text.parse::<Network>().unwrap_err();
        assert!(message("10.0.0.1/8").ends_with("behind the first 8; write 10.0.0.0/8"), "{}", message("10.0.0.1/8"));
        assert!(message("2001:db8::1/32").ends_with("write 2001:db8::/32"));
        assert!(message("10.0.0.0/33").ends_with("at most 32"));
        assert!(message("localhost").starts_with("`localhost` is no network: write an address"));
        assert!(message("10.0.0.0/").starts_with("`10.0.0.0/` is no network"));
    }

    #[test]
    fn prefixes_forget_the_rest() {
        let lengths = Lengths { ipv4: 24, ipv6: 64 };
        let of = |text: &str| prefix(parse(text.as_bytes()).unwrap(), lengths);
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(prefix(parse(b"192.0.2.1").unwrap(), Lengths { ipv4: 0, ipv6: 0 }), Prefix::V4([0; 4]));
    }

    #[test]
    fn what_is_no_address_is_missing() {
        assert_eq!(parse(b"unix:"), None);
        assert_eq!(parse(b"\xff"), None);
    }
}
