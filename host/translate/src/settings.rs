//! What the installation decides, as opposed to its resources.

mod addresses;
mod services;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

pub use addresses::{AddressRange, GatewayAddresses, InvalidAddressRange};
pub use services::{GatewayServices, InvalidServiceName, InvalidServiceType, ServiceType};

use crate::{plugin::PluginCeilings, selector::LabelSelector};

/// Settings of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The GatewayClasses with this `controllerName` are ours.
    pub controller_name: Arc<str>,
    /// Of these only those that carry these labels, if given: several installations may share a controller name.
    pub class_selector: Option<LabelSelector>,
    /// Standalone: a GatewayClass of this name is implied, and whatever is in the files is meant for us. A reference that leads nowhere is then
    /// reported by status, where in a cluster it might be somebody else's.
    pub implied_class: Option<Arc<str>>,
    /// Where Gateways listen.
    pub addresses: GatewayAddresses,
    /// Where Ingresses are served, on these addresses too.
    pub ingress: IngressPorts,
    /// What stands before the instances in a cluster, if anything does.
    pub services: GatewayServices,
    /// What WasmPlugins may ask for in `spec.limits`.
    pub plugin_limits: PluginCeilings,
}

/// The ports of Ingress, which unlike a Gateway has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressPorts {
    /// In clear.
    pub http: u16,
    /// For the hosts of `spec.tls`.
    pub https: u16,
}

impl Default for IngressPorts {
    fn default() -> Self {
        Self { http: 80, https: 443 }
    }
}

impl Settings {
    /// The controller name unless configured otherwise.
    pub const CONTROLLER_NAME: &'static str = "penstock.dev/gateway-controller";

    /// For a machine without a cluster: class `penstock` is implied, Gateways listen on all IPv4 addresses.
    pub fn standalone() -> Self {
        Self {
            controller_name: Self::CONTROLLER_NAME.into(),
            class_selector: None,
            implied_class: Some("penstock".into()),
            addresses: GatewayAddresses::Shared(vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)]),
            ingress: IngressPorts::default(),
            services: GatewayServices::Absent,
            plugin_limits: PluginCeilings::default(),
        }
    }
}
