//! Where modules come from, as values that were checked.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Uri, uri};

use super::{OciReference, RegistryLogin};
use crate::ResourceRef;

/// Where a module comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModuleSource {
    /// A file on this machine. `stamp` changes when the file does (the file source watches it), so that a new content is a new spec.
    File {
        /// Absolute, or relative to the directory of the resource file; already resolved here.
        path: PathBuf,
        /// Opaque: content identity as the source saw it.
        stamp: Arc<str>,
    },
    /// The bytes themselves (ConfigMap `binaryData`).
    Inline(Bytes),
    /// A web server.
    Http(HttpSource),
    /// A registry.
    Oci(OciSource),
}

impl ModuleSource {
    /// As metrics name it: a small closed set.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Inline(_) => "inline",
            Self::Http(_) => "http",
            Self::Oci(_) => "oci",
        }
    }

    /// How often to look whether another module is meant by now; none if that cannot be, or is not wanted.
    pub fn poll_interval(&self) -> Option<Duration> {
        match self {
            Self::Oci(source) => source.poll_interval,
            Self::File { .. } | Self::Inline(_) | Self::Http(_) => None,
        }
    }
}

/// As messages name it.
impl fmt::Display for ModuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => path.display().fmt(f),
            Self::Inline(_) => f.write_str("ConfigMap"),
            Self::Http(source) => source.url.fmt(f),
            Self::Oci(source) => source.reference.fmt(f),
        }
    }
}

/// A module on a web server. Its digest is always given: what is not pinned could be anything tomorrow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpSource {
    /// Where it is.
    pub url: ModuleUrl,
    /// What it must be.
    pub sha256: Sha256,
}

/// A module in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OciSource {
    /// Registry, repository and tag or digest.
    pub reference: OciReference,
    /// How to log in; without it the registry is asked as nobody.
    pub pull_secret: Option<PullSecret>,
    /// Whether HTTP without TLS will do. For loopback it always does.
    pub insecure: bool,
    /// How often a tag is resolved again; never if none.
    pub poll_interval: Option<Duration>,
}

/// A login and the Secret that it comes from, so that a refusal can name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PullSecret {
    /// The Secret.
    pub secret: ResourceRef,
    /// What it holds for the registry.
    pub login: RegistryLogin,
}

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

/// Why a text is no SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSha256 {
    /// Another algorithm.
    #[error("`{0}` is a digest of another kind; only sha256 is known")]
    Algorithm(String),
    /// Not 64 hexadecimal digits.
    #[error("`{0}` is no SHA-256; it has 64 hexadecimal digits, such as sha256sum prints")]
    Digits(String),
}

impl Sha256 {
    /// From the 32 bytes themselves.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 digits, without the name of the algorithm.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// With or without `sha256:` in front.
impl FromStr for Sha256 {
    type Err = InvalidSha256;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = match text.split_once(':') {
            Some(("sha256", digits)) => digits,
            Some(_) => return Err(InvalidSha256::Algorithm(text.to_owned())),
            None => text,
        };
        let wrong = || InvalidSha256::Digits(text.to_owned());
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let value = digit(0).zip(digit(1)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
            *byte = u8::try_from(value).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// `sha256:…`.
impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An absolute `http` or `https` URL without credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModuleUrl(Uri);

/// Why a text is no such URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Malformed.
    #[error("`{0}` is no URL")]
    Syntax(String),
    /// No scheme and host.
    #[error("`{0}` does not begin with `https://` or `http://` and a host")]
    Relative(String),
    /// A scheme that is not spoken.
    #[error("`{0}` has a scheme other than `https` and `http`")]
    Scheme(String),
    /// `user:password@`, which would be shown wherever the URL is. The text is not repeated for that reason.
    #[error("the URL holds credentials before `@`, which everyone who reads the resource would see; leave them out")]
    Credentials,
}

impl ModuleUrl {
    /// The URL itself: its scheme is `http` or `https`, and it has a host.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// The host as a name or address, without the brackets of IPv6.
    pub fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port, also where the URL leaves it to the scheme.
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Whether it is reached through TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == Some(&uri::Scheme::HTTPS)
    }

    /// Whether both are served by the same one: scheme, host and port are equal.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.is_https() == other.is_https()
            && self.port() == other.port()
            && self.host().eq_ignore_ascii_case(other.host())
    }

    /// Where a `Location` leads from here (RFC 3986 §5.2; dots in paths are left to the server).
    ///
    /// # Errors
    /// When it leads to no such URL.
    pub fn join(&self, location: &str) -> Result<Self, InvalidUrl> {
        let scheme = if self.is_https() { "https" } else { "http" };
        let authority = self.0.authority().map_or("", uri::Authority::as_str);
        let path = self.0.path();
        let joined = if location.contains("://") {
            return location.parse();
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else if location.starts_with('?') {
            format!("{scheme}://{authority}{path}{location}")
        } else {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{location}")
        };
        joined.parse()
    }
}

impl FromStr for ModuleUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let authority = text.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
        if authority.is_some_and(|authority| authority.contains('@')) {
            return Err(InvalidUrl::Credentials);
        }
        if text.split_once("://").is_some_and(|(scheme, _)| !["http", "https"].contains(&scheme)) {
            return Err(InvalidUrl::Scheme(text.to_owned()));
        }
        let uri: Uri = text.parse().map_err(|_| InvalidUrl::Syntax(text.to_owned()))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(Self(uri)),
            _ => Err(InvalidUrl::Relative(text.to_owned())),
        }
    }
}

/// Without its query, which may hold a signature that grants access.
impl fmt::Display for ModuleUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.0.authority().map_or("", uri::Authority::as_str), self.0.path())?;
        if self.0.query().is_some() { f.write_str("?…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let hex = "0123456789abcdef".repeat(4);
        let parsed: Sha256 = hex.parse().unwrap();
        assert_eq!(parsed, format!("sha256:{}", hex.to_uppercase()).parse().unwrap());
        assert_eq!((parsed.to_string(), parsed.hex()), (format!("sha256:{hex}"), hex.clone()));
        for wrong in ["", "sha256:", &hex[1..], &format!("{}g", &hex[1..]), &format!("{}é", &hex[2..])] {
            assert_eq!(wrong.parse::<Sha256>(), Err(InvalidSha256::Digits(wrong.into())));
        }
        let other = format!("sha512:{hex}");
        assert_eq!(other.parse::<Sha256>(), Err(InvalidSha256::Algorithm(other)));
    }

    #[test]
    fn urls() {
        let url: ModuleUrl = "https://[::1]:8443/a/b.wasm?token=x".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.is_https()), ("::1", 8443, true));
        assert_eq!(url.to_string(), "https://[::1]:8443/a/b.wasm?…");
        assert_eq!("http://a.example".parse::<ModuleUrl>().unwrap().port(), 80);
        for (text, expected) in [
            ("", InvalidUrl::Syntax(String::new())),
            ("a b", InvalidUrl::Syntax("a b".into())),
            ("/a.wasm", InvalidUrl::Relative("/a.wasm".into())),
            ("a.example", InvalidUrl::Relative("a.example".into())),
            ("file:///x", InvalidUrl::Scheme("file:///x".into())),
            ("ftp://a.example/x", InvalidUrl::Scheme("ftp://a.example/x".into())),
            ("https://me:secret@a.example/x", InvalidUrl::Credentials),
        ] {
            assert_eq!(text.parse::<ModuleUrl>(), Err(expected));
        }
    }

    #[test]
    fn locations() {
        let from: ModuleUrl = "https://a.example/x/y?z".parse().unwrap();
        for (location, to) in [
            ("http://b.example/", "http://b.example/"),
            ("//b.example:1/q", "https://b.example:1/q"),
            ("/q", "https://a.example/q"),
            ("q?r", "https://a.example/x/q?r"),
            ("?r", "https://a.example/x/y?r"),
        ] {
            assert_eq!(from.join(location), Ok(to.parse().unwrap()), "{location}");
        }
        assert_eq!(from.join("gopher://a"), Err(InvalidUrl::Scheme("gopher://a".into())));
        let same = |url: &str| from.is_same_origin(&url.parse().unwrap());
        assert!(same("https://A.example:443/q"));
        assert!(!same("http://a.example/x") && !same("https://a.example:1/") && !same("https://b.example/"));
    }
}
