//! Where the controller's results go: the proxy and the plugin host.

use std::{collections::BTreeSet, sync::Arc};

use penstock_controller::{Cluster, Outputs, Reserve};
use penstock_core::{ResourceRef, Snapshot, plugin::PluginSpec};
use penstock_plugin_host::{Desired, PluginHost};
use penstock_proxy::Proxy;
use penstock_translate::{Statuses, Upkeep};

/// The proxy and the plugin host of this process.
pub(crate) struct GatewayOutputs {
    proxy: Arc<Proxy>,
    plugins: PluginHost,
    /// Where statuses go, if not only to the board.
    cluster: Option<Arc<Cluster>>,
    /// What was last required.
    required: Option<Desired>,
}

impl GatewayOutputs {
    pub(crate) fn new(proxy: Arc<Proxy>, plugins: PluginHost, cluster: Option<Arc<Cluster>>) -> Self {
        Self { proxy, plugins, cluster, required: None }
    }
}

impl Outputs for GatewayOutputs {
    fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        self.proxy.publish(Arc::clone(snapshot));
    }

    fn require(&mut self, plugins: &[Arc<PluginSpec>], kept: &[ResourceRef]) {
        let same = self.required.as_ref().is_some_and(|required| {
            required.kept == kept
                && required.plugins.len() == plugins.len()
                && required.plugins.iter().zip(plugins).all(|(old, new)| Arc::ptr_eq(old, new))
        });
        if !same {
            let desired = Desired { plugins: plugins.to_vec(), kept: kept.to_vec() };
            self.plugins.apply(desired.clone());
            self.required = Some(desired);
        }
    }

    fn ask(&mut self, objects: &Arc<BTreeSet<ResourceRef>>) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.ask(objects))
    }

    fn keep_up(&mut self, upkeep: &Arc<Upkeep>) {
        if let Some(cluster) = &self.cluster {
            cluster.keep_up(upkeep);
        }
    }

    fn say(&mut self, statuses: &Statuses, reserve: &Reserve) {
        if let Some(cluster) = &self.cluster {
            cluster.write(statuses, reserve);
        }
    }
}
