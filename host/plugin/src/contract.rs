//! The plugin contract (`wit/`) as Rust sees it: its names, its version, its types.
//!
//! The functions are bound by hand and not by a generator: values that go into a plugin are borrowed and values that come out are
//! owned, so every header value is copied once, and the typed functions are looked up once for each instance, not for each call.

pub(crate) mod types;

/// The WIT package of the contract.
pub(crate) const PACKAGE: &str = "penstock:plugin";
/// The version of the contract that this host implements: the first. When there is a second, components of older patch levels of the same minor version
/// must load as well, because a published interface never changes.
pub(crate) const VERSION: Version = Version { major: 0, minor: 1, patch: 0 };

pub(crate) const LIFECYCLE: &str = "penstock:plugin/lifecycle@0.1.0";
pub(crate) const HEADER_POLICY: &str = "penstock:plugin/header-policy@0.1.0";
pub(crate) const EXCHANGE_POLICY: &str = "penstock:plugin/exchange-policy@0.1.0";
pub(crate) const ROUTE_POLICY: &str = "penstock:plugin/route-policy@0.1.0";
pub(crate) const EXCHANGE_INFO: &str = "penstock:plugin/exchange-info@0.1.0";
pub(crate) const LOG: &str = "penstock:plugin/log@0.1.0";
pub(crate) const CLOCK: &str = "penstock:plugin/clock@0.1.0";
pub(crate) const RANDOM: &str = "penstock:plugin/random@0.1.0";
pub(crate) const METRICS: &str = "penstock:plugin/metrics@0.1.0";
pub(crate) const RATE_LIMIT: &str = "penstock:plugin/rate-limit@0.1.0";
pub(crate) const COUNTERS: &str = "penstock:plugin/counters@0.1.0";
pub(crate) const KEY_VALUE: &str = "penstock:plugin/key-value@0.1.0";
pub(crate) const OUTBOUND_HTTP: &str = "penstock:plugin/outbound-http@0.1.0";

/// How names of WASI begin, which a plugin may be granted too.
pub(crate) const WASI: &str = "wasi:";

/// A semantic version without pre-release parts: what interfaces carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
}

impl Version {
    /// `None` for anything but three numbers.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The name of an import or export, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterfaceName<'a> {
    /// `namespace:name`.
    pub(crate) package: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) version: Option<&'a str>,
}

impl<'a> InterfaceName<'a> {
    /// `None` for names that are no interfaces, such as plain functions.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (package, rest) = name.split_once('/')?;
        let (interface, version) = match rest.split_once('@') {
            Some((interface, version)) => (interface, Some(version)),
            None => (rest, None),
        };
        Some(Self { package, interface, version })
    }
}
