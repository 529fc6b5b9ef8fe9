//! TLS towards clients: certificates by server name, from the snapshot in effect.
//!
//! A new certificate needs no new socket and ends no connection: handshakes ask for the table of the moment. Keys are parsed once for each
//! value of a certificate, however many listeners and snapshots name it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use penstock_core::{
    listener::{Certificate, Listener, PrivateKey, Socket},
    snapshot::Snapshot,
};
use rustc_hash::FxHashMap;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, ServerName,
};

use super::provider;

/// The TLS of one socket.
#[derive(Debug)]
pub(crate) struct SocketTls {
    pub(crate) config: Arc<ServerConfig>,
    table: Arc<CertificateTable>,
}

/// Keys of all certificates that the snapshot in effect names.
#[derive(Debug, Default)]
pub(crate) struct Keys(FxHashMap<Arc<Certificate>, Option<Arc<CertifiedKey>>>);

/// Which key answers which name. Replaced whole.
#[derive(Debug)]
struct CertificateTable(ArcSwap<Entries>);

#[derive(Debug)]
struct Entries {
    socket: Arc<Socket>,
    /// Of each listener of the socket, in the same order.
    keys: Vec<Vec<Arc<CertifiedKey>>>,
}

impl Keys {
    /// Parse what is new, forget what is gone.
    pub(crate) fn update(&mut self, snapshot: &Snapshot) {
        let mut keys = FxHashMap::default();
        for listener in snapshot.sockets.iter().flat_map(|socket| &socket.listeners) {
            for certificate in &listener.certificates {
                let known = self.0.get(certificate).cloned();
                keys.entry(certificate.clone()).or_insert_with(|| known.unwrap_or_else(|| parse(certificate)));
            }
        }
        self.0 = keys;
    }

    fn of(&self, listener: &Listener) -> Vec<Arc<CertifiedKey>> {
        listener.certificates.iter().filter_map(|certificate| self.0.get(certificate).cloned().flatten()).collect()
    }
}

fn parse(certificate: &Certificate) -> Option<Arc<CertifiedKey>> {
    let chain: Vec<_> = certificate.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = match &certificate.key {
        PrivateKey::Pkcs8(der) => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.clone())),
        PrivateKey::Pkcs1(der) => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der.clone())),
        PrivateKey::Sec1(der) => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der.clone())),
    };
    match CertifiedKey::from_der(chain, key, &provider()) {
        Ok(key) => Some(Arc::new(key)),
        Err(error) => {
            tracing::warn!(secret = %certificate.secret, %error, "a certificate cannot be used; its listeners do without it");
            None
        }
    }
}

impl SocketTls {
    pub(crate) fn new(socket: &Arc<Socket>, keys: &Keys) -> Result<Self, rustls::Error> {
        let table = Arc::new(CertificateTable(ArcSwap::from_pointee(Entries::new(socket, keys))));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(table.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets in place of stored sessions: no memory for each client, and nothing for workers to share.
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), table })
    }

    /// Certificates of handshakes from now on.
    pub(crate) fn update(&self, socket: &Arc<Socket>, keys: &Keys) {
        self.table.0.store(Arc::new(Entries::new(socket, keys)));
    }
}

impl Entries {
    fn new(socket: &Arc<Socket>, keys: &Keys) -> Self {
        Self { socket: socket.clone(), keys: socket.listeners.iter().map(|listener| keys.of(listener)).collect() }
    }

    /// The keys of the listener that the name leads to; of the least specific one if the client names none.
    fn candidates(&self, name: Option<&str>) -> Option<&[Arc<CertifiedKey>]> {
        let listeners = &self.socket.listeners;
        let at = match name {
            Some(name) => {
                let listener = self.socket.most_specific(name)?;
                listeners.iter().position(|other| Arc::ptr_eq(other, listener))?
            }
            None => listeners.len().checked_sub(1)?,
        };
        self.keys.get(at).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for CertificateTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let entries = self.0.load();
        let name = hello.server_name();
        let candidates = entries.candidates(name)?;
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let fitting = candidates.iter().filter(usable).find(|key| name.is_some_and(|name| is_for(key, name)));
        fitting.or_else(|| candidates.iter().find(usable)).or_else(|| candidates.first()).cloned()
    }
}

/// Whether the certificate names the host. Only asked where a listener has several.
fn is_for(key: &CertifiedKey, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else { return false };
    let parsed = key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    parsed.is_some_and(|leaf| verify_server_name(&leaf, &name).is_ok())
}
