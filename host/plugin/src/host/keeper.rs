//! The thread that writes the last good set. Disks may be slow or full: nobody waits for it, and of several sets the latest counts.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use penstock_core::ResourceRef;

use super::{Message, counts::StoreCounts};
use crate::last_good::{GoodSet, LastGood};

/// A set that could not be written is tried again: room may have been made.
const RETRY: Duration = Duration::from_secs(10);

/// What could not be kept.
#[derive(Debug, Clone)]
pub(crate) struct Unkept {
    pub(super) why: Arc<str>,
    pub(super) plugins: BTreeSet<ResourceRef>,
}

/// The owner's end.
pub(super) struct Keeper {
    waiting: Arc<Mutex<Option<GoodSet>>>,
    wake: Sender<()>,
}

impl Keeper {
    /// Start the thread. It ends when this is dropped, after it has written what waits.
    pub(super) fn start(
        store: LastGood,
        counts: StoreCounts,
        owner: Sender<Message>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (wake, woken) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(None));
        counts.opened(&store);
        let writer = Writer { store, counts, owner, waiting: Arc::clone(&waiting), failed: None, failing: false };
        let thread = thread::Builder::new().name("plugin-keeper".into()).spawn(move || writer.run(&woken))?;
        Ok((Self { waiting, wake }, thread))
    }

    /// This is the last good set now.
    pub(super) fn keep(&self, set: GoodSet) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(set);
        // If the thread is gone, it panicked, and its last words are in the log.
        let _ = self.wake.send(());
    }
}

struct Writer {
    store: LastGood,
    counts: StoreCounts,
    owner: Sender<Message>,
    waiting: Arc<Mutex<Option<GoodSet>>>,
    /// To be tried again.
    failed: Option<GoodSet>,
    /// The last attempt failed: what is logged of the next failure would be nothing new.
    failing: bool,
}

impl Writer {
    fn run(mut self, woken: &Receiver<()>) {
        loop {
            let woke = match self.failed {
                Some(_) => woken.recv_timeout(RETRY),
                None => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let newest = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(set) = newest.or_else(|| self.failed.take()) {
                self.write(set);
            }
            if woke == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn write(&mut self, set: GoodSet) {
        // Whatever failed before: this set is newer.
        self.failed = None;
        let result = self.store.keep(&set);
        self.counts.kept(&self.store, &result);
        // The owner may be gone already: then only the disk matters.
        match result {
            Ok(_) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the last good plugins are kept on disk again");
                }
                let _ = self.owner.send(Message::Kept(None));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the last good plugins cannot be kept on disk; what serves goes on");
                }
                let plugins = self.store.missing(&set).cloned().collect();
                self.failed = Some(set);
                let _ = self.owner.send(Message::Kept(Some(Unkept { why: error.to_string().into(), plugins })));
            }
        }
    }
}
