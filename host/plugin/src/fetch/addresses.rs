//! From which addresses modules may come.
//!
//! Who may create a WasmPlugin in a cluster names a server, and the gateway asks it: from its own pod, with what answers in the status. Without a
//! limit that would be a way to what listens on the gateway's loopback, and to the metadata of the machine that it runs on.

use std::net::{IpAddr, Ipv6Addr};

use penstock_core::client_address::Network;

/// From which addresses modules may come. They are compared with what a name was resolved to, and with each redirect and token server on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SourceAddresses {
    /// All: who names the sources owns the machine.
    #[default]
    Any,
    /// Those of other machines: not loopback, link-local, unspecified and multicast ones, except in these ranges.
    Elsewhere {
        /// Ranges that are fine all the same.
        allowed: Vec<Network>,
    },
}

impl SourceAddresses {
    pub(super) fn allow(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Elsewhere { allowed } => !is_here(address) || allowed.iter().any(|network| network.contains(address)),
        }
    }
}

/// Whether an address means this machine, its link or a group, in whatever spelling.
fn is_here(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first == 0 || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            let local = v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast();
            local || embedded(v6).is_some_and(is_here)
        }
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped (RFC 4291), or translated by NAT64 (RFC 6052).
fn embedded(v6: Ipv6Addr) -> Option<IpAddr> {
    let translated = matches!(v6.segments(), [0x64, 0xff9b, 0, 0, 0, 0, _, _]);
    let low = || IpAddr::from([v6.octets()[12], v6.octets()[13], v6.octets()[14], v6.octets()[15]]);
    v6.to_ipv4().map(IpAddr::from).or_else(|| translated.then(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_refused_in_every_spelling() {
        let elsewhere = SourceAddresses::Elsewhere { allowed: Vec::new() };
        for here in [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            let address = here.parse().unwrap();
            assert!(!elsewhere.allow(address), "{here}");
            assert!(SourceAddresses::Any.allow(address), "{here}");
        }
        for other in ["10.0.0.1", "192.168.1.1", "203.0.113.7", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(elsewhere.allow(other.parse().unwrap()), "{other}");
        }
        let allowed = ["127.0.0.0/8", "::1"].map(|network| network.parse().unwrap()).into();
        let some = SourceAddresses::Elsewhere { allowed };
        for (address, expected) in
            [("127.0.0.1", true), ("::ffff:127.0.0.1", true), ("::1", true), ("169.254.169.254", false)]
        {
            assert_eq!(some.allow(address.parse().unwrap()), expected, "{address}");
        }
    }
}
