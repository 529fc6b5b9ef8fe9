//! One live store with one component instance in it: the unit of faults.
//!
//! ```text
//! Template (shared, per revision)  ──instantiate──►  Instance (one thread at a time)
//!   component + linked imports                         store, typed functions, limits
//! ```
//!
//! After a trap the whole store refuses every call, so an [`Instance`] that answered with a fault is dropped by its owner. Making a new one
//! costs some microseconds and the plugin's own `configure`.

mod exports;
mod limits;
mod state;
mod streaming;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use penstock_core::plugin::{FaultKind, PluginFault};
use wasmtime::{
    Store, Trap,
    component::{Component, ComponentNamedList, InstancePre, Lift, Linker, Lower, TypedFunc},
};

use self::exports::{ExportIndices, Exports, Hooks};
pub(crate) use self::{
    exports::World,
    limits::thread_cpu_time,
    state::{ExchangeView, InstanceState, LentRequest, RequestView},
    streaming::ExchangeHandle,
};
use crate::{
    contract::{
        OUTBOUND_HTTP,
        types::{Choice, Field, Manifest, Plan, Problem, Verdict},
    },
    engine::{Ticking, TickingEngine},
    imports::Purpose,
};

/// Bytes that one call may carry from the guest to the host: edits, replies, log lines, the manifest. Larger answers are refused before
/// they are copied. A body that the host buffers for the plugin may come back twice as large.
const HOSTCALL_BYTES: usize = 2 << 20;

/// What instances of a module are made from: the component with its imports resolved. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Template {
    engine: TickingEngine,
    waits: bool,
    pre: InstancePre<InstanceState>,
    exports: ExportIndices,
}

/// Why a component is no plugin for this host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    /// An import has another type than the host's, or is missing.
    #[error("an import does not fit")]
    Import(#[source] wasmtime::Error),
    /// An export is missing.
    #[error("`{interface}` has no function `{function}`")]
    Export { interface: &'static str, function: &'static str },
}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstantiateError {
    /// The start code of the component faulted.
    #[error(transparent)]
    Fault(#[from] PluginFault),
    /// An export has another type than the contract's.
    #[error("an export does not fit")]
    Export(#[source] wasmtime::Error),
}

impl Template {
    /// Resolve the imports of `component` with what `linker` offers.
    pub(crate) fn new(
        engine: TickingEngine,
        component: &Component,
        linker: &Linker<InstanceState>,
        purpose: Purpose,
    ) -> Result<Self, TemplateError> {
        let pre = linker.instantiate_pre(component).map_err(TemplateError::Import)?;
        let exports = ExportIndices::find(component)?;
        let may_wait = component.component_type().imports(engine.engine()).any(|(name, _)| name == OUTBOUND_HTTP);
        Ok(Self { waits: may_wait && purpose == Purpose::Traffic, engine, pre, exports })
    }

    /// Whether its instances may wait in an imported call. Those are called on fibers.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// What the component exports.
    pub(crate) fn world(&self) -> World {
        self.exports.world()
    }

    /// Make an instance. Its start code, if any, runs within `limit` of CPU time.
    pub(crate) fn instantiate(&self, state: InstanceState, limit: Duration) -> Result<Instance, InstantiateError> {
        let ticking = self.engine.tick();
        let mut store = Store::new(self.engine.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().cpu.on_tick()));
        let body = usize::try_from(store.data().body_buffer).unwrap_or(usize::MAX);
        store.set_hostcall_fuel(HOSTCALL_BYTES.saturating_add(body.saturating_mul(2)));
        begin(&mut store, limit);
        let instance = match self.waits {
            false => self.pre.instantiate(&mut store).map_err(|error| fault(&mut store, &error))?,
            true => at_once(async {
                let made = self.pre.instantiate_async(&mut store).await;
                made.map_err(|error| fault(&mut store, &error))
            })?,
        };
        let exports = Exports::load(&instance, &mut store, &self.exports).map_err(InstantiateError::Export)?;
        Ok(Instance { store, exports, spent: false, waits: self.waits, _ticking: ticking })
    }
}

/// A live store. Every call has a limit of CPU time; after an `Err` no call succeeds any more.
pub(crate) struct Instance {
    store: Store<InstanceState>,
    exports: Exports,
    spent: bool,
    waits: bool,
    _ticking: Ticking,
}

impl Instance {
    pub(crate) fn describe(&mut self, limit: Duration) -> Result<Manifest, PluginFault> {
        call((&mut self.store, &mut self.spent, self.waits), &self.exports.describe, (), limit)
    }

    pub(crate) fn configure(
        &mut self,
        config: &str,
        limit: Duration,
    ) -> Result<Result<Plan, Vec<Problem>>, PluginFault> {
        self.store.data_mut().configuring = true;
        let answer = call((&mut self.store, &mut self.spent, self.waits), &self.exports.configure, (config,), limit);
        self.store.data_mut().configuring = false;
        answer
    }

    pub(crate) fn self_test(&mut self, limit: Duration) -> Result<Result<(), String>, PluginFault> {
        call((&mut self.store, &mut self.spent, self.waits), &self.exports.self_test, (), limit)
    }

    pub(crate) fn on_request(&mut self, fields: &[Field<'_>], limit: Duration) -> Result<Verdict, PluginFault> {
        let Hooks::Header { on_request, .. } = &self.exports.hooks else { return Err(not_of_this_world()) };
        call((&mut self.store, &mut self.spent, self.waits), on_request, (fields,), limit)
    }

    pub(crate) fn on_response(
        &mut self,
        token: u64,
        status: u16,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let Hooks::Header { on_response, .. } = &self.exports.hooks else { return Err(not_of_this_world()) };
        call((&mut self.store, &mut self.spent, self.waits), on_response, (token, status, fields), limit)
    }

    pub(crate) fn choose(&mut self, rule: u64, fields: &[Field<'_>], limit: Duration) -> Result<Choice, PluginFault> {
        let Hooks::Route { choose } = &self.exports.hooks else { return Err(not_of_this_world()) };
        call((&mut self.store, &mut self.spent, self.waits), choose, (rule, fields), limit)
    }

    /// [`Self::on_request`], which may wait.
    pub(crate) async fn on_request_waiting(
        &mut self,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let Hooks::Header { on_request, .. } = &self.exports.hooks else { return Err(not_of_this_world()) };
        wait((&mut self.store, &mut self.spent, true), on_request, (fields,), limit).await
    }

    /// [`Self::on_response`], which may wait.
    pub(crate) async fn on_response_waiting(
        &mut self,
        token: u64,
        status: u16,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let Hooks::Header { on_response, .. } = &self.exports.hooks else { return Err(not_of_this_world()) };
        wait((&mut self.store, &mut self.spent, true), on_response, (token, status, fields), limit).await
    }

    /// [`Self::choose`], which may wait.
    pub(crate) async fn choose_waiting(
        &mut self,
        rule: u64,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Choice, PluginFault> {
        let Hooks::Route { choose } = &self.exports.hooks else { return Err(not_of_this_world()) };
        wait((&mut self.store, &mut self.spent, true), choose, (rule, fields), limit).await
    }

    /// Whether a call failed in the guest: the store refuses every further call.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Linear memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.store.data().memory_used()
    }

    /// What imported functions see and keep.
    pub(crate) fn state(&mut self) -> &mut InstanceState {
        self.store.data_mut()
    }
}

fn begin(store: &mut Store<InstanceState>, limit: Duration) {
    store.data_mut().cpu.reset(limit);
    store.set_epoch_deadline(1);
}

/// What a call changes of an instance, and whether it must be made on a fiber.
type Parts<'a> = (&'a mut Store<InstanceState>, &'a mut bool, bool);

/// A call in which nothing is waited for: there is no network.
fn call<P, R>(
    (store, spent, waits): Parts<'_>,
    function: &TypedFunc<P, (R,)>,
    params: P,
    limit: Duration,
) -> Result<R, PluginFault>
where
    P: ComponentNamedList + Lower,
    (R,): ComponentNamedList + Lift + 'static,
{
    if waits {
        return at_once(wait((store, spent, true), function, params, limit));
    }
    begin(store, limit);
    match function.call(&mut *store, params) {
        Ok((answer,)) => Ok(answer),
        Err(error) => {
            *spent = true;
            Err(fault(store, &error))
        }
    }
}

/// A call on a fiber where the store wants that, which may wait; any other answers at once.
async fn answered<P, R>(
    parts: Parts<'_>,
    function: &TypedFunc<P, (R,)>,
    params: P,
    limit: Duration,
) -> Result<R, PluginFault>
where
    P: ComponentNamedList + Lower,
    (R,): ComponentNamedList + Lift + 'static,
{
    if parts.2 { wait(parts, function, params, limit).await } else { call(parts, function, params, limit) }
}

/// A call that may wait. One that is given up leaves a store that refuses all others.
async fn wait<P, R>(
    (store, spent, _): Parts<'_>,
    function: &TypedFunc<P, (R,)>,
    params: P,
    limit: Duration,
) -> Result<R, PluginFault>
where
    P: ComponentNamedList + Lower,
    (R,): ComponentNamedList + Lift + 'static,
{
    begin(store, limit);
    *spent = true;
    match function.call_async(&mut *store, params).await {
        Ok((answer,)) => {
            *spent = false;
            Ok(answer)
        }
        Err(error) => Err(fault(store, &error)),
    }
}

/// The result of what does not wait, and of what could but has nothing to wait for.
pub(crate) fn at_once<T>(future: impl Future<Output = Result<T, PluginFault>>) -> Result<T, PluginFault> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(PluginFault { kind: FaultKind::Deadline, message: "it waits where nobody can".into() }),
    }
}

/// Plans name only hooks that their world has, so nobody gets here.
#[cold]
fn not_of_this_world() -> PluginFault {
    PluginFault { kind: FaultKind::Unavailable, message: "the component does not export this hook".into() }
}

/// What kind of fault an error of wasmtime is. What was denied comes first: a guest that gets no memory traps in its own way.
#[cold]
fn fault(store: &mut Store<InstanceState>, error: &wasmtime::Error) -> PluginFault {
    if let Some(denied) = store.data_mut().memory.take_denied() {
        return PluginFault { kind: FaultKind::Memory, message: denied.to_string() };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            let limit = store.data().cpu.limit();
            PluginFault { kind: FaultKind::Deadline, message: format!("it used more than {limit:?} of CPU time") }
        }
        Some(trap) => PluginFault { kind: FaultKind::Trap, message: trap.to_string() },
        None => PluginFault { kind: FaultKind::InvalidAnswer, message: error.root_cause().to_string() },
    }
}
