//! What translation yields.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc};

use penstock_core::{
    ResourceRef, Snapshot,
    backend::{EndpointCell, EndpointSet},
    plugin::{PluginSpec, RecordedRevision},
};

use crate::{status::Statuses, upkeep::Upkeep};

/// Everything that follows from one state of the world. All parts come from one evaluation, so they cannot disagree.
#[derive(Debug, Clone)]
pub struct Translation {
    /// The configuration. The same allocation as before if nothing in it changed.
    pub snapshot: Arc<Snapshot>,
    /// What each endpoint cell of the snapshot must hold, ordered by backend. Complete, so the latest one may be published alone: store where
    /// the pointer in the cell differs. Cells that are new hold their set already.
    pub endpoints: Vec<(Arc<EndpointCell>, Arc<EndpointSet>)>,
    /// The desired status of all that is ours. Unchanged ones are the same allocation as before, and so is the whole if nothing in it changed.
    pub statuses: Arc<Statuses>,
    /// What has a plugin of which nothing is known yet. An instance that has just begun says nothing new about these.
    pub awaiting: BTreeSet<ResourceRef>,
    /// Gateways and ListenerSets of classes that name our controller, but lie outside of our label selector: another installation looks
    /// after them and after what is said about them.
    pub others: Arc<BTreeSet<ResourceRef>>,
    /// What is to be done in the cluster for Gateways. The same allocation as before if it is the same.
    pub upkeep: Arc<Upkeep>,
    /// What others must provide.
    pub needs: Needs,
}

/// What others must provide; they answer by facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needs {
    /// Plugins that should run. Unchanged ones are the same allocation as before.
    pub plugins: Vec<Arc<PluginSpec>>,
    /// Plugins whose resource exists but cannot be specified now (a ConfigMap is missing, a field is wrong): what runs of them must stay.
    pub kept_plugins: Vec<ResourceRef>,
    /// What the cluster has on record of these plugins, for an instance that has nothing on disk. Unchanged ones are the same allocation.
    pub recorded_plugins: Vec<Arc<RecordedRevision>>,
    /// Files whose content identity should be observed.
    pub files: Vec<PathBuf>,
    /// Secrets and ConfigMaps that are referred to, whether they are there or not: a source may leave out all others. The same allocation as
    /// before if it is the same.
    pub objects: Arc<BTreeSet<ResourceRef>>,
    /// Sockets that should be bound: those of the snapshot.
    pub sockets: Vec<SocketAddr>,
}
