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
#[derive(Debug)]
enum RouteObject {
    Http(Arc<HTTPRoute>),
    Grpc(Arc<GRPCRoute>),
}

/// The same, borrowed: a pass over thousands of routes must not touch thousands of reference counts.
#[derive(Clone, Copy)]
enum RouteObjectRef<'a> {
    Http(&'a Arc<HTTPRoute>),
    Grpc(&'a Arc<GRPCRoute>),
}

impl RouteObjectRef<'_> {
    fn is(self, other: &RouteObject) -> bool {
        match (self, other) {
            (Self::Http(a), RouteObject::Http(b)) => Arc::ptr_eq(a, b),
            (Self::Grpc(a), RouteObject::Grpc(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn to_owned(self) -> RouteObject {
        match self {
            Self::Http(route) => RouteObject::Http(route.clone()),
            Self::Grpc(route) => RouteObject::Grpc(route.clone()),
        }
    }

    fn draft(self, id: &ResourceRef) -> RouteDraft {
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

/// The status of a route became another one, or there is none any more.
pub(crate) type StatusChange = (ResourceRef, Option<Arc<Status>>);

impl RouteCache {
    /// Evaluate all routes, or keep what they were: both lists are ordered, so they are walked side by side. Returns whose status changed.
    pub(crate) fn refresh(
        &mut self,
        inputs: &Inputs<'_>,
        changed: &Changed,
        backends: &mut BackendRegistry,
    ) -> Vec<StatusChange> {
        let mut changes = Vec::new();
        let mut previous = std::mem::take(&mut self.0).into_iter().peekable();
        let http = inputs.resources.http_routes.iter().map(|(id, route)| (id, RouteObjectRef::Http(route)));
        let grpc = inputs.resources.grpc_routes.iter().map(|(id, route)| (id, RouteObjectRef::Grpc(route)));
        for (id, object) in http.chain(grpc) {
            let mut gone = |id, entry: Entry| {
                backends.release(&entry.output.backends);
                changes.push((id, None));
            };
            let before = take(&mut previous, id, &mut gone);
            let entry = match before {
                Some(entry) if object.is(&entry.1.object) && entry.1.reads.hold(inputs, changed) => entry,
                before => {
                    let before = before.map(|(_, entry)| entry);
                    let status = before.as_ref().and_then(|before| before.output.status.clone());
                    let entry = evaluate(id, object, inputs, backends, before);
                    if entry.output.status != status {
                        changes.push((id.clone(), entry.output.status.clone()));
                    }
                    (id.clone(), entry)
                }
            };
            self.0.push(entry);
        }
        for (id, entry) in previous {
            backends.release(&entry.output.backends);
            changes.push((id, None));
        }
        changes
    }

    pub(crate) fn outputs(&self) -> impl Iterator<Item = &RouteOutput> {
        self.0.iter().map(|(_, entry)| &entry.output)
    }
}

/// The previous entry of this route; those before it are gone from the world.
fn take(
    previous: &mut Peekable<vec::IntoIter<(ResourceRef, Entry)>>,
    id: &ResourceRef,
    gone: &mut impl FnMut(ResourceRef, Entry),
) -> Option<(ResourceRef, Entry)> {
    // Mostly it is the very same key, which is quicker to see than that it is an equal one.
    let same = |key: &ResourceRef| Arc::ptr_eq(&key.name, &id.name) && Arc::ptr_eq(&key.namespace, &id.namespace);
    while let Some((key, entry)) = previous.next_if(|(key, _)| !same(key) && key < id) {
        gone(key, entry);
    }
    previous.next_if(|(key, _)| same(key) || key == id)
}

fn evaluate(
    id: &ResourceRef,
    object: RouteObjectRef<'_>,
    inputs: &Inputs<'_>,
    backends: &mut BackendRegistry,
    before: Option<Entry>,
) -> Entry {
    let draft = match &before {
        Some(before) if object.is(&before.object) => before.draft.clone(),
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
    Entry { object: object.to_owned(), draft, reads: view.into_reads(), output }
}
