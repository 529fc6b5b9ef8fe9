//! What the installation decides, as opposed to its resources.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// Settings of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The GatewayClasses with this `controllerName` are ours.
    pub controller_name: Arc<str>,
    /// Standalone: a GatewayClass of this name is implied, and whatever is in the files is meant for us. A reference that leads nowhere is then
    /// reported by status, where in a cluster it might be somebody else's.
    pub implied_class: Option<Arc<str>>,
    /// Where a Gateway without `spec.addresses` listens.
    pub default_addresses: Vec<IpAddr>,
}

impl Settings {
    /// The controller name unless configured otherwise.
    pub const CONTROLLER_NAME: &'static str = "penstock.dev/gateway-controller";

    /// For a machine without a cluster: class `penstock` is implied, Gateways listen on all IPv4 addresses.
    pub fn standalone() -> Self {
        Self {
            controller_name: Self::CONTROLLER_NAME.into(),
            implied_class: Some("penstock".into()),
            default_addresses: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        }
    }
}
