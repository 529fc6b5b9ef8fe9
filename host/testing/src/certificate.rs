//! Certificates for tests, made on the spot: an authority, and what it issues.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A private certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate as PEM, as it stands in `tls.crt` of a Secret.
    pub certificate_pem: String,
    /// The key as PEM (PKCS #8), as it stands in `tls.key` of a Secret.
    pub key_pem: String,
    /// The certificate in DER, to compare with what a peer presented.
    pub der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    /// A new authority with a key of its own.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("ring makes P-256 keys");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Penstock test authority");
        let certificate = params.self_signed(&key).expect("parameters are complete");
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), certificate: der, pem }
    }

    /// Issue a server certificate for DNS names (also wildcards), IP addresses and URIs.
    ///
    /// # Panics
    /// When a name is not valid ASCII.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Certificate {
        let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().expect("ring makes P-256 keys");
        let mut params = CertificateParams::new(names).expect("names are DNS names or IP addresses");
        let uris = uris.into_iter().map(|uri| SanType::URI(uri.try_into().expect("URIs are ASCII")));
        params.subject_alt_names.extend(uris);
        let certificate = params.signed_by(&key, &self.issuer).expect("parameters are complete");
        Certificate {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// The authority's own certificate as PEM, as it stands in `ca.crt`.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A client that trusts this authority alone and offers these protocols (`h2`, `http/1.1`).
    ///
    /// # Panics
    /// Never: the authority's certificate is valid.
    #[must_use]
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority's certificate is a trust anchor");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols(alpn);
        Arc::new(config)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificate {
    /// A server that presents this certificate and accepts these protocols (`h2`, `http/1.1`).
    ///
    /// # Panics
    /// Never: key and certificate belong together.
    #[must_use]
    pub fn server(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key)
            .expect("key and certificate belong together");
        config.alpn_protocols = protocols(alpn);
        Arc::new(config)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}
