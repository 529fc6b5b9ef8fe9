//! A Kubernetes cluster as a source of resources.
//!
//! ```text
//! definitions ──► which kinds are there ──► one watch a kind ──┬─► changes ──► inbox
//!                                                              ├─► live statuses ──► writer
//! needs ──► references ──► one read for each ◄── versions ─────┘
//! ```
//!
//! Invariants:
//! * Only what is installed is watched; what is installed later is picked up, and what is removed is given up.
//! * Of Secrets and ConfigMaps only those are read that somebody refers to; of all others, names alone.
//! * The source is complete when everything that was there at the beginning has been reported.
//! * Losing the API server changes nothing: what is known stays in effect, and the watches come back by themselves.

mod bounded;
mod connect;
mod definitions;
mod kinds;
mod live;
mod namespaces;
mod references;
mod signature;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, core::ApiResource};
use penstock_core::{Kind, ResourceRef};
use penstock_translate::Change;
use tokio::{
    sync::{
        mpsc::{self, UnboundedSender},
        oneshot,
    },
    task::JoinHandle,
    time::Instant,
};

pub(crate) use self::{
    bounded::Bounded,
    connect::connect,
    live::{LiveObject, LiveObjects},
    namespaces::Namespaces,
    references::{References, Wanted},
    signature::{Signature, is_signed},
};
pub use self::{
    connect::{ClusterAccess, ConnectFailed},
    namespaces::WatchedNamespaces,
};
use self::{
    definitions::{Definition, Unserved},
    kinds::{BUILT_IN, CUSTOM, Watched},
    watch::{Follower, Progress},
};
use crate::{
    event::{Event, SourceId},
    inbox::Inbox,
    metrics::ClusterMetrics,
    timer::sleep_until,
};

/// How long to wait before asking an API server again that did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// What every part of the source needs.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) inbox: Inbox,
    pub(crate) live: Arc<LiveObjects>,
    pub(crate) touched: UnboundedSender<ResourceRef>,
    pub(crate) metrics: ClusterMetrics,
    /// The labels of this installation's records.
    pub(crate) records: Arc<str>,
    pub(crate) namespaces: Namespaces,
    /// Under which name this installation writes.
    pub(crate) manager: Arc<str>,
}

/// What `manager` has signed of an object; none of those whose entries name their author.
pub(crate) fn signature(kind: Kind, metadata: &ObjectMeta, manager: &str) -> Option<Signature> {
    is_signed(kind).then(|| Signature::of(metadata, manager)).flatten()
}

impl Context {
    /// The status of an object is another one than before.
    fn dirty(&self, id: &ResourceRef) {
        // The writer is gone only at the end of everything.
        let _ = self.touched.send(id.clone());
    }
}

/// The name of this source in logs and in `/readyz`.
pub(crate) fn id() -> SourceId {
    SourceId::new("cluster")
}

/// Follows a cluster.
pub(crate) struct Source {
    context: Context,
    watches: BTreeMap<Kind, Watch>,
    /// Kinds that are defined and not served.
    unserved: Unserved,
    /// Kinds of which not everything has been reported yet.
    incomplete: BTreeSet<Kind>,
    /// The definitions that were there at the beginning are known.
    surveyed: bool,
    complete: bool,
    progress: UnboundedSender<Progress>,
}

/// A kind that is followed.
struct Watch {
    task: JoinHandle<()>,
    /// To say that there is no such kind any more, and with it none of its objects.
    gone: oneshot::Sender<()>,
}

impl Source {
    /// Follow until the task is aborted.
    pub(crate) async fn run(context: Context, mut references: References) {
        let (progress, mut news) = mpsc::unbounded_channel();
        let mut source = Self {
            context,
            watches: BTreeMap::new(),
            unserved: Unserved::default(),
            incomplete: BTreeSet::new(),
            surveyed: false,
            complete: false,
            progress,
        };
        for watched in BUILT_IN {
            source.start(watched, watched.resource());
        }
        let mut definitions = definitions::follow(source.context.client.clone());
        loop {
            tokio::select! {
                Some(definition) = definitions.recv() => source.definition(definition).await,
                Some(progress) = news.recv() => {
                    source.progressed(progress, &mut references);
                    while let Ok(progress) = news.try_recv() {
                        source.progressed(progress, &mut references);
                    }
                }
                () = references.turn(&source.context) => {}
                () = sleep_until(source.unserved.next()) => source.ask_again().await,
            }
            references.report(&source.context);
            source.check_complete();
        }
    }

    async fn definition(&mut self, definition: Definition) {
        let (name, bundle, is_there) = match definition {
            Definition::Listed => {
                self.surveyed = true;
                return;
            }
            Definition::There(name, bundle) => (name, bundle, true),
            Definition::Gone(name) => (name, None, false),
        };
        let Some(watched) = CUSTOM.iter().find(|watched| watched.definition() == name) else { return };
        self.context.inbox.send([Event::Changed(vec![Change::Bundle(name.into(), bundle)])]);
        if is_there {
            while let Err(error) = self.discover(watched).await {
                self.cannot_ask(watched.kind, &error);
                tokio::time::sleep(RETRY).await;
            }
        } else {
            self.unserved.remove(watched.kind);
            self.give_up(watched.kind);
        }
    }

    /// Follow a kind that is defined, if it is served. An API server that has just started may not know yet that it serves what is followed already.
    async fn discover(&mut self, watched: &Watched) -> Result<(), kube::Error> {
        match watched.discover(&self.context.client).await? {
            Some(resource) => {
                self.unserved.remove(watched.kind);
                self.start(watched, resource);
            }
            None if self.unserved.insert(watched.kind, Instant::now()) => self.give_up(watched.kind),
            None => {}
        }
        Ok(())
    }

    /// Ask for kinds that were not served when they were asked for last.
    async fn ask_again(&mut self) {
        let due = self.unserved.due(Instant::now());
        for watched in CUSTOM.iter().filter(|watched| due.contains(&watched.kind)) {
            if let Err(error) = self.discover(watched).await {
                self.cannot_ask(watched.kind, &error);
                self.unserved.insert(watched.kind, Instant::now());
            }
        }
    }

    fn cannot_ask(&self, kind: Kind, error: &kube::Error) {
        self.context.metrics.watch_failed(kind);
        tracing::warn!(%kind, error = error as &dyn std::error::Error, "cannot ask for a kind; trying again");
    }

    /// Watch a kind, unless it is watched in this version already.
    fn start(&mut self, watched: &Watched, resource: ApiResource) {
        let same = self.context.live.served(watched.kind).is_some_and(|served| served.version == resource.version);
        if same && self.watches.contains_key(&watched.kind) {
            return;
        }
        if let Some(watch) = self.watches.remove(&watched.kind) {
            watch.task.abort(); // what it told stays, until the next one tells otherwise
        }
        tracing::info!(kind = %watched.kind, api_version = resource.api_version, "following a kind");
        self.context.live.set_served(watched.kind, resource.clone());
        self.incomplete.insert(watched.kind);
        let (gone, is_gone) = oneshot::channel();
        let follower = Follower::new(self.context.clone(), watched, resource, self.progress.clone());
        let task = tokio::spawn(follower.follow(is_gone));
        self.watches.insert(watched.kind, Watch { task, gone });
    }

    fn give_up(&mut self, kind: Kind) {
        if let Some(watch) = self.watches.remove(&kind) {
            tracing::info!(%kind, "a kind is not followed any more");
            let _ = watch.gone.send(()); // a task that has ended before would not hear it
        }
        self.incomplete.remove(&kind);
    }

    fn progressed(&mut self, progress: Progress, references: &mut References) {
        match progress {
            Progress::Complete(kind) => {
                self.incomplete.remove(&kind);
                references.complete(kind);
            }
            Progress::Seen(id, version) => references.seen(id, version),
        }
    }

    fn check_complete(&mut self) {
        if self.surveyed && self.incomplete.is_empty() && !self.complete {
            self.complete = true;
            self.context.inbox.send([Event::Complete(id())]);
        }
    }
}
