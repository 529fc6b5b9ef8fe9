//! Plugins that wait in an imported call: each call has an instance of its own for as long as it takes, so that the worker goes on with other
//! exchanges, and so do other exchanges in the same plugin.
//!
//! ```text
//! Pool (per revision) ──take──► Lent ──► call on a fiber ──► back to the pool
//!                                 └── given up, or faulted: dropped with its store
//! ```

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Weak},
    time::Instant,
};

use penstock_core::plugin::{FaultKind, OutboundBackend, PluginFault};

use super::{Instances, fault};
use crate::{
    hooks::HookContext,
    imports::outbound::Network,
    instance::Instance,
    metrics::Hook,
    revision::{Loaded, Warm},
};

/// Instances that stay when nobody uses them: enough for a steady load, and their memory is not the gateway's for ever after a burst.
const KEPT: usize = 8;

/// The instances of one revision that waits.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) revision: Weak<Loaded>,
    idle: RefCell<Vec<Warm>>,
    out: Cell<usize>,
}

/// An instance for the time of one call.
struct Lent {
    pool: Rc<Pool>,
    warm: Option<Warm>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.out.set(self.pool.out.get().saturating_sub(1));
        let mut idle = self.pool.idle.borrow_mut();
        // One whose call was given up is spent as well.
        if let Some(mut warm) = self.warm.take().filter(|warm| !warm.instance.is_spent() && idle.len() < KEPT) {
            warm.instance.state().network = None;
            idle.push(warm);
        }
    }
}

/// What the calls of one exchange may use.
pub(super) struct Allowance<'a> {
    pub(super) backends: &'a Arc<[OutboundBackend]>,
    /// Calls that it made in earlier hooks.
    pub(super) used: u32,
}

impl Instances {
    /// Run one hook of a plugin that may wait. Answers how many calls the exchange has made by then, too.
    pub(super) async fn wait<T>(
        &self,
        revision: &Arc<Loaded>,
        hook: Hook,
        allowance: Allowance<'_>,
        run: impl AsyncFnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> Result<(T, u32), PluginFault> {
        let mut lent = self.counted(revision, hook, self.lend(revision))?;
        revision.metrics.called(hook);
        let limits = revision.limits();
        let context = HookContext { plan: &revision.plan, imports: revision.imports, limits };
        let Some(warm) = &mut lent.warm else { return Err(fault(FaultKind::Unavailable, "the instance is gone")) };
        let instance = &mut warm.instance;
        instance.state().network = self.network(revision, &allowance);
        let start = Instant::now();
        let result = run(instance, context).await;
        revision.metrics.took(hook, start.elapsed());
        let left = instance.state().network.as_ref().map(|network| network.calls_left);
        if instance.is_spent() {
            revision.breaker.faulted(Instant::now());
        } else {
            revision.breaker.succeeded();
        }
        if let Err(fault) = &result {
            self.faulted(revision, hook, fault.kind);
        }
        let used = left.map_or(allowance.used, |left| limits.outbound_calls.saturating_sub(left));
        result.map(|answer| (answer, used))
    }

    fn lend(&self, revision: &Arc<Loaded>) -> Result<Lent, PluginFault> {
        self.check_breaker(revision)?;
        let pool = self.pool(revision);
        if pool.out.get() >= revision.limits().waiting as usize {
            let message = "as many exchanges wait in it on this worker as limits.waiting allows";
            return Err(fault(FaultKind::Unavailable, message));
        }
        let idle = pool.idle.borrow_mut().pop();
        let warm = idle.map_or_else(|| self.fill(revision), Ok)?;
        pool.out.set(pool.out.get() + 1);
        Ok(Lent { pool, warm: Some(warm) })
    }

    fn pool(&self, revision: &Arc<Loaded>) -> Rc<Pool> {
        let new = || Rc::new(Pool { revision: Arc::downgrade(revision), ..Pool::default() });
        Rc::clone(self.pools.borrow_mut().entry(revision.id()).or_insert_with(new))
    }

    /// None where nobody sends: every call answers that there is no network.
    fn network(&self, revision: &Loaded, allowance: &Allowance<'_>) -> Option<Network> {
        let client = Arc::clone(self.client.get()?);
        Some(Network {
            client,
            backends: Arc::clone(allowance.backends),
            until: Instant::now() + revision.limits().wall_time,
            calls_left: revision.limits().outbound_calls.saturating_sub(allowance.used),
            metrics: Arc::clone(&revision.metrics),
        })
    }
}
