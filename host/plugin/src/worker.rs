//! Instances of one worker thread, and the calls into them.
//!
//! ```text
//! Worker ──► Slot (per revision) ──► Live instance                       policies on heads, one after another
//!                  └── Shelf ──► Live instance ◄── OpenExchange         policies on bodies, trailers or the end
//!                                    ├── its exchange is over: for the next one
//!                                    ├── grown: gone with its exchange
//!                                    └── faulted: its store goes at once
//! ```
//!
//! Instances are made when they are first needed or taken from the revision's spares. Nothing is shared between workers but the revision
//! itself, so a call takes no lock. An instance that faulted is dropped with its store; the next call gets a new one, and no exchange notices
//! but the one whose state was in it.

mod exchange;
mod shelf;
mod waiting;

use std::{
    cell::{Cell, OnceCell, RefCell},
    pin::pin,
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use http::{request, response};
use penstock_core::{
    plugin::{
        Called, Choice, ExchangeFacts, FaultKind, OutboundClient, PluginFault, PolicyCall, PolicyExchange,
        PolicyRuntime, PolicyWorker, Proceed, Revision, RouteCall, Verdict,
    },
    route::Rule,
};
use rustc_hash::FxHashMap;

use self::{
    exchange::{Home, OpenExchange},
    shelf::{Live, Shelf},
    waiting::{Allowance, Pool},
};
use crate::{
    choose::{self, Choosing},
    engine::TICK,
    hooks::{self, HookContext},
    host::Message,
    instance::{Instance, at_once, thread_cpu_time},
    metrics::{Hook, TIMED},
    revision::{Loaded, Warm},
};

/// Hands out workers.
pub(crate) struct Runtime {
    pub(crate) host: Sender<Message>,
    pub(crate) unloaded: Arc<AtomicU64>,
}

impl PolicyRuntime for Runtime {
    fn worker(&self) -> Box<dyn PolicyWorker> {
        // If the host is gone, there is nothing that it could prepare.
        let _ = self.host.send(Message::WorkerStarted);
        Box::new(Worker(Rc::new(Instances {
            host: self.host.clone(),
            slots: RefCell::default(),
            pools: RefCell::default(),
            client: OnceCell::new(),
            unloaded: Arc::clone(&self.unloaded),
            swept: Cell::new(0),
            wants_break: Cell::new(false),
            sampled: Cell::new(0),
        })))
    }
}

struct Worker(Rc<Instances>);

/// All instances of one worker.
struct Instances {
    host: Sender<Message>,
    slots: RefCell<FxHashMap<u64, Slot>>,
    /// Of revisions whose calls have instances for themselves.
    pools: RefCell<FxHashMap<u64, Rc<Pool>>>,
    /// Sends what plugins ask for.
    client: OnceCell<Arc<dyn OutboundClient>>,
    /// How many revisions were unloaded so far, and how many of them this worker has noticed.
    unloaded: Arc<AtomicU64>,
    swept: Cell<u64>,
    /// A hook ran for longer than a tick.
    wants_break: Cell<bool>,
    sampled: Cell<u32>,
}

struct Slot {
    /// To find out when nobody wants the revision any more.
    revision: Weak<Loaded>,
    /// For policies on heads; none after a fault.
    current: Option<Rc<Live>>,
    shelf: Rc<Shelf>,
}

impl Slot {
    fn new(revision: &Arc<Loaded>) -> Self {
        Self { revision: Arc::downgrade(revision), current: None, shelf: Rc::default() }
    }
}

impl Instances {
    /// Call one hook of a policy on headers.
    fn call<T>(
        &self,
        named: &Revision,
        hook: Hook,
        run: impl FnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> Result<T, PluginFault> {
        let revision = loaded(named)?;
        let live = self.counted(revision, hook, self.admitted(named, revision))?;
        self.run(revision, &live, hook, run)
    }

    /// The instance for calls on heads, unless calls have stopped.
    fn admitted(&self, named: &Revision, revision: &Loaded) -> Result<Rc<Live>, PluginFault> {
        self.check_breaker(revision)?;
        self.sweep();
        if let Some(Slot { current: Some(live), .. }) = self.slots.borrow().get(&revision.id()) {
            return Ok(Rc::clone(live));
        }
        let shared = shared(named)?;
        let warm = self.fill(&shared)?;
        let mut slots = self.slots.borrow_mut();
        let slot = slots.entry(revision.id()).or_insert_with(|| Slot::new(&shared));
        Ok(Rc::clone(slot.current.insert(slot.shelf.add(warm, revision))))
    }

    fn check_breaker(&self, revision: &Loaded) -> Result<(), PluginFault> {
        if revision.breaker.admits(Instant::now) {
            return Ok(());
        }
        Err(fault(FaultKind::Unavailable, "it faulted too often, and is not called for a moment"))
    }

    /// The instance for a new exchange: one for itself, if it can be had at once.
    fn for_exchange(&self, revision: &Arc<Loaded>) -> Result<Rc<Live>, PluginFault> {
        self.check_breaker(revision)?;
        self.sweep();
        let new = || Slot::new(revision);
        let shelf = Rc::clone(&self.slots.borrow_mut().entry(revision.id()).or_insert_with(new).shelf);
        if let Some(idle) = shelf.idle() {
            return Ok(idle);
        }
        let has_room = shelf.has_room();
        if has_room
            && revision.is_at_hand()
            && let Ok(warm) = self.fill(revision)
        {
            return Ok(shelf.add(warm, revision));
        }
        match shelf.least_busy() {
            Some(shared) => Ok(shared),
            None if has_room => Ok(shelf.add(self.fill(revision)?, revision)),
            None => Err(fault(FaultKind::Overloaded, "it has as many exchanges open as its instances can keep")),
        }
    }

    /// Run one hook, and count it.
    fn run<T>(
        &self,
        revision: &Loaded,
        live: &Rc<Live>,
        hook: Hook,
        run: impl FnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> Result<T, PluginFault> {
        revision.metrics.called(hook);
        self.guarded(revision, live, hook, run)
    }

    /// Run code of the guest with everything around it: faults, breaker, the end of an instance that faulted.
    fn guarded<T>(
        &self,
        revision: &Loaded,
        live: &Rc<Live>,
        hook: Hook,
        run: impl FnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> Result<T, PluginFault> {
        let context = HookContext { plan: &revision.plan, imports: revision.imports, limits: revision.limits() };
        let timed = self.timed().then(Instant::now);
        let mut warm = live.warm.borrow_mut();
        let Some(Warm { instance, .. }) = &mut *warm else { return Err(lost()) };
        let result = run(instance, context);
        if let Some(start) = timed {
            revision.metrics.took(hook, start.elapsed());
        }
        let took = instance.state().cpu_time();
        self.used(revision, took);
        // An answer that breaks the contract is a fault of the exchange, but the instance behind it can go on; a trap ends it.
        if instance.is_spent() {
            drop(warm);
            self.forget(revision, live);
            revision.breaker.faulted(Instant::now(), took);
        } else {
            revision.breaker.succeeded();
        }
        if let Err(fault) = &result {
            self.faulted(revision, hook, fault);
        }
        result
    }

    /// CPU time of a call, which is zero of nearly all.
    fn used(&self, revision: &Loaded, time: Duration) {
        revision.metrics.used(time);
        if !time.is_zero() {
            self.wants_break.set(true);
        }
    }

    /// Count a call that was never made.
    fn counted<T>(&self, revision: &Loaded, hook: Hook, result: Result<T, PluginFault>) -> Result<T, PluginFault> {
        result.inspect_err(|fault| {
            revision.metrics.called(hook);
            self.faulted(revision, hook, fault);
        })
    }

    #[cold]
    fn faulted(&self, revision: &Loaded, hook: Hook, fault: &PluginFault) {
        let kind = fault.kind;
        revision.metrics.faulted(hook, kind);
        revision.complain(Some(hook), fault);
        // An exchange that was lost is one more victim of a fault that is counted already, and for want of room the revision can do nothing.
        if !matches!(kind, FaultKind::Lost | FaultKind::Overloaded) && revision.faults.count(kind) {
            // If the host is gone, nothing is on probation.
            let _ = self.host.send(Message::TooManyFaults(revision.id()));
        }
    }

    /// New calls get another instance.
    #[cold]
    fn forget(&self, revision: &Loaded, spent: &Rc<Live>) {
        spent.discard();
        if let Some(slot) = self.slots.borrow_mut().get_mut(&revision.id()) {
            slot.current.take_if(|current| Rc::ptr_eq(current, spent));
        }
    }

    /// Drop instances of revisions that nobody wants any more.
    fn sweep(&self) {
        let unloaded = self.unloaded.load(Ordering::Relaxed);
        if self.swept.replace(unloaded) != unloaded {
            let is_wanted = |revision: &Weak<Loaded>| revision.upgrade().is_some_and(|revision| !revision.is_parked());
            self.slots.borrow_mut().retain(|_, slot| is_wanted(&slot.revision));
            self.pools.borrow_mut().retain(|_, pool| is_wanted(&pool.revision));
        }
    }

    /// A spare instance, or where spares ran out one that is made now, if that takes no longer than a hook may: the worker's other exchanges
    /// wait for it. Whoever needs longer waits for the next spare.
    #[cold]
    fn fill(&self, revision: &Arc<Loaded>) -> Result<Warm, PluginFault> {
        let before = thread_cpu_time();
        let warm = revision.take().inspect_err(|fault| {
            if fault.kind != FaultKind::Overloaded {
                revision.breaker.faulted(Instant::now(), revision.limits().hook_time);
            }
        });
        let took = thread_cpu_time().saturating_sub(before);
        if took >= TICK {
            self.used(revision, took);
        }
        // If the host is gone, there is nobody to make spares, and the worker makes its own.
        let _ = self.host.send(Message::Restock(Arc::downgrade(revision)));
        warm
    }

    fn timed(&self) -> bool {
        let count = self.sampled.get();
        self.sampled.set(count.wrapping_add(1));
        count.is_multiple_of(TIMED)
    }
}

impl Worker {
    fn request(
        &self,
        call: &PolicyCall,
        exchange: &ExchangeFacts<'_>,
        head: &mut request::Parts,
    ) -> Result<Verdict, PluginFault> {
        let carried = hooks::carry(&loaded(&call.revision)?.plan, exchange, head);
        if !call.hooks.request {
            return Ok(Verdict::Proceed(Proceed { carried, ..Proceed::default() }));
        }
        let verdict = self.0.call(&call.revision, Hook::Request, |instance, hook| {
            at_once(pin!(hooks::on_request(instance, hook, exchange, head)))
        })?;
        Ok(match verdict {
            Verdict::Proceed(proceed) => Verdict::Proceed(Proceed { carried, ..proceed }),
            other => other,
        })
    }
}

/// The same hooks of plugins that have an instance for each call.
impl Worker {
    async fn request_apart(
        &self,
        revision: Arc<Loaded>,
        call: &PolicyCall,
        exchange: &ExchangeFacts<'_>,
        head: &mut request::Parts,
    ) -> Result<Verdict, PluginFault> {
        let carried = hooks::carry(&revision.plan, exchange, head);
        let allowance = Allowance { backends: &call.outbound, redis: &call.redis, used: 0 };
        let run = async |instance: &mut Instance, hook: HookContext<'_>| {
            hooks::on_request(instance, hook, exchange, head).await
        };
        let (verdict, outbound_calls) = self.0.wait(&revision, Hook::Request, allowance, run).await?;
        Ok(match verdict {
            Verdict::Proceed(proceed) => Verdict::Proceed(Proceed { carried, outbound_calls, ..proceed }),
            other => other,
        })
    }

    async fn response_apart(
        &self,
        revision: Arc<Loaded>,
        call: &PolicyCall,
        kept: &Proceed,
        exchange: &ExchangeFacts<'_>,
        head: &mut response::Parts,
    ) -> Result<Verdict, PluginFault> {
        let allowance = Allowance { backends: &call.outbound, redis: &call.redis, used: kept.outbound_calls };
        let run = async |instance: &mut Instance, hook: HookContext<'_>| {
            hooks::on_response(instance, hook, kept, exchange, head).await
        };
        self.0.wait(&revision, Hook::Response, allowance, run).await.map(|(verdict, _)| verdict)
    }

    async fn choose_apart(
        &self,
        revision: Arc<Loaded>,
        call: &RouteCall,
        exchange: &ExchangeFacts<'_>,
        choosing: Choosing<'_>,
        head: &mut request::Parts,
    ) -> Result<Choice, PluginFault> {
        let allowance = Allowance { backends: &call.outbound, redis: &call.redis, used: 0 };
        let run = async |instance: &mut Instance, hook: HookContext<'_>| {
            choose::choose(instance, hook, exchange, choosing, head).await
        };
        let choice = self.0.wait(&revision, Hook::Choose, allowance, run).await.map(|(choice, _)| choice);
        if let Ok(Choice::Misfit(fault)) = &choice {
            self.0.faulted(&revision, Hook::Choose, fault);
        }
        choice
    }
}

impl PolicyWorker for Worker {
    fn on_request<'a>(
        &'a self,
        call: &'a PolicyCall,
        exchange: &'a ExchangeFacts<'a>,
        head: &'a mut request::Parts,
    ) -> Called<'a, Verdict> {
        match apart(&call.revision) {
            Some(revision) if call.hooks.request => {
                called(revision.waits(), self.request_apart(revision, call, exchange, head))
            }
            _ => self.request(call, exchange, head).into(),
        }
    }

    fn on_response<'a>(
        &'a self,
        call: &'a PolicyCall,
        kept: &'a Proceed,
        exchange: &'a ExchangeFacts<'a>,
        head: &'a mut response::Parts,
    ) -> Called<'a, Verdict> {
        if let Some(revision) = apart(&call.revision) {
            return called(revision.waits(), self.response_apart(revision, call, kept, exchange, head));
        }
        let verdict = self.0.call(&call.revision, Hook::Response, |instance, hook| {
            at_once(pin!(hooks::on_response(instance, hook, kept, exchange, head)))
        });
        verdict.into()
    }

    fn begin(&self, call: &PolicyCall, _: &ExchangeFacts<'_>) -> Result<Rc<dyn PolicyExchange>, PluginFault> {
        let revision = shared(&call.revision)?;
        let home = match revision.is_apart() {
            false => self.0.for_exchange(&revision).map(Home::Shared),
            true => self.0.lend(&revision).map(Home::own),
        };
        let home = self.0.counted(&revision, Hook::Begin, home)?;
        Ok(Rc::new(OpenExchange::begin(&self.0, revision, home, call)?))
    }

    fn choose<'a>(
        &'a self,
        call: &'a RouteCall,
        exchange: &'a ExchangeFacts<'a>,
        rule: &'a Arc<Rule>,
        head: &'a mut request::Parts,
    ) -> Called<'a, Choice> {
        let choosing = Choosing { number: call.rule, rule };
        if let Some(revision) = apart(&call.revision) {
            return called(revision.waits(), self.choose_apart(revision, call, exchange, choosing, head));
        }
        let choice = self.0.call(&call.revision, Hook::Choose, |instance, hook| {
            at_once(pin!(choose::choose(instance, hook, exchange, choosing, head)))
        });
        if let (Ok(Choice::Misfit(fault)), Ok(revision)) = (&choice, loaded(&call.revision)) {
            self.0.faulted(revision, Hook::Choose, fault);
        }
        choice.into()
    }

    fn wants_break(&self) -> bool {
        self.0.wants_break.replace(false)
    }

    fn connect(&self, client: Arc<dyn OutboundClient>) {
        // A second one would be a defect of the caller, and changes nothing.
        let _ = self.0.client.set(client);
    }
}

/// The revision, if each of its calls has an instance for itself.
fn apart(revision: &Revision) -> Option<Arc<Loaded>> {
    loaded(revision).ok().filter(|loaded| loaded.is_apart()).and_then(|_| shared(revision).ok())
}

/// The answer of a hook, or what it is waited for by. Who cannot wait has answered.
fn called<'a, T>(waits: bool, hook: impl Future<Output = Result<T, PluginFault>> + 'a) -> Called<'a, T> {
    if waits { Called::Waiting(Box::pin(hook)) } else { at_once(hook).into() }
}

fn loaded(revision: &Revision) -> Result<&Loaded, PluginFault> {
    (**revision.loaded()).downcast_ref::<Loaded>().ok_or_else(strange)
}

fn shared(revision: &Revision) -> Result<Arc<Loaded>, PluginFault> {
    Arc::clone(revision.loaded()).downcast::<Loaded>().map_err(|_| strange())
}

#[cold]
fn strange() -> PluginFault {
    fault(FaultKind::Unavailable, "the revision belongs to another plugin host")
}

#[cold]
fn lost() -> PluginFault {
    fault(FaultKind::Lost, "the instance that kept this exchange has ended by a fault")
}

#[cold]
fn fault(kind: FaultKind, message: &str) -> PluginFault {
    PluginFault { kind, message: message.into() }
}
