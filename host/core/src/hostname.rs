//! Hostnames as Gateway API means them: exact, `*.suffix`, or none for any; and `*.suffix` as Ingress means it.

use std::{borrow::Cow, cmp::Ordering, fmt, net::IpAddr, sync::Arc};

use serde::{Serialize, Serializer};
use thiserror::Error;

/// The limit of DNS and of the resource schema.
const MAX_LENGTH: usize = 253;

/// What a listener or a route says about hosts. Always lower case, without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Every host, also a missing one.
    Any,
    /// `*.example.com`, kept as `.example.com`: one or more labels before the suffix.
    Wildcard(Arc<str>),
    /// `*.example.com` of an Ingress, kept as `.example.com`: exactly one label before the suffix. Never that of a listener.
    OneLabel(Arc<str>),
    /// One host.
    Exact(Arc<str>),
}

/// Why a text is not a hostname of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidHostname {
    /// Longer than DNS allows.
    #[error("is {0} characters long, more than {MAX_LENGTH}")]
    TooLong(usize),
    /// Two dots in a row, or a dot at an end.
    #[error("has an empty label")]
    EmptyLabel,
    /// Something else than `a-z`, `0-9`, `-` and `.`.
    #[error("has the character {0:?}; only a-z, 0-9, '-' and '.' are allowed")]
    Character(char),
    /// A label that begins or ends with `-`.
    #[error("has the label {0:?}, which begins or ends with '-'")]
    Hyphen(String),
    /// `*` elsewhere than as the whole first label.
    #[error("has a '*' that is not the whole first label")]
    Wildcard,
    /// Gateway API leaves addresses to `Gateway.spec.addresses`.
    #[error("is an IP address")]
    IpAddress,
}

/// The `Host` or `:authority` of a request is not a host with an optional port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the authority is not a host with an optional port")]
pub struct InvalidAuthority;

impl HostPattern {
    /// Parse `spec.listeners[].hostname` or `spec.hostnames[]`. Empty text means any host.
    ///
    /// As strict as the schema of the resources (upper case is refused), so that a file that works standalone works in a cluster too.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidHostname> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        if text.len() > MAX_LENGTH {
            return Err(InvalidHostname::TooLong(text.len()));
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(InvalidHostname::IpAddress);
        }
        text.strip_prefix("*.").unwrap_or(text).split('.').try_for_each(check_label)?;
        Ok(match text.strip_prefix('*') {
            Some(suffix) => Self::Wildcard(suffix.into()),
            None => Self::Exact(text.into()),
        })
    }

    /// The same for `spec.rules[].host` of an Ingress, whose wildcard stands for one label.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn parse_ingress(text: &str) -> Result<Self, InvalidHostname> {
        Ok(match Self::parse(text)? {
            Self::Wildcard(suffix) => Self::OneLabel(suffix),
            other => other,
        })
    }

    /// Whether a request's host (lower case, without port; empty if it has none) falls under the pattern.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::OneLabel(suffix) => after_first_label(host).is_some_and(|rest| *rest == **suffix),
            Self::Exact(name) => **name == *host,
        }
    }

    /// The hosts that both cover: always the more specific of the two, or none.
    pub fn intersect<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.includes(other) {
            return Some(other);
        }
        other.includes(self).then_some(self)
    }

    /// Whether every host of `other` is also one of this pattern.
    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(name)) => self.covers(name),
            (Self::Wildcard(suffix), Self::Wildcard(inner) | Self::OneLabel(inner)) => inner.ends_with(&**suffix),
            (Self::OneLabel(suffix), Self::OneLabel(inner)) => suffix == inner,
            _ => false,
        }
    }

    /// Order in which patterns are tried: exact, then longer wildcards, then any; equal ones alphabetically.
    pub fn by_specificity(&self, other: &Self) -> Ordering {
        self.as_rank().cmp(&other.as_rank())
    }

    pub(crate) fn as_rank(&self) -> HostRank<'_> {
        match self {
            Self::Exact(name) => HostRank::exact(name),
            Self::Wildcard(suffix) => HostRank::wildcard(suffix),
            Self::OneLabel(suffix) => HostRank::one_label(suffix),
            Self::Any => HostRank::ANY,
        }
    }
}

/// What comes after the first label, with its dot; none if there is no label before a dot.
pub(crate) fn after_first_label(host: &str) -> Option<&str> {
    host.find('.').filter(|at| *at > 0).map(|at| &host[at..])
}

/// A borrowed pattern that sorts by specificity, so that sorted patterns can be searched without making one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostRank<'a> {
    kind: u8,
    longer_first: std::cmp::Reverse<usize>,
    text: &'a str,
    /// Of equal suffixes, the one that stands for fewer hosts goes first.
    many_labels: bool,
}

impl<'a> HostRank<'a> {
    pub(crate) const ANY: Self = Self { kind: 2, longer_first: std::cmp::Reverse(0), text: "", many_labels: false };

    pub(crate) fn exact(host: &'a str) -> Self {
        // Two exact names never cover the same host, so their lengths do not matter and the alphabet reads better.
        Self { kind: 0, longer_first: std::cmp::Reverse(0), text: host, many_labels: false }
    }

    pub(crate) fn wildcard(suffix: &'a str) -> Self {
        Self { kind: 1, longer_first: std::cmp::Reverse(suffix.len()), text: suffix, many_labels: true }
    }

    pub(crate) fn one_label(suffix: &'a str) -> Self {
        Self { many_labels: false, ..Self::wildcard(suffix) }
    }

    /// Everything that covers a host, most specific first.
    pub(crate) fn covering(host: &'a str) -> impl Iterator<Item = Self> {
        let suffixes = host.char_indices().skip(1).filter(|(_, c)| *c == '.').map(|(at, _)| &host[at..]);
        std::iter::once(Self::exact(host)).chain(suffixes.map(Self::wildcard)).chain(std::iter::once(Self::ANY))
    }
}

fn check_label(label: &str) -> Result<(), InvalidHostname> {
    if label.is_empty() {
        return Err(InvalidHostname::EmptyLabel);
    }
    if label.contains('*') {
        return Err(InvalidHostname::Wildcard);
    }
    if let Some(c) = label.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(InvalidHostname::Character(c));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(InvalidHostname::Hyphen(label.to_owned()));
    }
    Ok(())
}

/// The host of a request's authority as matching wants it: lower case, without port and trailing dot. IPv6 literals keep their
/// brackets, as in URLs. The port, if there is one, is returned beside it.
///
/// Borrowed when the authority already is in that form, which is the usual case.
///
/// # Errors
/// Refuses user information, an empty host with a port, a port that is none, and characters that no host may have: whoever
/// reads such an authority differently would be a way around the routing.
pub fn split_authority(authority: &str) -> Result<(Cow<'_, str>, Option<u16>), InvalidAuthority> {
    let end = if authority.starts_with('[') {
        authority.find(']').ok_or(InvalidAuthority)? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(end);
    let port = match rest.strip_prefix(':') {
        Some("") => None, // RFC 3986 §3.2.3: an empty port is the default one.
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| InvalidAuthority)?)
        }
        None if rest.is_empty() => None,
        _ => return Err(InvalidAuthority),
    };
    if host.is_empty() && !rest.is_empty() {
        return Err(InvalidAuthority);
    }
    check_host(host)?;
    let host = host.strip_suffix('.').unwrap_or(host);
    let lower = if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Ok((lower, port))
}

fn check_host(host: &str) -> Result<(), InvalidAuthority> {
    let valid = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        // Underscores are no hostnames in DNS, but names of services in the wild.
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) && host != ".",
    };
    valid.then_some(()).ok_or(InvalidAuthority)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(suffix) | Self::OneLabel(suffix) => write!(f, "*{suffix}"),
            Self::Exact(host) => f.write_str(host),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn parse() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, InvalidHostname>) {
            assert_eq!(HostPattern::parse(text).map(|host| host.to_string()), expected.map(str::to_owned), "{text}");
        }
        check("", Ok("*"));
        check("example.com", Ok("example.com"));
        check("*.example.com", Ok("*.example.com"));
        check("localhost", Ok("localhost"));
        check("*.com", Ok("*.com"));
        check("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
        check("*", Err(InvalidHostname::Wildcard));
        check("*.", Err(InvalidHostname::EmptyLabel));
        check("a.*.com", Err(InvalidHostname::Wildcard));
        check("a*.com", Err(InvalidHostname::Wildcard));
        check("*.*.com", Err(InvalidHostname::Wildcard));
        check(".example.com", Err(InvalidHostname::EmptyLabel));
        check("example.com.", Err(InvalidHostname::EmptyLabel));
        check("a..b", Err(InvalidHostname::EmptyLabel));
        check("Example.com", Err(InvalidHostname::Character('E')));
        check("bücher.example", Err(InvalidHostname::Character('ü')));
        check("a_b.example", Err(InvalidHostname::Character('_')));
        check("example.com:80", Err(InvalidHostname::Character(':')));
        check("-a.example", Err(InvalidHostname::Hyphen("-a".into())));
        check("a-.example", Err(InvalidHostname::Hyphen("a-".into())));
        check("192.0.2.1", Err(InvalidHostname::IpAddress));
        check("2001:db8::1", Err(InvalidHostname::IpAddress));
        check(&"a.".repeat(127), Err(InvalidHostname::TooLong(254)));
    }

    #[test]
    fn covers() {
        #[track_caller]
        fn check(text: &str, host: &str, expected: bool) {
            assert_eq!(pattern(text).covers(host), expected, "{text} covers {host}");
        }
        check("", "", true);
        check("", "example.com", true);
        check("example.com", "example.com", true);
        check("example.com", "a.example.com", false);
        check("example.com", "", false);
        check("*.example.com", "a.example.com", true);
        check("*.example.com", "a.b.example.com", true);
        check("*.example.com", "example.com", false);
        check("*.example.com", ".example.com", false);
        check("*.example.com", "badexample.com", false);
    }

    #[test]
    fn a_wildcard_of_an_ingress_stands_for_one_label() {
        let pattern = |text: &str| HostPattern::parse_ingress(text).unwrap();
        let one = pattern("*.example.com");
        assert_eq!(
            (one.to_string().as_str(), pattern("a.com"), pattern("")),
            ("*.example.com", HostPattern::Exact("a.com".into()), HostPattern::Any)
        );
        let covered = |host: &str| one.covers(host);
        assert!(covered("a.example.com"));
        for host in ["a.b.example.com", "example.com", ".example.com", "", "a.example.org"] {
            assert!(!covered(host), "{host}");
        }
        let many = HostPattern::parse("*.example.com").unwrap();
        assert_eq!((one.intersect(&many), many.intersect(&one)), (Some(&one), Some(&one)));
        assert_eq!(one.intersect(&pattern("*.a.example.com")), None);
        assert_eq!(one.intersect(&HostPattern::Any), Some(&one));
        assert!(one.by_specificity(&many).is_lt() && one.by_specificity(&pattern("a.example.com")).is_gt());
    }

    #[test]
    fn intersect() {
        #[track_caller]
        fn check(a: &str, b: &str, expected: Option<&str>) {
            let (a, b) = (pattern(a), pattern(b));
            assert_eq!(a.intersect(&b).map(ToString::to_string).as_deref(), expected, "{a} and {b}");
            assert_eq!(b.intersect(&a).map(ToString::to_string).as_deref(), expected, "{b} and {a}");
        }
        check("", "", Some("*"));
        check("", "*.com", Some("*.com"));
        check("", "example.com", Some("example.com"));
        check("*.com", "example.com", Some("example.com"));
        check("*.com", "*.example.com", Some("*.example.com"));
        check("*.example.com", "example.com", None);
        check("*.example.com", "*.example.org", None);
        check("a.example.com", "b.example.com", None);
        check("a.example.com", "a.example.com", Some("a.example.com"));
    }

    #[test]
    fn specificity() {
        let mut patterns = ["", "*.com", "b.com", "*.example.com", "*.a.com", "a.example.com", "*.b.com"].map(pattern);
        patterns.sort_by(HostPattern::by_specificity);
        let order = patterns.map(|pattern| pattern.to_string());
        assert_eq!(order, ["a.example.com", "b.com", "*.example.com", "*.a.com", "*.b.com", "*.com", "*"]);
    }

    #[test]
    fn covering_ranks_are_those_that_cover() {
        let patterns = ["", "*.com", "a.b.com", "*.b.com", "*.a.b.com", "b.com"].map(pattern);
        for host in ["a.b.com", "b.com", "x.a.b.com", "", ".com", "..", "com"] {
            for pattern in &patterns {
                let covered = HostRank::covering(host).any(|rank| rank == pattern.as_rank());
                assert_eq!(covered, pattern.covers(host), "{pattern} and {host}");
            }
        }
    }

    #[test]
    fn authority() {
        #[track_caller]
        fn check(text: &str, expected: Option<(&str, Option<u16>)>) {
            let found = split_authority(text).ok();
            assert_eq!(found.as_ref().map(|(host, port)| (&**host, *port)), expected, "{text}");
        }
        check("", Some(("", None)));
        check("example.com", Some(("example.com", None)));
        check("Example.COM:8080", Some(("example.com", Some(8080))));
        check("example.com.", Some(("example.com", None)));
        check("example.com.:80", Some(("example.com", Some(80))));
        check("example.com:", Some(("example.com", None)));
        check("my_service", Some(("my_service", None)));
        check("192.0.2.1:80", Some(("192.0.2.1", Some(80))));
        check("[2001:DB8::1]:443", Some(("[2001:db8::1]", Some(443))));
        check("[::1]", Some(("[::1]", None)));
        check("::1", None);
        check("[::1", None);
        check("[::1]x", None);
        check("[a/b]", None);
        check(":80", None);
        check(".", None);
        check("example.com:65536", None);
        check("example.com:+80", None);
        check("user@example.com", None);
        check("example.com/path", None);
        check("a b", None);
        check("exämple.com", None);
    }
}
