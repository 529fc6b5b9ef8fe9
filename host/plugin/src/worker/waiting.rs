//! Plugins that wait in an imported call: each call has an instance of its own for as long as it takes, so that the worker goes on with other
//! exchanges, and so do other exchanges in the same plugin. A policy on bodies keeps its state there, and so the instance to the exchange's end.
//!
//! ```text
//! Pool (per revision) ───lend──► Lent ──► call on a fiber ──► back to the pool
//!                                 └── given up, or faulted: dropped with its store
//! ```
//!
//! With `spec.isolation: Exchange` it is the same for plugins that do not wait, and no instance is ever lent twice: what an exchange did to its
//! memory, no other one meets.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Weak},
    time::Instant,
};

use penstock_core::plugin::{FaultKind, OutboundBackend, PluginFault, RedisBucket};

use super::{Instances, fault, shelf::KEPT};
use crate::{
    capability::redis::RedisError,
    hooks::HookContext,
    imports::outbound::Network,
    instance::Instance,
    metrics::Hook,
    revision::{Loaded, Warm},
};

/// The instances of one revision whose calls have instances for themselves.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) revision: Weak<Loaded>,
    idle: RefCell<Vec<Warm>>,
    out: Cell<usize>,
}

/// An instance for the time of one call, or of one exchange that keeps its state there.
pub(super) struct Lent {
    pool: Rc<Pool>,
    warm: Option<Warm>,
    /// Bytes of memory with which it may be lent again.
    memory: u64,
}

impl Lent {
    /// Whether it refuses every call: one faulted, or was given up.
    pub(super) fn is_spent(&self) -> bool {
        self.warm.as_ref().is_none_or(|warm| warm.instance.is_spent())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.out.set(self.pool.out.get().saturating_sub(1));
        let mut idle = self.pool.idle.borrow_mut();
        // One that has grown so much that the next exchange could be its last is not kept either.
        let keeps = |warm: &Warm| !warm.instance.is_spent() && warm.instance.memory() < self.memory;
        if let Some(mut warm) = self.warm.take().filter(|warm| keeps(warm) && idle.len() < KEPT) {
            warm.instance.state().network = None;
            idle.push(warm);
        }
    }
}

/// What the calls of one exchange may use.
pub(super) struct Allowance<'a> {
    pub(super) backends: &'a Arc<[OutboundBackend]>,
    pub(super) redis: &'a Arc<[RedisBucket]>,
    /// Calls that it made in earlier hooks.
    pub(super) used: u32,
}

impl Instances {
    /// Run one hook of a plugin that may wait, in an instance for this call alone. Answers how many calls the exchange has made by then, too.
    pub(super) async fn wait<T>(
        &self,
        revision: &Arc<Loaded>,
        hook: Hook,
        allowance: Allowance<'_>,
        run: impl AsyncFnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> Result<(T, u32), PluginFault> {
        let mut lent = self.counted(revision, hook, self.lend(revision))?;
        let network = self.network(revision, &allowance);
        let (result, used) = self.run_waiting(revision, &mut lent, hook, Some(network), run).await;
        result.map(|answer| (answer, used.unwrap_or(allowance.used)))
    }

    /// Run one hook that may wait, and count it. Answers how many calls the exchange has made by then, too, unless there is no network.
    pub(super) async fn run_waiting<T>(
        &self,
        revision: &Loaded,
        lent: &mut Lent,
        hook: Hook,
        network: Option<Network>,
        run: impl AsyncFnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> (Result<T, PluginFault>, Option<u32>) {
        revision.metrics.called(hook);
        let Some(warm) = &mut lent.warm else {
            return (Err(fault(FaultKind::Unavailable, "the instance is gone")), None);
        };
        let limits = revision.limits();
        let context = HookContext { plan: &revision.plan, imports: revision.imports, limits };
        let instance = &mut warm.instance;
        instance.state().network = network;
        let start = Instant::now();
        let result = run(instance, context).await;
        revision.metrics.took(hook, start.elapsed());
        let network = instance.state().network.take();
        let took = instance.state().cpu_time();
        self.used(revision, took);
        if instance.is_spent() {
            revision.breaker.faulted(Instant::now(), took);
        } else {
            revision.breaker.succeeded();
        }
        if let Err(fault) = &result {
            self.faulted(revision, hook, fault);
        }
        (result, network.map(|network| limits.outbound_calls.saturating_sub(network.calls_left)))
    }

    pub(super) fn lend(&self, revision: &Arc<Loaded>) -> Result<Lent, PluginFault> {
        self.check_breaker(revision)?;
        self.sweep();
        let pool = self.pool(revision);
        if pool.out.get() >= revision.limits().waiting as usize {
            let message = "as many exchanges are in it on this worker as limits.waiting allows";
            return Err(fault(FaultKind::Overloaded, message));
        }
        let memory = if revision.is_isolated() { 0 } else { revision.limits().memory / 4 * 3 };
        let idle = pool.idle.borrow_mut().pop();
        let warm = idle.map_or_else(|| self.fill(revision), Ok)?;
        pool.out.set(pool.out.get() + 1);
        Ok(Lent { pool, warm: Some(warm), memory })
    }

    fn pool(&self, revision: &Arc<Loaded>) -> Rc<Pool> {
        let new = || Rc::new(Pool { revision: Arc::downgrade(revision), ..Pool::default() });
        Rc::clone(self.pools.borrow_mut().entry(revision.id()).or_insert_with(new))
    }

    /// What a hook may reach.
    pub(super) fn network(&self, revision: &Loaded, allowance: &Allowance<'_>) -> Network {
        Network {
            client: self.client.get().cloned(),
            backends: Arc::clone(allowance.backends),
            redis: Arc::clone(allowance.redis),
            until: Instant::now() + revision.limits().wall_time,
            calls_left: revision.limits().outbound_calls.saturating_sub(allowance.used),
            decisions_left: RedisError::MOST_IN_A_HOOK,
            metrics: Arc::clone(&revision.metrics),
        }
    }
}
