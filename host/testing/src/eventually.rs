//! Waiting for what another process or thread brings about.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::PATIENCE;

/// Ask `probe` again and again until it answers, and return that answer.
///
/// For states that nobody announces (another process became ready, a file appeared). Where the other side can announce, wait
/// for that: a [`Gate`](crate::gate::Gate), a channel, a response.
///
/// # Panics
/// When there is no answer within [`PATIENCE`]; the message names `what`.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
