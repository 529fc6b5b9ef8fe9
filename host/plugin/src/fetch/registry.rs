//! Registries: the part of the OCI distribution specification that it takes to pull and push one module.
//!
//! ```text
//! manifest ──401──► challenge ──► token ──► manifest ─► (index ─► manifest) ─► the one layer of WebAssembly
//! ```
//!
//! Not by `oci-client`: it reads manifests, tokens and errors of any length into memory, and a registry is chosen by whoever may create a
//! WasmPlugin. It also does not say why a login was refused, and half a hundred crates come with it.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use penstock_core::{
    ResourceRef,
    plugin::{ModuleUrl, OciReference, OciVersion, RegistryLogin, Sha256},
};
use serde::Deserialize;

use super::{
    FetchError,
    challenge::Challenge,
    http::{Answer, Ask, HttpClient},
    manifest::{ACCEPTED, Manifest},
};
use crate::module::Digest;

/// Bytes of a manifest. Registries commonly allow 4 MiB; one with a single layer has a few hundred bytes.
const LARGEST_MANIFEST: u64 = 1 << 20;
/// Bytes of a token server's answer.
const LARGEST_TOKEN: u64 = 64 << 10;

/// One repository of a registry, for one fetch.
pub(crate) struct Repository<'a> {
    client: &'a HttpClient,
    reference: &'a OciReference,
    login: Option<&'a RegistryLogin>,
    /// The Secret that the login is from.
    secret: Option<&'a ResourceRef>,
    scheme: &'static str,
    /// What the registry asked for; sent from then on.
    authorization: Option<HeaderValue>,
    actions: &'static str,
    namespace: &'a Arc<str>,
}

/// How to reach a repository.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) reference: &'a OciReference,
    pub(crate) login: Option<&'a RegistryLogin>,
    pub(crate) secret: Option<&'a ResourceRef>,
    /// Without TLS. For loopback it always may.
    pub(crate) insecure: bool,
    /// What a token is asked for: `pull`, or `pull,push`.
    pub(crate) actions: &'static str,
    /// Whose fetch it is: what a namespace has fetched is kept for it alone.
    pub(crate) namespace: &'a Arc<str>,
}

#[derive(Deserialize)]
struct Token {
    /// The one or the other, or both.
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl<'a> Repository<'a> {
    pub(crate) fn new(client: &'a HttpClient, access: Access<'a>) -> Self {
        let Access { reference, login, secret, insecure, actions, namespace } = access;
        let scheme = if insecure || reference.is_loopback() { "http" } else { "https" };
        Self { client, reference, login, secret, scheme, authorization: None, actions, namespace }
    }

    /// Whose fetch it is.
    pub(crate) fn namespace(&self) -> &'a Arc<str> {
        self.namespace
    }

    /// The manifest of a tag or digest, with its digest.
    pub(crate) async fn manifest(&mut self, version: &OciVersion) -> Result<(Bytes, Sha256), FetchError> {
        let mut ask = Ask::get(self.url(&format!("manifests/{version}"))?);
        ask.headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPTED));
        let what = self.reference.at(version.clone()).to_string();
        let bytes = self.get(ask, &what, LARGEST_MANIFEST).await.map_err(|error| match error {
            FetchError::TooLarge { .. } => FetchError::Malformed {
                what: format!("the manifest of {what}"),
                why: format!("it has more than {LARGEST_MANIFEST} bytes"),
            },
            error => error,
        })?;
        let actual = Sha256::from(Digest::of(&bytes));
        match version {
            OciVersion::Digest(expected) if *expected != actual => {
                let what = format!("the manifest that {} gave", self.reference.registry);
                Err(FetchError::DigestMismatch { what, expected: *expected, actual })
            }
            OciVersion::Digest(_) | OciVersion::Tag(_) => Ok((bytes, actual)),
        }
    }

    /// A blob of at most `limit` bytes. Whoever asks verifies its digest.
    pub(crate) async fn blob(&mut self, digest: Sha256, limit: u64) -> Result<Bytes, FetchError> {
        let ask = Ask::get(self.url(&format!("blobs/{digest}"))?);
        let what = format!("the layer {digest} of {}", self.reference);
        self.get(ask, &what, limit).await
    }

    async fn get(&mut self, ask: Ask, what: &str, limit: u64) -> Result<Bytes, FetchError> {
        let answer = self.send(ask).await?;
        let (status, url) = (answer.status, answer.url.to_string());
        match status {
            StatusCode::OK => answer.read(limit).await,
            StatusCode::NOT_FOUND => {
                Err(FetchError::NotFound { what: what.to_owned(), url, detail: answer.explanation().await })
            }
            _ => Err(self.refusal(answer).await),
        }
    }

    /// What an answer means that is neither what was asked for nor 404.
    pub(crate) async fn refusal(&self, answer: Answer) -> FetchError {
        let (status, url) = (answer.status, answer.url.to_string());
        let detail = answer.explanation().await;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                FetchError::Unauthorized { url, status, detail, login: self.login_of() }
            }
            _ => FetchError::Status { url, status, detail },
        }
    }

    /// Ask the registry, and once more with what it wants to see.
    pub(crate) async fn send(&mut self, ask: Ask) -> Result<Answer, FetchError> {
        let answer = self.client.send(self.authorized(&ask)).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(authorization) = self.authorize(&answer).await? else { return Ok(answer) };
        self.authorization = Some(authorization);
        self.client.send(self.authorized(&ask)).await
    }

    fn authorized(&self, ask: &Ask) -> Ask {
        let mut ask = ask.clone();
        let ours = self.url("").is_ok_and(|ours| ours.is_same_origin(&ask.url));
        if let Some(authorization) = self.authorization.as_ref().filter(|_| ours) {
            ask.headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        ask
    }

    /// What answers the challenge, if anything does.
    async fn authorize(&self, answer: &Answer) -> Result<Option<HeaderValue>, FetchError> {
        let challenges = answer.headers.get_all(header::WWW_AUTHENTICATE);
        let challenges = challenges.iter().filter_map(|challenge| challenge.to_str().ok());
        let Some(challenge) = challenges.filter_map(Challenge::parse).next() else { return Ok(None) };
        Ok(match (challenge, self.login) {
            (_, Some(RegistryLogin::BearerToken(token))) => bearer(token.reveal()),
            (Challenge::Basic, Some(RegistryLogin::Password { username, password })) => {
                secret(format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{}", password.reveal()))))
            }
            (Challenge::Basic, _) => None,
            (Challenge::Bearer { realm, service }, login) => {
                let token = self.token(&answer.url, &realm, service.as_deref(), login).await?;
                bearer(&token)
            }
        })
    }

    /// Get a token (<https://distribution.github.io/distribution/spec/auth/token/>, and for refresh tokens `…/oauth/`).
    async fn token(
        &self,
        registry: &ModuleUrl,
        realm: &str,
        service: Option<&str>,
        login: Option<&RegistryLogin>,
    ) -> Result<String, FetchError> {
        let url: ModuleUrl =
            registry.join(realm).map_err(|error| self.malformed("the challenge", &error.to_string()))?;
        if registry.is_https() && !url.is_https() {
            return Err(FetchError::Downgrade { url: registry.to_string(), to: url.to_string() });
        }
        let scope = format!("repository:{}:{}", self.reference.repository, self.actions);
        let mut query = form([("service", service), ("scope", Some(&scope))]);
        let mut ask = match login {
            Some(RegistryLogin::RefreshToken(token)) => {
                let fields =
                    [("grant_type", "refresh_token"), ("client_id", "penstock"), ("refresh_token", token.reveal())];
                query = format!("{}&{query}", form(fields.map(|(name, value)| (name, Some(value)))));
                let mut ask = Ask { method: Method::POST, body: query.into(), ..Ask::get(url) };
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                ask.headers.insert(header::CONTENT_TYPE, form);
                ask
            }
            _ => {
                Ask::get(with_query(&url, &query).map_err(|error| self.malformed("the challenge", &error.to_string()))?)
            }
        };
        if let Some(RegistryLogin::Password { username, password }) = login {
            let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{}", password.reveal())));
            ask.headers.extend(secret(basic).map(|value| (header::AUTHORIZATION, value)));
        }
        let answer = self.client.send(ask).await?;
        match answer.status {
            StatusCode::OK => self.read_token(answer).await,
            // Some servers answer so to a login that is wrong.
            StatusCode::BAD_REQUEST if login.is_some() => {
                let (status, url) = (answer.status, answer.url.to_string());
                let detail = answer.explanation().await;
                Err(FetchError::Unauthorized { url, status, detail, login: self.login_of() })
            }
            _ => Err(self.refusal(answer).await),
        }
    }

    async fn read_token(&self, answer: Answer) -> Result<String, FetchError> {
        let malformed = || self.malformed("the token server's answer", "it is no JSON with a token");
        let body = answer.read(LARGEST_TOKEN).await.map_err(|error| match error {
            FetchError::TooLarge { .. } => malformed(),
            error => error,
        })?;
        let Token { token, access_token } = serde_json::from_slice(&body).map_err(|_| malformed())?;
        [token, access_token].into_iter().find(|token| !token.is_empty()).ok_or_else(malformed)
    }

    fn malformed(&self, what: &str, why: &str) -> FetchError {
        FetchError::Malformed { what: format!("{what} for {}", self.reference), why: why.to_owned() }
    }

    fn login_of(&self) -> super::error::Login {
        super::error::Login::of(self.login, self.secret)
    }

    /// Below `/v2/<repository>/`.
    pub(crate) fn url(&self, path: &str) -> Result<ModuleUrl, FetchError> {
        // Docker Hub's name in references is not the name of its registry.
        let registry = match &*self.reference.registry {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            registry => registry,
        };
        let repository = match self.reference.repository.as_ref() {
            official if registry == "registry-1.docker.io" && !official.contains('/') => format!("library/{official}"),
            repository => repository.to_owned(),
        };
        let text = format!("{}://{registry}/v2/{repository}/{path}", self.scheme);
        text.parse()
            .map_err(|error: penstock_core::plugin::InvalidUrl| self.malformed("the address", &error.to_string()))
    }
}

/// What a manifest says, once it was fetched.
pub(crate) fn parse(reference: &OciReference, manifest: &[u8]) -> Result<Manifest, FetchError> {
    Manifest::parse(manifest)
        .map_err(|error| FetchError::Malformed { what: format!("the manifest of {reference}"), why: error.to_string() })
}

fn bearer(token: &str) -> Option<HeaderValue> {
    secret(format!("Bearer {token}"))
}

/// A header value that debug output does not show; none if it cannot be one.
fn secret(value: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn with_query(url: &ModuleUrl, query: &str) -> Result<ModuleUrl, penstock_core::plugin::InvalidUrl> {
    let separator = if url.uri().query().is_some() { '&' } else { '?' };
    format!("{}{separator}{query}", url.uri()).parse()
}

/// `application/x-www-form-urlencoded`.
fn form<'v>(fields: impl IntoIterator<Item = (&'static str, Option<&'v str>)>) -> String {
    let pair = |(name, value): (&str, Option<&str>)| value.map(|value| format!("{name}={}", percent_encoded(value)));
    fields.into_iter().filter_map(pair).collect::<Vec<_>>().join("&")
}

/// RFC 3986 §2.1, with `/` and `:` as they are, because people read scopes in logs of registries.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
