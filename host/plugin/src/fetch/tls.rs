//! TLS towards sources: rustls, and the authorities that this machine trusts.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use penstock_core::plugin::ModuleUrl;
use rustls::{CertificateError, ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{FetchError, http::place};

/// Whom to trust. The machine's authorities are read when they are first needed: most gateways fetch nothing, or have no such file.
#[derive(Default)]
pub(crate) struct Tls(OnceLock<Result<Arc<ClientConfig>, String>>);

/// A connection with TLS or without.
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Tls {
    /// Trust these authorities alone.
    #[cfg(test)]
    pub(crate) fn trusting(config: Arc<ClientConfig>) -> Self {
        Self(OnceLock::from(Ok(config)))
    }

    /// Add TLS to a connection, if the URL wants it.
    pub(super) async fn wrap(&self, url: &ModuleUrl, stream: TcpStream) -> Result<Io, FetchError> {
        if !url.is_https() {
            return Ok(Io::Plain(stream));
        }
        let failed = |why: String| FetchError::Tls { place: place(url), why };
        let config = self.0.get_or_init(machine).clone().map_err(failed)?;
        let name = ServerName::try_from(url.host().to_owned());
        let name = name.map_err(|_| failed(format!("`{}` is no name that a certificate can have", url.host())))?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(Io::Tls(Box::new(stream))),
            Err(error) => Err(failed(explain(&error))),
        }
    }
}

/// With the authorities of this machine, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn machine() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let error = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "no trusted authorities were found on this machine{error}; install ca-certificates, or name a file in SSL_CERT_FILE"
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn explain(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        // The second: another authority of the same name.
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "its certificate is of an authority that this machine does not trust; SSL_CERT_FILE may name a file with others".into()
        }
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS; is it plain HTTP? A registry without TLS needs `insecure: true`".into(),
        _ => error.to_string(),
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
