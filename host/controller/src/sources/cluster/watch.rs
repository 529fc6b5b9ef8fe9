//! Following one kind: every object that is there, then every change, through whatever happens to the connection.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use futures_util::{StreamExt as _, stream::select_all};
use kube::{
    Api, Client, ResourceExt as _,
    core::{ApiResource, DynamicObject, DynamicResourceScope, PartialObjectMeta},
    runtime::{WatchStreamExt as _, watcher},
};
use penstock_core::{Kind, ResourceRef};
use penstock_translate::{Change, resources::Object};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use super::{
    Bounded, Context,
    kinds::{Contents, Selected, Watched, is_written},
    live::LiveObject,
    namespaces::Selection,
    signature,
};
use crate::event::Event;

/// Seconds after which the API server ends a watch and it is taken up again where it was. Who hears nothing for longer has lost the API server, so
/// this is how late a connection that the network has silently forgotten is noticed.
pub(super) const LASTS: u32 = 30;

pub(super) fn settings() -> watcher::Config {
    watcher::Config::default().timeout(LASTS)
}

/// What a watch tells the source.
#[derive(Debug)]
pub(super) enum Progress {
    /// The kind is complete: everything that was there at the beginning has been reported.
    Complete(Kind),
    /// An object that is read only if it is referred to, with its version, or that it is gone.
    Seen(ResourceRef, Option<Arc<str>>),
}

/// Read one object that is referred to.
///
/// # Errors
/// The cluster does not answer.
pub(super) async fn fetch(
    client: &Client,
    id: &ResourceRef,
    resource: &ApiResource,
) -> Result<Option<(Arc<str>, Object)>, kube::Error> {
    let api: Api<Bounded<DynamicObject>> = Api::namespaced_with(client.clone(), &id.namespace, resource);
    let Some(Bounded(object)) = api.get_opt(&id.name).await? else { return Ok(None) };
    let version = object.resource_version().unwrap_or_default().into();
    Ok(parse(id.kind, resource, object).map(|object| (version, object)))
}

/// Follows all objects of a kind.
pub(super) struct Follower {
    context: Context,
    kind: Kind,
    resource: ApiResource,
    contents: Contents,
    selected: Selected,
    progress: UnboundedSender<Progress>,
    /// What the source has been told of.
    known: BTreeSet<ResourceRef>,
    /// The namespaces that exist; none if all do.
    namespaces: Option<Selection>,
    /// One watch of the whole cluster, or one for each namespace.
    parts: Vec<Part>,
}

/// What one watch covers, and how far it is.
#[derive(Debug)]
struct Part {
    namespace: Option<Arc<str>>,
    /// What a list that is under way has shown so far.
    listing: Option<BTreeSet<ResourceRef>>,
    /// The first list was read to its end.
    complete: bool,
}

impl Part {
    fn covers(&self, id: &ResourceRef) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == id.namespace)
    }

    fn api<K>(&self, client: Client, resource: &ApiResource) -> Api<K>
    where
        K: kube::Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        match &self.namespace {
            None => Api::all_with(client, resource),
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
        }
    }
}

impl Follower {
    pub(super) fn new(
        context: Context,
        watched: &Watched,
        resource: ApiResource,
        progress: UnboundedSender<Progress>,
    ) -> Self {
        let Watched { kind, contents, selected, .. } = *watched;
        let parts = context.namespaces.parts(kind).into_iter();
        let parts = parts.map(|namespace| Part { namespace, listing: None, complete: false }).collect();
        Self { context, kind, resource, contents, selected, progress, known: BTreeSet::new(), namespaces: None, parts }
    }

    /// Follow until the task is aborted, or the kind is gone; then, whatever the watch has told or not, its objects are too.
    pub(super) async fn follow(mut self, mut is_gone: oneshot::Receiver<()>) {
        if self.contents == Contents::All {
            self.until_gone(&mut is_gone, Self::whole).await;
        } else {
            let apply = |follower: &mut Self, object: PartialObjectMeta<DynamicObject>| follower.metadata(&object);
            self.until_gone(&mut is_gone, apply).await;
        }
        for id in self.known.clone() {
            self.delete(&id);
        }
    }

    async fn until_gone<K>(
        &mut self,
        is_gone: &mut oneshot::Receiver<()>,
        apply: impl Fn(&mut Self, K) -> Option<ResourceRef>,
    ) where
        K: kube::Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let settings = match self.selected {
            Selected::All => settings(),
            Selected::Records => settings().labels(&self.context.records),
        };
        let restricted = self.context.namespaces.restrict(self.kind);
        let mut selection = self.context.namespaces.subscribe();
        loop {
            self.namespaces = selection.borrow_and_update().clone().filter(|_| restricted);
            let mut events = select_all(self.parts.iter_mut().enumerate().map(|(at, part)| {
                part.listing = None;
                let api = part.api::<Bounded<K>>(self.context.client.clone(), &self.resource);
                watcher(api, settings.clone()).default_backoff().map(move |event| (at, event)).boxed()
            }));
            loop {
                tokio::select! {
                    Some((at, event)) = events.next(), if !restricted || self.namespaces.is_some() => {
                        self.handle(at, event, &apply);
                    }
                    // Everything is listed again: what is in a namespace that exists now, and not what is in one that does no more.
                    Ok(()) = selection.changed(), if restricted => break,
                    told = &mut *is_gone => match told {
                        Ok(()) => return,
                        Err(_) => std::future::pending().await, // the source has ended: nothing is gone, nobody listens
                    },
                }
            }
        }
    }

    /// Whether an object is in a namespace that exists.
    fn exists(&self, id: &ResourceRef) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&id.namespace))
    }

    fn handle<K>(
        &mut self,
        at: usize,
        event: watcher::Result<watcher::Event<Bounded<K>>>,
        apply: impl Fn(&mut Self, K) -> Option<ResourceRef>,
    ) where
        K: kube::Resource<DynamicType = ApiResource>,
    {
        match event {
            Ok(watcher::Event::Init) => self.parts[at].listing = Some(BTreeSet::new()),
            Ok(watcher::Event::InitApply(Bounded(object))) => {
                let id = apply(self, object);
                if let Some(listing) = &mut self.parts[at].listing {
                    listing.extend(id);
                }
            }
            Ok(watcher::Event::InitDone) => self.listed(at),
            Ok(watcher::Event::Apply(Bounded(object))) => drop(apply(self, object)),
            Ok(watcher::Event::Delete(Bounded(object))) => {
                let id = self.id(&object);
                if self.kind == Kind::Namespace {
                    self.context.namespaces.forget(&id.name);
                }
                self.delete(&id);
            }
            Err(error) => {
                // The watcher tries again by itself, and more slowly each time. What is known stays in effect.
                self.context.metrics.watch_failed(self.kind);
                tracing::warn!(kind = %self.kind, error = &error as &dyn std::error::Error, "cannot follow a kind; trying again");
                if self.selected == Selected::Records && is_forbidden(&error) {
                    // Nobody waits for what is of use now and then. Once it is allowed, it is read.
                    self.tell(Progress::Complete(self.kind));
                }
            }
        }
    }

    /// A list is complete: what it does not show is gone. After the first one, this happens only when the watch was interrupted for long.
    fn listed(&mut self, at: usize) {
        let part = &mut self.parts[at];
        let Some(listing) = part.listing.take() else { return };
        part.complete = true;
        let gone = self.known.difference(&listing).filter(|id| part.covers(id));
        let gone: Vec<ResourceRef> = gone.cloned().collect();
        for id in gone {
            self.delete(&id);
        }
        if self.kind == Kind::Namespace {
            let is_there = |name: &Arc<str>| listing.contains(&ResourceRef::new(Kind::Namespace, "", Arc::clone(name)));
            self.context.namespaces.forget_all_but(is_there);
            self.tell_namespaces();
        }
        if self.is_complete() {
            self.tell(Progress::Complete(self.kind));
        }
    }

    fn is_complete(&self) -> bool {
        self.parts.iter().all(|part| part.complete)
    }

    /// Which namespaces exist, as soon as all are known.
    fn tell_namespaces(&self) {
        if self.is_complete() {
            self.context.namespaces.publish(self.known.iter().map(|id| Arc::clone(&id.name)));
        }
    }

    fn id<K: kube::Resource<DynamicType = ApiResource>>(&self, object: &K) -> ResourceRef {
        let metadata = object.meta();
        let text = |text: &Option<String>| Arc::<str>::from(text.as_deref().unwrap_or_default());
        ResourceRef::new(self.kind, text(&metadata.namespace), text(&metadata.name))
    }

    fn whole(&mut self, object: DynamicObject) -> Option<ResourceRef> {
        let id = self.id(&object);
        if !self.exists(&id) {
            return None;
        }
        let live = is_written(self.kind).then(|| self.live(&object));
        let Some(object) = parse(self.kind, &self.resource, object) else {
            // Its last good version stays in effect.
            self.context.metrics.object_unreadable(self.kind);
            return Some(id);
        };
        if live.is_some_and(|live| self.context.live.insert(id.clone(), live)) {
            self.context.dirty(&id);
        }
        self.known.insert(id.clone());
        self.send(Change::Upsert(object));
        Some(id)
    }

    /// What the writer must know of it.
    fn live(&self, object: &DynamicObject) -> LiveObject {
        let (uid, version) = (object.uid().unwrap_or_default(), object.resource_version().unwrap_or_default());
        let live = LiveObject::new(&uid, &version, object.data.get("status"));
        live.signed(signature(self.kind, &object.metadata, &self.context.manager))
    }

    fn metadata(&mut self, object: &PartialObjectMeta<DynamicObject>) -> Option<ResourceRef> {
        let id = self.id(object);
        if !self.exists(&id) {
            return None;
        }
        let is_namespace = self.kind == Kind::Namespace;
        if is_namespace && !self.context.namespaces.select(&id.name, object.metadata.labels.as_ref()) {
            self.delete(&id);
            return Some(id); // a list that shows it says that it is there
        }
        self.known.insert(id.clone());
        if is_namespace {
            self.tell_namespaces();
        }
        if self.contents == Contents::Referenced {
            self.tell(Progress::Seen(id.clone(), Some(object.resource_version().unwrap_or_default().into())));
            return Some(id);
        }
        let document = json!({ "metadata": object.metadata });
        if let Ok(object) = Object::parse(&self.resource.api_version, &self.resource.kind, document) {
            self.send(Change::Upsert(object));
        }
        Some(id)
    }

    fn delete(&mut self, id: &ResourceRef) {
        if !self.known.remove(id) {
            return; // it never existed
        }
        if self.kind == Kind::Namespace {
            self.tell_namespaces();
        }
        self.context.live.remove(id);
        match (self.contents, self.kind) {
            (Contents::Referenced, _) => self.tell(Progress::Seen(id.clone(), None)),
            // Endpoints that are gone take no more requests. And what was good of a plugin ends with it: one of the same name begins anew.
            (_, Kind::EndpointSlice | Kind::WasmPlugin | Kind::ControllerRevision) => {
                self.send(Change::Delete(id.clone()));
            }
            (Contents::All | Contents::Metadata, _) => self.context.inbox.leave(id.clone()),
        }
    }

    fn send(&self, change: Change) {
        self.context.inbox.send([Event::Changed(vec![change])]);
    }

    fn tell(&self, progress: Progress) {
        // Nobody listens any more only when the source is ending.
        let _ = self.progress.send(progress);
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

/// The object; none if it is not what its kind should be, which the log says.
fn parse(kind: Kind, resource: &ApiResource, object: DynamicObject) -> Option<Object> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let mut data = object.data;
    let fields = data.as_object_mut().filter(|_| kind != Kind::Service); // whose status says where it can be reached
    fields.and_then(|fields| fields.remove("status"));
    if let Some(fields) = data.as_object_mut() {
        fields.insert("metadata".to_owned(), serde_json::to_value(&object.metadata).unwrap_or_default());
    }
    match Object::parse(&resource.api_version, &resource.kind, data) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(%kind, namespace, name, %error, "cannot read an object; an earlier version of it stays in effect");
            None
        }
    }
}
