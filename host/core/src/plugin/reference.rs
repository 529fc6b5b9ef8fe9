//! References to artifacts in registries: `ghcr.io/acme/headers:1.2`, `ghcr.io/acme/headers@sha256:…`.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use super::{InvalidSha256, Sha256};

/// What a reference without tag and digest means.
const DEFAULT_TAG: &str = "latest";

/// An artifact in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OciReference {
    /// Host and, if it is given, port.
    pub registry: Arc<str>,
    /// The name within the registry, such as `acme/headers`.
    pub repository: Arc<str>,
    /// Which of its artifacts.
    pub version: OciVersion,
}

/// Which artifact of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OciVersion {
    /// Whatever has this name at the moment.
    Tag(Arc<str>),
    /// Exactly this manifest.
    Digest(Sha256),
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Nothing in front of the repository that could be a host.
    #[error(
        "`{0}` names no registry; write it in full, such as `ghcr.io/acme/headers:1.2` or `docker.io/acme/headers:1.2`"
    )]
    NoRegistry(String),
    /// Characters that a registry's host and port cannot have.
    #[error("`{0}` is no host of a registry, with a port or without")]
    Registry(String),
    /// Characters that a repository cannot have.
    #[error("`{0}` is no repository; it has lower case letters, digits and `.`, `_`, `-` between slashes")]
    Repository(String),
    /// Characters that a tag cannot have.
    #[error("`{0}` is no tag; it has up to 128 letters, digits, `.`, `_` and `-`")]
    Tag(String),
    /// The part behind `@`.
    #[error(transparent)]
    Digest(#[from] InvalidSha256),
}

impl OciReference {
    /// The same repository in another version.
    #[must_use]
    pub fn at(&self, version: OciVersion) -> Self {
        Self { version, ..self.clone() }
    }

    /// Whether the registry is on this machine, by its address or the name `localhost`.
    pub fn is_loopback(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(&*self.registry, |(host, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { &self.registry }
        });
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for OciReference {
    type Err = InvalidReference;

    /// A tag beside a digest is read and forgotten: the digest decides.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = text.strip_prefix("oci://").unwrap_or(text);
        let (name, digest) = match whole.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Sha256>()?)),
            None => (whole, None),
        };
        let (registry, path) = name
            .split_once('/')
            .filter(|(host, _)| is_qualified(host))
            .ok_or_else(|| InvalidReference::NoRegistry(text.to_owned()))?;
        if !is_registry(registry) {
            return Err(InvalidReference::Registry(registry.to_owned()));
        }
        let (repository, tag) = path.split_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
        if !repository.split('/').all(is_component) || repository.len() > 255 {
            return Err(InvalidReference::Repository(repository.to_owned()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(InvalidReference::Tag(tag.to_owned()));
        }
        let version = match digest {
            Some(digest) => OciVersion::Digest(digest),
            None => OciVersion::Tag(tag.unwrap_or(DEFAULT_TAG).into()),
        };
        Ok(Self { registry: registry.to_ascii_lowercase().into(), repository: repository.into(), version })
    }
}

/// A first part without dot and port is the name of somebody's repository at Docker Hub, and nobody should have to know that.
fn is_qualified(host: &str) -> bool {
    host == "localhost" || host.contains(['.', ':'])
}

fn is_registry(registry: &str) -> bool {
    let Ok(authority) = registry.parse::<http::uri::Authority>() else { return false };
    !registry.contains('@') && !authority.host().is_empty() && !registry.ends_with(':')
}

/// Letters and digits, with separators between them.
fn is_component(part: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    edge(part.bytes().next())
        && edge(part.bytes().last())
        && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The tag or the digest.
impl fmt::Display for OciVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.version {
            OciVersion::Tag(_) => ':',
            OciVersion::Digest(_) => '@',
        };
        write!(f, "{}/{}{separator}{}", self.registry, self.repository, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, expected: &str) {
        assert_eq!(text.parse::<OciReference>().map(|reference| reference.to_string()), Ok(expected.to_owned()));
    }

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        reads("ghcr.io/acme/headers:1.2", "ghcr.io/acme/headers:1.2");
        reads("oci://GHCR.io/acme/headers", "ghcr.io/acme/headers:latest");
        reads("localhost/a", "localhost/a:latest");
        reads("127.0.0.1:5000/a_b/c.d-e:V_1", "127.0.0.1:5000/a_b/c.d-e:V_1");
        reads("[::1]:5000/a:1", "[::1]:5000/a:1");
        reads(&format!("ghcr.io/acme/headers:1.2@{digest}"), &format!("ghcr.io/acme/headers@{digest}"));
    }

    #[test]
    fn what_is_no_reference_says_why() {
        let check = |text: &str, expected: InvalidReference| assert_eq!(text.parse::<OciReference>(), Err(expected));
        for text in ["", "headers", "headers:1.2", "acme/headers:1.2"] {
            check(text, InvalidReference::NoRegistry(text.into()));
        }
        check("a b.io/x", InvalidReference::Registry("a b.io".into()));
        check("me@a.io/x", InvalidReference::Digest(InvalidSha256::Digits("a.io/x".into())));
        check("a.io:/x", InvalidReference::Registry("a.io:".into()));
        for repository in ["", "A", "a//b", "a/", "-a", "a b", "../a"] {
            check(&format!("a.io/{repository}:1"), InvalidReference::Repository(repository.into()));
        }
        check("a.io/x:", InvalidReference::Tag(String::new()));
        check("a.io/x:-1", InvalidReference::Tag("-1".into()));
        check("a.io/x:1/y", InvalidReference::Tag("1/y".into()));
        check("a.io/x@sha256:1", InvalidReference::Digest(InvalidSha256::Digits("sha256:1".into())));
    }

    #[test]
    fn loopback() {
        let is = |text: &str| text.parse::<OciReference>().unwrap().is_loopback();
        assert!(
            is("localhost:5000/a") && is("localhost/a") && is("127.0.0.1:1/a") && is("127.8.8.8/a") && is("[::1]:5/a")
        );
        assert!(!is("localhost.example/a") && !is("10.0.0.1:5000/a") && !is("[::2]/a") && !is("ghcr.io/a"));
    }
}
