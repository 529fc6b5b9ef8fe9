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

use std::time::Duration;

use penstock_core::plugin::{FaultKind, PluginFault};
use wasmtime::{
    Store, Trap,
    component::{Component, ComponentNamedList, InstancePre, Lift, Linker, Lower, TypedFunc},
};

use self::exports::{ExportIndices, Exports, Hooks};
pub(crate) use self::{
    exports::World,
    state::{ExchangeView, InstanceState, LentRequest, RequestView},
    streaming::ExchangeHandle,
};
use crate::{
    contract::types::{Choice, Field, Manifest, Plan, Problem, Verdict},
    engine::{Ticking, TickingEngine},
};

/// Bytes that one call may carry from the guest to the host: edits, replies, log lines, the manifest. Larger answers are refused before
/// they are copied. A body that the host buffers for the plugin may come back twice as large.
const HOSTCALL_BYTES: usize = 2 << 20;

/// What instances of a module are made from: the component with its imports resolved. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Template {
    engine: TickingEngine,
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
    ) -> Result<Self, TemplateError> {
        let pre = linker.instantiate_pre(component).map_err(TemplateError::Import)?;
        Ok(Self { engine, pre, exports: ExportIndices::find(component)? })
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
        let instance = self.pre.instantiate(&mut store).map_err(|error| fault(&mut store, &error))?;
        let exports = Exports::load(&instance, &mut store, &self.exports).map_err(InstantiateError::Export)?;
        Ok(Instance { store, exports, spent: false, _ticking: ticking })
    }
}

/// A live store. Every call has a limit of CPU time; after an `Err` no call succeeds any more.
pub(crate) struct Instance {
    store: Store<InstanceState>,
    exports: Exports,
    spent: bool,
    _ticking: Ticking,
}

impl Instance {
    pub(crate) fn describe(&mut self, limit: Duration) -> Result<Manifest, PluginFault> {
        call(&mut self.store, &mut self.spent, &self.exports.describe, (), limit)
    }

    pub(crate) fn configure(
        &mut self,
        config: &str,
        limit: Duration,
    ) -> Result<Result<Plan, Vec<Problem>>, PluginFault> {
        self.store.data_mut().configuring = true;
        let answer = call(&mut self.store, &mut self.spent, &self.exports.configure, (config,), limit);
        self.store.data_mut().configuring = false;
        answer
    }

    pub(crate) fn self_test(&mut self, limit: Duration) -> Result<Result<(), String>, PluginFault> {
        call(&mut self.store, &mut self.spent, &self.exports.self_test, (), limit)
    }

    pub(crate) fn on_request(&mut self, fields: &[Field<'_>], limit: Duration) -> Result<Verdict, PluginFault> {
        let Hooks::Header { on_request, .. } = &self.exports.hooks else { return Err(not_of_this_world()) };
        call(&mut self.store, &mut self.spent, on_request, (fields,), limit)
    }

    pub(crate) fn on_response(
        &mut self,
        token: u64,
        status: u16,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let Hooks::Header { on_response, .. } = &self.exports.hooks else { return Err(not_of_this_world()) };
        call(&mut self.store, &mut self.spent, on_response, (token, status, fields), limit)
    }

    pub(crate) fn choose(&mut self, rule: u64, fields: &[Field<'_>], limit: Duration) -> Result<Choice, PluginFault> {
        let Hooks::Route { choose } = &self.exports.hooks else { return Err(not_of_this_world()) };
        call(&mut self.store, &mut self.spent, choose, (rule, fields), limit)
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

fn call<P, R>(
    store: &mut Store<InstanceState>,
    spent: &mut bool,
    function: &TypedFunc<P, (R,)>,
    params: P,
    limit: Duration,
) -> Result<R, PluginFault>
where
    P: ComponentNamedList + Lower,
    (R,): ComponentNamedList + Lift,
{
    begin(store, limit);
    match function.call(&mut *store, params) {
        Ok((answer,)) => Ok(answer),
        Err(error) => {
            *spent = true;
            Err(fault(store, &error))
        }
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
