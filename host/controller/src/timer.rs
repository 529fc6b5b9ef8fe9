//! Waiting for a time that may never come.

use tokio::time::Instant;

/// Until then, or for ever.
pub(crate) async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
