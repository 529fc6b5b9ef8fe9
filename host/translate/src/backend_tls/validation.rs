//! How the certificate of an endpoint is verified: the same words in BackendTLSPolicy and XBackend.

use penstock_core::{
    Kind, ResourceRef,
    backend::{BackendTls, SubjectAltName, Trust},
    hostname::HostPattern,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{
    nearest::{did_you_mean, list},
    problem::{Problem, sentences},
    resources::{
        backend_tls::{BackendTlsValidation, SubjectAltNameType, WellKnownCaCertificates},
        common::LocalObjectReference,
    },
    view::View,
};

/// The key of a ConfigMap under which certificates stand.
const CA_KEY: &str = "ca.crt";

/// A validation that works, if only in part.
pub(crate) struct Validation {
    pub(crate) tls: BackendTls,
    /// Some of the references lead nowhere.
    pub(crate) unresolved: Option<Problem>,
}

/// A validation that cannot work.
pub(crate) enum InvalidValidation {
    /// A field cannot be as it is.
    Field(String),
    /// There is nobody to trust: the reason is that of `ResolvedRefs`.
    NoAuthority(Problem),
}

/// Read a validation; `at` is its path in the resource.
pub(crate) fn read(
    view: &View<'_>,
    namespace: &str,
    validation: &BackendTlsValidation,
    at: &str,
) -> Result<Validation, InvalidValidation> {
    let hostname = &validation.hostname;
    if !matches!(HostPattern::parse(hostname), Ok(HostPattern::Exact(_))) {
        return Err(InvalidValidation::Field(format!("{at}.hostname: `{hostname}` is no hostname without wildcard")));
    }
    let subject_alt_names = names(validation, at).map_err(InvalidValidation::Field)?;
    let (trust, unresolved) = trust(view, namespace, validation, at)?;
    let tls = BackendTls { server_name: hostname.as_str().into(), trust, subject_alt_names };
    Ok(Validation { tls, unresolved })
}

fn names(validation: &BackendTlsValidation, at: &str) -> Result<Vec<SubjectAltName>, String> {
    let names = validation.subject_alt_names.iter().enumerate().map(|(index, name)| {
        let at = format!("{at}.subjectAltNames[{index}]");
        match (&name.type_, &name.hostname, &name.uri) {
            (SubjectAltNameType::Hostname, Some(host), _) => match HostPattern::parse(host) {
                Ok(HostPattern::Any) => Err(format!("{at}.hostname: is empty")),
                Ok(_) => Ok(SubjectAltName::Dns(host.as_str().into())),
                Err(error) => Err(format!("{at}.hostname: `{host}` {error}")),
            },
            (SubjectAltNameType::Hostname, None, _) => Err(format!("{at}.hostname: is required with type `Hostname`")),
            (SubjectAltNameType::Uri, _, Some(uri)) => Ok(SubjectAltName::Uri(uri.as_str().into())),
            (SubjectAltNameType::Uri, _, None) => Err(format!("{at}.uri: is required with type `URI`")),
            (SubjectAltNameType::Unknown(text), ..) => {
                let known = list(SubjectAltNameType::KNOWN.iter().copied());
                Err(format!("{at}.type: `{text}` is none of {known}"))
            }
        }
    });
    names.collect()
}

fn trust(
    view: &View<'_>,
    namespace: &str,
    validation: &BackendTlsValidation,
    at: &str,
) -> Result<(Trust, Option<Problem>), InvalidValidation> {
    match &validation.well_known_ca_certificates {
        Some(WellKnownCaCertificates::System) => return Ok((Trust::System, None)),
        Some(WellKnownCaCertificates::Unknown(text)) => {
            let message = format!("{at}.wellKnownCACertificates: `{text}` is not known; use `System`");
            return Err(InvalidValidation::Field(message));
        }
        None if validation.ca_certificate_refs.is_empty() => {
            let message = format!("{at}: one of caCertificateRefs and wellKnownCACertificates is required");
            return Err(InvalidValidation::Field(message));
        }
        None => {}
    }
    let mut roots = Vec::new();
    let mut problems = Vec::new();
    for (index, reference) in validation.ca_certificate_refs.iter().enumerate() {
        match authorities(view, namespace, reference) {
            Ok(found) => roots.extend(found),
            Err(problem) => problems.push(problem.within(format_args!("{at}.caCertificateRefs[{index}]"))),
        }
    }
    let unresolved = problems.first().map(|first| Problem::new(first.reason, sentences(&problems)));
    match unresolved {
        Some(problem) if roots.is_empty() => Err(InvalidValidation::NoAuthority(problem)),
        unresolved => Ok((Trust::Roots(roots), unresolved)),
    }
}

/// The certificates of one reference, at least one.
fn authorities(view: &View<'_>, namespace: &str, reference: &LocalObjectReference) -> Result<Vec<Vec<u8>>, Problem> {
    let LocalObjectReference { group, kind, name } = reference;
    if !group.is_empty() || kind != "ConfigMap" {
        let message = format!("kind: `{group}/{kind}` holds no certificates to trust; ConfigMaps of the core group do");
        return Err(Problem::new("InvalidKind", message));
    }
    let invalid = |message: String| Problem::new("InvalidCACertificateRef", message);
    let Some(map) = view.config_map(&ResourceRef::new(Kind::ConfigMap, namespace, name.as_str())) else {
        let hint = did_you_mean(name, view.config_maps().names_in(Kind::ConfigMap, namespace));
        return Err(invalid(format!("name: there is no ConfigMap `{namespace}/{name}`{hint}")));
    };
    let Some(pem) = map.data.as_ref().and_then(|data| data.get(CA_KEY)) else {
        return Err(invalid(format!("name: ConfigMap `{namespace}/{name}` has no `{CA_KEY}` in its data")));
    };
    let certificates: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.map_err(|error| {
        invalid(format!("name: `{CA_KEY}` of ConfigMap `{namespace}/{name}` is malformed: {error}"))
    })?;
    let usable = |certificate: &&CertificateDer<'_>| RootCertStore::empty().add((*certificate).clone()).is_ok();
    let roots: Vec<Vec<u8>> = certificates.iter().filter(usable).map(|it| it.to_vec()).collect();
    match roots.is_empty() {
        true => Err(invalid(format!("name: `{CA_KEY}` of ConfigMap `{namespace}/{name}` has no X.509 certificate"))),
        false => Ok(roots),
    }
}
