//! Why there is no module, in words that say what to do.

use std::{fmt, io, net::IpAddr, path::PathBuf, time::Duration};

use http::StatusCode;
use penstock_core::{
    ResourceRef,
    plugin::{InvalidUrl, RegistryLogin, Sha256},
};

use crate::reason;

/// Why there are no bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot read the module {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{}; limits.moduleSize allows {limit}", sized(*.size))]
    TooLarge { size: Option<u64>, limit: u64 },
    #[error("the host name `{host}` cannot be resolved: {source}")]
    Resolve { host: String, source: io::Error },
    #[error(
        "{place} is {address}, an address of this machine or its link, from which no modules are fetched here; name another server, or have \
         the operator allow it by `--plugin-sources-allow`"
    )]
    Here { place: String, address: IpAddr },
    #[error("cannot connect to {place}: {source}")]
    Connect { place: String, source: io::Error },
    #[error("no TLS with {place}: {why}")]
    Tls { place: String, why: String },
    #[error("{place} did not {awaited} within {limit:?}")]
    Timeout { place: String, awaited: &'static str, limit: Duration },
    #[error("{place} broke off: {why}")]
    BrokenOff { place: String, why: String },
    #[error("{url} answered {status}{}", said(.detail))]
    Status { url: String, status: StatusCode, detail: String },
    #[error("{what} is not there: {url} answered 404{}", said(.detail))]
    NotFound { what: String, url: String, detail: String },
    #[error("{url} refused access ({status}{}): {login}", said(.detail))]
    Unauthorized { url: String, status: StatusCode, detail: String, login: Login },
    #[error("{url} redirects to where nothing can be fetched: {source}")]
    Location { url: String, source: InvalidUrl },
    #[error("{url} redirects more than {limit} times")]
    Redirects { url: String, limit: usize },
    #[error("{url} redirects from HTTPS to {to}, which has no TLS")]
    Downgrade { url: String, to: String },
    #[error("{what} has the digest {actual}, and not {expected} as is wanted")]
    DigestMismatch { what: String, expected: Sha256, actual: Sha256 },
    #[error("{what} cannot be understood: {why}")]
    Malformed { what: String, why: String },
    #[error("{what} is no plugin: {why}")]
    NotWasm { what: String, why: String },
    #[error("fetching ended by a defect of the gateway; see its log")]
    Internal,
}

fn sized(size: Option<u64>) -> String {
    size.map_or_else(|| "the module has more bytes".into(), |size| format!("the module has {size} bytes"))
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// As whom something was asked, and what follows from that when it was refused.
#[derive(Debug)]
pub(crate) enum Login {
    Nobody,
    FromSecret(ResourceRef),
    /// Not from a resource.
    Given,
}

impl Login {
    pub(crate) fn of(login: Option<&RegistryLogin>, secret: Option<&ResourceRef>) -> Self {
        match (login, secret) {
            (None, _) => Self::Nobody,
            (Some(_), Some(secret)) => Self::FromSecret(secret.clone()),
            (Some(_), None) => Self::Given,
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("it was asked without a login; a resource names one in pullSecretRef, and for the command line `docker login` keeps one"),
            Self::FromSecret(secret) => write!(f, "the login from {secret} may not do this; correct the Secret, or the rights in the registry"),
            Self::Given => f.write_str("the login may not do this; correct it, or the rights in the registry"),
        }
    }
}

impl FetchError {
    /// For conditions.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::Status { .. } | Self::Timeout { .. } | Self::BrokenOff { .. } => {
                reason::FETCH_FAILED
            }
            Self::TooLarge { .. } => reason::MODULE_TOO_LARGE,
            Self::Resolve { .. } => reason::NAME_NOT_RESOLVED,
            Self::Connect { .. } => reason::CONNECT_FAILED,
            Self::Here { .. } => reason::ADDRESS_REFUSED,
            Self::Tls { .. } | Self::Downgrade { .. } => reason::TLS_FAILED,
            Self::NotFound { .. } => reason::MODULE_NOT_FOUND,
            Self::Unauthorized { .. } => reason::ACCESS_REFUSED,
            Self::Location { .. } | Self::Redirects { .. } => reason::INVALID_REDIRECT,
            Self::DigestMismatch { .. } => reason::DIGEST_MISMATCH,
            Self::Malformed { .. } => reason::INVALID_ARTIFACT,
            Self::NotWasm { .. } => reason::NOT_A_WASM_ARTIFACT,
            Self::Internal => reason::INTERNAL,
        }
    }

    /// Whether the same source may give something else later without a change of the resource. Only what it gives is judged: a server
    /// that is filled after the resource was applied is nothing strange.
    pub(crate) fn may_pass_later(&self) -> bool {
        !matches!(self, Self::TooLarge { .. } | Self::Internal)
    }
}
