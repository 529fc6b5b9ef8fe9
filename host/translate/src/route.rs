//! Routes: which listeners they attach to, what their rules become, what their status says. HTTPRoute and GRPCRoute differ in what their
//! rules match on and in nothing else.

mod attach;
mod backends;
mod draft;
mod filters;
mod matches;
mod resolve;

use std::{iter::Peekable, sync::Arc, vec};

use penstock_core::{ResourceRef, backend::BackendKey, route::Route};

use self::draft::RouteDraft;
use crate::{
    Status,
    endpoints::BackendRegistry,
    gateway::GatewayModel,
    plugin::PluginModel,
    resources::{GRPCRoute, HTTPRoute},
    view::{Changed, Inputs, Reads},
};

/// A route of any kind, by pointer.
#[derive(Debug, Clone)]
enum RouteObject {
    Http(Arc<HTTPRoute>),
    Grpc(Arc<GRPCRoute>),
}

impl RouteObject {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http(a), Self::Http(b)) => Arc::ptr_eq(a, b),
            (Self::Grpc(a), Self::Grpc(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn draft(&self, id: &ResourceRef) -> RouteDraft {
        match self {
            Self::Http(route) => draft::draft(id, &route.metadata, &route.spec),
            Self::Grpc(route) => draft::draft(id, &route.metadata, &route.spec),
        }
    }
}

/// What one route contributes.
#[derive(Debug, Default)]
pub(crate) struct RouteOutput {
    /// None if no parent is ours.
    pub(crate) status: Option<Arc<Status>>,
    pub(crate) attachments: Vec<Attachment>,
    /// Backends that its rules refer to, each once.
    pub(crate) backends: Vec<BackendKey>,
    /// Plugins that it brings to a Gateway by its own references.
    pub(crate) plugins: Vec<(Arc<PluginModel>, Arc<GatewayModel>)>,
}

/// A route at one listener.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) gateway: Arc<GatewayModel>,
    /// Index in the Gateway's listeners.
    pub(crate) listener: usize,
    /// Whether it counts as attached.
    pub(crate) accepted: bool,
    pub(crate) route: Arc<Route>,
}

/// Routes in order, with what they read and what came of it.
#[derive(Debug, Default)]
pub(crate) struct RouteCache(Vec<(ResourceRef, Entry)>);

#[derive(Debug)]
struct Entry {
    object: RouteObject,
    /// Depends on the object alone, so regular expressions are compiled once.
    draft: Arc<RouteDraft>,
    reads: Reads,
    output: RouteOutput,
}

impl RouteCache {
    /// Evaluate all routes, or keep what they were: both lists are ordered, so they are walked side by side.
    pub(crate) fn refresh(&mut self, inputs: &Inputs<'_>, changed: &Changed, backends: &mut BackendRegistry) {
        let mut previous = std::mem::take(&mut self.0).into_iter().peekable();
        let http = inputs.resources.http_routes.iter().map(|(id, route)| (id, RouteObject::Http(route.clone())));
        let grpc = inputs.resources.grpc_routes.iter().map(|(id, route)| (id, RouteObject::Grpc(route.clone())));
        for (id, object) in http.chain(grpc) {
            let before = take(&mut previous, id, backends);
            let entry = match before {
                Some(entry) if entry.1.object.is(&object) && entry.1.reads.hold(inputs, changed) => entry,
                before => (id.clone(), evaluate(id, object, inputs, backends, before.map(|(_, entry)| entry))),
            };
            self.0.push(entry);
        }
        previous.for_each(|(_, entry)| backends.release(&entry.output.backends));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceRef, &RouteOutput)> {
        self.0.iter().map(|(id, entry)| (id, &entry.output))
    }
}

/// The previous entry of this route; those before it are gone from the world.
fn take(
    previous: &mut Peekable<vec::IntoIter<(ResourceRef, Entry)>>,
    id: &ResourceRef,
    backends: &mut BackendRegistry,
) -> Option<(ResourceRef, Entry)> {
    while let Some((_, gone)) = previous.next_if(|(earlier, _)| earlier < id) {
        backends.release(&gone.output.backends);
    }
    previous.next_if(|(same, _)| same == id)
}

fn evaluate(
    id: &ResourceRef,
    object: RouteObject,
    inputs: &Inputs<'_>,
    backends: &mut BackendRegistry,
    before: Option<Entry>,
) -> Entry {
    let draft = match &before {
        Some(before) if before.object.is(&object) => before.draft.clone(),
        _ => Arc::new(object.draft(id)),
    };
    let view = inputs.view();
    let mut output = resolve::resolve(&view, &draft, backends);
    backends.retain(&output.backends);
    if let Some(before) = before {
        backends.release(&before.output.backends);
        if before.output.status == output.status {
            output.status = before.output.status; // the same allocation: there is nothing to write
        }
    }
    Entry { object, draft, reads: view.into_reads(), output }
}
