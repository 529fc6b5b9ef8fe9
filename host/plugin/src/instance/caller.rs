//! Calls into one store: the limit of CPU time, what an error means, and that nothing is called after one.
//!
//! ```text
//! call            imports that may wait ──► on a fiber, which may wait        no such import ──► a plain call
//! call_at_once    imports that may wait ──► on a fiber, which may not wait    no such import ──► a plain call
//! ```

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use penstock_core::plugin::{FaultKind, PluginFault};
use wasmtime::{
    Engine, Store, Trap,
    component::{ComponentNamedList, Instance, InstancePre, Lift, Lower, ResourceAny, TypedFunc},
};

use super::{InstanceState, limits::Denied};
use crate::printable::remark;

/// Bytes that one call may carry from the guest to the host: edits, replies, log lines, the manifest. Larger answers are refused before
/// they are copied: no deadline ends that. A body that the host buffers for the plugin may come back twice as large.
const HOSTCALL_BYTES: usize = 2 << 20;

/// Resources that one instance may hold, its own and the host's: the table of them is in the gateway's memory.
const HANDLES: usize = 4096;

/// A store with what all calls into it have in common.
pub(super) struct Caller {
    store: Store<InstanceState>,
    /// A call failed in the guest, or was given up.
    spent: bool,
    /// Something that it imports is asynchronous.
    on_fibers: bool,
    /// Bytes that hostcalls of the next call may carry.
    fuel: usize,
}

/// What a function of a component takes.
pub(super) trait Params: ComponentNamedList + Lower {}
impl<T: ComponentNamedList + Lower> Params for T {}

/// What a function of a component answers: one value, or none.
pub(super) trait Results: ComponentNamedList + Lift + 'static {
    type Value;
    fn value(self) -> Self::Value;
}

impl<T> Results for (T,)
where
    Self: ComponentNamedList + Lift + 'static,
{
    type Value = T;
    fn value(self) -> T {
        self.0
    }
}

impl Results for () {
    type Value = ();
    fn value(self) {}
}

impl Caller {
    pub(super) fn new(engine: &Engine, state: InstanceState, on_fibers: bool) -> Self {
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().cpu.on_tick()));
        store.set_max_component_handles(HANDLES);
        Self { store, spent: false, on_fibers, fuel: HOSTCALL_BYTES }
    }

    /// The next call may answer with a body.
    pub(super) fn with_body(&mut self) -> &mut Self {
        let body = usize::try_from(self.state().body_buffer).unwrap_or(usize::MAX);
        self.fuel = HOSTCALL_BYTES.saturating_add(body.saturating_mul(2));
        self
    }

    /// Make an instance, and run its start code.
    pub(super) fn instantiate(
        &mut self,
        component: &InstancePre<InstanceState>,
        limit: Duration,
    ) -> Result<Instance, PluginFault> {
        let on_fiber = async |store: &mut Store<_>| component.instantiate_async(store).await;
        self.run_at_once(limit, |store| component.instantiate(store), on_fiber)
    }

    /// A call that may wait, if it is on a fiber. One that is given up leaves a store that refuses all others.
    pub(super) async fn call<P: Params, R: Results>(
        &mut self,
        function: &TypedFunc<P, R>,
        params: P,
        limit: Duration,
    ) -> Result<R::Value, PluginFault> {
        let results = if self.on_fibers {
            // Apart, so that calls which are none of this do not carry its state about.
            Box::pin(self.run_on_fiber(limit, async |store| function.call_async(store, params).await)).await
        } else {
            self.run(limit, |store| function.call(store, params))
        };
        results.map(R::value)
    }

    /// A call in which nothing is waited for: there is no network.
    pub(super) fn call_at_once<P: Params, R: Results>(
        &mut self,
        function: &TypedFunc<P, R>,
        params: P,
        limit: Duration,
    ) -> Result<R::Value, PluginFault> {
        at_once(self.call(function, params, limit))
    }

    /// Drop a resource of the guest. Its destructor is the guest's code too.
    pub(super) fn drop_resource(&mut self, resource: ResourceAny, limit: Duration) -> Result<(), PluginFault> {
        let on_fiber = async |store: &mut Store<_>| resource.resource_drop_async(store).await;
        self.run_at_once(limit, |store| resource.resource_drop(store), on_fiber)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    pub(super) fn store(&mut self) -> &mut Store<InstanceState> {
        &mut self.store
    }

    pub(super) fn state(&self) -> &InstanceState {
        self.store.data()
    }

    fn run_at_once<T>(
        &mut self,
        limit: Duration,
        here: impl FnOnce(&mut Store<InstanceState>) -> wasmtime::Result<T>,
        on_fiber: impl AsyncFnOnce(&mut Store<InstanceState>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginFault> {
        if self.on_fibers { at_once(self.run_on_fiber(limit, on_fiber)) } else { self.run(limit, here) }
    }

    fn run<T>(
        &mut self,
        limit: Duration,
        code: impl FnOnce(&mut Store<InstanceState>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginFault> {
        self.begin(limit);
        let result = code(&mut self.store);
        self.judge(result)
    }

    async fn run_on_fiber<T>(
        &mut self,
        limit: Duration,
        code: impl AsyncFnOnce(&mut Store<InstanceState>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginFault> {
        self.begin(limit);
        self.spent = true;
        let result = code(&mut self.store).await;
        self.spent = false;
        self.judge(result)
    }

    fn begin(&mut self, limit: Duration) {
        let state = self.store.data_mut();
        state.cpu.reset(limit);
        let _ = state.log.take_last_words();
        // What was denied in an earlier call explains nothing of this one.
        let _ = state.memory.take_denied();
        self.store.set_epoch_deadline(1);
        self.store.set_hostcall_fuel(std::mem::replace(&mut self.fuel, HOSTCALL_BYTES));
    }

    fn judge<T>(&mut self, result: wasmtime::Result<T>) -> Result<T, PluginFault> {
        self.store.data_mut().call_ended();
        result.map_err(|error| {
            self.spent = true;
            fault(&mut self.store, &error)
        })
    }
}

/// The result of what does not wait, and of what could but has nothing to wait for.
pub(crate) fn at_once<T>(future: impl Future<Output = Result<T, PluginFault>>) -> Result<T, PluginFault> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(PluginFault { kind: FaultKind::Deadline, message: "it waits where nobody can".into() }),
    }
}

/// What kind of fault an error of wasmtime is. What was denied comes first: a guest that gets no memory traps in its own way.
#[cold]
fn fault(store: &mut Store<InstanceState>, error: &wasmtime::Error) -> PluginFault {
    if let Some(denied) = store.data_mut().memory.take_denied() {
        let kind = if matches!(denied, Denied::Spent(_)) { FaultKind::Overloaded } else { FaultKind::Memory };
        return PluginFault { kind, message: denied.to_string() };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            let limit = store.data().cpu.limit();
            PluginFault { kind: FaultKind::Deadline, message: format!("it used more than {limit:?} of CPU time") }
        }
        Some(trap) => {
            let words = store.data_mut().log.take_last_words();
            let message = words.map_or_else(|| trap.to_string(), |words| format!("it {words}"));
            PluginFault { kind: FaultKind::Trap, message }
        }
        // It may quote the guest.
        None => {
            let message = remark(&error.root_cause().to_string());
            PluginFault { kind: FaultKind::InvalidAnswer, message }
        }
    }
}
