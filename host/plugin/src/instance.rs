//! One live store with one component instance in it: the unit of faults.
//!
//! ```text
//! Template (shared, per revision)  ──instantiate──►  Instance (one thread at a time)
//!   component + linked imports                         store, typed functions, limits
//! ```
//!
//! After a trap the whole store refuses every call, so an [`Instance`] that answered with a fault is dropped by its owner. Making a new one
//! costs some microseconds and the plugin's own `configure`.

mod limits;
mod state;

use std::time::Duration;

use penstock_core::plugin::{FaultKind, PluginFault};
use wasmtime::{
    Store, Trap,
    component::{
        Component, ComponentExportIndex, ComponentNamedList, Instance as WasmInstance, InstancePre, Lift, Linker,
        Lower, TypedFunc,
    },
};

pub(crate) use self::state::{ExchangeView, InstanceState, LentRequest, RequestView};
use crate::{
    contract::{
        HEADER_POLICY, LIFECYCLE,
        types::{Field, Manifest, Plan, Problem, Verdict},
    },
    engine::{Ticking, TickingEngine},
};

/// Bytes that one call may carry from the guest to the host: edits, replies, log lines, the manifest. Larger answers are refused before
/// they are copied.
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

#[derive(Clone, Copy)]
struct ExportIndices {
    describe: ComponentExportIndex,
    configure: ComponentExportIndex,
    self_test: ComponentExportIndex,
    on_request: ComponentExportIndex,
    on_response: ComponentExportIndex,
}

impl ExportIndices {
    fn find(component: &Component) -> Result<Self, TemplateError> {
        let find = |interface: &'static str, function: &'static str| {
            let instance = component.get_export_index(None, interface);
            instance
                .and_then(|instance| component.get_export_index(Some(&instance), function))
                .ok_or(TemplateError::Export { interface, function })
        };
        Ok(Self {
            describe: find(LIFECYCLE, "describe")?,
            configure: find(LIFECYCLE, "configure")?,
            self_test: find(LIFECYCLE, "self-test")?,
            on_request: find(HEADER_POLICY, "on-request")?,
            on_response: find(HEADER_POLICY, "on-response")?,
        })
    }
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

    /// Make an instance. Its start code, if any, runs within `limit` of CPU time.
    pub(crate) fn instantiate(&self, state: InstanceState, limit: Duration) -> Result<Instance, InstantiateError> {
        let ticking = self.engine.tick();
        let mut store = Store::new(self.engine.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().cpu.on_tick()));
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        begin(&mut store, limit);
        let instance = self.pre.instantiate(&mut store).map_err(|error| fault(&mut store, &error))?;
        let exports = Exports::load(&instance, &mut store, &self.exports).map_err(InstantiateError::Export)?;
        Ok(Instance { store, exports, spent: false, _ticking: ticking })
    }
}

/// The functions of the contract, typed and looked up once.
struct Exports {
    describe: TypedFunc<(), (Manifest,)>,
    configure: TypedFunc<(&'static str,), (Result<Plan, Vec<Problem>>,)>,
    self_test: TypedFunc<(), (Result<(), String>,)>,
    on_request: TypedFunc<(&'static [Field<'static>],), (Verdict,)>,
    on_response: TypedFunc<(u64, u16, &'static [Field<'static>]), (Verdict,)>,
}

impl Exports {
    fn load(
        instance: &WasmInstance,
        store: &mut Store<InstanceState>,
        indices: &ExportIndices,
    ) -> wasmtime::Result<Self> {
        Ok(Self {
            describe: instance.get_typed_func(&mut *store, indices.describe)?,
            configure: instance.get_typed_func(&mut *store, indices.configure)?,
            self_test: instance.get_typed_func(&mut *store, indices.self_test)?,
            on_request: instance.get_typed_func(&mut *store, indices.on_request)?,
            on_response: instance.get_typed_func(&mut *store, indices.on_response)?,
        })
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
        call(&mut self.store, &mut self.spent, &self.exports.on_request, (fields,), limit)
    }

    pub(crate) fn on_response(
        &mut self,
        token: u64,
        status: u16,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        call(&mut self.store, &mut self.spent, &self.exports.on_response, (token, status, fields), limit)
    }

    /// Whether a call failed in the guest: the store refuses every further call.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
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
