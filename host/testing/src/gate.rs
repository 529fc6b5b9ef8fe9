//! A gate that a test opens when it is ready.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Closed until [`Gate::open`]; then open for ever. Clones are the same gate, also across runtimes and threads.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Let everyone through, now and later.
    pub fn open(&self) {
        // A closed semaphore answers at once and for ever, which is what an open gate does.
        self.0.close();
    }

    /// Wait until the gate is open. Cancel safe.
    pub async fn wait(&self) {
        let _ = self.0.acquire().await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
