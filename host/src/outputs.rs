//! Where the controller's results go: the proxy and the plugin host.

use std::{collections::BTreeSet, sync::Arc};

use penstock_controller::{Cluster, Outputs, Reserve};
use penstock_core::{ResourceRef, Snapshot};
use penstock_plugin_host::{Desired, PluginHost};
use penstock_proxy::Proxy;
use penstock_translate::{Needs, Statuses, Upkeep};

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

    fn require(&mut self, needs: &Needs) {
        fn same<T>(old: &[Arc<T>], new: &[Arc<T>]) -> bool {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| Arc::ptr_eq(old, new))
        }
        let Needs { plugins, kept_plugins: kept, recorded_plugins: recorded, .. } = needs;
        let same = self.required.as_ref().is_some_and(|required| {
            required.kept == *kept && same(&required.plugins, plugins) && same(&required.recorded, recorded)
        });
        if !same {
            let desired = Desired { plugins: plugins.clone(), kept: kept.clone(), recorded: recorded.clone() };
            self.plugins.apply(desired.clone());
            self.required = Some(desired);
        }
    }

    fn ask(&mut self, objects: &Arc<BTreeSet<ResourceRef>>) -> bool {
        if let Some(cluster) = &self.cluster {
            cluster.ask(objects);
        }
        self.cluster.is_some()
    }

    fn keep_up(&mut self, upkeep: &Arc<Upkeep>) {
        if let Some(cluster) = &self.cluster {
            cluster.keep_up(upkeep);
        }
    }

    fn say(&mut self, statuses: &Arc<Statuses>, reserve: &Reserve) {
        if let Some(cluster) = &self.cluster {
            cluster.write(statuses, reserve);
        }
    }
}
