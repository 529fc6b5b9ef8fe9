//! TLS on both sides, by rustls with ring.

pub(crate) mod client;
pub(crate) mod server;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// One provider for the process: making one is not free, and nothing about it is configurable.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}
