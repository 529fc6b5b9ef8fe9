//! The functions of the contract that a component exports, typed and looked up once for each instance.

use penstock_core::plugin::Direction;
use wasmtime::{
    Store,
    component::{Component, ComponentExportIndex, Instance, ResourceAny, TypedFunc},
};

use super::{InstanceState, TemplateError};
use crate::contract::{
    EXCHANGE_POLICY, HEADER_POLICY, LIFECYCLE, ROUTE_POLICY,
    types::{BodyVerdict, Choice, Field, HeaderRef, Manifest, Plan, Problem, Summary, TrailersVerdict, Verdict},
};

/// Which of the contract's worlds a component belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// `policy`: header hooks alone.
    Header,
    /// `streaming-policy`: all hooks, with a resource for each exchange.
    Streaming,
    /// `route`: chooses among the backends of a rule.
    Route,
}

#[derive(Clone, Copy)]
pub(super) struct ExportIndices {
    describe: ComponentExportIndex,
    configure: ComponentExportIndex,
    self_test: ComponentExportIndex,
    hooks: HookIndices,
}

#[derive(Clone, Copy)]
enum HookIndices {
    Header { on_request: ComponentExportIndex, on_response: ComponentExportIndex },
    Streaming(StreamingIndices),
    Route { choose: ComponentExportIndex },
}

#[derive(Clone, Copy)]
struct StreamingIndices {
    constructor: ComponentExportIndex,
    on_request: ComponentExportIndex,
    on_response: ComponentExportIndex,
    body: [ComponentExportIndex; 2],
    trailers: [ComponentExportIndex; 2],
    end: ComponentExportIndex,
}

impl ExportIndices {
    pub(super) fn find(component: &Component) -> Result<Self, TemplateError> {
        let find = |interface: &'static str, function: &'static str| {
            let instance = component.get_export_index(None, interface);
            instance
                .and_then(|instance| component.get_export_index(Some(&instance), function))
                .ok_or(TemplateError::Export { interface, function })
        };
        let describe = find(LIFECYCLE, "describe")?;
        let configure = find(LIFECYCLE, "configure")?;
        let self_test = find(LIFECYCLE, "self-test")?;
        let hooks = if component.get_export_index(None, EXCHANGE_POLICY).is_some() {
            let find = |function| find(EXCHANGE_POLICY, function);
            HookIndices::Streaming(StreamingIndices {
                constructor: find("[constructor]exchange")?,
                on_request: find("[method]exchange.on-request")?,
                on_response: find("[method]exchange.on-response")?,
                body: [find("[method]exchange.on-request-body")?, find("[method]exchange.on-response-body")?],
                trailers: [
                    find("[method]exchange.on-request-trailers")?,
                    find("[method]exchange.on-response-trailers")?,
                ],
                end: find("[static]exchange.end")?,
            })
        } else if component.get_export_index(None, ROUTE_POLICY).is_some() {
            HookIndices::Route { choose: find(ROUTE_POLICY, "choose")? }
        } else {
            HookIndices::Header {
                on_request: find(HEADER_POLICY, "on-request")?,
                on_response: find(HEADER_POLICY, "on-response")?,
            }
        };
        Ok(Self { describe, configure, self_test, hooks })
    }

    pub(super) fn world(&self) -> World {
        match self.hooks {
            HookIndices::Header { .. } => World::Header,
            HookIndices::Streaming(_) => World::Streaming,
            HookIndices::Route { .. } => World::Route,
        }
    }
}

pub(super) struct Exports {
    pub(super) describe: TypedFunc<(), (Manifest,)>,
    pub(super) configure: TypedFunc<(&'static str,), (Result<Plan, Vec<Problem>>,)>,
    pub(super) self_test: TypedFunc<(), (Result<(), String>,)>,
    pub(super) hooks: Hooks,
}

/// The hooks of one world.
pub(super) enum Hooks {
    Header {
        on_request: TypedFunc<(&'static [Field<'static>],), (Verdict,)>,
        on_response: TypedFunc<(u64, u16, &'static [Field<'static>]), (Verdict,)>,
    },
    Streaming(Box<StreamingExports>),
    Route {
        choose: TypedFunc<(u64, &'static [Field<'static>]), (Choice,)>,
    },
}

type BodyHook = TypedFunc<(ResourceAny, &'static [u8], bool), (BodyVerdict,)>;
type TrailersHook = TypedFunc<(ResourceAny, &'static [HeaderRef<'static>]), (TrailersVerdict,)>;

/// Methods of the resource `exchange`. What exists in both directions stands in the order of [`index`].
pub(super) struct StreamingExports {
    pub(super) constructor: TypedFunc<(), (ResourceAny,)>,
    pub(super) on_request: TypedFunc<(ResourceAny, &'static [Field<'static>]), (Verdict,)>,
    pub(super) on_response: TypedFunc<(ResourceAny, u16, &'static [Field<'static>]), (Verdict,)>,
    pub(super) body: [BodyHook; 2],
    pub(super) trailers: [TrailersHook; 2],
    pub(super) end: TypedFunc<(ResourceAny, Summary<'static>), ()>,
}

pub(super) const fn index(direction: Direction) -> usize {
    match direction {
        Direction::Request => 0,
        Direction::Response => 1,
    }
}

impl Exports {
    pub(super) fn load(
        instance: &Instance,
        store: &mut Store<InstanceState>,
        indices: &ExportIndices,
    ) -> wasmtime::Result<Self> {
        let hooks = match &indices.hooks {
            HookIndices::Header { on_request, on_response } => Hooks::Header {
                on_request: instance.get_typed_func(&mut *store, on_request)?,
                on_response: instance.get_typed_func(&mut *store, on_response)?,
            },
            HookIndices::Streaming(indices) => {
                Hooks::Streaming(Box::new(StreamingExports::load(instance, store, indices)?))
            }
            HookIndices::Route { choose } => Hooks::Route { choose: instance.get_typed_func(&mut *store, choose)? },
        };
        Ok(Self {
            describe: instance.get_typed_func(&mut *store, indices.describe)?,
            configure: instance.get_typed_func(&mut *store, indices.configure)?,
            self_test: instance.get_typed_func(&mut *store, indices.self_test)?,
            hooks,
        })
    }
}

impl StreamingExports {
    fn load(
        instance: &Instance,
        store: &mut Store<InstanceState>,
        indices: &StreamingIndices,
    ) -> wasmtime::Result<Self> {
        let [request_body, response_body] = &indices.body;
        let [request_trailers, response_trailers] = &indices.trailers;
        Ok(Self {
            constructor: instance.get_typed_func(&mut *store, indices.constructor)?,
            on_request: instance.get_typed_func(&mut *store, indices.on_request)?,
            on_response: instance.get_typed_func(&mut *store, indices.on_response)?,
            body: [
                instance.get_typed_func(&mut *store, request_body)?,
                instance.get_typed_func(&mut *store, response_body)?,
            ],
            trailers: [
                instance.get_typed_func(&mut *store, request_trailers)?,
                instance.get_typed_func(&mut *store, response_trailers)?,
            ],
            end: instance.get_typed_func(&mut *store, indices.end)?,
        })
    }
}
