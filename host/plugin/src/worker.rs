//! Instances of one worker thread, and the calls into them.
//!
//! A worker has one instance for each revision that it has met, made when it is first needed or taken from the revision's spares. Nothing
//! is shared between workers but the revision itself, so a call takes no lock. An instance that faulted is dropped with its store; the
//! next call gets a new one, and no other exchange notices.

use std::{
    cell::{Cell, RefCell},
    collections::hash_map::Entry,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use penstock_core::plugin::{ExchangeFacts, FaultKind, PluginFault, PolicyCall, PolicyRuntime, PolicyWorker, Verdict};
use rustc_hash::FxHashMap;

use crate::{
    hooks::{self, HookContext},
    host::Message,
    instance::Instance,
    metrics::{Hook, TIMED},
    revision::{Loaded, Warm},
};

/// CPU time of `configure` on a worker, where it happens only when spares ran out: it delays the worker's other exchanges. Whoever
/// needs longer waits for the next spare.
const CONFIGURE_ON_WORKER: Duration = Duration::from_millis(20);

/// Hands out workers.
pub(crate) struct Runtime {
    pub(crate) host: Sender<Message>,
    pub(crate) unloaded: Arc<AtomicU64>,
}

impl PolicyRuntime for Runtime {
    fn worker(&self) -> Box<dyn PolicyWorker> {
        // If the host is gone, there is nothing that it could prepare.
        let _ = self.host.send(Message::WorkerStarted);
        Box::new(Worker {
            host: self.host.clone(),
            slots: RefCell::default(),
            unloaded: Arc::clone(&self.unloaded),
            swept: Cell::new(0),
            sampled: Cell::new(0),
        })
    }
}

struct Worker {
    host: Sender<Message>,
    slots: RefCell<FxHashMap<u64, Slot>>,
    /// How many revisions were unloaded so far, and how many of them this worker has noticed.
    unloaded: Arc<AtomicU64>,
    swept: Cell<u64>,
    sampled: Cell<u32>,
}

struct Slot {
    /// To find out when nobody wants the revision any more.
    revision: Weak<Loaded>,
    warm: Warm,
}

impl Worker {
    /// Call one hook with everything around it: breaker, instance, metrics.
    fn call<T>(
        &self,
        call: &PolicyCall,
        hook: Hook,
        run: impl FnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> Result<T, PluginFault> {
        let Some(revision) = (**call.revision.loaded()).downcast_ref::<Loaded>() else {
            return Err(fault(FaultKind::Unavailable, "the revision belongs to another plugin host"));
        };
        revision.metrics.called(hook);
        let result = self.admitted(call, revision, hook, run);
        if let Err(fault) = &result {
            revision.metrics.faulted(fault.kind);
        }
        result
    }

    fn admitted<T>(
        &self,
        call: &PolicyCall,
        revision: &Loaded,
        hook: Hook,
        run: impl FnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> Result<T, PluginFault> {
        if !revision.breaker.admits(Instant::now) {
            return Err(fault(FaultKind::Unavailable, "it faulted too often in a row, and is not called for a moment"));
        }
        let mut slots = self.slots.borrow_mut();
        self.sweep(&mut slots);
        let mut slot = match slots.entry(revision.id()) {
            Entry::Occupied(slot) => slot,
            Entry::Vacant(vacant) => {
                let Ok(shared) = Arc::clone(call.revision.loaded()).downcast::<Loaded>() else {
                    return Err(fault(FaultKind::Unavailable, "the revision belongs to another plugin host"));
                };
                vacant.insert_entry(self.fill(&shared)?)
            }
        };
        let instance = &mut slot.get_mut().warm.instance;
        let context = HookContext { plan: &revision.plan, imports: revision.imports, limit: revision.hook_time() };
        let timed = self.timed().then(Instant::now);
        let result = run(instance, context);
        if let Some(start) = timed {
            revision.metrics.took(hook, start.elapsed());
        }
        // An answer that breaks the contract is a fault of the exchange, but the instance behind it can go on; a trap ends it.
        if instance.is_spent() {
            slot.remove();
            revision.breaker.faulted(Instant::now());
        } else {
            revision.breaker.succeeded();
        }
        result
    }

    /// Drop instances of revisions that nobody wants any more.
    fn sweep(&self, slots: &mut FxHashMap<u64, Slot>) {
        let unloaded = self.unloaded.load(Ordering::Relaxed);
        if self.swept.replace(unloaded) != unloaded {
            slots.retain(|_, slot| slot.revision.strong_count() > 0);
        }
    }

    #[cold]
    fn fill(&self, revision: &Arc<Loaded>) -> Result<Slot, PluginFault> {
        let warm = revision.take(CONFIGURE_ON_WORKER).inspect_err(|_| revision.breaker.faulted(Instant::now()));
        // If the host is gone, there is nobody to make spares, and the worker makes its own.
        let _ = self.host.send(Message::Restock(Arc::downgrade(revision)));
        Ok(Slot { revision: Arc::downgrade(revision), warm: warm? })
    }

    fn timed(&self) -> bool {
        let count = self.sampled.get();
        self.sampled.set(count.wrapping_add(1));
        count.is_multiple_of(TIMED)
    }
}

impl PolicyWorker for Worker {
    fn on_request(
        &self,
        call: &PolicyCall,
        exchange: &ExchangeFacts<'_>,
        head: &mut http::request::Parts,
    ) -> Result<Verdict, PluginFault> {
        self.call(call, Hook::Request, |instance, hook| hooks::on_request(instance, hook, exchange, head))
    }

    fn on_response(
        &self,
        call: &PolicyCall,
        token: u64,
        exchange: &ExchangeFacts<'_>,
        request: Option<&http::request::Parts>,
        head: &mut http::response::Parts,
    ) -> Result<Verdict, PluginFault> {
        self.call(call, Hook::Response, |instance, hook| {
            hooks::on_response(instance, hook, token, exchange, request, head)
        })
    }
}

#[cold]
fn fault(kind: FaultKind, message: &str) -> PluginFault {
    PluginFault { kind, message: message.into() }
}
