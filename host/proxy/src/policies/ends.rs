//! Ends of exchanges. A connection that closes ends all of its exchanges at once, and each plugin in each of them may take as long as a hook
//! may: where they do, the others wait in a queue, and the worker does something else after each.

use std::{
    cell::{Cell, OnceCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderValue;
use penstock_core::{plugin::Summary, route::Rule};
use tokio::sync::mpsc;

use super::exchange::Participants;
use crate::{connection::Connection, worker::Worker};

/// An exchange whose plugins have not heard of its end. They do when it is dropped, wherever that is, unless the worker has ended.
pub(super) struct Ending {
    pub(super) connection: Rc<Connection>,
    pub(super) rule: Arc<Rule>,
    pub(super) client: SocketAddr,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) participants: Participants,
    pub(super) summary: Summary,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.connection.worker.ends.is_too_late() {
            return;
        }
        let facts = super::facts(&self.connection, &self.rule, self.client, self.request_id.as_ref());
        for participant in &self.participants {
            participant.policy.end(&facts, &self.summary);
        }
    }
}

/// The ends of one worker.
#[derive(Default)]
pub(crate) struct Ends {
    queue: OnceCell<mpsc::UnboundedSender<Ending>>,
    /// Some wait for their turn.
    is_behind: Cell<bool>,
    /// When the worker was told to end.
    stopped: Cell<Option<Instant>>,
}

/// A worker that ends tells plugins of ends for so long: it does not end before.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Ends {
    /// The worker ends now.
    pub(crate) fn stop(&self) {
        self.stopped.set(Some(Instant::now()));
    }

    fn is_too_late(&self) -> bool {
        self.stopped.get().is_some_and(|stopped| stopped.elapsed() > LAST_WORDS)
    }

    /// Tell the plugins now, or after those that wait.
    pub(super) fn end(ending: Ending) {
        let connection = ending.connection.clone();
        let worker = &connection.worker;
        if worker.ends.is_behind.get() || worker.policies.wants_break() {
            worker.ends.is_behind.set(true);
            if let Some(queue) = worker.ends.queue.get() {
                // The queue is gone when the worker ends, and then it is now.
                drop(queue.send(ending));
            }
        }
    }
}

/// Give the ends of a worker their queue.
pub(crate) fn start(worker: &Rc<Worker>) {
    let (sender, queue) = mpsc::unbounded_channel();
    // There is none before the worker starts.
    let _ = worker.ends.queue.set(sender);
    tokio::task::spawn_local(run(worker.clone(), queue));
}

async fn run(worker: Rc<Worker>, mut queue: mpsc::UnboundedReceiver<Ending>) {
    while let Some(ending) = queue.recv().await {
        drop(ending);
        if worker.policies.wants_break() {
            tokio::task::yield_now().await;
        }
        worker.ends.is_behind.set(!queue.is_empty());
    }
}
