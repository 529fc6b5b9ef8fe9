//! Logins for registries, in the form in which `docker login` keeps them: `~/.docker/config.json`, and Secrets of the types
//! `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::OciReference;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Redacted(Arc<str>);

impl Redacted {
    /// The text, to be used and not to be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Redacted {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How to log in to a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RegistryLogin {
    /// A name and its password or access token.
    Password {
        /// Who.
        username: Arc<str>,
        /// Proves it.
        password: Redacted,
    },
    /// What an OAuth server gave for a longer time (`identitytoken`); exchanged for a token each time.
    RefreshToken(Redacted),
    /// A token that the registry takes as it is (`registrytoken`).
    BearerToken(Redacted),
}

/// Logins by registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfig {
    logins: BTreeMap<String, RegistryLogin>,
}

/// Why a document holds no logins. Values are not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDockerConfig {
    /// No JSON of this shape.
    #[error("is no JSON as `docker login` writes it: line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// One entry's `auth`.
    #[error("has an `auth` for `{0}` that is not the base64 of `username:password`")]
    Auth(String),
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl DockerConfig {
    /// Read `config.json`, or `.dockerconfigjson` of a Secret.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidDockerConfig> {
        let document: Document = read(json)?;
        Self::of(document.auths)
    }

    /// Read `.dockercfg` of a Secret: the older form, which has the entries alone.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse_legacy(json: &[u8]) -> Result<Self, InvalidDockerConfig> {
        Self::of(read(json)?)
    }

    fn of(entries: BTreeMap<String, Entry>) -> Result<Self, InvalidDockerConfig> {
        let mut logins = BTreeMap::new();
        for (registry, entry) in entries {
            if let Some(login) = entry.login(&registry)? {
                logins.insert(normalized(&registry).to_owned(), login);
            }
        }
        Ok(Self { logins })
    }

    /// The login for a reference: that with the most specific key. A key is a host, `*.` and a domain, or a host and the beginning of a path.
    pub fn login(&self, reference: &OciReference) -> Option<&RegistryLogin> {
        let fitting = self.logins.iter().filter(|(key, _)| covers(key, reference));
        fitting.max_by_key(|(key, _)| (!key.starts_with('*'), key.len())).map(|(_, login)| login)
    }

    /// The registries that have logins.
    pub fn registries(&self) -> impl Iterator<Item = &str> {
        self.logins.keys().map(String::as_str)
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, InvalidDockerConfig> {
    // The parser's own message may quote a value.
    serde_json::from_slice(json)
        .map_err(|error| InvalidDockerConfig::Json { line: error.line(), column: error.column() })
}

impl Entry {
    fn login(self, registry: &str) -> Result<Option<RegistryLogin>, InvalidDockerConfig> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(RegistryLogin::BearerToken(self.registrytoken.as_str().into())));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(RegistryLogin::RefreshToken(self.identitytoken.as_str().into())));
        }
        let password = |username: &str, password: &str| {
            Some(RegistryLogin::Password { username: username.into(), password: password.into() })
        };
        if !self.username.is_empty() {
            return Ok(password(&self.username, &self.password));
        }
        if self.auth.is_empty() {
            return Ok(None); // what is left when a credential helper keeps the password
        }
        let wrong = || InvalidDockerConfig::Auth(registry.to_owned());
        let decoded = BASE64_STANDARD.decode(self.auth.trim()).map_err(|_| wrong())?;
        let text = String::from_utf8(decoded).map_err(|_| wrong())?;
        let (username, secret) = text.split_once(':').ok_or_else(wrong)?;
        Ok(password(username, secret.trim_end_matches('\0')))
    }
}

/// Without what older clients wrote around the host.
fn normalized(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

fn covers(key: &str, reference: &OciReference) -> bool {
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let registry = &*reference.registry;
    let named = match host.strip_prefix("*.") {
        Some(domain) => registry.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => host.eq_ignore_ascii_case(registry) || (is_docker_hub(host) && is_docker_hub(registry)),
    };
    let inside =
        || reference.repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    named && (path.is_empty() || inside())
}

/// Docker Hub goes by three names.
fn is_docker_hub(host: &str) -> bool {
    ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(auths: &serde_json::Value) -> DockerConfig {
        DockerConfig::parse(json!({ "auths": auths }).to_string().as_bytes()).unwrap()
    }

    fn user(config: &DockerConfig, reference: &str) -> Option<String> {
        match config.login(&reference.parse().unwrap())? {
            RegistryLogin::Password { username, .. } => Some(username.to_string()),
            RegistryLogin::RefreshToken(token) | RegistryLogin::BearerToken(token) => Some(token.reveal().to_owned()),
        }
    }

    #[test]
    fn the_most_specific_login_counts() {
        let login = |name: &str| json!({ "username": name, "password": "p" });
        let config = config(&json!({
            "https://index.docker.io/v1/": login("hub"),
            "ghcr.io": login("ghcr"),
            "ghcr.io/acme": login("acme"),
            "*.example": login("any"),
            "r.example:5000": login("port"),
        }));
        for (reference, expected) in [
            ("docker.io/library/a", Some("hub")),
            ("ghcr.io/other/a", Some("ghcr")),
            ("ghcr.io/acme/a", Some("acme")),
            ("ghcr.io/acmes/a", Some("ghcr")),
            ("r.example/a", Some("any")),
            ("r.example:5000/a", Some("port")),
            ("a.r.example/a", None),
            ("quay.io/a", None),
        ] {
            assert_eq!(user(&config, reference).as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn every_form_is_read() {
        let auth = BASE64_STANDARD.encode("me:pass:word");
        let config = config(&json!({
            "a.io": { "auth": auth },
            "b.io": { "identitytoken": "refresh" },
            "c.io": { "registrytoken": "bearer" },
            "d.io": {},
        }));
        let expected = RegistryLogin::Password { username: "me".into(), password: "pass:word".into() };
        assert_eq!(config.login(&"a.io/x".parse().unwrap()), Some(&expected));
        assert_eq!(user(&config, "b.io/x").as_deref(), Some("refresh"));
        assert_eq!(user(&config, "c.io/x").as_deref(), Some("bearer"));
        assert_eq!(config.registries().collect::<Vec<_>>(), ["a.io", "b.io", "c.io"]);
        let legacy = json!({ "a.io": { "auth": auth } }).to_string();
        let legacy = DockerConfig::parse_legacy(legacy.as_bytes()).unwrap();
        assert_eq!(legacy.login(&"a.io/x".parse().unwrap()), Some(&expected));
        assert!(!format!("{config:?}").contains("pass:"), "{config:?}");
    }

    #[test]
    fn what_cannot_be_read_is_named_without_its_value() {
        let error = |json: &str| DockerConfig::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error(r#"{"auths": {"a.io": "s3cret"}}"#), InvalidDockerConfig::Json { line: 1, column: 27 });
        let auth = BASE64_STANDARD.encode("no colon");
        for wrong in ["%", &auth] {
            let json = json!({ "auths": { "a.io": { "auth": wrong } } }).to_string();
            assert_eq!(error(&json), InvalidDockerConfig::Auth("a.io".into()));
        }
    }
}
