//! Where the controller's results go: the proxy and the plugin host.

use std::{collections::BTreeMap, sync::Arc};

use penstock_controller::Outputs;
use penstock_core::{ResourceRef, Snapshot, plugin::PluginSpec};
use penstock_plugin_host::PluginHost;
use penstock_proxy::Proxy;

/// The proxy and the plugin host of this process.
pub(crate) struct GatewayOutputs {
    proxy: Arc<Proxy>,
    plugins: PluginHost,
    /// What was last required of each plugin.
    required: BTreeMap<ResourceRef, Arc<PluginSpec>>,
}

impl GatewayOutputs {
    pub(crate) fn new(proxy: Arc<Proxy>, plugins: PluginHost) -> Self {
        Self { proxy, plugins, required: BTreeMap::new() }
    }
}

impl Outputs for GatewayOutputs {
    fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        self.proxy.publish(Arc::clone(snapshot));
    }

    /// A plugin that cannot be specified now keeps what was last required of it.
    fn require(&mut self, plugins: &[Arc<PluginSpec>], kept: &[ResourceRef]) {
        let kept = kept.iter().filter_map(|plugin| self.required.get(plugin));
        let wanted: BTreeMap<_, _> =
            plugins.iter().chain(kept).map(|spec| (spec.plugin.clone(), Arc::clone(spec))).collect();
        let same = wanted.len() == self.required.len()
            && wanted.values().zip(self.required.values()).all(|(new, old)| Arc::ptr_eq(new, old));
        if !same {
            self.plugins.apply(wanted.values().cloned().collect());
            self.required = wanted;
        }
    }
}
