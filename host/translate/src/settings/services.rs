//! Services through which clients come: one before all instances, or one for each Gateway.

use std::{fmt, str::FromStr};

use penstock_core::{Kind, ResourceRef};

/// Through which Services clients come to Gateways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GatewayServices {
    /// Through none: they come to where the instances listen.
    #[default]
    Absent,
    /// All through the one before the instances, if it is there.
    Shared(ResourceRef),
    /// Through one for each Gateway, with its ports.
    Each {
        /// What is asked of the cluster.
        type_: ServiceType,
        /// The Service whose endpoints are the instances of this installation. Those of all Gateways get the same.
        instances: ResourceRef,
    },
}

/// From where a Service can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// From inside of the cluster.
    ClusterIP,
    /// Through a port of every node.
    NodePort,
    /// From outside, by an address that somebody else provides.
    LoadBalancer,
}

/// Why a text is no [`ServiceType`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no type for the Service of a Gateway; use `ClusterIP`, `NodePort` or `LoadBalancer`")]
pub struct InvalidServiceType(String);

/// Why a text names no Service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no NAMESPACE/NAME")]
pub struct InvalidServiceName(String);

impl GatewayServices {
    /// The Service before the instances.
    pub fn instances(&self) -> Option<&ResourceRef> {
        match self {
            Self::Absent => None,
            Self::Shared(instances) | Self::Each { instances, .. } => Some(instances),
        }
    }

    /// The type of the Services, if each Gateway has its own.
    pub fn of_each(&self) -> Option<ServiceType> {
        match self {
            Self::Absent | Self::Shared(_) => None,
            Self::Each { type_, .. } => Some(*type_),
        }
    }

    /// A Service by `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn named(text: &str) -> Result<ResourceRef, InvalidServiceName> {
        let plain = |part: &&str| !part.is_empty() && !part.contains('/');
        let parts = text.split_once('/').filter(|(namespace, name)| plain(namespace) && plain(name));
        let (namespace, name) = parts.ok_or_else(|| InvalidServiceName(text.to_owned()))?;
        Ok(ResourceRef::new(Kind::Service, namespace, name))
    }
}

impl FromStr for ServiceType {
    type Err = InvalidServiceType;

    fn from_str(text: &str) -> Result<Self, InvalidServiceType> {
        [Self::ClusterIP, Self::NodePort, Self::LoadBalancer]
            .into_iter()
            .find(|type_| type_.to_string() == text)
            .ok_or_else(|| InvalidServiceType(text.to_owned()))
    }
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_names() {
        assert_eq!("NodePort".parse(), Ok(ServiceType::NodePort));
        let error = "nodeport".parse::<ServiceType>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`nodeport` is no type for the Service of a Gateway; use `ClusterIP`, `NodePort` or `LoadBalancer`"
        );
        assert_eq!(GatewayServices::named("a/b"), Ok(ResourceRef::new(Kind::Service, "a", "b")));
        for text in ["penstock", "/b", "a/", "a/b/c"] {
            assert!(GatewayServices::named(text).is_err(), "{text}");
        }
    }
}
