//! One live store with one component instance in it: the unit of faults.
//!
//! ```text
//! Template (shared, per revision)  ──instantiate──►  Instance (one thread at a time)
//!   component + linked imports                         store, typed functions, limits
//! ```
//!
//! After a trap the whole store refuses every call, so an [`Instance`] that answered with a fault is dropped by its owner. Making a new one
//! costs some microseconds and the plugin's own `configure`.

mod caller;
mod exports;
mod limits;
mod state;
mod streaming;

use std::{sync::Arc, time::Duration};

use penstock_core::plugin::{FaultKind, PluginFault};
use wasmtime::component::{Component, InstancePre, Linker};

use self::{
    caller::Caller,
    exports::{ExportIndices, Exports, Hooks},
};
pub(crate) use self::{
    caller::at_once,
    exports::World,
    limits::{MOST_INSTANCES, thread_cpu_time},
    state::{ExchangeView, InstanceState, LentRequest, RequestView},
    streaming::ExchangeHandle,
};
use crate::{
    contract::{
        WASI,
        types::{Choice, Field, Manifest, Plan, Problem, Verdict},
    },
    engine::{Ticking, TickingEngine},
};

/// What instances of a module are made from: the component with its imports resolved. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Template {
    engine: TickingEngine,
    /// What it imports may wait, here or elsewhere: it is called on fibers.
    on_fibers: bool,
    waits: bool,
    pre: InstancePre<InstanceState>,
    exports: ExportIndices,
    /// Says that it is in use.
    _compiled: Arc<Component>,
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
    /// Resolve the imports of `component` with what `linker` offers; of some of them calls may wait.
    pub(crate) fn new(
        engine: TickingEngine,
        component: &Arc<Component>,
        linker: &Linker<InstanceState>,
        may_wait: impl Fn(&str) -> bool,
    ) -> Result<Self, TemplateError> {
        let pre = linker.instantiate_pre(component).map_err(TemplateError::Import)?;
        let exports = ExportIndices::find(component)?;
        let kind = component.component_type();
        let waits = kind.imports(engine.engine()).any(|(name, _)| may_wait(name));
        let on_fibers = waits || kind.imports(engine.engine()).any(|(name, _)| name.starts_with(WASI));
        Ok(Self { on_fibers, waits, engine, pre, exports, _compiled: Arc::clone(component) })
    }

    /// Whether its instances may wait in an imported call.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// What the component exports.
    pub(crate) fn world(&self) -> World {
        self.exports.world()
    }

    /// Make an instance. Its start code, if any, runs within `limit` of CPU time.
    pub(crate) fn instantiate(&self, mut state: InstanceState, limit: Duration) -> Result<Instance, InstantiateError> {
        let ticking = self.engine.tick();
        state.memory.share(state.stores.memory().clone());
        let mut caller = Caller::new(self.engine.engine(), state, self.on_fibers);
        let instance = caller.instantiate(&self.pre, limit)?;
        let exports = Exports::load(&instance, caller.store(), &self.exports).map_err(InstantiateError::Export)?;
        Ok(Instance { caller, exports, _ticking: ticking })
    }
}

/// A live store. Every call has a limit of CPU time; after an `Err` no call succeeds any more.
pub(crate) struct Instance {
    caller: Caller,
    exports: Exports,
    _ticking: Ticking,
}

impl Instance {
    pub(crate) fn describe(&mut self, limit: Duration) -> Result<Manifest, PluginFault> {
        self.caller.call_at_once(&self.exports.describe, (), limit)
    }

    pub(crate) fn configure(
        &mut self,
        config: &str,
        limit: Duration,
    ) -> Result<Result<Plan, Vec<Problem>>, PluginFault> {
        self.state().configuring = true;
        let answer = self.caller.call_at_once(&self.exports.configure, (config,), limit);
        self.state().configuring = false;
        answer
    }

    pub(crate) fn self_test(&mut self, limit: Duration) -> Result<Result<(), String>, PluginFault> {
        self.caller.call_at_once(&self.exports.self_test, (), limit)
    }

    pub(crate) async fn on_request(&mut self, fields: &[Field<'_>], limit: Duration) -> Result<Verdict, PluginFault> {
        let Hooks::Header { on_request, .. } = &self.exports.hooks else { return Err(not_of_this_world()) };
        self.caller.call(on_request, (fields,), limit).await
    }

    pub(crate) async fn on_response(
        &mut self,
        token: u64,
        status: u16,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let Hooks::Header { on_response, .. } = &self.exports.hooks else { return Err(not_of_this_world()) };
        self.caller.call(on_response, (token, status, fields), limit).await
    }

    pub(crate) async fn choose(
        &mut self,
        rule: u64,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Choice, PluginFault> {
        let Hooks::Route { choose } = &self.exports.hooks else { return Err(not_of_this_world()) };
        self.caller.call(choose, (rule, fields), limit).await
    }

    /// Whether a call failed in the guest: the store refuses every further call.
    pub(crate) fn is_spent(&self) -> bool {
        self.caller.is_spent()
    }

    /// Linear memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.caller.state().memory_used()
    }

    /// What imported functions see and keep.
    pub(crate) fn state(&mut self) -> &mut InstanceState {
        self.caller.store().data_mut()
    }
}

/// Plans name only hooks that their world has, so nobody gets here.
#[cold]
fn not_of_this_world() -> PluginFault {
    PluginFault { kind: FaultKind::Unavailable, message: "the component does not export this hook".into() }
}
