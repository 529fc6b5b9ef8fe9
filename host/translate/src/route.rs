//! Routes: which listeners they attach to, what their rules become, what their status says. HTTPRoute and GRPCRoute differ in what their
//! rules match on and in nothing else. An Ingress is read by its own module, and from then on it is a route among others.

mod attach;
mod backends;
mod draft;
mod filters;
mod matches;
mod overlap;
mod resolve;

use std::{iter::Peekable, sync::Arc, vec};

use penstock_core::{ResourceRef, backend::BackendKey, route::Route};
use rustc_hash::FxHashSet;

pub(crate) use self::{
    attach::parent,
    backends::{Found, Referrer, find, find_for_plugin},
};
use self::{
    draft::RouteDraft,
    overlap::{Claim, OverlapIndex},
};
use crate::{
    Condition, Status,
    backend_tls::ServiceTls,
    endpoints::BackendRegistry,
    gateway::GatewayModel,
    ingress::{self, IngressDraft},
    plugin::{PluginModel, RouteUse},
    problem::Conditions,
    resources::{GRPCRoute, HTTPRoute, Ingress},
    status::RouteStatus,
    view::{Changed, Inputs, Reads, View},
};

/// A route of any kind, by pointer.
#[derive(Debug)]
enum RouteObject {
    Http(Arc<HTTPRoute>),
    Grpc(Arc<GRPCRoute>),
    Ingress(Arc<Ingress>),
}

/// The same, borrowed: a pass over thousands of routes must not touch thousands of reference counts.
#[derive(Clone, Copy)]
enum RouteObjectRef<'a> {
    Http(&'a Arc<HTTPRoute>),
    Grpc(&'a Arc<GRPCRoute>),
    Ingress(&'a Arc<Ingress>),
}

impl RouteObjectRef<'_> {
    fn is(self, other: &RouteObject) -> bool {
        match (self, other) {
            (Self::Http(a), RouteObject::Http(b)) => Arc::ptr_eq(a, b),
            (Self::Grpc(a), RouteObject::Grpc(b)) => Arc::ptr_eq(a, b),
            (Self::Ingress(a), RouteObject::Ingress(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn to_owned(self) -> RouteObject {
        match self {
            Self::Http(route) => RouteObject::Http(route.clone()),
            Self::Grpc(route) => RouteObject::Grpc(route.clone()),
            Self::Ingress(ingress) => RouteObject::Ingress(ingress.clone()),
        }
    }

    fn draft(self, id: &ResourceRef) -> Draft {
        match self {
            Self::Http(route) => Draft::Route(draft::draft(id, &route.metadata, &route.spec)),
            Self::Grpc(route) => Draft::Route(draft::draft(id, &route.metadata, &route.spec)),
            Self::Ingress(ingress) => Draft::Ingress(ingress::draft(id, ingress)),
        }
    }
}

/// What the object says by itself.
#[derive(Debug)]
enum Draft {
    Route(RouteDraft),
    Ingress(IngressDraft),
}

impl Draft {
    fn created(&self) -> i64 {
        match self {
            Self::Route(draft) => draft.created,
            Self::Ingress(draft) => draft.created,
        }
    }

    fn generation(&self) -> i64 {
        match self {
            Self::Route(draft) => draft.generation,
            Self::Ingress(draft) => draft.generation,
        }
    }

    fn resolve(&self, view: &View<'_>, backends: &mut BackendRegistry) -> RouteOutput {
        match self {
            Self::Route(draft) => resolve::resolve(view, draft, backends),
            Self::Ingress(draft) => ingress::resolve(view, draft, backends),
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
    /// Rules of it that have route plugins.
    pub(crate) route_plugins: Vec<RouteUse>,
    /// Services with BackendTLSPolicies to which requests of a Gateway go.
    pub(crate) tls: Vec<(Arc<ServiceTls>, Arc<GatewayModel>)>,
    /// Secrets and ConfigMaps that were looked for.
    pub(crate) contents: Vec<ResourceRef>,
}

/// A route at one listener.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) gateway: Arc<GatewayModel>,
    /// Index in the Gateway's listeners.
    pub(crate) listener: usize,
    /// Whether it counts as attached.
    pub(crate) accepted: bool,
    /// It takes what no rule takes, and so takes nothing from any: the default backend of an Ingress.
    pub(crate) last: bool,
    pub(crate) route: Arc<Route>,
}

/// Routes in order, with what they read and what came of it.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    entries: Vec<(ResourceRef, Entry)>,
    overlaps: OverlapIndex,
}

#[derive(Debug)]
struct Entry {
    object: RouteObject,
    /// Depends on the object alone, so regular expressions are compiled once.
    draft: Arc<Draft>,
    reads: Reads,
    output: RouteOutput,
    /// What it shares with other routes, and the status with what that means.
    claims: Vec<Claim>,
    shown: Option<Arc<Status>>,
}

/// The status of a route became another one, or there is none any more.
pub(crate) type StatusChange = (ResourceRef, Option<Arc<Status>>);

impl RouteCache {
    /// Evaluate all routes, or keep what they were. Returns whose status changed.
    pub(crate) fn refresh(
        &mut self,
        inputs: &Inputs<'_>,
        changed: &Changed,
        backends: &mut BackendRegistry,
    ) -> Vec<StatusChange> {
        let mut affected = FxHashSet::default();
        let mut changes = self.refresh_entries(inputs, changed, backends, &mut affected);
        self.overlaps.take_affected(&mut affected);
        for id in affected {
            let Ok(at) = self.entries.binary_search_by(|(other, _)| other.cmp(&id)) else { continue };
            let entry = &mut self.entries[at].1;
            let shown = entry.with_overlaps(&id, &self.overlaps);
            if entry.shown != shown {
                entry.shown.clone_from(&shown);
                changes.push((id, shown));
            }
        }
        changes
    }

    /// Both lists are ordered, so they are walked side by side. Returns who is gone; `evaluated` gets whose status may differ.
    fn refresh_entries(
        &mut self,
        inputs: &Inputs<'_>,
        changed: &Changed,
        backends: &mut BackendRegistry,
        evaluated: &mut FxHashSet<ResourceRef>,
    ) -> Vec<StatusChange> {
        let mut removed = Vec::new();
        let overlaps = &mut self.overlaps;
        let mut previous = std::mem::take(&mut self.entries).into_iter().peekable();
        let http = inputs.resources.http_routes.iter().map(|(id, route)| (id, RouteObjectRef::Http(route)));
        let grpc = inputs.resources.grpc_routes.iter().map(|(id, route)| (id, RouteObjectRef::Grpc(route)));
        let ingress = inputs.resources.ingresses.iter().map(|(id, ingress)| (id, RouteObjectRef::Ingress(ingress)));
        // In the order of their kinds.
        for (id, object) in http.chain(grpc).chain(ingress) {
            let before = take(&mut previous, id, &mut removed);
            let entry = match before {
                Some(entry) if object.is(&entry.1.object) && entry.1.reads.hold(inputs, changed) => entry,
                before => {
                    let before = before.map(|(_, entry)| entry);
                    if let Some(before) = &before {
                        overlaps.remove(id, &before.claims);
                    }
                    let entry = evaluate(id, object, inputs, backends, before);
                    overlaps.insert(id, entry.draft.created(), &entry.claims);
                    evaluated.insert(id.clone());
                    (id.clone(), entry)
                }
            };
            self.entries.push(entry);
        }
        removed.extend(previous);
        let gone = removed.into_iter().map(|(id, entry)| {
            backends.release(&entry.output.backends);
            overlaps.remove(&id, &entry.claims);
            (id, None)
        });
        gone.collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceRef, &RouteOutput)> {
        self.entries.iter().map(|(id, entry)| (id, &entry.output))
    }

    pub(crate) fn outputs(&self) -> impl Iterator<Item = &RouteOutput> {
        self.entries.iter().map(|(_, entry)| &entry.output)
    }
}

impl Entry {
    /// The status of the route by itself, with what it lost to others.
    fn with_overlaps(&self, id: &ResourceRef, overlaps: &OverlapIndex) -> Option<Arc<Status>> {
        let status = self.output.status.as_ref()?;
        let shown = match &**status {
            Status::Route(route) => self.route_with_overlaps(id, route, overlaps).map(Status::Route),
            Status::Ingress(ingress) => {
                let mut ingress = ingress.clone();
                let lost = self.lost(id, &ingress::place_id(), overlaps);
                lost.map(|lost| ingress.conditions.extend(lost)).map(|()| Status::Ingress(ingress))
            }
            _ => None,
        };
        let Some(shown) = shown else { return Some(status.clone()) };
        let same = self.shown.as_ref().filter(|before| ***before == shown);
        Some(same.cloned().unwrap_or_else(|| Arc::new(shown)))
    }

    /// None if it lost nothing.
    fn route_with_overlaps(
        &self,
        id: &ResourceRef,
        route: &RouteStatus,
        overlaps: &OverlapIndex,
    ) -> Option<RouteStatus> {
        let mut route = route.clone();
        let mut any = false;
        for parent in &mut route.parents {
            let Some(gateway) = attach::parent(id, &parent.parent_ref) else { continue };
            if let Some(lost) = self.lost(id, &gateway, overlaps) {
                any = true;
                parent.conditions.extend(lost);
            }
        }
        any.then_some(route)
    }

    /// The condition that says what it lost there.
    fn lost(&self, id: &ResourceRef, gateway: &ResourceRef, overlaps: &OverlapIndex) -> Option<Vec<Condition>> {
        let problem = overlaps.lost(id, self.draft.created(), gateway, &self.claims)?;
        let mut conditions = Conditions::new(self.draft.generation());
        conditions.yes("RulesOverlap", problem.reason, problem.message);
        Some(conditions.finish())
    }
}

/// The previous entry of this route; those before it are gone from the world.
fn take(
    previous: &mut Peekable<vec::IntoIter<(ResourceRef, Entry)>>,
    id: &ResourceRef,
    gone: &mut Vec<(ResourceRef, Entry)>,
) -> Option<(ResourceRef, Entry)> {
    // Mostly it is the very same key, which is quicker to see than that it is an equal one.
    let same = |key: &ResourceRef| Arc::ptr_eq(&key.name, &id.name) && Arc::ptr_eq(&key.namespace, &id.namespace);
    while let Some(entry) = previous.next_if(|(key, _)| !same(key) && key < id) {
        gone.push(entry);
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
    let mut output = draft.resolve(&view, backends);
    backends.retain(&output.backends);
    let mut shown = None;
    if let Some(before) = before {
        shown = before.shown;
        backends.release(&before.output.backends);
        if before.output.status == output.status {
            output.status = before.output.status; // the same allocation: there is nothing to write
        }
    }
    let claims = overlap::claims(&output);
    let reads = view.into_reads();
    output.contents.extend(reads.contents().cloned());
    Entry { object: object.to_owned(), draft, reads, output, claims, shown }
}
