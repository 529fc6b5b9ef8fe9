//! TLS towards endpoints.

use std::{cell::RefCell, path::Path, sync::Arc};

use penstock_core::backend::{BackendTls, SubjectAltName, Trust};
use rustc_hash::FxHashMap;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};

use super::provider;

/// Which protocols are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Alpn {
    /// HTTP/2 if the endpoint can, else HTTP/1.1.
    Either,
    Http1,
    Http2,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Either => &[b"h2", b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// Client configurations of one worker, one for each identity: sessions are resumed only within one.
#[derive(Debug, Default)]
pub(crate) struct ClientTls {
    configs: RefCell<Configs>,
}

type Configs = FxHashMap<(Arc<BackendTls>, Alpn), Arc<ClientConfig>>;

/// An endpoint cannot be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidTrust {
    #[error("none of the trusted certificates can be used")]
    NoRoots,
    #[error("no protocol version is possible")]
    Versions(#[from] Error),
}

impl ClientTls {
    pub(crate) fn config(&self, tls: &Arc<BackendTls>, alpn: Alpn) -> Result<Arc<ClientConfig>, InvalidTrust> {
        let key = (tls.clone(), alpn);
        if let Some(config) = self.configs.borrow().get(&key) {
            return Ok(config.clone());
        }
        let config = Arc::new(build(tls, alpn)?);
        self.configs.borrow_mut().insert(key, config.clone());
        Ok(config)
    }
}

fn build(tls: &BackendTls, alpn: Alpn) -> Result<ClientConfig, InvalidTrust> {
    let roots = roots(&tls.trust)?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = if tls.subject_alt_names.is_empty() {
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let algorithms = provider().signature_verification_algorithms;
        let verifier = NamesVerifier { roots, algorithms, names: tls.subject_alt_names.clone() };
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
    };
    config.alpn_protocols = alpn.protocols();
    Ok(config)
}

fn roots(trust: &Trust) -> Result<RootCertStore, InvalidTrust> {
    let mut store = RootCertStore::empty();
    match trust {
        Trust::System => store.add_parsable_certificates(system_roots()),
        Trust::Roots(roots) => {
            store.add_parsable_certificates(roots.iter().map(|root| CertificateDer::from(root.clone())))
        }
    };
    if store.is_empty() { Err(InvalidTrust::NoRoots) } else { Ok(store) }
}

/// Where distributions keep their bundle; `SSL_CERT_FILE` goes first, as with OpenSSL.
fn system_roots() -> Vec<CertificateDer<'static>> {
    const BUNDLES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
        "/etc/ssl/ca-bundle.pem",
    ];
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let bundle = named.or_else(|| BUNDLES.iter().map(Path::new).find(|path| path.exists()).map(Path::to_path_buf));
    let certificates = bundle.and_then(|path| CertificateDer::pem_file_iter(path).ok());
    certificates.map(|certificates| certificates.filter_map(Result::ok).collect()).unwrap_or_default()
}

/// Verifies the chain as usual, and any of several names in place of the server name (Gateway API `subjectAltNames`).
#[derive(Debug)]
struct NamesVerifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    names: Vec<SubjectAltName>,
}

impl NamesVerifier {
    /// A DNS name as a server name is compared, so that a wildcard of the certificate covers it; a wildcard that is asked for has to stand
    /// there as it is. A URI is compared byte by byte: identities such as SPIFFE's have one spelling.
    fn carries(end_entity: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>, name: &SubjectAltName) -> bool {
        let certificate = webpki::EndEntityCert::try_from(end_entity);
        match name {
            SubjectAltName::Dns(name) if name.starts_with("*.") => certificate
                .is_ok_and(|certificate| certificate.valid_dns_names().any(|other| other.eq_ignore_ascii_case(name))),
            SubjectAltName::Dns(name) => {
                ServerName::try_from(&**name).is_ok_and(|name| verify_server_name(parsed, &name).is_ok())
            }
            SubjectAltName::Uri(uri) => {
                certificate.is_ok_and(|certificate| certificate.valid_uri_names().any(|other| other == &**uri))
            }
        }
    }
}

impl ServerCertVerifier for NamesVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        if self.names.iter().any(|name| Self::carries(end_entity, &parsed, name)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
