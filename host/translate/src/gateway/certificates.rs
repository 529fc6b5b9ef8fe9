//! TLS certificates from Secrets: read, checked against their key, and remembered per Secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use penstock_core::{
    ResourceRef,
    listener::{Certificate, PrivateKey},
};
use rustls::{crypto::ring::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::resources::Secret;

/// Certificates by Secret, as long as the Secret stays the same value.
#[derive(Debug, Default)]
pub(crate) struct CertificateCache {
    entries: BTreeMap<ResourceRef, Entry>,
    /// Secrets that were asked for in this round, whether they are there or not.
    wanted: BTreeSet<ResourceRef>,
    round: u64,
}

#[derive(Debug)]
struct Entry {
    secret: Arc<Secret>,
    certificate: Result<Arc<Certificate>, InvalidCertificate>,
    round: u64,
}

/// Why a Secret does not hold a certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidCertificate {
    /// `data` lacks a key.
    #[error("has no `{0}` in its data")]
    Missing(&'static str),
    /// No certificate in `tls.crt`.
    #[error("has no PEM certificate in `tls.crt`")]
    NoCertificate,
    /// `tls.crt` is broken.
    #[error("has a malformed PEM document in `tls.crt`: {0}")]
    Pem(String),
    /// `tls.key` is broken.
    #[error("has no usable PEM private key in `tls.key`: {0}")]
    Key(String),
    /// The leaf cannot be read.
    #[error("has a first certificate in `tls.crt` that is no X.509 certificate: {0}")]
    Leaf(String),
    /// Certificate and key are of different pairs.
    #[error("has a `tls.key` that does not belong to the first certificate of `tls.crt`")]
    Mismatch,
}

impl CertificateCache {
    /// Begin a translation: what is not asked for until [`Self::finish`] is forgotten.
    pub(crate) fn begin(&mut self) {
        self.round += 1;
        self.wanted.clear();
    }

    /// A reference leads here, and may.
    pub(crate) fn want(&mut self, key: &ResourceRef) {
        self.wanted.insert(key.clone());
    }

    /// Where references lead.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &ResourceRef> {
        self.wanted.iter()
    }

    pub(crate) fn finish(&mut self) {
        let round = self.round;
        self.entries.retain(|_, entry| entry.round == round);
    }

    pub(crate) fn get(
        &mut self,
        key: &ResourceRef,
        secret: &Arc<Secret>,
    ) -> Result<Arc<Certificate>, InvalidCertificate> {
        let round = self.round;
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| Arc::ptr_eq(&entry.secret, secret)) {
            entry.round = round;
            return entry.certificate.clone();
        }
        // A Secret that changed in other respects than its certificate keeps the value that connections already use.
        let previous = self.entries.get(key).and_then(|entry| entry.certificate.as_ref().ok());
        let certificate = read(key, secret).map(|certificate| match previous {
            Some(previous) if **previous == certificate => previous.clone(),
            _ => Arc::new(certificate),
        });
        let entry = Entry { secret: secret.clone(), certificate: certificate.clone(), round };
        self.entries.insert(key.clone(), entry);
        certificate
    }
}

fn read(id: &ResourceRef, secret: &Secret) -> Result<Certificate, InvalidCertificate> {
    let field = |name| {
        let value = secret.data.as_ref().and_then(|data| data.get(name));
        value.map(|value| value.0.as_slice()).ok_or(InvalidCertificate::Missing(name))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(field("tls.crt")?)
        .collect::<Result<_, _>>()
        .map_err(|error| InvalidCertificate::Pem(error.to_string()))?;
    if chain.is_empty() {
        return Err(InvalidCertificate::NoCertificate);
    }
    let key =
        PrivateKeyDer::from_pem_slice(field("tls.key")?).map_err(|error| InvalidCertificate::Key(error.to_string()))?;
    let signing = any_supported_type(&key).map_err(|error| InvalidCertificate::Key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(_)) => return Err(InvalidCertificate::Mismatch),
        Err(error) => return Err(InvalidCertificate::Leaf(error.to_string())),
    }
    let chain = certified.cert.iter().map(|certificate| certificate.to_vec()).collect();
    let key = match key {
        PrivateKeyDer::Pkcs1(key) => PrivateKey::Pkcs1(key.secret_pkcs1_der().to_vec()),
        PrivateKeyDer::Sec1(key) => PrivateKey::Sec1(key.secret_sec1_der().to_vec()),
        PrivateKeyDer::Pkcs8(key) => PrivateKey::Pkcs8(key.secret_pkcs8_der().to_vec()),
        _ => return Err(InvalidCertificate::Key("its encoding is not supported".to_owned())),
    };
    Ok(Certificate { secret: id.clone(), chain, key })
}
